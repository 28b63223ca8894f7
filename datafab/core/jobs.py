"""Jobs: what runs, how far it is, what it said. In Redis for a cluster, in memory for ``--inline``.

Keys, all below ``datafab:1:``

| key | type | holds |
| --- | --- | --- |
| ``jobs`` | sorted set | job ids by creation time |
| ``job:<id>`` | hash | the job; ``n:``, ``d:``, ``b:``, ``s:`` and ``l:`` with a stage: see below |
| ``job:<id>:log`` | list | its last log lines, JSON |
| ``job:<id>:failed`` | hash | source -> error of failed items, the first ``MAX_FAILURES`` |
| ``job:<id>:done:<stage>:<batch>`` | hash | what is done of it: index -> item; ``m:<index>``, ``r:<index>``: notes |
| ``job:<id>:rows`` | set | the job's ledger rows that are alive (``ledger.py``) |
| ``deadlines`` | sorted set | ids of jobs that have not ended, by deadline |
| ``parked`` | sorted set | ids of parked jobs, by the time at which they are forgotten |
| ``counts`` | hash | what has happened since ever, for ``/metrics`` (``metrics.py``) |
| ``after`` | sorted set | ids of ended jobs whose flow has another to be run after it |
| ``secret:<id>`` | hash | the job's secrets (``secrets.py``) |
| ``key:<key>`` | string | dedupe key -> job id |

``n:<stage>:<status>`` counts the items by their status after the stage, ``d:<stage>:<status>:<outcome>`` those of them
that the stage counts as something else, since it only follows what was asked for, and ``b:<stage>`` the bytes of their
resources. ``s:<stage>`` and ``l:<stage>`` are the stage's first and last time.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from datafab.core.item import Item, ItemError, received
from datafab.core.job import FINAL, Job, JobStatus, StageSums, counts_of, outcome
from datafab.errors import NotFound
from datafab.settings import PREFIX, Settings

#: Redis cannot be reached: no verdict on whatever asked for it.
AWAY = (RedisConnectionError, RedisTimeoutError)

#: What a stage that follows counts the items as that it does not take.
PASSED = "passed"

MAX_LINES = 1000
#: The notes on an item: its stage's, and the runner's; None: kept by a version that put both into one.
Notes = tuple[dict[str, Any], dict[str, Any] | None]
NOTHING: Mapping[str, Any] = MappingProxyType({})
MAX_FAILURES = 1000


class Record(NamedTuple):
    """One item that a stage has finished with."""

    position: int
    item: Item
    #: whether the stage had it in hand, or let it pass through
    touched: bool
    #: what the stage counts it as: a status, or ``PASSED``; empty: the item's status
    outcome: str = ""


class Jobs(Protocol):
    """What the runner and the stages' context need of jobs."""

    def ping(self) -> None:
        """Raise when they cannot be reached."""

    def close(self) -> None:
        """Close the connections."""

    def done(self, job: str, stage: str, number: int | None) -> dict[int, Item]:
        """Return what is done of a batch that an earlier attempt began."""

    def record(
        self,
        job: str,
        stage: str,
        number: int | None,
        records: Sequence[Record],
        lines: Sequence[dict[str, Any]],
        *,
        holder: tuple[str, str] = ("", ""),
    ) -> bool:
        """Keep items as done, count each of them once, and append log lines; False: the holder has lost its row."""

    def memo(self, job: str, stage: str, number: int | None) -> dict[int, Notes]:
        """Return the notes on a batch's items."""

    def keep_memo(
        self,
        job: str,
        stage: str,
        number: int | None,
        index: int,
        memo: dict[str, Any],
        *,
        waiting: Mapping[str, Any] = NOTHING,
        holder: tuple[str, str] = ("", ""),
    ) -> bool:
        """Keep one item's notes, those of its stage and those of the runner; False: the holder has lost its row."""

    def set_total(self, job: str, total: int) -> None:
        """Say how many items the job has."""

    def set_doing(self, job: str, text: str) -> None:
        """Say how far the item in hand is."""


def connect(url: str, *, patience: float = 1.0) -> redis.Redis:
    """Return a client that rides out a Redis restart of about ``patience`` seconds before it raises.

    A server that is there and says nothing is given up after ten seconds at most, by the impatient after one.
    """
    tries, timeout = max(1, int(patience / 0.5)), min(10.0, max(1.0, patience))
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        health_check_interval=25,
        socket_keepalive=True,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.01), tries),
        retry_on_error=[RedisConnectionError, RedisTimeoutError],
    )


def after_key(job: str, ended: float) -> str:
    """Return the dedupe key of the job that follows a job's end at this Unix time: a retried one may end again."""
    return f"after:{job}:{ended}"


#: Lua that every script here and in the ledger starts with.
PREAMBLE = f"""
local P = '{PREFIX}'
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1000000
local FINAL = {{succeeded = 1, failed = 1, parked = 1, cancelled = 1}}
local function tally(name, n) redis.call('HINCRBY', P .. 'counts', name, n or 1) end
"""

# Who has lost its row may finish what it does, but nothing that it keeps counts.
_HOLDS = """
local function holds(rid, by)
  if rid == '' then return true end
  local row = redis.call('HMGET', P .. 'row:' .. rid, 'state', 'by')
  return row[1] == 'run' and row[2] == by
end
"""

_MEMO = (
    PREAMBLE
    + _HOLDS
    + """
if not holds(ARGV[5], ARGV[6]) then return 0 end
redis.call('HSET', P .. ARGV[1], 'm:' .. ARGV[2], ARGV[3], 'r:' .. ARGV[2], ARGV[7])
redis.call('EXPIRE', P .. ARGV[1], ARGV[4])
return 1
"""
)

_RECORD = (
    PREAMBLE
    + _HOLDS
    + """
local job = P .. 'job:' .. ARGV[1]
if redis.call('EXISTS', job) == 0 or not holds(ARGV[8], ARGV[9]) then return 0 end
local stage = ARGV[2]
local done = job .. ':done:' .. stage .. ':' .. ARGV[3]
local work = cjson.decode(ARGV[4])
local items, bytes = {}, {}
for _, r in ipairs(work.records) do
  if redis.call('HSETNX', done, r[1], r[2]) == 1 then
    redis.call('HINCRBY', job, 'n:' .. stage .. ':' .. r[3], 1)
    if r[6] ~= r[3] then redis.call('HINCRBY', job, 'd:' .. stage .. ':' .. r[3] .. ':' .. r[6], 1) end
    if r[4] > 0 then redis.call('HINCRBY', job, 'b:' .. stage, r[4]) end
    if r[5] then items[r[6]] = (items[r[6]] or 0) + 1; bytes[r[6]] = (bytes[r[6]] or 0) + r[4] end
    if r[7] and redis.call('HLEN', job .. ':failed') < tonumber(ARGV[5]) then
      redis.call('HSET', job .. ':failed', r[7], r[8])
    end
  end
end
for status, n in pairs(items) do
  tally('items ' .. stage .. ' ' .. status, n)
  tally('bytes ' .. stage .. ' ' .. status, string.format('%.0f', bytes[status]))
end
redis.call('HSET', job, 'l:' .. stage, now)
redis.call('EXPIRE', done, ARGV[7])
for _, line in ipairs(work.lines) do redis.call('RPUSH', job .. ':log', line) end
if #work.lines > 0 then redis.call('LTRIM', job .. ':log', -tonumber(ARGV[6]), -1) end
return 1
"""
)

# Ends a job once, and with it its rows: copies of its tasks that are still about are stale from then on.
# The row that is parked stays, for `jobs retry`; its holder names it, and has it still.
_END = (
    PREAMBLE
    + _HOLDS
    + """
local job = P .. 'job:' .. ARGV[1]
local status = redis.call('HGET', job, 'status')
if not status or FINAL[status] or not holds(ARGV[5], ARGV[6]) then return 0 end
redis.call('HSET', job, 'status', ARGV[2], 'ended', now, 'busy', 0, 'waits', 0)
redis.call('HDEL', job, 'doing')
tally('ended ' .. ARGV[2] .. ' ' .. (redis.call('HGET', job, 'flow') or ''))
if ARGV[2] == 'parked' then redis.call('ZADD', P .. 'parked', now + ARGV[4], ARGV[1]) end
if ARGV[3] ~= '' then redis.call('HSET', job, 'error', ARGV[3]) end
redis.call('ZREM', P .. 'deadlines', ARGV[1])
if redis.call('HEXISTS', job, 'after') == 1 then redis.call('ZADD', P .. 'after', now, ARGV[1])
else redis.call('DEL', P .. 'secret:' .. ARGV[1]) end
for _, rid in ipairs(redis.call('SMEMBERS', job .. ':rows')) do
  redis.call('ZREM', P .. 'due', rid)
  if rid == ARGV[5] then
    redis.call('HSET', P .. 'row:' .. rid, 'state', 'parked', 'by', '')
    redis.call('EXPIRE', P .. 'row:' .. rid, ARGV[4])
  else
    -- What its last attempt has kept: that one may never come back to drop it.
    local done = redis.call('HGET', P .. 'row:' .. rid, 'done')
    if done and done ~= '' then redis.call('DEL', P .. done) end
    redis.call('DEL', P .. 'row:' .. rid)
    redis.call('SREM', job .. ':rows', rid)
  end
end
for _, part in ipairs({'', ':log', ':failed', ':rows'}) do redis.call('EXPIRE', job .. part, ARGV[4]) end
local key = redis.call('HGET', job, 'key')
if key then redis.call('EXPIRE', P .. 'key:' .. key, ARGV[4]) end
return 1
"""
)


class RedisJobs:
    """Jobs in Redis. ``datafab.core.ledger`` makes them; this reads, counts and ends them."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._redis: Any = client  # its types do not know that answers are decoded
        self._retention = settings.retention_days * 24 * 3600
        self._record = client.register_script(_RECORD)
        self._memo = client.register_script(_MEMO)
        self._end = client.register_script(_END)

    def ping(self) -> None:
        """Raise when Redis does not answer."""
        self._redis.ping()

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def get(self, job: str) -> Job:
        """Return a job.

        Raises:
            NotFound: no such job, or it is past its retention.
        """
        fields = self._hgetall(f"job:{job}")
        if not fields:
            msg = f"no job {job!r}; `datafab jobs list` names those that are kept"
            raise NotFound(msg, field="job")
        return _job(job, fields)

    def with_key(self, key: str) -> str | None:
        """Return the id of the job that has a dedupe key; None: no job has it."""
        job: str | None = self._redis.get(f"{PREFIX}key:{key}")
        return job

    def release_key(self, job: str, key: str) -> None:
        """Take a job's dedupe key from it: it is free for another job."""
        with self._redis.pipeline() as pipe:
            pipe.delete(f"{PREFIX}key:{key}")
            pipe.hdel(f"{PREFIX}job:{job}", "key")
            pipe.execute()

    def newest(
        self,
        *,
        status: JobStatus | None = None,
        flow: str | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> list[Job]:
        """Return jobs, the newest first; ``after``: those older than this one."""
        start = 0
        if after is not None:
            rank = self._redis.zrevrank(PREFIX + "jobs", after)
            if rank is None:
                msg = f"no job {after!r} to list after"
                raise NotFound(msg, field="after")
            start = int(rank) + 1
        found: list[Job] = []
        while len(found) < limit:
            ids: list[str] = self._redis.zrevrange(PREFIX + "jobs", start, start + 99)
            if not ids:
                break
            start += len(ids)
            with self._redis.pipeline(transaction=False) as pipe:
                for job in ids:
                    pipe.hgetall(f"{PREFIX}job:{job}")
                jobs = [_job(job, fields) for job, fields in zip(ids, pipe.execute(), strict=True) if fields]
            found += [job for job in jobs if status in {None, job.status} and flow in {None, job.flow}]
        return found[:limit]

    def made_after(self, at: float, flow: str) -> list[Job]:
        """Return the jobs of a flow that were made after this Unix time, the oldest first."""
        found: list[Job] = []
        ids: list[str] = self._redis.zrangebyscore(PREFIX + "jobs", f"({at!r}", "+inf")
        for first in range(0, len(ids), 100):
            with self._redis.pipeline(transaction=False) as pipe:
                for job in ids[first : first + 100]:
                    pipe.hgetall(f"{PREFIX}job:{job}")
                answers = zip(ids[first : first + 100], pipe.execute(), strict=True)
            found += [_job(job, fields) for job, fields in answers if fields.get("flow") == flow]
        return found

    def logs(self, job: str, limit: int = MAX_LINES) -> list[dict[str, Any]]:
        """Return the job's last log lines, the oldest first."""
        return [json.loads(line) for line in self._redis.lrange(f"{PREFIX}job:{job}:log", -limit, -1)]

    def failures(self, job: str) -> dict[str, ItemError]:
        """Return the failed items, source -> error (the first ``MAX_FAILURES`` of them)."""
        return {
            source: ItemError.model_validate_json(error) for source, error in self._hgetall(f"job:{job}:failed").items()
        }

    def span(self, job: str, stage: str) -> tuple[float, float] | None:
        """Return when a stage of a job began, and when it last finished with an item; None: it did not."""
        began, last = self._redis.hmget(f"{PREFIX}job:{job}", [f"s:{stage}", f"l:{stage}"])
        return (float(began), float(last)) if began and last else None

    def done(self, job: str, stage: str, number: int | None) -> dict[int, Item]:
        """Return what is done of a batch that an earlier attempt began."""
        fields = self._hgetall(_done(job, stage, number))
        return {int(key): received(Item, json.loads(value)) for key, value in fields.items() if key.isdigit()}

    def record(
        self,
        job: str,
        stage: str,
        number: int | None,
        records: Sequence[Record],
        lines: Sequence[dict[str, Any]],
        *,
        holder: tuple[str, str] = ("", ""),
    ) -> bool:
        """Keep items as done, count each of them once, and append log lines; False: the holder has lost its row."""
        work = {
            "records": [_row(record) for record in records],
            "lines": [json.dumps(line, ensure_ascii=False, default=str) for line in lines],
        }
        text = json.dumps(work, ensure_ascii=False)
        args: list[Any] = [job, stage, _number(number), text, MAX_FAILURES, MAX_LINES, self._retention, *holder]
        return bool(self._record(args=args))

    def memo(self, job: str, stage: str, number: int | None) -> dict[int, Notes]:
        """Return the notes on a batch's items."""
        kept = {key: json.loads(value) for key, value in self._hgetall(_done(job, stage, number)).items() if ":" in key}
        return {int(key[2:]): (memo, kept.get(f"r:{key[2:]}")) for key, memo in kept.items() if key.startswith("m:")}

    def keep_memo(
        self,
        job: str,
        stage: str,
        number: int | None,
        index: int,
        memo: dict[str, Any],
        *,
        waiting: Mapping[str, Any] = NOTHING,
        holder: tuple[str, str] = ("", ""),
    ) -> bool:
        """Keep one item's notes, those of its stage and those of the runner; False: the holder has lost its row."""
        args: list[Any] = [_done(job, stage, number), index, json.dumps(memo), self._retention, *holder]
        return bool(self._memo(args=[*args, json.dumps(dict(waiting))]))

    def set_total(self, job: str, total: int) -> None:
        """Say how many items the job has."""
        self._redis.hset(f"{PREFIX}job:{job}", "total", total)

    def set_doing(self, job: str, text: str) -> None:
        """Say how far the item in hand is."""
        self._redis.hset(f"{PREFIX}job:{job}", "doing", text)

    def outcome(self, job: str) -> tuple[JobStatus, ItemError | None]:
        """Return how a job ends that has been through all stages, and why."""
        fields = self._hgetall(f"job:{job}")
        sums = _sums(fields)
        counts = counts_of(job, sums, fields.get("asked")) if sums else None
        return outcome(counts, self.failures(job))

    def end(
        self, job: str, status: JobStatus, error: ItemError | None = None, *, parking: tuple[str, str] = ("", "")
    ) -> bool:
        """End a job and drop its rows; False if it had ended before.

        ``parking`` is the row that stays, parked, and its holder; False too when that has lost it.
        """
        text = error.model_dump_json() if error else ""
        return bool(self._end(args=[job, status.value, text, self._retention, *parking]))

    def to_follow(self) -> list[tuple[str, list[str], str]]:
        """Return ended jobs that other flows are to follow: (id, flows, a key of this very end)."""
        ended = self._redis.zrange(PREFIX + "after", 0, 99, withscores=True)
        flows = {job: (self._redis.hget(f"{PREFIX}job:{job}", "after") or "").split(",") for job, _ in ended}
        return [(job, flows[job], after_key(job, at)) for job, at in ended]

    def followed(self, job: str) -> None:
        """Say that the flows to follow a job are enqueued."""
        self._redis.zrem(PREFIX + "after", job)

    def overdue(self) -> list[str]:
        """Return jobs that are past their deadline."""
        seconds, _ = self._redis.time()
        ids: list[str] = self._redis.zrangebyscore(PREFIX + "deadlines", "-inf", seconds)
        return ids

    def unended(self) -> int:
        """Return how many jobs have not ended."""
        return int(self._redis.zcard(PREFIX + "deadlines"))

    def prune(self) -> int:
        """Forget jobs whose retention is over; return how many. Their keys expire by themselves."""
        gone = 0
        for job in self._redis.zrange(PREFIX + "jobs", 0, -1):
            if self._redis.exists(f"{PREFIX}job:{job}"):
                break
            gone += int(self._redis.zrem(PREFIX + "jobs", job))
        seconds, _ = self._redis.time()
        self._redis.zremrangebyscore(PREFIX + "parked", "-inf", seconds)
        return gone

    def _hgetall(self, key: str) -> dict[str, str]:
        fields: dict[str, str] = self._redis.hgetall(PREFIX + key)
        return fields


def _number(number: int | None) -> str:
    return "-" if number is None else str(number)


def _done(job: str, stage: str, number: int | None) -> str:
    return f"job:{job}:done:{stage}:{_number(number)}"


def _row(record: Record) -> list[Any]:
    item = record.item
    text = item.model_dump_json(exclude_none=True)
    status = item.status.value
    row: list[Any] = [record.position, text, status, item.size or 0, record.touched, str(record.outcome or status)]
    if record.touched and item.told:
        row += [item.source, item.told.model_dump_json(exclude_none=True)]
    return row


def _job(job: str, fields: dict[str, str]) -> Job:
    numbers = {name: float(fields[name]) for name in ("created", "started", "ended", "deadline") if name in fields}
    total = int(fields["total"]) if "total" in fields else None
    sums = _sums(fields)
    paces = {name: float(fields.get(f"l:{name}", 0)) - float(fields.get(f"s:{name}", 0)) for name in sums}
    status = JobStatus(fields["status"])
    return Job(
        id=job,
        flow=fields["flow"],
        params=json.loads(fields.get("params", "{}")),
        key=fields.get("key"),
        status=status,
        stage=fields.get("stage"),
        asked=fields.get("asked"),
        doing=fields.get("doing"),
        total=total,
        progress=tuple(one.progress(name).paced(paces[name], total) for name, one in sums.items()),
        error=ItemError.model_validate_json(fields["error"]) if "error" in fields else None,
        counts=counts_of(job, sums, fields.get("asked")) if status in FINAL and sums else None,
        **numbers,
    )


def _sums(fields: dict[str, str]) -> dict[str, StageSums]:
    """Return what each stage has counted, in the order of the stages."""
    stages: defaultdict[str, StageSums] = defaultdict(StageSums)
    for name, value in fields.items():
        match name.split(":"):
            case ["n", stage, status]:
                stages[stage].items[status] = int(value)
            case ["d", stage, status, outcome]:
                stages[stage].moved[status, outcome] = int(value)
            case ["b", stage]:
                stages[stage].bytes = int(value)
    order = fields.get("stages", "").split(",")
    names = sorted(stages, key=lambda name: order.index(name) if name in order else len(order))
    return {name: stages[name] for name in names}
