"""The ledger: a row in Redis for every task that is to run, with the time at which it must be sent (again).

Recovery from crashes, retries, polling and waiting all use this one mechanism. The publisher of a task makes its row
before the message leaves, and the row is deleted when the task has ended: a message without a row is a stale copy, and
is dropped. So is a message with an old attempt number. The number counts how often a row was sent; messages carry it as
Celery's ``retries``, rows as ``fence``. A row that no message was sent for yet, since it is ``limited``, has the
number -1.

========  ============================================================  ==================================
state     meaning                                                       due
========  ============================================================  ==================================
sent      a message is on its way                                       after two leases: sent again, unless it is
                                                                        known to have left and its queue has a backlog
held      a chord's body: Celery sends it when the header is complete   never, until only this row is left
run       a holder (``by``) works on it and renews its lease            one lease after the last heartbeat
wait      nobody works on it: a poll, a retry, a lock                   at the time of its next look
parked    its holders died too often; kept for ``jobs retry``           never
limited   its job's caller has as many jobs as its share allows         never; ``sent`` once one of them ends
========  ============================================================  ==================================

All times are those of Redis's clock, so the hosts' clocks may differ.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from datafab.core.job import Job
from datafab.core.lease import Lease
from datafab.core.redis import ClusterRedis, connect, script
from datafab.settings import Settings

#: The scripts behind the methods of ``Ledger``.
SCRIPTS = (
    *("enqueue", "take", "renew", "lost", "end_row", "wait", "count_death", "split", "claim", "confirm", "unpark"),
    *("wake", "give_back", "row_states"),
)
#: Milliseconds for which a new job may wait until a replica has it, where Sentinels may replace the master.
REPLICATION_MILLISECONDS = 500
#: A worker gives rows back as its last act; they are sent again after this time, when it is gone.
GIVE_BACK_SECONDS = 2


def row_id(task: str, task_id: str) -> str:
    """Return the id of a task's row. The task's own id is not enough: a replaced task leaves it to the body."""
    return f"{task}:{task_id}"


class ClaimedRow(NamedTuple):
    """A due row that the caller must send now."""

    row_id: str
    #: the number of the attempt that the message starts
    attempt: int
    #: the task's signature, JSON
    signature: str
    #: how many holders of the row have died
    deaths: int
    #: the list in Redis that its message goes to
    queue: str
    #: why it waited, or why its last holder died
    reason: str


class NewRow(NamedTuple):
    """A row to be made."""

    row_id: str
    #: the task's signature, JSON
    signature: str
    #: the list in Redis that its message goes to
    queue: str
    #: ``sent`` or ``held``; the first row of a job may become ``limited`` instead
    state: str = "sent"

    def arguments(self) -> tuple[str, str, str, str]:
        """Return it in the order in which the scripts read it."""
        return self.row_id, self.state, self.queue, self.signature


class Enqueued(NamedTuple):
    """The answer to a job that was to be written."""

    #: id of the job that has the key: the new one, or another
    job: str
    #: whether the job waits until others of its caller have ended: the tick sends its first message
    limited: bool


class Ledger:
    """The rows of one Redis. Each method is one atomic step there.

    Args:
        settings: with the lease and the longest time that a job may take.
        client: a connection.
    """

    def __init__(self, settings: Settings, client: ClusterRedis) -> None:
        self.redis: Any = client  # its types do not know that answers are decoded
        self.job_limit = settings.job_deadline
        #: seconds after which a message that nobody has taken is sent again
        self.handover = 2 * settings.lease
        self._is_replaceable = str(settings.redis_url).startswith("sentinel")
        self._scripts = {name: script(client, name, rows=True) for name in SCRIPTS}

    @classmethod
    def connect(cls, settings: Settings, *, patience: float) -> Ledger:
        """Return a ledger that rides out a Redis restart of ``patience`` seconds."""
        return cls(settings, connect(settings, patience=patience))

    def now(self) -> float:
        """Return the Unix time by Redis's clock."""
        seconds, micros = self.redis.time()
        return float(seconds) + float(micros) / 1e6

    def enqueue(
        self,
        job: Job,
        row: NewRow,
        stages: Iterable[str],
        *,
        follow_ups: str = "",
        asked: str = "",
        limit: int | None = None,
        priority: int = 0,
    ) -> Enqueued:
        """Write a job, its dedupe key and its first row together.

        Args:
            job: to be written.
            row: of its first task.
            stages: the names of its stages.
            follow_ups: the flows that follow the job, joined by commas.
            asked: the last of its stages that was asked for.
            limit: how many jobs of the job's caller may run at a time; None: any number.
            priority: the job's, by which those of one caller are ordered, 0 first.
        """
        params = json.dumps(job.params, ensure_ascii=False)
        seconds = min(self.job_limit, job.deadline - job.created)
        args: list[Any] = [job.id, job.key or "", row.row_id, row.queue, row.signature, self.handover, seconds]
        args += [job.flow, params, ",".join(stages), follow_ups, asked, job.caller or ""]
        args += ["" if limit is None else limit, priority]
        run = self._run_replicated if self._is_replaceable else self._run
        known, limited = run("enqueue", *args)
        return Enqueued(known, bool(limited))

    def take(
        self,
        row_id: str,
        attempt: int,
        holder: str,
        *,
        seconds: float,
        pool: str,
        stage: str,
        done_key: str = "",
        give_up_reason: str | None = None,
    ) -> Lease | None:
        """Take a row that was sent for this attempt; return None where the message is a stale copy.

        Args:
            row_id: the row.
            attempt: the number of the attempt, from the message.
            holder: a name that no other attempt has.
            seconds: the length of the lease.
            pool: the kind of the worker's pool.
            stage: the stage that counters name.
            done_key: a key to be deleted with the row, should the job end without it.
            give_up_reason: see ``Lease``; from the message.
        """
        answer = self._run("take", row_id, attempt, holder, seconds, pool, stage, done_key)
        if not answer:
            return None
        _job, deaths, created, woken = answer
        return Lease(
            row_id=row_id,
            attempt=attempt,
            holder=holder,
            job_created=float(created),
            deaths=int(deaths),
            woken=bool(woken),
            give_up_reason=give_up_reason,
        )

    def renew(self, leases: Sequence[Lease], seconds: float) -> set[str]:
        """Renew leases; return the holders of those that are lost."""
        return set(self._run("renew", seconds, *(part for lease in leases for part in (lease.row_id, lease.holder))))

    def lost(self, leases: Sequence[Lease]) -> set[str]:
        """Return the holders of the leases that are lost, without renewing the others."""
        return set(self._run("lost", *(part for lease in leases for part in (lease.row_id, lease.holder))))

    def end(self, lease: Lease, successors: Sequence[NewRow] = (), *, done_key: str = "") -> bool:
        """End a task and make the rows of its successors, in one step.

        Args:
            lease: on the task's row.
            successors: the rows of the tasks that follow.
            done_key: a key to be deleted, with what the task kept of its batch.

        Returns:
            False: the lease was lost.
        """
        rows = [part for row in successors for part in row.arguments()]
        return bool(self._run("end_row", lease.row_id, lease.holder, self.handover, done_key, *rows))

    def wait(self, lease: Lease, delay: float, reason: str) -> bool:
        """Let a row wait for some seconds; return False where the lease was lost."""
        return bool(self._run("wait", lease.row_id, lease.holder, delay, reason))

    def wake(self, job: str) -> int:
        """Make the waiting rows of a job due now; return the number of rows that were woken."""
        return int(self._run("wake", job))

    def count_death(self, row_id: str, attempt: int, reason: str) -> bool:
        """Count a death of a row's holder, and make the row due; return False where the row had moved on."""
        return bool(self._run("count_death", row_id, attempt, reason))

    def give_back(self, rows: Sequence[tuple[str, int]]) -> int:
        """Let rows wait whose holder stops, without counting a death; return how many had not moved on.

        Args:
            rows: pairs of row id and attempt.
        """
        return int(self._run("give_back", GIVE_BACK_SECONDS, *(part for pair in rows for part in pair)))

    def split(self, lease: Lease, canvas: str, rows: Sequence[NewRow]) -> str | None:
        """Keep the canvas that replaces a task, with its rows.

        Returns:
            The canvas that was kept first; None: the lease was lost.
        """
        parts = [part for row in rows for part in row.arguments()]
        kept: str | None = self._run("split", lease.row_id, lease.holder, self.handover, canvas, *parts)
        return kept

    def claim(self, limit: int = 500) -> list[ClaimedRow]:
        """Take over rows that are due. The caller sends each, with the number of its attempt."""
        return [
            ClaimedRow(row_id, int(attempt), signature, int(deaths), queue, reason)
            for row_id, attempt, signature, deaths, queue, reason in self._run("claim", limit, self.handover)
        ]

    def confirm(self, rows: Sequence[tuple[str, int]]) -> None:
        """Note that the messages of these rows, pairs of row id and attempt, have reached the broker."""
        if rows:
            self._run("confirm", self.handover, *(part for pair in rows for part in pair))

    def unpark(self, job: str) -> int:
        """Make the rows of a parked job due, once its caller has a place for it; return how many."""
        return int(self._run("unpark", job, self.job_limit))

    def row_states(self, job: str) -> dict[str, str]:
        """Return the states of a job's rows, by row id."""
        return dict(sorted(self._run("row_states", job)))

    def _run_replicated(self, script: str, *args: Any) -> Any:
        """Run a script and wait for replication to one replica, on the same connection, as WAIT requires."""
        with self.redis.pipeline(transaction=False) as pipe:
            self._scripts[script](args=args, client=pipe)
            pipe.wait(1, REPLICATION_MILLISECONDS)
            return pipe.execute()[0]

    def _run(self, script: str, *args: Any) -> Any:
        return self._scripts[script](args=args)
