"""A Redis that is full, read-only, without its replicas or its disk: everything waits, and goes on by itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery.schedules import schedule as timer

from datafab.core.redis_refusals import REFUSALS, RedisRefuses
from datafab.ops.doctor import examine
from datafab.settings import child_environment
from tests.servers.celery import Cluster, until
from tests.servers.redis import RedisServer
from tests.workers.conftest import Bench
from tests.workers.toys import app
from webhook import create_app
from workers.app import jobs, services, use
from workers.canvas import start
from workers.schedule import TASK
from workers.scheduler import Scheduler

#: The commands after which Redis refuses, and those after which it no longer does.
WAYS = {
    "OOM": (["CONFIG SET maxmemory 1"], ["CONFIG SET maxmemory 0"]),
    "NOREPLICAS": (["CONFIG SET min-replicas-to-write 1"], ["CONFIG SET min-replicas-to-write 0"]),
    "READONLY": (["REPLICAOF 127.0.0.1 1"], ["REPLICAOF NO ONE"]),
    "MASTERDOWN": (
        ["CONFIG SET replica-serve-stale-data no", "REPLICAOF 127.0.0.1 1"],
        ["REPLICAOF NO ONE", "CONFIG SET replica-serve-stale-data yes"],
    ),
    "MISCONF": (["CONFIG SET save 3600~1", "BGSAVE"], ["CONFIG SET save ~"]),
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        (server.folder / "dump.rdb").mkdir()  # so that a snapshot cannot be written
        cluster = Cluster(server.url, Path(tmp_path_factory.mktemp("cluster")))
        bench = Bench(cluster, server)
        yield bench
        cluster.stop()


def tell(server: RedisServer, commands: list[str]) -> None:
    with server.client() as client:
        for command in commands:
            client.execute_command(*(part.replace("~", " ").strip() for part in command.split(" ")))


def refused(bench: Bench) -> str | None:
    """Return the code with which a write is refused."""
    try:
        bench.redis.set("toy:written", 1)
    except RedisRefuses as error:
        return error.code
    return None


@pytest.mark.parametrize("code", WAYS)
def test_all_wait_and_go_on(bench: Bench, code: str, tmp_path: Path):
    bench.mend()
    site = create_app(bench.settings, services(), start).test_client()
    pids = {name: part.pid for name, part in bench.cluster.parts.items()}
    before = [start("waiting", {"n": 3, "seconds": 0.3, "delay": 1})[0].id, start("noop5", {"n": 2})[0].id]
    bench.until_told(before[0], "start")
    size = {name: part.log.stat().st_size for name, part in bench.cluster.parts.items()}
    refuse, serve = WAYS[code]
    tell(bench.server, refuse)
    try:
        assert until(lambda: refused(bench), 20) == code
        answer = site.post("/api/jobs", json={"flow": "noop5", "params": {"n": 1}, "key": code})
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.json["error"]["type"] == "redis_away"
        told = command(bench, "enqueue", "check_url", "-p", "url=http://127.0.0.1:1/")
        assert told.returncode == 1
        assert "Traceback" not in told.stderr
        assert REFUSALS[code] in told.stderr
        broken = {check.name: check.found for check in examine(bench.settings) if check.level == "broken"}
        assert any(REFUSALS[code] in found for found in broken.values()), broken
        use(bench.settings)
        # Each part has met the refusal, except control, to which beat can send nothing.
        until(lambda: all(noticed(bench, name, size[name]) for name in ("io", "cpu", "beat")), 30)
    finally:
        tell(bench.server, serve)
    until(lambda: refused(bench) is None, 20)
    after = until(lambda: accepted(site, code), 20)
    assert {bench.end(job, 90).counts.failed for job in (*before, after)} == {0}
    assert [bench.job(job).counts.ok for job in (*before, after)] == [3, 2, 1]
    assert [job.id for job in jobs().newest(limit=3)] == [after, *before[::-1]]
    assert {name: part.pid for name, part in bench.cluster.parts.items() if part.alive} == pids


def test_a_flow_that_was_due_meanwhile_is_enqueued_afterwards(bench: Bench, tmp_path: Path):
    use(bench.settings)
    beat = Scheduler(app=app, lazy=True, schedule_filename=str(tmp_path / "schedule"))
    due = beat.Entry(
        name="schedule:noop5", task=TASK, args=("noop5", 0.0), options={"queue": "nobody"}, schedule=timer(0.0), app=app
    )
    often = beat.Entry(name="tick", task="datafab.tick", options={"queue": "nobody"}, schedule=timer(0.0), app=app)
    tell(bench.server, WAYS["OOM"][0])
    try:
        until(lambda: refused(bench), 20)
        beat.apply_entry(due)
        beat.apply_entry(often)
    finally:
        tell(bench.server, WAYS["OOM"][1])
    queue = f"{bench.redis.prefix}nobody"
    assert bench.redis.llen(queue) == 0
    beat.schedule.clear()  # nothing else is due
    until(lambda: [beat.tick(), bench.redis.llen(queue)][1], 20)
    assert [json.loads(one)["headers"]["task"] for one in bench.redis.lrange(queue, 0, -1)] == [TASK]
    bench.redis.delete(queue)


def noticed(bench: Bench, name: str, before: int) -> bool:
    with bench.cluster.parts[name].log.open("rb") as log:
        log.seek(before)
        return b"Redis" in log.read()


def accepted(site, key: str) -> str | None:
    answer = site.post("/api/jobs", json={"flow": "noop5", "params": {"n": 1}, "key": key})
    return answer.json["id"] if answer.status_code == 202 else None


def command(bench: Bench, *arguments: str) -> subprocess.CompletedProcess[str]:
    told = [sys.executable, "-m", "datafab", *arguments]
    return subprocess.run(told, env=child_environment(bench.settings), capture_output=True, text=True, check=False)
