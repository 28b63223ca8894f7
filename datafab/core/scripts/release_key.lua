-- Take a dedupe key from a job. Of two callers that release it at once, the second must not take it from the job that
-- the first has enqueued with it. ARGV: job, key.
if redis.call('GET', P .. 'key:' .. ARGV[2]) == ARGV[1] then redis.call('DEL', P .. 'key:' .. ARGV[2]) end
if redis.call('HGET', P .. 'job:' .. ARGV[1], 'key') == ARGV[2] then redis.call('HDEL', P .. 'job:' .. ARGV[1], 'key') end
