-- Count the jobs that have not ended, by status and flow, and their rows by state. ARGV: first and last rank.
local jobs, oldest, rows = {}, {}, {}
local ids = redis.call('ZRANGE', P .. 'deadlines', ARGV[1], ARGV[2])
for _, id in ipairs(ids) do
  local job = redis.call('HMGET', P .. 'job:' .. id, 'status', 'flow', 'created')
  if job[1] then
    local name = job[1] .. ' ' .. (job[2] or '')
    jobs[name] = (jobs[name] or 0) + 1
    oldest[job[1]] = math.max(oldest[job[1]] or 0, now - tonumber(job[3] or now))
  end
  for _, row_id in ipairs(redis.call('SMEMBERS', P .. 'job:' .. id .. ':rows')) do
    local state = redis.call('HGET', row_key(row_id), 'state')
    if state then rows[state] = (rows[state] or 0) + 1 end
  end
end
return cjson.encode({n = #ids, jobs = jobs, oldest = oldest, rows = rows})
