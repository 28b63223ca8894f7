-- Take a row that was sent with this attempt's number; return false where the message is a stale copy.
-- A client that lost the answer asks again, and is told the same.
local row_id, attempt, holder, lease, pool, stage = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local key = row_key(row_id)
local row = redis.call('HMGET', key, 'fence', 'state', 'job', 'deaths')
if not row[1] then tally('stale ' .. stage); return false end
local job = P .. 'job:' .. row[3]
if not holds(row_id, holder) then
  if tonumber(row[1]) ~= attempt or not (row[2] == 'sent' or row[2] == 'held') then
    tally('stale ' .. stage)
    return false
  end
  local status = redis.call('HGET', job, 'status')
  if not status or FINAL[status] then move(row_id, false); tally('stale ' .. stage); return false end
  move(row_id, 'run')
  moves(redis.call('HGET', key, 'queue'))
  redis.call('HSET', key, 'by', holder, 'pool', pool, 'stage', stage, 'since', now, 'done', ARGV[7],
             'woken', redis.call('HDEL', key, 'hurry'))
  redis.call('HSET', job, 'stage', stage)
  redis.call('HSETNX', job, 's:' .. stage, now)
  redis.call('HSETNX', job, 'started', now)
end
redis.call('ZADD', P .. 'due', now + lease, row_id)
return {row[3], row[4], redis.call('HGET', job, 'created'), tonumber(redis.call('HGET', key, 'woken') or 0)}
