-- Return the jobs in a part of the list of a kind of dedupe key whose parameters, as JSON, have all of some texts:
-- {number of unlisted jobs, jobs read, ids}. ARGV: kind, outcome or empty, first and last rank from the newest, texts: a
-- JSON list of lists, of each of which one text is enough.
local missing = unlisted()
if missing > 0 then return {missing, 0, {}} end
local function has_all(params, texts)
  for _, spellings in ipairs(texts) do
    local found = false
    for _, text in ipairs(spellings) do found = found or string.find(params, text, 1, true) end
    if not found then return false end
  end
  return true
end
local ids = redis.call('ZREVRANGE', keyed_list(ARGV[1], ARGV[2]), ARGV[3], ARGV[4])
local texts, found = cjson.decode(ARGV[5]), {}
for _, id in ipairs(ids) do
  local params = redis.call('HGET', job_key(id), 'params')
  if params and has_all(params, texts) then found[#found + 1] = id end
end
return {0, #ids, found}
