-- Return the rows of a job with their states.
local found = {}
for _, row_id in ipairs(redis.call('SMEMBERS', P .. 'job:' .. ARGV[1] .. ':rows')) do
  found[#found + 1] = {row_id, tostring(redis.call('HGET', row_key(row_id), 'state') or '')}
end
return found
