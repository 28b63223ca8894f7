-- Jobs: their status and the lists that they are in. Nothing else writes the status of a job.
-- A list is a sorted set of ids by creation time. A job is in the list of its status and flow, and in one more of these
-- of its caller, if it has one. If LISTED_KEYS names the kind of its dedupe key, it is also in the list of that kind and
-- in the one of its outcome.
local OUTCOMES = {'pending', 'complete', 'error'}

local function job_key(id) return P .. 'job:' .. id end

local function list_key(status, flow, caller)
  return P .. 'list:' .. status .. ':' .. flow .. (caller == '' and '' or ':' .. caller)
end

local function keyed_list(kind, outcome) return P .. 'keyed:' .. kind .. (outcome == '' and '' or ':' .. outcome) end

-- Return the kind of a dedupe key, the part before the first colon, if jobs are listed by it.
local function listed_kind(key)
  local kind = key and string.match(key, '^(.-):')
  return kind and LISTED_KEYS[kind] and kind
end

-- Tell whether some stage of a job counts an item as failed, with its error.
local function has_failures(id)
  if redis.call('HLEN', job_key(id) .. ':failed') == 0 then return false end
  local failed, fields = {}, redis.call('HGETALL', job_key(id))
  local function count(stage, n) failed[stage] = (failed[stage] or 0) + n end
  for i = 1, #fields, 2 do
    local n = tonumber(fields[i + 1])
    local stage = string.match(fields[i], '^n:(.*):failed$')
    if stage then count(stage, n) end
    local other, status, outcome = string.match(fields[i], '^d:(.*):(.-):(.-)$')
    if status == 'failed' then count(other, -n) end
    if outcome == 'failed' then count(other, n) end
  end
  for _, n in pairs(failed) do if n > 0 then return true end end
  return false
end

local function outcome_of(id, status)
  if not FINAL[status] then return 'pending' end
  return status == 'succeeded' and not has_failures(id) and 'complete' or 'error'
end

local function leave_keyed(kind, id)
  redis.call('ZREM', keyed_list(kind, ''), id)
  for _, outcome in ipairs(OUTCOMES) do redis.call('ZREM', keyed_list(kind, outcome), id) end
end

-- Move a job from the lists of one status, which may be false, to those of another.
local function list_job(id, was, status)
  local created = redis.call('ZSCORE', P .. 'jobs', id)
  local job = redis.call('HMGET', job_key(id), 'flow', 'caller', 'key')
  if not created then return end
  local flow, caller, kind = job[1] or '', job[2] or '', listed_kind(job[3])
  redis.call('SADD', P .. 'flows', flow)
  if caller ~= '' then redis.call('SADD', P .. 'callers', caller) end
  for _, name in ipairs(caller == '' and {''} or {'', caller}) do
    if was and was ~= status then redis.call('ZREM', list_key(was, flow, name), id) end
    redis.call('ZADD', list_key(status, flow, name), created, id)
  end
  if not kind then return end
  leave_keyed(kind, id)
  for _, outcome in ipairs({'', outcome_of(id, status)}) do
    redis.call('ZADD', keyed_list(kind, outcome), created, id)
  end
end

local function set_status(id, status)
  local was = redis.call('HGET', job_key(id), 'status')
  if was == status then return end
  redis.call('HSET', job_key(id), 'status', status)
  list_job(id, was, status)
end

-- Return how many jobs are in no list. Hosts of a version without lists may have made them.
local function unlisted()
  local n = redis.call('ZCARD', P .. 'jobs')
  for _, flow in ipairs(redis.call('SMEMBERS', P .. 'flows')) do
    for _, status in ipairs(STATUSES) do n = n - redis.call('ZCARD', list_key(status, flow, '')) end
  end
  return math.max(0, n)
end
