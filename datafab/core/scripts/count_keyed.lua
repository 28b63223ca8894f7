-- Count the jobs with a kind of dedupe key: {number of unlisted jobs, numbers in the order of OUTCOMES}. ARGV: kind.
local counts = {unlisted()}
for _, outcome in ipairs(OUTCOMES) do
  counts[#counts + 1] = redis.call('ZCARD', keyed_list(ARGV[1], outcome))
end
return counts
