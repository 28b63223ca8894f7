-- Write a job, its dedupe key and its first row.
-- Return the id of the job that has the key, and 1 where its first message must not be sent yet.
-- ARGV: job, key or empty, row id, queue, signature, handover in seconds, longest duration in seconds, flow, parameters,
-- stages, follow-ups or empty, last stage asked for or empty, caller or empty, most jobs of the caller or empty, priority.
local id, key, row_id, queue, sig, handover, limit = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local job = P .. 'job:' .. id
if redis.call('EXISTS', job) == 1 then  -- the client lost the answer, and sent its call again
  return {id, redis.call('HGET', row_key(row_id), 'state') == 'limited' and 1 or 0}
end
if key ~= '' then
  local known = redis.call('GET', P .. 'key:' .. key)
  if known and redis.call('EXISTS', P .. 'job:' .. known) == 1 then return {known, 0} end
  redis.call('SET', P .. 'key:' .. key, id)
  redis.call('HSET', job, 'key', key)
end
redis.call('HSET', job, 'flow', ARGV[8], 'params', ARGV[9], 'stages', ARGV[10],
           'busy', 0, 'waits', 0, 'created', now, 'deadline', now + limit)
if ARGV[11] ~= '' then redis.call('HSET', job, 'after', ARGV[11]) end
if ARGV[12] ~= '' then redis.call('HSET', job, 'asked', ARGV[12]) end
redis.call('ZADD', P .. 'jobs', now, id)
redis.call('ZADD', P .. 'deadlines', now + limit, id)
tally('made ' .. ARGV[8])
local caller = ARGV[13]
if caller ~= '' then redis.call('HSET', job, 'caller', caller, 'priority', ARGV[15]) end
set_status(id, 'queued')
if caller == '' then
  put(row_id, id, 'sent', queue, sig, handover)
  return {id, 0}
end
if ARGV[14] == '' then redis.call('HDEL', P .. 'limits', caller)
else redis.call('HSET', P .. 'limits', caller, ARGV[14]) end
put(row_id, id, 'limited', queue, sig, handover)
limit_job(id, caller, limit)
admit(caller)
if redis.call('HGET', row_key(row_id), 'state') == 'limited' then return {id, 1} end
redis.call('HSET', row_key(row_id), 'fence', 0)
redis.call('ZADD', P .. 'due', now + handover, row_id)
return {id, 0}
