-- Return the dedupe keys of a kind, those of the newest jobs first: {number of unlisted jobs, keys}.
-- ARGV: kind, outcome or empty, number to skip, most to return.
local list, first, limit = keyed_list(ARGV[1], ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local missing = unlisted()
if missing > 0 then return {missing, {}} end
local keys, expired
repeat
  local ids = redis.call('ZREVRANGE', list, first, first + limit - 1)
  keys, expired = {}, 0
  for _, id in ipairs(ids) do
    local key = redis.call('HGET', job_key(id), 'key')
    if key then keys[#keys + 1] = key else expired = expired + redis.call('ZREM', list, id) end
  end
until expired == 0
return {0, keys}
