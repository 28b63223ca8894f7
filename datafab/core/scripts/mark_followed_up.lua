-- Note that the follow-ups of one end of a job are enqueued. ARGV: job, time of that end.
local ended = redis.call('ZSCORE', P .. 'after', ARGV[1])
if ended and tonumber(ended) == tonumber(ARGV[2]) then redis.call('ZREM', P .. 'after', ARGV[1]) end
