"""Two clusters in one database of Redis: each sees its own keys, queues, events and workers only."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.client import PubSub

from datafab.core.metrics import ClusterMetrics
from datafab.core.redis import connect
from datafab.ops.doctor import examine
from datafab.settings import child_environment
from tests.servers.celery import Cluster, until
from tests.servers.redis import PREFIX, RedisServer
from tests.workers.conftest import Bench
from tests.workers.toys import app
from workers.app import jobs, services, use
from workers.canvas import start

OTHER = "other:1:"


@pytest.fixture(scope="module")
def other(standing: Bench, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A second cluster whose workers have the same names as those of the standing one."""
    cluster = Cluster(redis_server.url, Path(tmp_path_factory.mktemp("other")), DATAFAB_KEY_PREFIX="other")
    standing.mend()
    yield Bench(cluster, redis_server)
    cluster.stop()
    use(standing.settings)


def test_jobs_with_one_key_run_in_both(standing: Bench, other: Bench):
    before = set(standing.redis.keys("*"))
    with other.redis.pubsub() as heard:
        heard.psubscribe("*")
        found = {}
        for bench in (other, standing):
            bench.mend()
            job, new = start("waiting", {"n": 2}, "the-same-key")
            assert new
            found[bench] = job.id
        for bench, job in found.items():
            use(bench.settings)
            assert bench.end(job).counts.ok == 2
            assert bench.told(job, "end") == {"toy:0": 2, "toy:1": 2}
            assert job in [one.id for one in jobs().newest()]
            assert not {one.id for one in jobs().newest()} & (set(found.values()) - {job})
        published = set()
        until(lambda: published.add(channel_of(heard)) or both_say(published), 20, 0)
    made = {key for key in standing.redis.keys("*") if not key.startswith("toy:")} - before
    assert {key for key in made if not key.startswith((PREFIX, OTHER))} == set()
    assert {key for key in made if key.startswith(OTHER)}


def channel_of(heard: PubSub) -> str | None:
    """Return the channel of the next message; None: there is none yet."""
    message = heard.get_message(ignore_subscribe_messages=True)
    return message and message["channel"]


def both_say(channels: set[str | None]) -> bool:
    """Check that what was published belongs to a cluster; return whether both have published events."""
    named = {name for name in channels if name}
    assert {name for name in named if not name.startswith((PREFIX, OTHER))} == set()
    return all(any(name.startswith(prefix) and "celeryev" in name for name in named) for prefix in (PREFIX, OTHER))


def test_workers_answer_their_own_cluster(standing: Bench, other: Bench):
    nodes = ["control@test", "cpu@test", "io@test"]
    for bench in (other, standing):
        bench.mend()
        until(lambda: sorted(name for one in app.control.ping(timeout=1) for name in one) == nodes, 20)
    other.cluster.parts["cpu"].kill()
    other.mend()
    assert standing.cluster.parts["cpu"].alive
    assert other.run("long", n=2).status == "succeeded"


def test_metrics_and_doctor_tell_of_one_cluster(standing: Bench, other: Bench):
    other.mend()
    counts = ClusterMetrics(other.redis).read().counts
    assert ("made", "waiting") in counts
    made = standing.redis.hget(f"{PREFIX}counts", "made noop5")
    other.run("noop5")
    assert standing.redis.hget(f"{PREFIX}counts", "made noop5") == made
    assert {check.name: check.found for check in examine(other.settings)}["redis keys"] == OTHER
    use(other.settings)


def test_a_command_sees_the_jobs_of_its_prefix(standing: Bench, other: Bench):
    other.mend()
    job = other.run("noop5").id
    for bench, known in ((other, 0), (standing, 1)):
        command = [sys.executable, "-m", "datafab", "jobs", "show", job, "--json"]
        told = subprocess.run(
            command, env=child_environment(bench.settings), capture_output=True, text=True, check=False
        )
        assert told.returncode == known, told.stderr
        assert not known or "no job" in told.stderr
        assert known or json.loads(told.stdout)["id"] == job


def test_a_lock_of_another_cluster_is_free(standing: Bench, other: Bench):
    with connect(standing.settings) as client:
        client.set(f"{PREFIX}gate:one", "job-of-the-standing-cluster")
        use(other.settings)
        assert services().locks.acquire("one", "job-of-the-other") is None
        services().locks.release("one", "job-of-the-other")
        assert client.get(f"{PREFIX}gate:one") == "job-of-the-standing-cluster"
        client.delete(f"{PREFIX}gate:one")
