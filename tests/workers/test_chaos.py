"""Jobs under random kill -9 of children, hosts, beat and Redis: all right, none ended twice, nothing left over.

``make test`` runs 20 s of it, ``make soak`` (DATAFAB_CHAOS=seconds) as long as it is told.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress

import pytest

from datafab.core.job import JobStatus
from tests.servers.celery import until
from tests.workers.conftest import Bench
from tests.workers.toys import app

SECONDS = float(os.environ.get("DATAFAB_CHAOS", "20"))
JOBS = int(4 * SECONDS)
HOSTS = ("io", "io2", "cpu", "cpu2", "control", "control2")


class Chaos:
    """Kills one thing after another, and starts it again."""

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench = bench
        self.random = random.Random(seed)
        self.kills: Counter[str] = Counter()

    def strike(self) -> None:
        what = self.random.choices(["child", "host", "beat", "redis"], [10, 5, 3, 1])[0]
        self.kills[what] += 1
        getattr(self, what)()

    def child(self) -> None:
        children = [pid for name in ("cpu", "cpu2") for pid in self.bench.cluster.parts[name].children()]
        if children:
            with suppress(ProcessLookupError):
                os.kill(self.random.choice(children), signal.SIGKILL)

    def host(self) -> None:
        self._again(self.random.choice(HOSTS))

    def beat(self) -> None:
        self._again("beat")

    def redis(self) -> None:
        self.bench.server.restart(killed=True)

    def _again(self, name: str) -> None:
        self.bench.cluster.parts[name].kill()
        self.bench.cluster.start(name)


@pytest.mark.timeout(1200 + 10 * SECONDS)  # each job may take longer than other tests
def test_chaos(bench: Bench):
    for name in ("io2", "cpu2", "control2"):
        bench.cluster.start(name)
    bench.cluster.ready(app, *HOSTS)
    seed = int(os.environ.get("DATAFAB_CHAOS_SEED", str(time.time_ns() % 10_000)))
    print(f"DATAFAB_CHAOS_SEED={seed}")
    chaos = Chaos(bench, seed)
    running = [bench.start("chaos", n=4, seconds=0.05, delay=0.3) for _ in range(JOBS)]
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        chaos.strike()
        time.sleep(chaos.random.uniform(0.3, 1.5))
        for name, part in bench.cluster.parts.items():
            if name in HOSTS and not part.alive:
                bench.cluster.start(name)
    print(chaos.kills)
    ended = [bench.end(job, 180) for job in running]
    assert {job.status for job in ended} == {JobStatus.SUCCEEDED}
    assert Counter(job.progress[-1].done for job in ended) == {4: JOBS}
    assert {stage.done for job in ended for stage in job.progress} == {4}
    for job in ended:
        assert job.counts
        assert (job.counts.ok, job.counts.failed) == (4, 0)
    assert not [state for job in running for state in bench.ledger.row_states(job).items()]
    assert not [key for job in running for key in bench.redis.keys(f"datafab:1:job:{job}:done:*")]
    bench.settle()
    # Rows of other tests' jobs are theirs; one without a job is ours.
    ours = {None, *running}
    until(lambda: not [rid for rid in bench.redis.zrange("datafab:1:due", 0, -1) if _job(bench, rid) in ours], 20)
    for name in ("io2", "cpu2", "control2"):
        bench.cluster.parts[name].stop()


def _job(bench: Bench, rid: str) -> str | None:
    return bench.redis.hget(f"datafab:1:row:{rid}", "job")
