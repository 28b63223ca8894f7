"""The numbers of ``/metrics``, read from Redis: every process returns the same.

Events are counted where they happen, by the scripts of jobs and the ledger: fields of the hash ``counts``, with the
labels after the name. The present state is read on request, five hundred jobs at a time, so that Redis is never busy
with it for more than a few milliseconds.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from datafab.core.redis import ClusterRedis, script
from datafab.core.services import Client, Services

#: The suffixes of the lists in Redis that kombu keeps for a queue, one for each step of priority.
PRIORITY_SUFFIXES = ("", "\x06\x163", "\x06\x166", "\x06\x169")
QUEUES = ("io", "cpu", "control")
#: Jobs that one script call reads.
JOBS_PER_SCAN = 500


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
        self._count_jobs = script(client, "count_jobs", rows=True)
        self._overdue = script(client, "overdue")
        self._idle_queues = script(client, "idle_queues", rows=True)

    @classmethod
    def connect(cls, services: Services) -> Self:
        """Return the metrics of the cluster. Requests for them do not wait for a Redis that is away."""
        return cls(services.redis(patience=1))

    def read(self) -> MetricsSnapshot:
        """Read all numbers. Jobs that change meanwhile may be counted as before or after."""
        found = MetricsSnapshot(counts=self._counts())
        start, more = 0, True
        while more:
            part = json.loads(self._count_jobs(args=[start, start + JOBS_PER_SCAN - 1]))
            for name, n in part["jobs"].items():
                state, _, flow = name.partition(" ")
                found.jobs[state, flow] += n
            for state, seconds in part["oldest"].items():
                found.oldest[state] = max(found.oldest.get(state, 0.0), seconds)
            found.rows.update(part["rows"])
            start, more = start + JOBS_PER_SCAN, part["n"] == JOBS_PER_SCAN
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
