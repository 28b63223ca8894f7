-- Make the waiting rows of a job due now; return how many rows were woken.
-- A row that runs just now may have looked a moment too early: it keeps the mark until it is taken again.
local woken = 0
for _, row_id in ipairs(redis.call('SMEMBERS', P .. 'job:' .. ARGV[1] .. ':rows')) do
  local state = redis.call('HGET', row_key(row_id), 'state')
  if state == 'wait' then redis.call('ZADD', P .. 'due', now, row_id) end
  if state == 'wait' or state == 'run' or state == 'sent' then
    redis.call('HSET', row_key(row_id), 'hurry', 1)
    woken = woken + 1
  end
end
return woken
