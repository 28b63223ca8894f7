-- Let rows wait whose holder stops, and count no death; return how many had not moved on.
-- They are due only once the holder is gone: it would take them again.
-- ARGV: seconds until they are due, then (row id, attempt) pairs.
local returned = 0
for i = 2, #ARGV, 2 do
  local row_id, attempt = ARGV[i], tonumber(ARGV[i + 1])
  local row = redis.call('HMGET', row_key(row_id), 'state', 'fence')
  if row[1] == 'run' and tonumber(row[2]) == attempt then
    attempted(row_id, 'stopped')
    move(row_id, 'wait')
    redis.call('HSET', row_key(row_id), 'by', '')
    redis.call('ZADD', P .. 'due', now + ARGV[1], row_id)
    returned = returned + 1
  end
end
return returned
