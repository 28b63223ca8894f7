-- Return the jobs with a kind of dedupe key, newest first: {number of unlisted jobs, ids}.
-- ARGV: kind, outcome or empty, number to skip, most to return.
local list, first, limit = keyed_list(ARGV[1], ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local missing = unlisted()
if missing > 0 then return {missing, {}} end
local ids, expired
repeat
  ids, expired = redis.call('ZREVRANGE', list, first, first + limit - 1), 0
  for _, id in ipairs(ids) do
    if redis.call('EXISTS', job_key(id)) == 0 then expired = expired + redis.call('ZREM', list, id) end
  end
until expired == 0
return {0, ids}
