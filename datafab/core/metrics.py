"""What ``/metrics`` tells, read out of Redis: whichever process is asked, the numbers are the same.

What has happened is counted where it happens, in the scripts of ``jobs.py`` and ``ledger.py``: fields of the hash
``counts``, the labels behind the name. What is the case is looked up when somebody asks, five hundred jobs at a time,
so that Redis is never busy with it for more than a few milliseconds.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import redis

from datafab.core.redis import script
from datafab.core.services import Client, Services
from datafab.settings import PREFIX

#: The lists in Redis that kombu keeps for a queue: one for each step of priority.
PRIORITY_SUFFIXES = ("", "\x06\x163", "\x06\x166", "\x06\x169")
QUEUES = ("io", "cpu", "control")
#: Jobs that are looked at in one step.
JOBS_PER_SCAN = 500


@dataclass(slots=True)
class MetricsSnapshot:
    """The numbers of one look. Labels that hold a flow have it last."""

    #: name and labels -> how often since ever
    counts: dict[tuple[str, ...], float] = field(default_factory=dict)
    #: jobs that have not ended, by (state, flow)
    jobs: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: seconds since the oldest of them was made, by state
    oldest: dict[str, float] = field(default_factory=dict)
    #: their rows in the ledger, by state
    rows: Counter[str] = field(default_factory=Counter)
    #: jobs that an operator may try again
    parked: int = 0
    #: seconds that the first due row has been waiting to be sent
    overdue: float = 0.0
    #: messages by queue
    queues: dict[str, int] = field(default_factory=dict)
    #: messages that workers have fetched and not acknowledged
    unacknowledged: int = 0


class IdleQueue(NamedTuple):
    """A queue with messages from which nobody has taken one for a while."""

    seconds: float
    messages: int


class ClusterMetrics(Client):
    """The numbers of one Redis."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis: Any = client  # its types do not know that answers are decoded
        self._count_jobs = script(client, "count_jobs", rows=True)
        self._overdue = script(client, "overdue")
        self._idle_queues = script(client, "idle_queues", rows=True)

    @classmethod
    def connect(cls, services: Services) -> Self:
        """Return the numbers of the cluster; who asks for them does not wait for Redis."""
        return cls(services.redis(patience=1))

    def read(self) -> MetricsSnapshot:
        """Look at everything. Jobs that move meanwhile may be counted before or after."""
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
                    pipe.llen(f"{PREFIX}{queue}{step}")
            pipe.hlen(PREFIX + "unacked")
            *lengths, found.unacknowledged = pipe.execute()
        width = len(PRIORITY_SUFFIXES)
        found.queues = {queue: sum(lengths[at * width :][:width]) for at, queue in enumerate(QUEUES)}
        return found

    def idle_queues(self, limit: float) -> dict[str, IdleQueue]:
        """Return the queues with messages that have not moved for longer than ``limit`` seconds, by name.

        A queue moves whenever a worker takes a task of it or renews the lease of one, so that one whose workers are all
        busy is not still. Few keys are looked at, however many jobs there are.
        """
        lists = [name for queue in QUEUES for step in PRIORITY_SUFFIXES for name in (queue, queue + step)]
        found: dict[str, IdleQueue] = {}
        for queue, seconds, messages in self._idle_queues(args=lists):
            known = found.get(queue, IdleQueue(0.0, 0))
            found[queue] = IdleQueue(max(known.seconds, float(seconds)), known.messages + int(messages))
        return {queue: one for queue, one in found.items() if one.seconds > limit}

    def _counts(self) -> dict[tuple[str, ...], float]:
        return {_labels(name): float(value) for name, value in self._redis.hgetall(PREFIX + "counts").items()}


def _labels(name: str) -> tuple[str, ...]:
    """Return a counter's name and labels. A flow, the last of its labels, may have any name."""
    kind = name.partition(" ")[0]
    return tuple(name.split(" ", 1 if kind in {"made", "stale", "seconds", "sent_again"} else 2))
