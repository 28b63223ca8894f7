"""What the ledger itself costs: rows that wait, rows that are due, a call into C that lets no heartbeat through."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from statistics import median

from celery import chain

from datafab.core.job import Job, JobStatus
from datafab.core.ledger import NewRow, row_id
from datafab.flows.chains import STAGES
from tests.benchmarks.app import tick
from tests.benchmarks.chains import NAMES, batch
from tests.benchmarks.rig import Rig
from tests.servers.celery import until
from tests.servers.redis import PREFIX
from workers.app import jobs, ledger
from workers.canvas import batch_tasks, new_rows, start


@dataclass(frozen=True)
class Waiting:
    """Many jobs, each with one row that waits.

    Attributes:
        rows: how many.
        whole: bytes in Redis for a job with its row.
        row: bytes of the row alone.
        signature: bytes of what it will send again: a chain of five.
        idle: seconds of a tick when nothing is due.
        resent: rows a second that a tick sends when all are due.
    """

    rows: int
    whole: float
    row: int
    signature: int
    idle: float
    resent: float


def waiting(rig: Rig, rows: int = 10_000) -> Waiting:
    """Measure rows that wait, then make them due and send them again; no worker runs."""
    mine = batch()
    sig = chain(*batch_tasks(mine, [STAGES[name] for name in NAMES], last=True))
    sig.freeze()
    (first,) = new_rows(sig)
    before = rig.used()
    rids = [_wait(first, mine.job) for _ in range(rows)]
    whole = (rig.used() - before) / rows
    row = int(rig.redis.memory_usage(f"{PREFIX}row:{rids[0]}", samples=0))
    tick()
    idle = median(_timed() for _ in range(50))
    rig.redis.zadd(f"{PREFIX}due", dict.fromkeys(rids, 0.0))
    began = time.perf_counter()
    sent = tick()
    resent = sent / (time.perf_counter() - began)
    assert sent == rows
    assert rig.redis.llen(f"{PREFIX}io") == rows
    rig.redis.flushall()
    return Waiting(rows, whole, row, len(first.signature), idle, resent)


def _timed() -> float:
    began = time.perf_counter()
    assert tick() == 0
    return time.perf_counter() - began


def _wait(row: NewRow, job: str) -> str:
    """Make a job of its own of a frozen chain's first row, and let it wait for an hour; return the new row's id."""
    now, mine, by = time.time(), uuid.uuid4().hex, f"bench:1:{uuid.uuid4().hex[:12]}"
    task, _, known = row.row_id.partition(":")
    task_id = str(uuid.uuid4())
    new_id, sig = row_id(task, task_id), row.signature.replace(job, mine).replace(known, task_id)
    made = Job(id=mine, flow="noop5", params={"n": 1}, created=now, deadline=now + 24 * 3600)
    ledger().enqueue(made, row._replace(row_id=new_id, signature=sig), NAMES)
    lease = ledger().take(new_id, 0, by, seconds=30, pool="threads", stage=NAMES[0])
    assert lease is not None
    assert ledger().wait(lease, 3600, "the server says: try again in an hour")
    return new_id


@dataclass(frozen=True)
class Locked:
    """A call that held the interpreter lock.

    Attributes:
        seconds: how long it did.
        lease: the lease of the queue ``cpu`` meanwhile: four times that of the settings.
        starts: how often the task began.
        status: how its job ended.
    """

    seconds: int
    lease: float
    starts: int
    status: JobStatus


def locked(rig: Rig, seconds: int = 10) -> Locked:
    """Run a task that holds the interpreter lock longer than a lease, and shorter than the four of the queue."""
    lease = seconds * 0.4
    names = ("io", "cpu", "control", "beat")
    with rig.workers(*names, cpu_processes=1, io_threads=4, lease=lease, visibility_timeout=2 * lease):
        job, _ = start("hold", {"seconds": seconds})
        until(lambda: jobs().get(job.id).final, 10 * seconds + 10, 0.05)
        # A second copy would be on its way by now: the lease is over.
        time.sleep(0.5)
        return Locked(seconds, 4 * lease, rig.redis.llen(f"toy:{job.id}:start"), jobs().get(job.id).status)
