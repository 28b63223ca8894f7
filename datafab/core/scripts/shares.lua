-- The share of a caller: how many of its jobs may be admitted and not ended. The other jobs of the caller are `limited`:
-- each has one row in that state, which has no message, and an entry in the caller's queue, `limited:<caller>`.

-- Queue a job until its caller has a place: the most urgent first, then the oldest.
local function limit_job(id, caller, seconds)
  local job = redis.call('HMGET', job_key(id), 'priority', 'created')
  redis.call('HSET', job_key(id), 'span', seconds, 'doing', 'waits until another job of its caller has ended')
  -- Times are below 1e10 until the year 2286, so every urgent job comes before those that are less urgent.
  redis.call('ZADD', P .. 'limited:' .. caller, (tonumber(job[1]) or 0) * 1e10 + tonumber(job[2]), id)
  redis.call('ZADD', P .. 'deadlines', '+inf', id)  -- its time starts when it is admitted
end

-- Give a job a place, and make its rows due: the tick sends them.
local function admit_job(id, caller)
  local status, span = unpack(redis.call('HMGET', job_key(id), 'status', 'span'))
  if not status or FINAL[status] then return end
  redis.call('SADD', P .. 'running:' .. caller, id)
  redis.call('HDEL', job_key(id), 'span', 'doing')
  redis.call('HSET', job_key(id), 'deadline', now + span)
  redis.call('ZADD', P .. 'deadlines', now + span, id)
  for _, row_id in ipairs(redis.call('SMEMBERS', job_key(id) .. ':rows')) do
    if redis.call('HGET', row_key(row_id), 'state') == 'limited' then
      move(row_id, 'sent')
      redis.call('HSET', row_key(row_id), 'at', now, 'left', 0)
      redis.call('ZADD', P .. 'due', now, row_id)
    end
  end
end

-- Take back the places of jobs that have ended. Every end does so itself, unless it is one of a host without limits.
local function free_places(caller)
  for _, id in ipairs(redis.call('SMEMBERS', P .. 'running:' .. caller)) do
    local status = redis.call('HGET', job_key(id), 'status')
    if not status or FINAL[status] then redis.call('SREM', P .. 'running:' .. caller, id) end
  end
end

-- Admit a caller's jobs as far as its limit goes, at most 500 at a time.
local function admit(caller)
  local limit, running = tonumber(redis.call('HGET', P .. 'limits', caller)), P .. 'running:' .. caller
  for _ = 1, 500 do
    if limit and redis.call('SCARD', running) >= limit then return end
    local id = redis.call('ZPOPMIN', P .. 'limited:' .. caller)[1]
    if not id then return end
    admit_job(id, caller)
  end
end

-- Give up the place of a job that has ended, or its position in the queue for one.
local function leave(id, caller)
  redis.call('SREM', P .. 'running:' .. caller, id)
  redis.call('ZREM', P .. 'limited:' .. caller, id)
  admit(caller)
end
