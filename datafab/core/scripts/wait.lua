-- Let a row wait for some seconds; at once where a wake-up came in meanwhile.
local row_id, holder, delay, reason = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if not holds(row_id, holder) then return 0 end
attempted(row_id, 'waited')
move(row_id, 'wait')
redis.call('HSET', row_key(row_id), 'reason', reason, 'deaths', 0, 'by', '')
if redis.call('HEXISTS', row_key(row_id), 'hurry') == 1 then delay = 0 end
redis.call('ZADD', P .. 'due', now + delay, row_id)
return 1
