-- Check a part of the list of a kind of dedupe key; return {jobs read, jobs that stay}. ARGV: kind, first and last rank.
local ids, kept = redis.call('ZRANGE', keyed_list(ARGV[1], ''), ARGV[2], ARGV[3]), 0
for _, id in ipairs(ids) do
  local job = redis.call('HMGET', job_key(id), 'status', 'key')
  if job[1] and listed_kind(job[2]) == ARGV[1] then list_job(id, false, job[1]); kept = kept + 1
  else leave_keyed(ARGV[1], id) end
end
return {#ids, kept}
