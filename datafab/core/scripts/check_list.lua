-- Check a part of a list: expired jobs leave it, and so do those that another version has moved.
-- Return {jobs read, jobs that stay, expired ones}. ARGV: status, flow, caller or empty, first and last rank.
local status, flow, caller = ARGV[1], ARGV[2], ARGV[3]
local list = list_key(status, flow, caller)
local ids, kept, expired = redis.call('ZRANGE', list, ARGV[4], ARGV[5]), 0, 0
for _, id in ipairs(ids) do
  local job = redis.call('HMGET', job_key(id), 'status', 'flow', 'caller')
  if job[1] == status and job[2] == flow and (caller == '' or job[3] == caller) then
    kept = kept + 1
    if not FINAL[status] then count_rows(id) end
  else
    redis.call('ZREM', list, id)
    if job[1] then list_job(id, false, job[1]) else expired = expired + redis.call('ZREM', P .. 'jobs', id) end
  end
end
return {#ids, kept, expired}
