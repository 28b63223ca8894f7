"""A cluster whose Redis is named by Sentinels, and whose master is killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from datafab.core.redis import connect
from datafab.embedded.redis_server import redis_failure
from datafab.settings import child_environment, load
from tests.servers.celery import Cluster, until
from tests.servers.sentinel import SERVICE, Guarded
from tests.workers.conftest import Bench
from tests.workers.toys import app
from webhook import create_app
from workers.app import jobs, services, use
from workers.canvas import start


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with Guarded(tmp_path_factory.mktemp("guarded")) as servers:
        yield servers


def test_a_master_that_is_killed_loses_no_job_that_was_accepted(guarded: Guarded, tmp_path: Path):
    bench = Bench(Cluster(guarded.url, tmp_path), guarded.master)
    use(bench.settings)
    for name in ("io", "control", "beat"):
        bench.cluster.start(name)
    try:
        bench.cluster.ready(app, "io", "control")
        long = start("long_io", {"n": 12, "seconds": 1})[0].id
        bench.until_told(long, "start", 2)
        accepted = [start("noop5", {"n": 2}, f"before-{number}")[0].id for number in range(5)]
        before = guarded.present_master()
        guarded.master.kill()
        until(lambda: guarded.present_master() not in {None, before}, 30)
        accepted.append(until(lambda: enqueued("after"), 30))
        for job in (long, *accepted):
            assert until(lambda job=job: ended(job), 60) == "succeeded", job
        assert jobs().get(long).counts.ok == 12
        assert [jobs().find_by_key(f"before-{number}") for number in range(5)] == accepted[:5]
        with connect(bench.settings) as client:
            assert client.info("replication")["role"] == "master"
            assert client.config_get("port")["port"] == str(guarded.replica.port)
            assert {key.partition(":")[0] for key in client.keys("*")} == {"datafab", "toy"}
        # The other faces.
        command = [sys.executable, "-m", "datafab", "jobs", "show", long]
        told = subprocess.run(
            command, env=child_environment(bench.settings), capture_output=True, text=True, check=False
        )
        assert told.returncode == 0, told.stderr
        site = create_app(bench.settings, services(), start).test_client()
        assert site.get(f"/api/jobs/{long}").json["status"] == "succeeded"
    finally:
        bench.cluster.stop()


def ended(job: str) -> str | None:
    """Return the status of a job that has ended; the client may find the former master for a while."""
    with suppress(RedisError):
        found = jobs().get(job)
        return found.status if found.final else None
    return None


def enqueued(key: str) -> str | None:
    with suppress(RedisError, OperationalError):
        return start("noop5", {"n": 1}, key)[0].id
    return None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ((f"/{SERVICE}?", "/another?"), "no Sentinel knows the master"),
        (("sentinel_password=guards", "sentinel_password=wrong"), "DATAFAB_REDIS_URL"),
        (("%40", "%41"), "correct the user and the password in DATAFAB_REDIS_URL"),
    ],
)
def test_a_wrong_url_says_what_is_wrong(guarded: Guarded, change: tuple[str, str], says: str):
    failure = redis_failure(load({"DATAFAB_REDIS_URL": guarded.url.replace(*change)}))
    assert failure
    assert says in failure
