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
from datafab.publish.deadletters import DeadLetters
from tests.servers.celery import Cluster
from tests.servers.clocks import clock_ahead
from tests.servers.redis import RedisServer
from tests.workers.conftest import Bench
from tests.workers.toys import app
from workers.app import settings, use
from workers.canvas import start
from workers.schedule import cron

HOURS = 3 * 3600
MINUTE = 60
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


def test_what_is_kept_has_the_time_of_redis_whoever_writes_it(bench: Bench):
    job = bench.run("faulty", n=20, fault="retriable")  # each fails once, and is tried again
    assert job.counts
    assert job.counts.ok == 20
    assert job.ended
    lines = bench.redis.lrange(f"{bench.redis.prefix}job:{job.id}:log", 0, -1)
    assert lines
    written = [json.loads(line)["at"] for line in lines]
    assert job.created - MINUTE < min(written) <= max(written) < job.ended + MINUTE


def test_a_message_is_not_delivered_again_because_a_clock_is_ahead(bench: Bench):
    job = bench.start("long_io", n=24, seconds=0.5)  # more than one host runs at once
    seen: dict[str, float] = {}
    while not bench.job(job).final:
        seen |= bench.redis.zrange(f"{bench.redis.prefix}unacked_index", 0, -1, withscores=True)
    assert bench.end(job).status == "succeeded"
    now, _ = bench.redis.time()
    assert seen
    assert {tag: at for tag, at in seen.items() if abs(now - at) > HOURS / 2} == {}
    assert set(bench.told(job, "start").values()) == {1}


def test_new_jobs_schedules_and_dead_letters_follow_redis(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(time, "time", lambda: 0.0)  # this host's clock
    job, _ = start("noop5", {"n": 1})
    due = cron("* * * * *").now()
    letters = DeadLetters(bench.redis)
    letters.put("here", b"", "a test")
    monkeypatch.undo()
    now, _ = bench.redis.time()
    times = {"job": job.created, "schedule": due.timestamp(), "letter": letters.newest(1)[0]["at"]}
    assert {name: at for name, at in times.items() if abs(now - at) > MINUTE} == {}
    bench.end(job.id)


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
