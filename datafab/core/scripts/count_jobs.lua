-- Count the jobs that have not ended, by status and flow, and by caller those that wait for a place; and rows by state.
local jobs, oldest, limited, waiting = {}, {}, {}, 0
for _, flow in ipairs(redis.call('SMEMBERS', P .. 'flows')) do
  for _, status in ipairs(STATUSES) do
    local list = list_key(status, flow, '')
    local first = not FINAL[status] and redis.call('ZRANGE', list, 0, 0, 'WITHSCORES')
    if first and first[1] then
      jobs[status .. ' ' .. flow] = redis.call('ZCARD', list)
      oldest[status] = math.max(oldest[status] or 0, now - tonumber(first[2]))
    end
  end
end
for _, caller in ipairs(redis.call('SMEMBERS', P .. 'callers')) do
  local n = redis.call('ZCARD', P .. 'limited:' .. caller)
  if n > 0 then limited[caller] = n; waiting = waiting + n end
end
local rows, due = {limited = waiting}, redis.call('ZCARD', P .. 'due')
for state in pairs(COUNTED) do rows[state] = redis.call('SCARD', P .. 'rows:' .. state) end
rows.sent = math.max(0, due - rows.run - rows.wait)
for state, n in pairs(rows) do if n == 0 then rows[state] = nil end end
return cjson.encode({unlisted = unlisted(), jobs = jobs, oldest = oldest, limited = limited, rows = rows})
