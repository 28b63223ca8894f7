-- Every script begins with this. The loader puts PREFIX, FINAL, STATUSES, LISTED_KEYS and LIMITS before it: Python has them.
local P = PREFIX
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1000000
local function tally(name, n) redis.call('HINCRBY', P .. 'counts', name, n or 1) end
