-- Set one field of a job, while the attempt that asks for it holds its row.
-- ARGV: job, field, value, row id, holder.
local job = P .. 'job:' .. ARGV[1]
if redis.call('EXISTS', job) == 0 or not holds(ARGV[4], ARGV[5]) then return 0 end
redis.call('HSET', job, ARGV[2], ARGV[3])
return 1
