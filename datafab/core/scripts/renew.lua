-- Renew leases; return the holders that have lost their rows. ARGV: lease in seconds, then (row id, holder) pairs.
local lost = {}
for i = 2, #ARGV, 2 do
  if holds(ARGV[i], ARGV[i + 1]) then
    redis.call('ZADD', P .. 'due', now + ARGV[1], ARGV[i])
    moves(redis.call('HGET', row_key(ARGV[i]), 'queue'))
  else lost[#lost + 1] = ARGV[i + 1] end
end
return lost
