-- Check a part of the set of rows in a state; return where the next part starts, 0 after the last.
-- ARGV: state, where this part starts, about how many.
local found = redis.call('SSCAN', P .. 'rows:' .. ARGV[1], ARGV[2], 'COUNT', ARGV[3])
for _, row_id in ipairs(found[2]) do
  if redis.call('HGET', row_key(row_id), 'state') ~= ARGV[1] then
    redis.call('SREM', P .. 'rows:' .. ARGV[1], row_id)
  end
end
return tonumber(found[1])
