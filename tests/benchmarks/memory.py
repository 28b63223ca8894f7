"""Memory of idle workers, and of Redis when items are queued."""

from __future__ import annotations

import time
from dataclasses import dataclass

from datafab.core.job import JobStatus
from tests.benchmarks import processes
from tests.benchmarks.collecting import addresses, write_list
from tests.benchmarks.rig import Rig
from tests.servers.celery import until
from tests.servers.redis import PREFIX
from workers.app import jobs, ledger
from workers.canvas import start

#: no server is asked: the items only wait
PORTS = range(20_001, 20_021)


@dataclass(frozen=True)
class Queued:
    """A job whose batches nobody takes.

    Attributes:
        items: its endpoints.
        messages: its batches.
        used: bytes in Redis for all of it.
    """

    items: int
    messages: int
    used: int


@dataclass(frozen=True)
class Figures:
    """What was measured.

    Attributes:
        idle: the memory of each part.
        empty: bytes that Redis uses when there is nothing in it.
        queued: what a job adds.
    """

    idle: dict[str, processes.Memory]
    empty: int
    queued: Queued


def measure(rig: Rig, items: int = 1000, settle: float = 2.0) -> Figures:
    """Queue a job, then measure all workers ``settle`` seconds after the last has come up."""
    rig.redis.flushall()
    empty = rig.used()
    with rig.workers("io", "control", "beat") as some:
        queued = _queue(rig, items)
        with rig.workers("cpu") as others:
            time.sleep(settle)
            idle = {name: processes.memory(part.pid) for name, part in (some | others).items()}
    return Figures(idle, empty, queued)


def _queue(rig: Rig, items: int) -> Queued:
    """Enqueue a job for a queue at which nobody listens yet, measure, and cancel it."""
    queue = f"{PREFIX}cpu"
    folder = rig.memory / "shelved"
    params = {"endpoints": write_list(folder, addresses(PORTS, items)), "collection": str(folder)}
    before = rig.used()
    job, _ = start("shelve", params)
    until(lambda: rig.redis.llen(queue) and not any("endpoints" in rid for rid in ledger().row_states(job.id)), 30)
    queued = Queued(items, rig.redis.llen(queue), rig.used() - before)
    jobs().end(job.id, JobStatus.CANCELLED)
    rig.redis.delete(queue)
    return queued
