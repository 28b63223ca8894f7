-- End a job once, and delete its rows: from then on all messages of its tasks are stale.
-- The row that is parked stays for `datafab jobs retry`; only its holder can park it.
-- ARGV: job, status, error or empty, retention in seconds, id of the row to park or empty, its holder.
local job = P .. 'job:' .. ARGV[1]
local status = redis.call('HGET', job, 'status')
if not status or FINAL[status] or not holds(ARGV[5], ARGV[6]) then return 0 end
redis.call('HSET', job, 'ended', now, 'busy', 0, 'waits', 0)
set_status(ARGV[1], ARGV[2])
redis.call('HDEL', job, 'doing', 'span')
tally('ended ' .. ARGV[2] .. ' ' .. (redis.call('HGET', job, 'flow') or ''))
if ARGV[2] == 'parked' then redis.call('ZADD', P .. 'parked', now + ARGV[4], ARGV[1]) end
if ARGV[3] ~= '' then redis.call('HSET', job, 'error', ARGV[3]) end
redis.call('ZREM', P .. 'deadlines', ARGV[1])
if redis.call('HEXISTS', job, 'after') == 1 then redis.call('ZADD', P .. 'after', now, ARGV[1])
else redis.call('DEL', P .. 'secret:' .. ARGV[1]) end
for _, row_id in ipairs(redis.call('SMEMBERS', job .. ':rows')) do
  redis.call('ZREM', P .. 'due', row_id)
  local state, done = unpack(redis.call('HMGET', row_key(row_id), 'state', 'done'))
  count_row(row_id, state, false)
  if row_id == ARGV[5] then
    redis.call('HSET', row_key(row_id), 'state', 'parked', 'by', '')
    redis.call('EXPIRE', row_key(row_id), ARGV[4])
  else
    -- What its last attempt has kept: that attempt may be dead, and unable to delete it.
    if done and done ~= '' then redis.call('DEL', P .. done) end
    redis.call('DEL', row_key(row_id))
    redis.call('SREM', job .. ':rows', row_id)
  end
end
for _, part in ipairs({'', ':log', ':failed', ':rows'}) do redis.call('EXPIRE', job .. part, ARGV[4]) end
local key = redis.call('HGET', job, 'key')
if key then redis.call('EXPIRE', P .. 'key:' .. key, ARGV[4]) end
local caller = redis.call('HGET', job, 'caller')
if caller then leave(ARGV[1], caller) end
return 1
