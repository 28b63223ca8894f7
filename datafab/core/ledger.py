"""The ledger: every task that is to run, as a row in Redis with the time at which it must be sent (again).

Crash recovery, retries, polling and waiting are this one thing. A row is made by whoever publishes the task, before
the message leaves, and goes when the task has ended: a message without a row is a stale copy, and is dropped. The
fence, a row's number of sends, travels as Celery's own ``retries``; a copy with an old fence is stale too.

========  ============================================================  ==================================
state     meaning                                                       due
========  ============================================================  ==================================
sent      a message is on its way                                       after two leases: sent again, unless it is
                                                                        known to have left and its queue has a backlog
held      a chord's body: Celery sends it when the header is complete   not, until only it is left
run       ``by`` works on it and renews its lease                       a lease from the last heartbeat
wait      nobody works on it: a poll, a retry, a closed gate            when it shall be looked at again
parked    its holders died too often; kept for ``jobs retry``           not
========  ============================================================  ==================================

All clocks are Redis's, so the hosts' may differ.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import redis

from datafab.core.job import Job
from datafab.core.jobs import PREAMBLE, connect
from datafab.core.metrics import LIMITS
from datafab.settings import PREFIX, Settings

_HELPERS = (
    PREAMBLE
    + f"local LIMITS = {{{', '.join(LIMITS)}}}"
    + """
local function row_key(rid) return P .. 'row:' .. rid end

-- A queue moves when a task of it is taken, and while one is worked on; `queue` may be the list of a priority.
local function moves(queue)
  if queue then redis.call('HSET', P .. 'moved', string.match(queue, '^%w+'), now) end
end

-- Every change of a row's state goes through here: it keeps the job's status and its count of busy rows right.
local function move(rid, state)
  local key = row_key(rid)
  local row = redis.call('HMGET', key, 'job', 'state')
  local job = P .. 'job:' .. row[1]
  if state then redis.call('HSET', key, 'state', state)
  else
    redis.call('DEL', key); redis.call('ZREM', P .. 'due', rid); redis.call('SREM', job .. ':rows', rid)
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
  if new ~= status then redis.call('HSET', job, 'status', new) end
end

local function put(rid, job, state, queue, sig, delay)
  if redis.call('EXISTS', row_key(rid)) == 1 then return end
  redis.call('HSET', row_key(rid), 'job', job, 'fence', 0, 'state', state, 'deaths', 0, 'queue', queue, 'sig', sig,
             'at', now)
  redis.call('SADD', P .. 'job:' .. job .. ':rows', rid)
  if state == 'sent' then redis.call('ZADD', P .. 'due', now + delay, rid) end
end

local function mine(rid, by)
  local row = redis.call('HMGET', row_key(rid), 'state', 'by')
  return row[1] == 'run' and row[2] == by
end

-- How the attempts at a stage go, and how long those take that end.
local function attempted(rid, how)
  local row = redis.call('HMGET', row_key(rid), 'stage', 'since')
  if not row[1] then return end
  tally('attempts ' .. row[1] .. ' ' .. how)
  if how ~= 'ended' then return end
  local seconds, below = math.max(0, now - tonumber(row[2])), 'more'
  for i = #LIMITS, 1, -1 do if seconds <= LIMITS[i] then below = LIMITS[i] end end
  tally('took ' .. row[1] .. ' ' .. below)
  redis.call('HINCRBYFLOAT', P .. 'counts', 'seconds ' .. row[1], string.format('%.6f', seconds))
end

-- When only the join is left, its message is on its way; should that be lost, the tick sends it.
local function wake_join(job, delay)
  local rows = P .. 'job:' .. job .. ':rows'
  if redis.call('SCARD', rows) ~= 1 then return end
  local rid = redis.call('SRANDMEMBER', rows)
  if redis.call('HGET', row_key(rid), 'state') == 'held' then
    redis.call('HSET', row_key(rid), 'state', 'sent', 'at', now)
    redis.call('ZADD', P .. 'due', now + delay, rid)
  end
end
"""
)

_ENQUEUE = """
local id, key, rid, queue, sig, handover, limit = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local job = P .. 'job:' .. id
if redis.call('EXISTS', job) == 1 then return id end  -- our own call, sent twice by a client that lost the answer
if key ~= '' then
  local known = redis.call('GET', P .. 'key:' .. key)
  if known and redis.call('EXISTS', P .. 'job:' .. known) == 1 then return known end
  redis.call('SET', P .. 'key:' .. key, id)
  redis.call('HSET', job, 'key', key)
end
redis.call('HSET', job, 'flow', ARGV[8], 'params', ARGV[9], 'stages', ARGV[10],
           'status', 'queued', 'busy', 0, 'waits', 0, 'created', now, 'deadline', now + limit)
if ARGV[11] ~= '' then redis.call('HSET', job, 'after', ARGV[11]) end
if ARGV[12] ~= '' then redis.call('HSET', job, 'asked', ARGV[12]) end
redis.call('ZADD', P .. 'jobs', now, id)
redis.call('ZADD', P .. 'deadlines', now + limit, id)
tally('made ' .. ARGV[8])
put(rid, id, 'sent', queue, sig, handover)
return id
"""

_TAKE = """
local rid, fence, by, lease, pool, stage = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local key = row_key(rid)
local row = redis.call('HMGET', key, 'fence', 'state', 'job', 'deaths')
if not row[1] then tally('stale ' .. stage); return false end
local job = P .. 'job:' .. row[3]
if not mine(rid, by) then
  if tonumber(row[1]) ~= fence or not (row[2] == 'sent' or row[2] == 'held') then
    tally('stale ' .. stage)
    return false
  end
  local status = redis.call('HGET', job, 'status')
  if not status or FINAL[status] then move(rid, false); tally('stale ' .. stage); return false end
  move(rid, 'run')
  moves(redis.call('HGET', key, 'queue'))
  redis.call('HSET', key, 'by', by, 'pool', pool, 'stage', stage, 'since', now, 'done', ARGV[7])
  redis.call('HSET', job, 'stage', stage)
  redis.call('HSETNX', job, 's:' .. stage, now)
  redis.call('HSETNX', job, 'started', now)
end
redis.call('ZADD', P .. 'due', now + lease, rid)
return {row[3], row[4], redis.call('HGET', job, 'created'), redis.call('HDEL', key, 'hurry')}
"""

_RENEW = """
local lost = {}
for i = 2, #ARGV, 2 do
  if mine(ARGV[i], ARGV[i + 1]) then
    redis.call('ZADD', P .. 'due', now + ARGV[1], ARGV[i])
    moves(redis.call('HGET', row_key(ARGV[i]), 'queue'))
  else lost[#lost + 1] = ARGV[i + 1] end
end
return lost
"""

_END = """
local rid, by, handover, done = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if not mine(rid, by) then
  -- The job has ended before its last part: the join needs no row of it.
  if done ~= '' and redis.call('EXISTS', row_key(rid)) == 0 then redis.call('DEL', P .. done) end
  return 0
end
local job = redis.call('HGET', row_key(rid), 'job')
for i = 5, #ARGV, 4 do put(ARGV[i], job, ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], handover) end
if done ~= '' then redis.call('DEL', P .. done) end
attempted(rid, 'ended')
move(rid, false)
wake_join(job, handover)
return 1
"""

_WAIT = """
local rid, by, delay, reason = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if not mine(rid, by) then return 0 end
attempted(rid, 'waited')
move(rid, 'wait')
redis.call('HSET', row_key(rid), 'reason', reason, 'deaths', 0, 'by', '')
if redis.call('HEXISTS', row_key(rid), 'hurry') == 1 then delay = 0 end
redis.call('ZADD', P .. 'due', now + delay, rid)
return 1
"""

# What is being looked at just now may have been looked at a moment too early: its mark stays until it is taken again.
_HASTEN = """
local told = 0
for _, rid in ipairs(redis.call('SMEMBERS', P .. 'job:' .. ARGV[1] .. ':rows')) do
  local state = redis.call('HGET', row_key(rid), 'state')
  if state == 'wait' then redis.call('ZADD', P .. 'due', now, rid) end
  if state == 'wait' or state == 'run' or state == 'sent' then
    redis.call('HSET', row_key(rid), 'hurry', 1)
    told = told + 1
  end
end
return told
"""

# A holder is gone, and it is this row's fault as far as anybody can tell.
_DIED = """
local rid, fence, reason = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local row = redis.call('HMGET', row_key(rid), 'state', 'fence')
if row[1] ~= 'run' or tonumber(row[2]) ~= fence then return 0 end
attempted(rid, 'died')
move(rid, 'wait')
redis.call('HINCRBY', row_key(rid), 'deaths', 1)
redis.call('HSET', row_key(rid), 'reason', reason, 'by', '')
redis.call('ZADD', P .. 'due', now, rid)
return 1
"""

# A holder stops, and nobody is to blame. Its rows are due when it is gone: it would take them again.
_GIVE_BACK = """
local given = 0
for i = 2, #ARGV, 2 do
  local rid, fence = ARGV[i], tonumber(ARGV[i + 1])
  local row = redis.call('HMGET', row_key(rid), 'state', 'fence')
  if row[1] == 'run' and tonumber(row[2]) == fence then
    attempted(rid, 'stopped')
    move(rid, 'wait')
    redis.call('HSET', row_key(rid), 'by', '')
    redis.call('ZADD', P .. 'due', now + ARGV[1], rid)
    given = given + 1
  end
end
return given
"""

_SPLIT = """
local rid, by, handover = ARGV[1], ARGV[2], ARGV[3]
if not mine(rid, by) then return false end
local key = row_key(rid)
local known = redis.call('HGET', key, 'next')
if known then return known end
redis.call('HSET', key, 'next', ARGV[4])
local job = redis.call('HGET', key, 'job')
for i = 5, #ARGV, 4 do put(ARGV[i], job, ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], handover) end
return ARGV[4]
"""

# A run row that is due has lost its holder. In a threads pool most of the rows that a process took with it are
# innocent: no death is counted, and each goes to the queue `cpu`, where it is alone in a child and a death tells.
# A sent row that is due may have lost its message: a worker that stops can have fetched it and never told. Where its
# queue has a backlog it is most likely still in there, and sending it again would only make the backlog longer.
_CLAIM = """
local out = {}
moves('control')  -- the tick's own
for _, rid in ipairs(redis.call('ZRANGEBYSCORE', P .. 'due', '-inf', now, 'LIMIT', 0, ARGV[1])) do
  local key = row_key(rid)
  local row = redis.call('HMGET', key, 'state', 'fence', 'deaths', 'sig', 'pool', 'reason', 'queue', 'left')
  local left = tonumber(row[8]) or 0
  if not row[1] then redis.call('ZREM', P .. 'due', rid)
  elseif row[1] == 'sent' and left > 0 and left < 10 and redis.call('LLEN', P .. row[7]) > 0 then
    redis.call('HSET', key, 'left', left + 1)
    redis.call('ZADD', P .. 'due', now + ARGV[2], rid)
  else
    local deaths, queue = tonumber(row[3]), row[7]
    if row[1] == 'run' then
      attempted(rid, row[5] == 'threads' and 'lost' or 'died')
      if row[5] == 'threads' then queue = 'cpu'; redis.call('HSET', key, 'queue', queue)
      else deaths = redis.call('HINCRBY', key, 'deaths', 1) end
    end
    tally('sent_again ' .. row[1])
    local fence = redis.call('HINCRBY', key, 'fence', 1)
    redis.call('HSET', key, 'left', 0, 'at', now)
    move(rid, 'sent')
    redis.call('ZADD', P .. 'due', now + ARGV[2], rid)
    out[#out + 1] = {rid, fence, row[4], deaths, queue, row[6] or ''}
  end
end
return out
"""

_CONFIRM = """
for i = 2, #ARGV, 2 do
  local row = redis.call('HMGET', row_key(ARGV[i]), 'state', 'fence')
  if row[1] == 'sent' and row[2] == ARGV[i + 1] then
    redis.call('HSET', row_key(ARGV[i]), 'left', 1)
    redis.call('ZADD', P .. 'due', now + ARGV[1], ARGV[i])
  end
end
"""

# A splitter splits anew: the rows of its first split went with the job, and so does what they had counted.
_UNPARK = """
local id, limit = ARGV[1], ARGV[2]
local job = P .. 'job:' .. id
local rids = redis.call('SMEMBERS', job .. ':rows')
if redis.call('HGET', job, 'status') ~= 'parked' or #rids == 0 then return 0 end
redis.call('HDEL', job, 'ended', 'error')
redis.call('HSET', job, 'status', 'queued', 'busy', 0, 'waits', 0, 'deadline', now + limit)
redis.call('ZADD', P .. 'deadlines', now + limit, id)
redis.call('ZREM', P .. 'parked', id)
for _, part in ipairs({'', ':log', ':failed', ':rows'}) do redis.call('PERSIST', job .. part) end
for _, rid in ipairs(rids) do
  redis.call('PERSIST', row_key(rid))
  redis.call('HSET', row_key(rid), 'deaths', 0)
  if redis.call('HDEL', row_key(rid), 'next') == 1 then
    for _, name in ipairs(redis.call('HKEYS', job)) do
      if string.match(name, '^[nbd]:') then redis.call('HDEL', job, name) end
    end
  end
  move(rid, 'wait')
  redis.call('ZADD', P .. 'due', now, rid)
end
return #rids
"""

#: Seconds until what a worker gives back, as its last act, is sent again.
STOPPED = 2


class Taken(NamedTuple):
    """What a worker learns when it takes a row."""

    job: str
    #: how often holders of this row have died
    deaths: int
    #: Unix time at which the job was made
    created: float
    #: whether somebody said that there is something to see
    hastened: bool = False


class Claimed(NamedTuple):
    """A due row that the caller must send now."""

    rid: str
    fence: int
    #: the task's signature, JSON
    sig: str
    deaths: int
    queue: str
    reason: str


class Row(NamedTuple):
    """A row to be made."""

    rid: str
    #: the signature, JSON
    sig: str
    #: the list in Redis that its message goes to
    queue: str
    #: ``sent`` or ``held``
    state: str = "sent"

    def parts(self) -> tuple[str, str, str, str]:
        """Return it in the order in which the scripts take it."""
        return self.rid, self.state, self.queue, self.sig


class Ledger:
    """The rows of one Redis. Each method is one atomic step there."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self.redis: Any = client  # its types do not know that answers are decoded
        self.job_limit = settings.job_deadline
        #: seconds until a message is doubted
        self.handover = 2 * settings.lease
        scripts = {"enqueue": _ENQUEUE, "take": _TAKE, "renew": _RENEW, "end": _END, "wait": _WAIT, "died": _DIED}
        scripts |= {"split": _SPLIT, "claim": _CLAIM, "confirm": _CONFIRM, "unpark": _UNPARK, "hasten": _HASTEN}
        scripts |= {"give_back": _GIVE_BACK}
        self._scripts = {name: client.register_script(_HELPERS + text) for name, text in scripts.items()}

    @classmethod
    def connect(cls, settings: Settings, *, patience: float) -> Ledger:
        """Return a ledger that rides out a Redis restart of ``patience`` seconds."""
        return cls(settings, connect(str(settings.redis_url), patience=patience))

    def enqueue(self, job: Job, row: Row, stages: Iterable[str], *, after: str = "", asked: str = "") -> str:
        """Write job, dedupe key and first row together; return the id of the job that has the key.

        Args:
            job: to be written.
            row: of its first task.
            stages: the names of its stages.
            after: the flow that follows the job.
            asked: the last of its stages that was asked for.
        """
        params = json.dumps(job.params, ensure_ascii=False)
        limit = min(self.job_limit, job.deadline - job.created)
        args: list[Any] = [job.id, job.key or "", row.rid, row.queue, row.sig, self.handover, limit]
        args += [job.flow, params, ",".join(stages), after, asked]
        return str(self._run("enqueue", *args))

    def take(
        self, rid: str, fence: int, by: str, *, lease: float, pool: str, stage: str, done: str = ""
    ) -> Taken | None:
        """Take a row that was sent with this fence; None: the copy is stale.

        Args:
            rid: the row.
            fence: the attempt that the message is of.
            by: names this very attempt.
            lease: seconds.
            pool: the worker's.
            stage: for the numbers of the cluster.
            done: the key that is dropped with the row, should the job end without it.
        """
        answer = self._run("take", rid, fence, by, lease, pool, stage, done)
        return Taken(answer[0], int(answer[1]), float(answer[2]), bool(answer[3])) if answer else None

    def renew(self, held: Sequence[tuple[str, str]], lease: float) -> list[str]:
        """Renew the leases of (rid, by) pairs; return the ``by`` of those that are lost."""
        lost: list[str] = self._run("renew", lease, *(part for pair in held for part in pair))
        return lost

    def end(self, rid: str, by: str, successors: Sequence[Row] = (), *, done: str = "") -> bool:
        """End a task and make its successors' rows, in one step; False: it was lost. ``done``: a key to drop."""
        rows = [part for row in successors for part in row.parts()]
        return bool(self._run("end", rid, by, self.handover, done, *rows))

    def wait(self, rid: str, by: str, delay: float, reason: str) -> bool:
        """Let a row wait; False: it was lost."""
        return bool(self._run("wait", rid, by, delay, reason))

    def hasten(self, job: str) -> int:
        """Make what waits of a job due now: somebody says that there is something to see. Return how many rows."""
        return int(self._run("hasten", job))

    def died(self, rid: str, fence: int, reason: str) -> bool:
        """Count a death of a row's holder and make it due; False: it had moved on."""
        return bool(self._run("died", rid, fence, reason))

    def give_back(self, held: Sequence[tuple[str, int]]) -> int:
        """Let these (rid, fence) wait whose holder stops, and count no death; return how many had not moved on."""
        return int(self._run("give_back", STOPPED, *(part for pair in held for part in pair)))

    def split(self, rid: str, by: str, canvas: str, rows: Sequence[Row]) -> str | None:
        """Keep the canvas that replaces a task, with its rows; return the one kept first. None: lost."""
        parts = [part for row in rows for part in row.parts()]
        kept: str | None = self._run("split", rid, by, self.handover, canvas, *parts)
        return kept

    def claim(self, limit: int = 500) -> list[Claimed]:
        """Take over due rows; the caller sends each with its fence."""
        return [
            Claimed(rid, int(fence), sig, int(deaths), queue, reason)
            for rid, fence, sig, deaths, queue, reason in self._run("claim", limit, self.handover)
        ]

    def confirm(self, sent: Sequence[tuple[str, int]]) -> None:
        """Say that the messages of these (rid, fence) have reached the broker."""
        if sent:
            self._run("confirm", self.handover, *(part for pair in sent for part in pair))

    def unpark(self, job: str) -> int:
        """Make the rows of a parked job due; return how many."""
        return int(self._run("unpark", job, self.job_limit))

    def states(self, job: str) -> dict[str, str]:
        """Return the job's live rows, rid -> state."""
        rids = sorted(self.redis.smembers(f"{PREFIX}job:{job}:rows"))
        return {rid: str(self.redis.hget(f"{PREFIX}row:{rid}", "state")) for rid in rids}

    def _run(self, script: str, *args: Any) -> Any:
        return self._scripts[script](args=args)
