-- Take a dedupe key from a job. Of two callers that release it at once, the second must not take it from the job that
-- the first has enqueued with it. ARGV: job, key.
local kind = listed_kind(ARGV[2])
if redis.call('GET', P .. 'key:' .. ARGV[2]) == ARGV[1] then redis.call('DEL', P .. 'key:' .. ARGV[2]) end
if redis.call('HGET', job_key(ARGV[1]), 'key') == ARGV[2] then
  redis.call('HDEL', job_key(ARGV[1]), 'key')
  if kind then leave_keyed(kind, ARGV[1]) end
end
