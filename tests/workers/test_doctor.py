"""``datafab doctor`` on real servers: the cluster that runs, and a Redis that is set up wrongly."""

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from datafab.cli.main import main
from datafab.core.jobs import RedisJobs
from datafab.core.metrics import ClusterMetrics
from datafab.core.redis import connect
from datafab.core.services import Services
from datafab.ops.diagnosis import Level
from datafab.ops.doctor import examine
from tests.servers.celery import until
from tests.servers.redis import RedisServer
from tests.workers.conftest import Bench
from tests.workers.toys import app
from webhook import create_app
from workers.canvas import start


@pytest.fixture
def own_redis(tmp_path):
    with RedisServer(tmp_path / "redis") as server:
        yield server


def ask(tmp_path, url, **env):
    """Return the exit code, and what is not well with its fix."""
    env = {"DATAFAB_HOME": str(tmp_path), "DATAFAB_REDIS_URL": url, "DATAFAB_MAX_BYTES": "1"} | env
    answer = CliRunner().invoke(main, ["doctor", "--json"], env=env)
    assert answer.exception is None or isinstance(answer.exception, SystemExit), answer.exception
    checks = [json.loads(line) for line in answer.stdout.splitlines()]
    return answer.exit_code, {check["name"]: check for check in checks if check["level"] != "ok"}


def test_a_cluster_that_runs_is_well(bench: Bench):
    beside = {"wis2 bundle", "disk of home", "disk of store"}

    def well():
        """Workers of a busy host answer late."""
        return {check.name for check in examine(bench.settings) if check.level is not Level.OK} <= beside

    until(well, 20)


def test_a_pool_that_was_shrunk_to_nothing_and_its_backlog_are_not_well(bench: Bench):
    services = Services(bench.settings, jobs=RedisJobs(bench.settings, connect(bench.settings)))
    site = create_app(bench.settings, services, start).test_client()
    assert until(lambda: site.get("/ready").status_code == 200, 20)
    cpu = bench.cluster.parts["cpu"]
    app.control.pool_shrink(2, destination=["cpu@test"])
    jobs = [bench.start("long") for _ in range(3)]
    try:
        broken = until(lambda: len(told := not_well(bench)) == 2 and told, 40)
        assert "cpu@test" in broken["queue cpu"].found
        assert "restart" in broken["queue cpu"].fix
        assert "none was taken for" in broken["backlog of cpu"].found
        answer = site.get("/ready")
        assert answer.status_code == 503
        assert "restart the workers of the queue cpu" in answer.json["services"]["backlog of cpu"]
        assert answer.json["services"]["redis"] is None
    finally:
        cpu.kill()
        bench.mend()
    assert {bench.end(job).status for job in jobs} == {"succeeded"}
    assert until(lambda: site.get("/ready").status_code == 200, 20)


def not_well(bench: Bench):
    """Return the checks of queues that found something broken."""
    names = {"queue cpu", "backlog of cpu"}
    return {one.name: one for one in examine(bench.settings) if one.level is Level.BROKEN and one.name in names}


def test_a_queue_whose_workers_are_all_busy_moves(bench: Bench):
    """Longer than the time after which a queue is still: two slots, each with a task, and others that wait."""
    jobs = [bench.start("long", seconds=4 * bench.settings.lease) for _ in range(4)]
    for job in jobs[:2]:
        bench.until_told(job, "start")
    measures, ended = ClusterMetrics(bench.redis), []
    while not ended:
        assert measures.idle_queues(bench.settings.stalled_after) == {}
        ended = [job for job in jobs if bench.job(job).final]
    for job in jobs:
        bench.end(job, 60)


def test_what_is_wrong_with_a_redis_is_told_with_what_to_do(own_redis, tmp_path):
    code, bad = ask(tmp_path, own_redis.url)
    assert (code, bad.keys()) == (0, {"wis2 bundle", "queue io", "queue cpu", "queue control"})
    with own_redis.client() as client:
        client.config_set("appendonly", "no")
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.zadd("datafab:1:due", {"row": 1})
        client.zadd("datafab:2:jobs", {"job": 1})
    code, bad = ask(tmp_path, own_redis.url)
    assert code == 1
    broken = {name: check["fix"] for name, check in bad.items() if check["level"] == "broken"}
    assert broken.keys() == {"redis persistence", "redis eviction", "tick"}
    assert "appendonly yes" in broken["redis persistence"]
    assert "noeviction" in broken["redis eviction"]
    assert "beat" in broken["tick"]
    assert "datafab:2:" in bad["redis keys"]["found"]


def test_a_redis_that_began_anew_since_it_was_last_asked_is_well(own_redis, tmp_path):
    for _ in range(3):
        _, bad = ask(tmp_path, own_redis.url)
        assert bad.keys() == {"wis2 bundle", "queue io", "queue cpu", "queue control"}
        own_redis.restart(killed=True)


def test_services_that_do_not_answer_are_named(tmp_path):
    file = tmp_path / "file"
    file.touch()
    code, bad = ask(
        tmp_path,
        "redis://127.0.0.1:1/0",
        DATAFAB_MQTT_URL="mqtt://127.0.0.1:1",
        DATAFAB_CKAN_URLS="http://127.0.0.1:1",
        DATAFAB_STORE_URL=(file / "store").as_uri(),
        DATAFAB_CONNECT_TIMEOUT="1",
    )
    assert code == 1
    broken = {name: check["fix"] for name, check in bad.items() if check["level"] == "broken"}
    assert broken.keys() == {"redis", "mqtt", "ckan http://127.0.0.1:1", "store"}
    assert "DATAFAB_REDIS_URL" in broken["redis"]
    assert "DATAFAB_STORE_URL" in broken["store"]


def test_what_processes_do_not_agree_on_is_told(bench: Bench, tmp_path):
    def broken():
        _, bad = ask(tmp_path, bench.server.url, DATAFAB_STORE_URL=str(tmp_path / "mine"), DATAFAB_STOREURL="x")
        return {name: check for name, check in bad.items() if name in {"setting", "store of workers"}}

    found = until(lambda: len(told := broken()) == 2 and told, 20)
    assert "DATAFAB_STORE_URL" in found["setting"]["fix"]
    assert str(tmp_path / "mine") in found["store of workers"]["found"]
    assert "io@test" in found["store of workers"]["found"]


def test_a_redis_that_is_full_says_so_to_whoever_enqueues(own_redis, tmp_path):
    with own_redis.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
    environ = {"PATH": os.environ["PATH"], "DATAFAB_HOME": str(tmp_path), "DATAFAB_REDIS_URL": own_redis.url}
    command = [sys.executable, "-m", "datafab", "enqueue", "collection", "-p", "of=x"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Redis is full" in done.stderr
