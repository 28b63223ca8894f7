"""The numbers of ``/metrics``, read from Redis: every process returns the same.

Events are counted where they happen, by the scripts of jobs and the ledger: fields of the hash ``counts``, with the
labels after the name. The present state is read on request from the sizes of lists and sets, so that it costs the same
however many jobs there are.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from datafab.core.job_lists import JobLists
from datafab.core.redis import ClusterRedis, script
from datafab.core.services import Client, Services

#: The suffixes of the lists in Redis that kombu keeps for a queue, one for each step of priority.
PRIORITY_SUFFIXES = ("", "\x06\x163", "\x06\x166", "\x06\x169")
QUEUES = ("io", "cpu", "control")


@dataclass(slots=True)
class MetricsSnapshot:
    """The numbers at one moment. A flow is always the last label."""

    #: name and labels -> number of events so far
    counts: dict[tuple[str, ...], float] = field(default_factory=dict)
    #: jobs that have not ended, by (state, flow)
    jobs: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: age in seconds of the oldest of them, by state
    oldest: dict[str, float] = field(default_factory=dict)
    #: their rows in the ledger, by state
    rows: Counter[str] = field(default_factory=Counter)
    #: jobs that wait until others of their caller have ended, by caller
    limited: dict[str, int] = field(default_factory=dict)
    #: parked jobs, which an operator may retry
    parked: int = 0
    #: seconds for which the first due row has been waiting to be sent
    overdue: float = 0.0
    #: messages by queue
    queues: dict[str, int] = field(default_factory=dict)
    #: messages that workers have fetched and not acknowledged
    unacknowledged: int = 0


class IdleQueue(NamedTuple):
    """A queue with messages of which none has been taken for some time."""

    seconds: float
    messages: int


class ClusterMetrics(Client):
    """The metrics of a cluster, read from its Redis."""

    def __init__(self, client: ClusterRedis) -> None:
        self._redis: Any = client  # its types do not know that answers are decoded
        self._prefix = client.prefix
        self._lists = JobLists(client)
        self._count_jobs = script(client, "count_jobs", rows=True)
        self._overdue = script(client, "overdue")
        self._idle_queues = script(client, "idle_queues", rows=True)

    @classmethod
    def connect(cls, services: Services) -> Self:
        """Return the metrics of the cluster. Requests for them do not wait for a Redis that is away."""
        return cls(services.redis(patience=1))

    def read(self) -> MetricsSnapshot:
        """Read all numbers. Jobs that change meanwhile may be counted as before or after."""
        now = json.loads(self._count_jobs())
        if now["unlisted"]:
            self._lists.index()
            now = json.loads(self._count_jobs())
        found = MetricsSnapshot(counts=self._counts(), oldest=now["oldest"], limited=now["limited"])
        for name, n in now["jobs"].items():
            state, _, flow = name.partition(" ")
            found.jobs[state, flow] = n
        found.rows.update(now["rows"])
        overdue, parked = self._overdue()
        found.overdue, found.parked = float(overdue), int(parked)
        found.rows["parked"] += found.parked
        with self._redis.pipeline(transaction=False) as pipe:
            for queue in QUEUES:
                for step in PRIORITY_SUFFIXES:
                    pipe.llen(f"{self._prefix}{queue}{step}")
            pipe.hlen(self._prefix + "unacked")
            *lengths, found.unacknowledged = pipe.execute()
        width = len(PRIORITY_SUFFIXES)
        found.queues = {queue: sum(lengths[at * width :][:width]) for at, queue in enumerate(QUEUES)}
        return found

    def idle_queues(self, limit: float) -> dict[str, IdleQueue]:
        """Return the queues, by name, whose messages have not moved for longer than ``limit`` seconds.

        A queue moves whenever a worker takes one of its tasks or renews the lease of one, so a queue whose workers are
        all busy is not idle. Few keys are read, whatever the number of jobs.
        """
        lists = [name for queue in QUEUES for step in PRIORITY_SUFFIXES for name in (queue, queue + step)]
        found: dict[str, IdleQueue] = {}
        for queue, seconds, messages in self._idle_queues(args=lists):
            known = found.get(queue, IdleQueue(0.0, 0))
            found[queue] = IdleQueue(max(known.seconds, float(seconds)), known.messages + int(messages))
        return {queue: one for queue, one in found.items() if one.seconds > limit}

    def _counts(self) -> dict[tuple[str, ...], float]:
        return {_labels(name): float(value) for name, value in self._redis.hgetall(self._prefix + "counts").items()}


def _labels(name: str) -> tuple[str, ...]:
    """Return a counter's name and labels. A flow, always the last label, may contain blanks."""
    kind = name.partition(" ")[0]
    return tuple(name.split(" ", 1 if kind in {"made", "stale", "seconds", "sent_again"} else 2))
