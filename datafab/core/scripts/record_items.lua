-- Keep items as done, count each of them once, and append log lines.
-- ARGV: job, stage, key of what is done, JSON, most failures, most lines, retention in seconds, row id, holder.
local job = P .. 'job:' .. ARGV[1]
if redis.call('EXISTS', job) == 0 or not holds(ARGV[8], ARGV[9]) then return 0 end
local stage = ARGV[2]
local done = P .. ARGV[3]
local work = cjson.decode(ARGV[4])
local items, bytes = {}, {}
for _, r in ipairs(work.records) do
  if redis.call('HSETNX', done, r[1], r[2]) == 1 then
    redis.call('HINCRBY', job, 'n:' .. stage .. ':' .. r[3], 1)
    if r[6] ~= r[3] then redis.call('HINCRBY', job, 'd:' .. stage .. ':' .. r[3] .. ':' .. r[6], 1) end
    if r[4] > 0 then redis.call('HINCRBY', job, 'b:' .. stage, r[4]) end
    if r[5] then items[r[6]] = (items[r[6]] or 0) + 1; bytes[r[6]] = (bytes[r[6]] or 0) + r[4] end
    if r[7] and redis.call('HLEN', job .. ':failed') < tonumber(ARGV[5]) then
      redis.call('HSET', job .. ':failed', r[7], r[8])
    end
  end
end
for status, n in pairs(items) do
  tally('items ' .. stage .. ' ' .. status, n)
  tally('bytes ' .. stage .. ' ' .. status, string.format('%.0f', bytes[status]))
end
redis.call('HSET', job, 'l:' .. stage, now)
redis.call('EXPIRE', done, ARGV[7])
for _, line in ipairs(work.lines) do redis.call('RPUSH', job .. ':log', line) end
if #work.lines > 0 then redis.call('LTRIM', job .. ':log', -tonumber(ARGV[6]), -1) end
return 1
