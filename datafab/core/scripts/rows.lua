-- A task's row. Its id alone is not enough: a task that is replaced leaves it to the canvas's body.
local function row_id(task, id) return task .. ':' .. id end

-- A row of the ledger: the hash of one task that is to run.
local function row_key(row_id) return P .. 'row:' .. row_id end

-- Note that a queue moves: a task of it is taken or worked on. `queue` may be the list of one priority.
local function moves(queue)
  if queue then redis.call('HSET', P .. 'moved', string.match(queue, '^%w+'), now) end
end

-- The rows in each of these states have a set, to be counted. Those that are `sent` are the rest of `due`.
local COUNTED = {run = 1, wait = 1, held = 1}
local function count_row(row_id, was, state)
  if was == state then return end
  if COUNTED[was] then redis.call('SREM', P .. 'rows:' .. was, row_id) end
  if COUNTED[state] then redis.call('SADD', P .. 'rows:' .. state, row_id) end
end

-- Count a job's rows that another version has made or moved.
local function count_rows(id)
  for _, row_id in ipairs(redis.call('SMEMBERS', job_key(id) .. ':rows')) do
    count_row(row_id, false, redis.call('HGET', row_key(row_id), 'state'))
  end
end

-- Change a row's state, or delete the row where no state is given. This keeps the job's status and its counts of busy
-- and waiting rows right.
local function move(row_id, state)
  local key = row_key(row_id)
  local row = redis.call('HMGET', key, 'job', 'state')
  local job = job_key(row[1])
  count_row(row_id, row[2], state)
  if state then redis.call('HSET', key, 'state', state)
  else
    redis.call('DEL', key); redis.call('ZREM', P .. 'due', row_id); redis.call('SREM', job .. ':rows', row_id)
  end
  local status = redis.call('HGET', job, 'status')
  if not status or FINAL[status] then return end
  local function count(field, of)
    if row[2] == of and state ~= of then return redis.call('HINCRBY', job, field, -1) end
    if row[2] ~= of and state == of then return redis.call('HINCRBY', job, field, 1) end
    return tonumber(redis.call('HGET', job, field)) or 0
  end
  local busy, waits, new = count('busy', 'run'), count('waits', 'wait'), status
  if busy > 0 then new = 'running' elseif waits > 0 then new = 'waiting' end
  set_status(row[1], new)
end

-- Make a row, unless it is there already. The number of a row that has no message yet is one below the first attempt's.
local function put(row_id, job, state, queue, sig, delay)
  if redis.call('EXISTS', row_key(row_id)) == 1 then return end
  redis.call('HSET', row_key(row_id), 'job', job, 'fence', state == 'limited' and -1 or 0, 'state', state, 'deaths', 0, 'queue', queue, 'sig', sig,
             'at', now)
  count_row(row_id, nil, state)
  redis.call('SADD', P .. 'job:' .. job .. ':rows', row_id)
  if state == 'sent' then redis.call('ZADD', P .. 'due', now + delay, row_id) end
end

-- An attempt that has lost its row may finish what it does, but nothing that it keeps counts.
-- A run without a cluster has no row: its id is empty.
local function holds(row_id, holder)
  if row_id == '' then return true end
  local row = redis.call('HMGET', row_key(row_id), 'state', 'by')
  return row[1] == 'run' and row[2] == holder
end

-- Count how an attempt at a stage went, and how long it took where it ended.
local function attempted(row_id, how)
  local row = redis.call('HMGET', row_key(row_id), 'stage', 'since')
  if not row[1] then return end
  tally('attempts ' .. row[1] .. ' ' .. how)
  if how ~= 'ended' then return end
  local seconds, below = math.max(0, now - tonumber(row[2])), 'more'
  for i = #LIMITS, 1, -1 do if seconds <= LIMITS[i] then below = LIMITS[i] end end
  tally('took ' .. row[1] .. ' ' .. below)
  redis.call('HINCRBYFLOAT', P .. 'counts', 'seconds ' .. row[1], string.format('%.6f', seconds))
end

-- Make the join due once it is the job's only row. Celery has sent its message; if that is lost, the tick sends another.
local function wake_join(job, delay)
  local rows = P .. 'job:' .. job .. ':rows'
  if redis.call('SCARD', rows) ~= 1 then return end
  local row_id = redis.call('SRANDMEMBER', rows)
  if redis.call('HGET', row_key(row_id), 'state') == 'held' then
    redis.call('HSET', row_key(row_id), 'state', 'sent', 'at', now)
    count_row(row_id, 'held', 'sent')
    redis.call('ZADD', P .. 'due', now + delay, row_id)
  end
end
