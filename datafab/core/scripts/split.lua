-- Keep the canvas that replaces a task, with its rows; return the canvas that was kept first.
-- ARGV: row id, holder, handover in seconds, canvas, then (row id, state, queue, signature) each.
local row_id, holder, handover = ARGV[1], ARGV[2], ARGV[3]
if not holds(row_id, holder) then return false end
local key = row_key(row_id)
local known = redis.call('HGET', key, 'next')
if known then return known end
redis.call('HSET', key, 'next', ARGV[4])
local job = redis.call('HGET', key, 'job')
for i = 5, #ARGV, 4 do put(ARGV[i], job, ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], handover) end
return ARGV[4]
