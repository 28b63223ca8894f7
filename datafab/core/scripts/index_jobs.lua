-- Put jobs into their lists, and their rows into the sets that count them, as far as another version has not done so.
-- Return {jobs read, expired ones among them, jobs that are still in no list}. ARGV: first and last rank from the newest.
local ids, expired = redis.call('ZREVRANGE', P .. 'jobs', ARGV[1], ARGV[2]), 0
for _, id in ipairs(ids) do
  local status = redis.call('HGET', job_key(id), 'status')
  if status then list_job(id, false, status); count_rows(id)
  else expired = expired + redis.call('ZREM', P .. 'jobs', id) end
end
return {#ids, expired, unlisted()}
