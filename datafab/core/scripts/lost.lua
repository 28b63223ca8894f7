-- Return the holders that have lost their rows, and change nothing. ARGV: (row id, holder) pairs.
local lost = {}
for i = 1, #ARGV, 2 do
  if not holds(ARGV[i], ARGV[i + 1]) then lost[#lost + 1] = ARGV[i + 1] end
end
return lost
