-- Count a death of a row's holder, and make the row due.
local row_id, attempt, reason = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local row = redis.call('HMGET', row_key(row_id), 'state', 'fence')
if row[1] ~= 'run' or tonumber(row[2]) ~= attempt then return 0 end
attempted(row_id, 'died')
move(row_id, 'wait')
redis.call('HINCRBY', row_key(row_id), 'deaths', 1)
redis.call('HSET', row_key(row_id), 'reason', reason, 'by', '')
redis.call('ZADD', P .. 'due', now, row_id)
return 1
