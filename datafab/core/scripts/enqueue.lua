-- Write a job, its dedupe key and its first row; return the id of the job that has the key.
local id, key, row_id, queue, sig, handover, limit = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local job = P .. 'job:' .. id
if redis.call('EXISTS', job) == 1 then return id end  -- the client lost the answer, and sent its call again
if key ~= '' then
  local known = redis.call('GET', P .. 'key:' .. key)
  if known and redis.call('EXISTS', P .. 'job:' .. known) == 1 then return known end
  redis.call('SET', P .. 'key:' .. key, id)
  redis.call('HSET', job, 'key', key)
end
redis.call('HSET', job, 'flow', ARGV[8], 'params', ARGV[9], 'stages', ARGV[10],
           'status', 'queued', 'busy', 0, 'waits', 0, 'created', now, 'deadline', now + limit)
if ARGV[11] ~= '' then redis.call('HSET', job, 'after', ARGV[11]) end
if ARGV[12] ~= '' then redis.call('HSET', job, 'asked', ARGV[12]) end
redis.call('ZADD', P .. 'jobs', now, id)
redis.call('ZADD', P .. 'deadlines', now + limit, id)
tally('made ' .. ARGV[8])
put(row_id, id, 'sent', queue, sig, handover)
return id
