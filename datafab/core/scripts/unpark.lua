-- Make the rows of a parked job due, once its caller has a place for it; return how many.
-- A splitting task splits again: the rows of its first split went with the job, so what they had counted goes too.
local id, limit = ARGV[1], ARGV[2]
local job = P .. 'job:' .. id
local row_ids = redis.call('SMEMBERS', job .. ':rows')
if redis.call('HGET', job, 'status') ~= 'parked' or #row_ids == 0 then return 0 end
redis.call('HDEL', job, 'ended', 'error')
redis.call('HSET', job, 'busy', 0, 'waits', 0, 'deadline', now + limit)
set_status(id, 'queued')
redis.call('ZADD', P .. 'deadlines', now + limit, id)
redis.call('ZREM', P .. 'parked', id)
redis.call('ZREM', P .. 'after', id)  -- what follows a job follows its last end
local dedupe = redis.call('HGET', job, 'key')
if dedupe then redis.call('PERSIST', P .. 'key:' .. dedupe) end
local caller = redis.call('HGET', job, 'caller')
for _, part in ipairs({'', ':log', ':failed', ':rows'}) do redis.call('PERSIST', job .. part) end
for _, row_id in ipairs(row_ids) do
  redis.call('PERSIST', row_key(row_id))
  redis.call('HSET', row_key(row_id), 'deaths', 0)
  if redis.call('HDEL', row_key(row_id), 'next') == 1 then
    for _, name in ipairs(redis.call('HKEYS', job)) do
      if string.match(name, '^[nbd]:') then redis.call('HDEL', job, name) end
    end
    redis.call('DEL', job .. ':failed')
  end
  move(row_id, caller and 'limited' or 'wait')
  if not caller then redis.call('ZADD', P .. 'due', now, row_id) end
end
if caller then limit_job(id, caller, limit); admit(caller) end
return #row_ids
