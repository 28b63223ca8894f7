-- Acquire a lock for a job, unless a job that has not ended holds it; return that job.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  local status = redis.call('HGET', P .. 'job:' .. holder, 'status')
  if status and not FINAL[status] then return holder end
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return false
