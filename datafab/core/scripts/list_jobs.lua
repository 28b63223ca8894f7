-- Return a page of jobs, newest first: {number of unlisted jobs, jobs read, score and id of the last of them, ids}.
-- Jobs that have expired, or that another version has moved, leave the lists on the way.
-- ARGV: status, flow, caller (each may be empty), score and id after which the page starts, most jobs to read.
local status, flow, caller, score, after, limit = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local lists = {}
if status .. flow .. caller == '' then lists = {P .. 'jobs'}
else
  local missing = unlisted()
  if missing > 0 then return {missing, 0, '', '', {}} end
  local flows = flow == '' and redis.call('SMEMBERS', P .. 'flows') or {flow}
  for _, name in ipairs(flows) do
    for _, one in ipairs(status == '' and STATUSES or {status}) do lists[#lists + 1] = list_key(one, name, caller) end
  end
end

local found = {}
for _, list in ipairs(lists) do
  local start, taken, part = 0, 0, nil
  repeat
    part = redis.call('ZREVRANGEBYSCORE', list, score, '-inf', 'WITHSCORES', 'LIMIT', start, limit)
    for i = 1, #part, 2 do
      -- Jobs of one moment are in the order of their ids.
      if after == '' or tonumber(part[i + 1]) < tonumber(score) or part[i] < after then
        found[#found + 1] = {id = part[i], score = part[i + 1], at = tonumber(part[i + 1]), list = list}
        taken = taken + 1
      end
    end
    start = start + limit
  until taken >= limit or #part < 2 * limit
end
table.sort(found, function(a, b) return a.at > b.at or (a.at == b.at and a.id > b.id) end)

local ids, last = {}, {score = '', id = ''}
local n = math.min(limit, #found)
for i = 1, n do
  last = found[i]
  local current = redis.call('HGET', job_key(last.id), 'status')
  if not current then
    redis.call('ZREM', last.list, last.id)
    redis.call('ZREM', P .. 'jobs', last.id)
  elseif status ~= '' and current ~= status then list_job(last.id, status, current)
  else ids[#ids + 1] = last.id end
end
return {0, n, last.score, last.id, ids}
