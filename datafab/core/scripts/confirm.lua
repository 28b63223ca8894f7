-- Note that messages have reached the broker. ARGV: handover in seconds, then (row id, attempt) pairs.
for i = 2, #ARGV, 2 do
  local row = redis.call('HMGET', row_key(ARGV[i]), 'state', 'fence')
  if row[1] == 'sent' and row[2] == ARGV[i + 1] then
    redis.call('HSET', row_key(ARGV[i]), 'left', 1)
    redis.call('ZADD', P .. 'due', now + ARGV[1], ARGV[i])
  end
end
