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
from datafab.core.redis import connect, script
from datafab.settings import Settings

SCRIPTS = (
    *("enqueue", "take", "renew", "end_row", "wait", "count_death", "split", "claim", "confirm", "unpark", "wake"),
    *("give_back", "row_states"),
)

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
        self._scripts = {name: script(client, name, rows=True) for name in SCRIPTS}

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
        return bool(self._run("end_row", rid, by, self.handover, done, *rows))

    def wait(self, rid: str, by: str, delay: float, reason: str) -> bool:
        """Let a row wait; False: it was lost."""
        return bool(self._run("wait", rid, by, delay, reason))

    def hasten(self, job: str) -> int:
        """Make what waits of a job due now: somebody says that there is something to see. Return how many rows."""
        return int(self._run("wake", job))

    def died(self, rid: str, fence: int, reason: str) -> bool:
        """Count a death of a row's holder and make it due; False: it had moved on."""
        return bool(self._run("count_death", rid, fence, reason))

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
        return dict(sorted(self._run("row_states", job)))

    def _run(self, script: str, *args: Any) -> Any:
        return self._scripts[script](args=args)
