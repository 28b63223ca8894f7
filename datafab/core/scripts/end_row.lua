-- End a row and make the rows of the tasks that follow, in one step.
-- ARGV: row id, holder, handover in seconds, key to delete or empty, then (row id, state, queue, signature) each.
local row_id, holder, handover, done = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if not holds(row_id, holder) then
  -- The job ended while this part ran: its row is gone, and what it kept goes too. In a parked job that runs again
  -- the same part of a second split keeps its own there.
  if done ~= '' and redis.call('EXISTS', row_key(row_id)) == 0 then
    local status = redis.call('HGET', P .. string.match(done, '^job:[^:]+'), 'status')
    if not status or FINAL[status] then redis.call('DEL', P .. done) end
  end
  return 0
end
local job = redis.call('HGET', row_key(row_id), 'job')
for i = 5, #ARGV, 4 do put(ARGV[i], job, ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], handover) end
if done ~= '' then redis.call('DEL', P .. done) end
attempted(row_id, 'ended')
move(row_id, false)
wake_join(job, handover)
return 1
