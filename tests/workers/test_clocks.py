"""Hosts whose clocks differ by hours: Redis's clock is the one that counts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from datafab.core import clock as clock_module
from datafab.core.clock import Clock
from datafab.core.services import Services
from tests.servers.celery import Cluster
from tests.servers.clocks import clock_ahead
from tests.servers.redis import RedisServer
from tests.workers.conftest import Bench
from tests.workers.toys import app
from workers.app import settings, use

HOURS = 3 * 3600
#: whose clock is right, ahead and behind
HOSTS = {"io": 0, "io2": HOURS, "io3": -HOURS, "cpu": HOURS, "cpu2": -HOURS}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        cluster = Cluster(
            server.url,
            Path(tmp_path_factory.mktemp("cluster")),
            DATAFAB_ALLOW_PRIVATE_HOSTS="127.0.0.1/32",
            DATAFAB_RETRY_DELAY="0.1",
        )
        bench = Bench(cluster, server)
        if settings() != bench.settings:
            use(bench.settings)
        for name, ahead in HOSTS.items():
            cluster.start(name, **(clock_ahead(ahead) if ahead else {}))
        cluster.start("control", **clock_ahead(HOURS))
        cluster.start("beat", **clock_ahead(-HOURS))
        cluster.ready(app, *HOSTS, "control", timeout=60)
        yield bench
        cluster.stop()


def test_a_wait_is_as_long_on_every_host(bench: Bench):
    job = bench.run("waiting", n=30)
    assert job.counts
    assert job.counts.ok == 30
    assert set(bench.told(job.id, "end").values()) == {2}  # before the waits and after them
    started = [json.loads(line)["at"] for line in bench.redis.lrange(f"datafab:1:job:{job.id}:log", 0, -1)]
    assert job.ended
    assert job.started
    assert job.ended - job.started < HOURS / 2, started


def test_clock_is_redis_clock_and_goes_on_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with RedisServer(tmp_path / "redis") as server, server.client() as client:
        clock = Clock(client)
        seconds, micros = client.time()
        monkeypatch.setattr(clock_module.time, "time", lambda: 0.0)  # whatever this host says
        read = clock.now()
        monkeypatch.undo()
        later, _ = client.time()
        assert seconds + micros / 1e6 - 5 <= read <= later + 6
        server.kill()
        first = clock.now()
        time.sleep(0.05)
        assert clock.now() > first >= read


def test_clock_of_one_process_is_its_hosts():
    alone = Services(settings().model_copy(update={"redis_url": None}))
    assert abs(alone.clock.now() - time.time()) < HOURS
