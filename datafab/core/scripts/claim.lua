-- Take over rows that are due; the caller sends each of them.
-- A running row that is due has lost its holder. In a threads pool most of the rows that a process took with it are
-- innocent: no death is counted, and each goes to the queue `cpu`, where it has a child process of its own, so that a
-- death there is its own fault.
-- A sent row that is due may have lost its message: a worker may have fetched it and stopped. Where the row's queue has
-- a backlog, the message is most likely still in it, and another would only make the backlog longer.
local out = {}
moves('control')  -- the queue of the tick, which calls this
for _, caller in ipairs(redis.call('SMEMBERS', P .. 'callers')) do
  if redis.call('EXISTS', P .. 'limited:' .. caller) == 1 then free_places(caller); admit(caller) end
end
for _, row_id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'due', '-inf', now, 'LIMIT', 0, ARGV[1])) do
  local key = row_key(row_id)
  local row = redis.call('HMGET', key, 'state', 'fence', 'deaths', 'sig', 'pool', 'reason', 'queue', 'left')
  local left = tonumber(row[8]) or 0
  if not row[1] then redis.call('ZREM', P .. 'due', row_id)
  elseif row[1] == 'sent' and left > 0 and left < 10 and redis.call('LLEN', P .. row[7]) > 0 then
    redis.call('HSET', key, 'left', left + 1)
    redis.call('ZADD', P .. 'due', now + ARGV[2], row_id)
  else
    local deaths, queue = tonumber(row[3]), row[7]
    if row[1] == 'run' then
      attempted(row_id, row[5] == 'threads' and 'lost' or 'died')
      if row[5] == 'threads' then queue = 'cpu'; redis.call('HSET', key, 'queue', queue)
      else deaths = redis.call('HINCRBY', key, 'deaths', 1) end
    end
    if tonumber(row[2]) >= 0 then tally('sent_again ' .. row[1]) end
    local attempt = redis.call('HINCRBY', key, 'fence', 1)
    redis.call('HSET', key, 'left', 0, 'at', now)
    move(row_id, 'sent')
    redis.call('ZADD', P .. 'due', now + ARGV[2], row_id)
    out[#out + 1] = {row_id, attempt, row[4], deaths, queue, row[6] or ''}
  end
end
return out
