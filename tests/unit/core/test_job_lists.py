"""The lists of jobs on a real Redis: they agree with the jobs, whoever has written or changed these."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from datafab.core.job import Job, JobStatus
from datafab.core.jobs import RedisJobs
from datafab.core.ledger import Ledger, NewRow
from datafab.core.metrics import ClusterMetrics
from datafab.core.redis import ClusterRedis, connect
from datafab.settings import load
from tests.kept_jobs import KINDS, fill
from tests.servers.redis import RedisServer

FLOWS, CALLERS = ("push", "collect", "source"), ("", "harvester", "console")


class Cluster:
    """The jobs and rows of one cluster without workers."""

    def __init__(self, url: str, home: Path) -> None:
        self.settings = load({}, redis_url=url, home=home)
        self.redis: ClusterRedis = connect(self.settings)
        self.jobs = RedisJobs(self.settings, self.redis)
        self.ledger = Ledger(self.settings, self.redis)
        self.made: list[str] = []

    def enqueue(self, flow: str = "collect", *, caller: str = "", key: str | None = None) -> str:
        job, now = f"{len(self.made):032x}", time.time()
        made = Job(id=job, flow=flow, caller=caller or None, key=key, created=now, deadline=now + 60)
        self.ledger.enqueue(made, NewRow(self.row(job), "{}", "io"), ["fetch"])
        self.made.append(job)
        return job

    def row(self, job: str) -> str:
        return f"datafab.fetch:{job}"

    def take(self, job: str) -> None:
        fence = int(self.redis.hget(f"{self.redis.prefix}row:{self.row(job)}", "fence") or 0)
        taken = {"seconds": 60, "pool": "threads", "stage": "fetch"}
        self.lease = self.ledger.take(self.row(job), fence, f"holder of {job}", **taken)
        assert self.lease is not None

    def everywhere(self) -> dict[tuple[str, str, str], list[str]]:
        """Return what each list must have, from the jobs themselves: by status, flow and caller, newest first."""
        kept = [self.jobs.get(job) for job in self.made if self.redis.exists(f"{self.redis.prefix}job:{job}")]
        newest = sorted(kept, key=lambda job: (job.created, job.id), reverse=True)
        return {
            (status, flow, caller): [
                job.id
                for job in newest
                if status in {"", job.status} and flow in {"", job.flow} and caller in {"", job.caller}
            ]
            for status, flow, caller in product(["", *JobStatus], ["", *FLOWS], CALLERS)
        }

    def listed(self, status: str, flow: str, caller: str, size: int) -> list[str]:
        """Read a list page by page."""
        found: list[str] = []
        wanted = {"status": JobStatus(status) if status else None, "flow": flow or None, "caller": caller or None}
        while page := self.jobs.newest(**wanted, after=found[-1] if found else None, limit=size):
            found += [job.id for job in page]
        return found

    def check(self) -> None:
        for number, (kind, ids) in enumerate(self.everywhere().items()):
            assert self.listed(*kind, size=1 + number % 4) == ids, kind


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def cluster(server: RedisServer, tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(server.url, tmp_path)
    cluster.redis.flushall()
    yield cluster
    cluster.redis.close()


def live(cluster: Cluster, seed: int, steps: int = 25) -> None:
    """Let jobs come, run, wait, end, be parked and retried at random."""
    dice = random.Random(seed)
    for _ in range(steps):
        job = cluster.enqueue(dice.choice(FLOWS), caller=dice.choice(CALLERS))
        for _ in range(dice.randrange(4)):
            cluster.take(job)
            cluster.ledger.wait(cluster.lease, 60, "later")
            cluster.redis.zadd(f"{cluster.redis.prefix}due", {cluster.row(job): 1})
            cluster.ledger.claim()
        match dice.randrange(6):
            case 0:
                cluster.take(job)
                assert cluster.jobs.end(job, JobStatus.PARKED, park=cluster.lease)
                if dice.random() < 0.5:
                    assert cluster.ledger.unpark(job) == 1
            case 1 | 2 | 3:
                cluster.jobs.end(job, dice.choice([JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED]))
            case 4:
                cluster.take(job)
            case 5:
                cluster.take(job)
                cluster.ledger.wait(cluster.lease, 60, "later")


@pytest.mark.parametrize("seed", range(3))
def test_every_list_has_the_jobs_of_its_kind_newest_first(cluster: Cluster, seed: int):
    live(cluster, seed)
    cluster.check()


def test_jobs_of_one_moment_are_listed_once_each(cluster: Cluster):
    cluster.made = fill(cluster.redis, 30)
    for job in cluster.made[5:25]:
        cluster.redis.zadd(f"{cluster.redis.prefix}jobs", {job: 1e9})
        cluster.redis.hset(f"{cluster.redis.prefix}job:{job}", "created", 1e9)
    for name in cluster.redis.keys(f"{cluster.redis.prefix}list:*"):
        cluster.redis.delete(name)
    cluster.check()


def test_jobs_of_a_version_without_lists_are_listed(cluster: Cluster):
    live(cluster, 5)
    for pattern in ("list:*", "keyed:*", "flows", "callers", "rows:*"):
        for name in cluster.redis.keys(cluster.redis.prefix + pattern):
            cluster.redis.delete(name)
    rows = ClusterMetrics(cluster.redis).read().rows
    states = [state for job in cluster.made for state in cluster.ledger.row_states(job).values()]
    assert +rows == {state: states.count(state) for state in set(states)}
    cluster.check()


def test_a_host_of_a_version_without_lists_may_go_on_for_a_while(cluster: Cluster):
    ended, running, made = cluster.enqueue(), cluster.enqueue(), cluster.enqueue("push")
    cluster.take(running)
    cluster.check()
    prefix = cluster.redis.prefix
    cluster.redis.hset(f"{prefix}job:{ended}", "status", "succeeded")
    cluster.redis.hset(f"{prefix}row:{cluster.row(running)}", "state", "wait")
    cluster.redis.hset(f"{prefix}job:{made}", "status", "failed")
    assert cluster.listed("queued", "", "", 10) == []  # what is read is what the jobs say
    cluster.jobs.prune()
    cluster.check()
    rows = ClusterMetrics(cluster.redis).read().rows
    assert (rows["run"], rows["wait"]) == (0, 1)
    late = f"{len(cluster.made):032x}"  # made without lists
    cluster.redis.hset(
        f"{prefix}job:{late}", mapping={"flow": "push", "status": "queued", "created": 2e9, "deadline": 3e9}
    )
    cluster.redis.zadd(f"{prefix}jobs", {late: 2e9})
    assert cluster.listed("queued", "push", "", 10) == [late]


def test_expired_jobs_leave_all_lists(cluster: Cluster):
    live(cluster, 7)
    for job in cluster.made[::2]:
        cluster.redis.delete(f"{cluster.redis.prefix}job:{job}")
    cluster.check()
    for job in cluster.made[1::4]:
        cluster.redis.delete(f"{cluster.redis.prefix}job:{job}")
    cluster.jobs.prune()
    left = {
        job
        for pattern in ("list:*", "jobs")
        for name in cluster.redis.keys(cluster.redis.prefix + pattern)
        for job in cluster.redis.zrange(name, 0, -1)
    }
    assert left == {job for job in cluster.made if cluster.redis.exists(f"{cluster.redis.prefix}job:{job}")}
    assert cluster.jobs.prune() == 0


def test_jobs_are_counted_by_outcome_for_the_kind_of_their_key(cluster: Cluster):
    ids = [cluster.enqueue("push", key=f"datapusher:{number}") for number in range(6)]
    cluster.enqueue("push", key="other:1")
    cluster.enqueue("push")
    prefix = cluster.redis.prefix
    for job in ids[:4]:
        cluster.take(job)
    # One error of a stage counts, a refusal by a stage that follows does not.
    for job, name in ((ids[0], "n:load:failed"), (ids[1], "n:load:ok"), (ids[2], "n:load:failed")):
        cluster.redis.hset(f"{prefix}job:{job}", name, 1)
        cluster.redis.hset(f"{prefix}job:{job}:failed", "ckan:x", "{}")
    cluster.redis.hset(f"{prefix}job:{ids[2]}", "d:load:failed:skipped", 1)
    for job in ids[:3]:
        cluster.jobs.end(job, JobStatus.SUCCEEDED)
    cluster.jobs.end(ids[3], JobStatus.CANCELLED)
    assert cluster.jobs.count_keyed("datapusher") == {"pending": 2, "complete": 2, "error": 2}
    assert [job.id for job in cluster.jobs.keyed("datapusher")] == ids[::-1]
    assert [job.id for job in cluster.jobs.keyed("datapusher", "error")] == [ids[3], ids[0]]
    assert [job.id for job in cluster.jobs.keyed("datapusher", first=2, limit=2)] == [ids[3], ids[2]]
    cluster.jobs.release_key(ids[4], "datapusher:4")
    cluster.redis.delete(f"{prefix}job:{ids[1]}")
    assert [job.id for job in cluster.jobs.keyed("datapusher", "complete", limit=1)] == [ids[2]]
    cluster.jobs.prune()
    assert cluster.jobs.count_keyed("datapusher") == {"pending": 1, "complete": 1, "error": 2}


def test_rows_are_counted_by_state(cluster: Cluster):
    live(cluster, 11)
    states = [state for job in cluster.made for state in cluster.ledger.row_states(job).values()]
    assert len(set(states)) >= 4
    assert +ClusterMetrics(cluster.redis).read().rows == {state: states.count(state) for state in set(states)}


def test_the_filled_jobs_of_the_benchmark_are_of_all_kinds(cluster: Cluster):
    cluster.made = fill(cluster.redis, 2 * len(KINDS))
    cluster.check()
