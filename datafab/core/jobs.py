"""Jobs: their state, progress, log and failures. In Redis for a cluster, in memory for ``--inline``.

Keys, all below ``datafab:1:`` (``Settings.redis_prefix``)

| key | type | holds |
| --- | --- | --- |
| ``jobs`` | sorted set | job ids by creation time |
| ``list:<status>:<flow>``, ``list:<status>:<flow>:<caller>`` | sorted set | of these the ids of some, too |
| ``keyed:<kind>``, ``keyed:<kind>:<outcome>`` | sorted set | those with a kind of dedupe key (``job_lists.py``) |
| ``flows``, ``callers`` | set | the names of which there are lists |
| ``job:<id>`` | hash | the job; ``n:``, ``d:``, ``b:``, ``s:`` and ``l:`` with a stage: see ``job_fields.py`` |
| ``job:<id>:log`` | list | its last log lines, JSON |
| ``job:<id>:failed`` | hash | source -> error of failed items, the first ``MAX_FAILURES`` |
| ``job:<id>:done:<stage>:<batch>`` | hash | index -> finished item; ``m:<index>``, ``r:<index>``: notes |
| ``job:<id>:rows`` | set | the ids of the job's rows in the ledger (``ledger.py``) |
| ``rows:<state>`` | set | the ids of all rows in that state, to be counted |
| ``deadlines`` | sorted set | ids of jobs that have not ended, by deadline |
| ``running:<caller>`` | set | ids of a caller's jobs that have a place in its share (``scripts/shares.lua``) |
| ``limited:<caller>`` | sorted set | ids of those that wait for one, the next first |
| ``limits`` | hash | caller -> size of its share |
| ``parked`` | sorted set | ids of parked jobs, by the time at which they are forgotten |
| ``counts`` | hash | numbers of events, for ``/metrics`` (``metrics.py``) |
| ``after`` | sorted set | ids of ended jobs with a follow-up that has not started |
| ``secret:<id>`` | hash | the job's secrets (``secrets.py``) |
| ``key:<key>`` | string | dedupe key -> job id |
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from datafab.core.item import Item, ItemError, read_value
from datafab.core.job import Job, JobStatus, counts_of, job_result
from datafab.core.job_fields import Record, read_job, read_sums, records_json
from datafab.core.job_lists import JobLists, Position
from datafab.core.lease import NO_LEASE, Lease
from datafab.core.redis import ClusterRedis, done_key, script
from datafab.errors import NotFound
from datafab.settings import Settings

#: The outcome of items that a stage does not take, if the job did not ask for the stage.
PASSED = "passed"

MAX_LINES = 1000
#: The notes on an item: its stage's, and the runner's; None: an earlier version kept both in one.
Notes = tuple[dict[str, Any], dict[str, Any] | None]
NOTHING: Mapping[str, Any] = MappingProxyType({})
MAX_FAILURES = 1000


class Jobs(Protocol):
    """The jobs as the runner and stages use them."""

    def ping(self) -> None:
        """Raise if they cannot be reached."""

    def close(self) -> None:
        """Close the connections."""

    def done(self, job: str, stage: str, number: int | None) -> dict[int, Item]:
        """Return the items of a batch that earlier attempts have finished, by index."""

    def record(
        self,
        job: str,
        stage: str,
        number: int | None,
        records: Sequence[Record],
        lines: Sequence[dict[str, Any]],
        *,
        lease: Lease = NO_LEASE,
    ) -> bool:
        """Keep items as done, count each of them once, and append log lines; False: the lease was lost."""

    def notes(self, job: str, stage: str, number: int | None) -> dict[int, Notes]:
        """Return the notes on a batch's items."""

    def save_notes(
        self,
        job: str,
        stage: str,
        number: int | None,
        index: int,
        memo: dict[str, Any],
        *,
        waiting: Mapping[str, Any] = NOTHING,
        lease: Lease = NO_LEASE,
    ) -> bool:
        """Keep one item's notes, those of its stage and those of the runner; False: the lease was lost."""

    def set_total(self, job: str, total: int, *, lease: Lease = NO_LEASE) -> None:
        """Set the number of the job's items, unless the lease was lost."""

    def set_doing(self, job: str, text: str, *, lease: Lease = NO_LEASE) -> None:
        """Set the progress of the current item, unless the lease was lost."""


class PendingFollowUps(NamedTuple):
    """An ended job whose follow-ups have not started."""

    job: str
    #: the flows that follow it
    flows: list[str]
    #: the dedupe key for this end of the job
    key: str
    #: Unix time of this end
    ended: float


def follow_up_key(job: str, ended: float) -> str:
    """Return the dedupe key of a follow-up. It has the Unix time of the job's end, since a retried job ends twice."""
    return f"after:{job}:{ended}"


class RedisJobs:
    """The jobs of a cluster, in Redis. The ledger makes them; this class reads, counts and ends them."""

    def __init__(self, settings: Settings, client: ClusterRedis) -> None:
        self._redis: Any = client  # its types do not know that answers are decoded
        self._prefix = client.prefix
        self._retention = settings.retention_days * 24 * 3600
        self._record = script(client, "record_items", rows=True)
        self._memo = script(client, "keep_notes", rows=True)
        self._end = script(client, "end_job", rows=True)
        self._set_field = script(client, "set_field", rows=True)
        self._release_key = script(client, "release_key", rows=True)
        self._mark_followed_up = script(client, "mark_followed_up")
        self._lists = JobLists(client)

    def ping(self) -> None:
        """Raise if Redis does not answer."""
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
        return read_job(job, fields)

    def find_by_key(self, key: str) -> str | None:
        """Return the id of the job that has a dedupe key; None: no job has."""
        job: str | None = self._redis.get(f"{self._prefix}key:{key}")
        return job

    def release_key(self, job: str, key: str) -> None:
        """Take a job's dedupe key from it, so that another job can have it; a key that another job has stays there."""
        self._release_key(args=[job, key])

    def newest(
        self,
        *,
        status: JobStatus | None = None,
        flow: str | None = None,
        caller: str | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> list[Job]:
        """Return jobs, the newest first; only those older than the job ``after``, if it is given."""
        start: Position | None = Position()
        if after is not None:
            start = self._lists.position_after(after)
            if start is None:
                msg = f"no job {after!r} to list after"
                raise NotFound(msg, field="after")
        found: list[Job] = []
        while start is not None and len(found) < limit:
            ids, start = self._lists.page(
                start, limit - len(found), status=status or "", flow=flow or "", caller=caller or ""
            )
            # A job may move on between the two requests.
            found += [job for job in self._read(ids) if status in {None, job.status}]
        return found

    def keyed(self, kind: str, outcome: str = "", *, first: int = 0, limit: int = 50) -> list[Job]:
        """Return the jobs with a kind of dedupe key, the newest first: see ``JobLists.keyed``."""
        return self._read(self._lists.keyed(kind, outcome, first, limit))

    def find_keyed(self, kind: str, outcome: str, texts: Sequence[Sequence[str]]) -> Iterator[Job]:
        """Yield the jobs with a kind of dedupe key whose parameters have some texts: see ``JobLists.find_keyed``."""
        for job in self._lists.find_keyed(kind, outcome, texts):
            yield from self._read([job])

    def count_keyed(self, kind: str) -> dict[str, int]:
        """Return the numbers of jobs with a kind of dedupe key: ``pending``, ``complete`` and ``error``."""
        return self._lists.count_keyed(kind)

    def _read(self, ids: Sequence[str]) -> list[Job]:
        with self._redis.pipeline(transaction=False) as pipe:
            for job in ids:
                pipe.hgetall(f"{self._prefix}job:{job}")
            return [read_job(job, fields) for job, fields in zip(ids, pipe.execute(), strict=True) if fields]

    def created_after(self, at: float, flow: str) -> list[Job]:
        """Return the jobs of a flow created after this Unix time, the oldest first."""
        found: list[Job] = []
        ids: list[str] = self._redis.zrangebyscore(self._prefix + "jobs", f"({at!r}", "+inf")
        for first in range(0, len(ids), 100):
            found += [job for job in self._read(ids[first : first + 100]) if job.flow == flow]
        return found

    def logs(self, job: str, limit: int = MAX_LINES) -> list[dict[str, Any]]:
        """Return the job's last log lines, the oldest first."""
        return [json.loads(line) for line in self._redis.lrange(f"{self._prefix}job:{job}:log", -limit, -1)]

    def failures(self, job: str) -> dict[str, ItemError]:
        """Return the failed items, source -> error (the first ``MAX_FAILURES`` of them)."""
        return {
            source: ItemError.model_validate_json(error) for source, error in self._hgetall(f"job:{job}:failed").items()
        }

    def stage_span(self, job: str, stage: str) -> tuple[float, float] | None:
        """Return the times at which a stage started and last finished an item; None: it has finished none."""
        started, last = self._redis.hmget(f"{self._prefix}job:{job}", [f"s:{stage}", f"l:{stage}"])
        return (float(started), float(last)) if started and last else None

    def done(self, job: str, stage: str, number: int | None) -> dict[int, Item]:
        """Return the items of a batch that earlier attempts have finished, by index."""
        fields = self._hgetall(done_key(job, stage, number))
        return {int(key): read_value(Item, json.loads(value)) for key, value in fields.items() if key.isdigit()}

    def record(
        self,
        job: str,
        stage: str,
        number: int | None,
        records: Sequence[Record],
        lines: Sequence[dict[str, Any]],
        *,
        lease: Lease = NO_LEASE,
    ) -> bool:
        """Keep items as done, count each of them once, and append log lines; False: the lease was lost."""
        text, key = records_json(records, lines), done_key(job, stage, number)
        args: list[Any] = [job, stage, key, text, MAX_FAILURES, MAX_LINES, self._retention, lease.row_id, lease.holder]
        return bool(self._record(args=args))

    def notes(self, job: str, stage: str, number: int | None) -> dict[int, Notes]:
        """Return the notes on a batch's items."""
        kept = {
            key: json.loads(value) for key, value in self._hgetall(done_key(job, stage, number)).items() if ":" in key
        }
        return {int(key[2:]): (memo, kept.get(f"r:{key[2:]}")) for key, memo in kept.items() if key.startswith("m:")}

    def save_notes(
        self,
        job: str,
        stage: str,
        number: int | None,
        index: int,
        memo: dict[str, Any],
        *,
        waiting: Mapping[str, Any] = NOTHING,
        lease: Lease = NO_LEASE,
    ) -> bool:
        """Keep one item's notes, those of its stage and those of the runner; False: the lease was lost."""
        args: list[Any] = [
            done_key(job, stage, number),
            index,
            json.dumps(memo),
            self._retention,
            lease.row_id,
            lease.holder,
        ]
        return bool(self._memo(args=[*args, json.dumps(dict(waiting))]))

    def set_total(self, job: str, total: int, *, lease: Lease = NO_LEASE) -> None:
        """Set the number of the job's items, unless the lease was lost."""
        self._set_field(args=[job, "total", total, lease.row_id, lease.holder])

    def set_doing(self, job: str, text: str, *, lease: Lease = NO_LEASE) -> None:
        """Set the progress of the current item, unless the lease was lost."""
        self._set_field(args=[job, "doing", text, lease.row_id, lease.holder])

    def outcome(self, job: str) -> tuple[JobStatus, ItemError | None]:
        """Return the final status of a job that has been through all stages, and its error."""
        fields = self._hgetall(f"job:{job}")
        sums = read_sums(fields)
        counts = counts_of(job, sums, fields.get("asked")) if sums else None
        return job_result(counts, self.failures(job))

    def end(self, job: str, status: JobStatus, error: ItemError | None = None, *, park: Lease = NO_LEASE) -> bool:
        """End a job and delete its rows; return False if it had ended before.

        ``park`` is the lease on the row that stays, parked; False too where that lease was lost.
        """
        text = error.model_dump_json() if error else ""
        return bool(self._end(args=[job, status.value, text, self._retention, park.row_id, park.holder]))

    def ended_with_follow_ups(self) -> list[PendingFollowUps]:
        """Return ended jobs whose follow-ups have not started."""
        ended = self._redis.zrange(self._prefix + "after", 0, 99, withscores=True)
        flows = {job: (self._redis.hget(f"{self._prefix}job:{job}", "after") or "").split(",") for job, _ in ended}
        return [PendingFollowUps(job, flows[job], follow_up_key(job, at), at) for job, at in ended]

    def mark_followed_up(self, pending: PendingFollowUps) -> None:
        """Note that a job's follow-ups are enqueued. A later end of the job, after a retry, has its own."""
        self._mark_followed_up(args=[pending.job, repr(pending.ended)])

    def overdue(self) -> list[str]:
        """Return the ids of jobs that are past their deadline."""
        seconds, _ = self._redis.time()
        ids: list[str] = self._redis.zrangebyscore(self._prefix + "deadlines", "-inf", seconds)
        return ids

    def count_unended(self) -> int:
        """Return the number of jobs that have not ended."""
        return int(self._redis.zcard(self._prefix + "deadlines"))

    def count_admitted(self) -> int:
        """Return the number of those that do not wait for a place in their caller's share."""
        return int(self._redis.zcount(self._prefix + "deadlines", "-inf", "(inf"))

    def prune(self) -> int:
        """Forget jobs whose retention is over; return their number. Their keys expire by themselves."""
        seconds, _ = self._redis.time()
        self._redis.zremrangebyscore(self._prefix + "parked", "-inf", seconds)
        return self._lists.repair()

    def _hgetall(self, key: str) -> dict[str, str]:
        fields: dict[str, str] = self._redis.hgetall(self._prefix + key)
        return fields
