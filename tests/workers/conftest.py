"""One Redis and one standing cluster for all crash tests; whatever a test killed is started again for the next."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from datafab.core.job import Job
from datafab.core.ledger import Ledger
from datafab.core.redis import connect
from datafab.settings import load
from tests.servers.celery import Cluster, until
from tests.servers.redis import RedisServer
from tests.workers.toys import app
from workers.app import jobs, settings, use
from workers.canvas import start

PARTS = ("io", "cpu", "control", "beat")


class Bench:
    """A cluster under test, with the eyes of a test."""

    def __init__(self, cluster: Cluster, server: RedisServer) -> None:
        self.cluster = cluster
        self.server = server
        self.settings = load(cluster.env)
        self.redis = connect(self.settings, patience=10)
        self.ledger = Ledger.connect(self.settings, patience=5)

    def mend(self) -> None:
        """Point this process here, start what a test before has killed, and stop what it has left."""
        if settings() != self.settings:
            use(self.settings)
        for name, part in self.cluster.parts.items():
            if name not in PARTS and part.alive:
                part.kill()
        dead = [name for name in PARTS if name not in self.cluster.parts or not self.cluster.parts[name].alive]
        for name in dead:
            self.cluster.start(name)
        workers = [name for name in dead if name != "beat"]
        if workers:
            self.cluster.ready(app, *workers)

    def start(self, flow: str, **params: object) -> str:
        job, created = start(flow, params)
        assert created
        return job.id

    def job(self, job: str) -> Job:
        return jobs().get(job)

    def end(self, job: str, timeout: float = 30) -> Job:
        """Wait until a job has ended, and see that nothing of it is left over."""

        def ended() -> Job | None:
            found = self.job(job)
            return found if found.final else None

        try:
            found = until(ended, timeout)
        except AssertionError:
            raise AssertionError(f"{job} is {self.job(job).status}; rows: {self.rows(job)}") from None
        if found.status != "parked":
            assert self.ledger.row_states(job) == {}
        return found

    def everything(self) -> str:
        """Return all that stands in Redis, as text."""
        read = {
            "string": self.redis.get,
            "hash": self.redis.hgetall,
            "set": self.redis.smembers,
            "list": lambda key: self.redis.lrange(key, 0, -1),
            "zset": lambda key: self.redis.zrange(key, 0, -1),
            "none": lambda _: "",  # it went meanwhile
        }
        return "\n".join(f"{key}={read[self.redis.type(key)](key)}" for key in self.redis.keys("*"))

    def rows(self, job: str) -> list[dict[str, object]]:
        """Return a job's rows but for their signatures, with the seconds until they are due."""
        rows: list[dict[str, object]] = []
        for rid in self.ledger.row_states(job):
            row = self.redis.hgetall(f"{self.redis.prefix}row:{rid}")
            due = self.redis.zscore(f"{self.redis.prefix}due", rid)
            shown = {key: value for key, value in row.items() if key not in {"sig", "next", "job"}}
            rows.append({"rid": rid, "due": due and round(due - time.time(), 1)} | shown)
        return rows

    def run(self, flow: str, timeout: float = 30, **params: object) -> Job:
        return self.end(self.start(flow, **params), timeout)

    def told(self, job: str, what: str) -> Counter[str]:
        """Return how often each item told ``what`` (see toys.tell)."""
        return Counter(self.redis.lrange(f"toy:{job}:{what}", 0, -1))

    def until_told(self, job: str, what: str, n: int = 1, timeout: float = 20) -> None:
        until(lambda: self.redis.llen(f"toy:{job}:{what}") >= n, timeout, 0.01)

    def settle(self, limit: float = 60) -> None:
        """Wait until no message is left, not even an unacknowledged one."""
        keys = [f"{self.redis.prefix}{name}" for name in ("io", "cpu")]
        until(lambda: not any(self.redis.llen(key) for key in keys), limit)
        try:
            until(lambda: not self.unacked(), limit, 0.2)
        except AssertionError:
            raise AssertionError(f"unacknowledged: {self.unacked()}") from None

    def unacked(self) -> list[str]:
        """Return what was delivered and is not acknowledged: task, arguments, fence, seconds since."""
        ours = {"datafab.tick", "datafab.sweep", "datafab.prune"}
        since = dict(self.redis.zrange(f"{self.redis.prefix}unacked_index", 0, -1, withscores=True))
        found = []
        for tag, entry in self.redis.hgetall(f"{self.redis.prefix}unacked").items():
            headers = json.loads(entry)[0]["headers"]
            if headers["task"] not in ours:
                age = round(time.time() - since.get(tag, 0.0))
                found.append(f"{headers['task']} {headers['argsrepr']} fence {headers['retries']}, {age} s ago")
        return found


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def standing(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = Path(tmp_path_factory.mktemp("cluster"))
    cluster = Cluster(redis_server.url, folder, DATAFAB_ALLOW_PRIVATE_HOSTS="127.0.0.1/32", TMPDIR=str(folder))
    bench = Bench(cluster, redis_server)
    yield bench
    cluster.stop()


@pytest.fixture
def bench(standing: Bench) -> Bench:
    standing.mend()
    return standing
