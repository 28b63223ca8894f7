"""A cluster that was stopped under an earlier version goes on under this one: jobs, rows, messages, stores, index.

``recorded/`` was written by ``record.py`` at commit 549bdd5, before the tree was moved: a job that had ended, one that
waited for a server, one that was parked, one whose workers were killed in the middle, and one that no worker had seen.
"""

from __future__ import annotations

import base64
import json
import platform
import re
import time
import zipfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from datafab import api
from datafab.core.job import Job
from datafab.settings import load as settings_of
from tests.servers.celery import Cluster, until
from tests.servers.redis import RedisServer
from tests.upgrade.files_site import AWAY, DONE, HANGING, LATER, MISSING, SLOW, Site, files
from workers.app import app, jobs, use

RECORDED = Path(__file__).parent / "recorded"
STATE = json.loads((RECORDED / "redis.json").read_text())
JOBS: dict[str, str] = STATE["jobs"]
#: Unix times of about then, wherever they stand in a text
TIME = re.compile(r"(?<![0-9A-Za-z])(\d{10}(?:\.\d+)?)(?![0-9A-Za-z])")
#: Seconds by which everything is older than it was when it was recorded: what was due soon is due now.
OLDER = 600


def moved(text: str, root: Path, later: float) -> str:
    """Return a recorded text for this machine and this time."""
    kernel = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    for name, here in (("%ROOT%", str(root)), ("%KERNEL%", kernel), ("%HOST%", platform.node())):
        text = text.replace(name, here)

    def time_of(found: re.Match[str]) -> str:
        at = float(found[1])
        return f"{at + later:.3f}" if abs(at - STATE["recorded"]) < 2 * 24 * 3600 else found[1]

    return TIME.sub(time_of, text)


def restored(value: Any, root: Path, later: float) -> str:
    """Return a recorded value as it stands in Redis; a message's body is base64 there."""
    if isinstance(value, str):
        return moved(value, root, later)
    message = value["message"]
    one = message[0] if isinstance(message, list) else message
    body = moved(one["body"], root, later)
    done = json.loads(moved(json.dumps({**value, "message": message}), root, later))["message"]
    (done[0] if isinstance(done, list) else done)["body"] = base64.b64encode(body.encode()).decode()
    return json.dumps(done)


def age_logs(root: Path, later: float) -> None:
    """Date the collections' logs anew: a job knows by the time which of them is its own."""
    for path in sorted(root.glob("*/log/*/*.json")):
        log = json.loads(path.read_text())
        at = datetime.fromisoformat(log["entry-date"]) + timedelta(seconds=later)
        path.unlink()
        day = path.parents[1] / f"{at:%Y-%m-%d}"
        day.mkdir(exist_ok=True)
        (day / path.name).write_text(json.dumps(log | {"entry-date": at.isoformat()}))


def load(server: RedisServer, root: Path, later: float) -> None:
    """Write the recorded keys."""
    with server.client() as client:
        for key, kept in STATE["keys"].items():
            value = kept["value"]
            match kept["type"]:
                case "string":
                    client.set(key, restored(value, root, later))
                case "hash":
                    client.hset(key, mapping={name: restored(one, root, later) for name, one in value.items()})
                case "set":
                    client.sadd(key, *(restored(one, root, later) for one in value))
                case "list":
                    client.rpush(key, *(restored(one, root, later) for one in value))
                case "zset":
                    client.zadd(key, {member: float(moved(repr(score), root, later)) for member, score in value})


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with files(healthy=True) as running:
        yield running


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, site: Site) -> Iterator[Path]:
    """Return the folder of a cluster of this version on what the one before has left."""
    folder = tmp_path_factory.mktemp("upgrade")
    with zipfile.ZipFile(RECORDED / "home.zip") as recorded:
        recorded.extractall(folder)
    server = RedisServer(folder / "redis").start()
    later = time.time() - STATE["recorded"] - OLDER
    age_logs(folder, later)
    load(server, folder, later)
    cluster = Cluster(server.url, folder / "home", app="workers", DATAFAB_PROXY=site.url)
    use(settings_of(cluster.env))
    parts = ("control", "io", "cpu")
    for name in (*parts, "beat"):
        cluster.start(name)
    try:
        cluster.ready(app, *parts)
        yield folder
    finally:
        cluster.stop()
        server.stop()


def ended(name: str) -> Job:
    def found() -> Job | None:
        job = jobs().get(JOBS[name])
        return job if job.final else None

    return until(found, 60)


def stage(job: Job, name: str) -> tuple[int, int]:
    """Return how many items a stage has done, and how many have failed in it."""
    (found,) = (one for one in job.progress if one.stage == name)
    return found.ok, found.failed


def logs(root: Path, name: str) -> list[dict[str, Any]]:
    """Return the logs of a collection, the newest of each endpoint."""
    found = {path.name: path for path in sorted((root / name / "log").glob("*/*.json"))}
    return [json.loads(path.read_text()) for path in found.values()]


def test_a_job_that_had_ended_is_shown_as_it_was(root: Path):
    job = jobs().get(JOBS["done"])
    assert job.status == "succeeded", jobs().failures(job.id)
    assert stage(job, "collect") == (len(DONE), len(MISSING))
    assert [error.type for error in jobs().failures(job.id).values()] == ["http_404"]
    assert "404" in jobs().logs(job.id)[0]["event"]


def test_jobs_without_lists_are_listed_by_status_and_flow(root: Path):
    assert {job.id for job in jobs().newest(flow="collect", limit=100)} >= set(JOBS.values())
    for job in map(ended, ("done", "waiting", "queued")):
        assert job.id in {one.id for one in jobs().newest(status=job.status, limit=100)}


def test_what_was_indexed_is_found(root: Path):
    hits = api.search("column:département").hits
    assert {hit.title for hit in hits} >= {f"{name}.csv" for name in DONE}
    assert {hit.total_lines for hit in hits} == {2}


@pytest.mark.parametrize(("name", "endpoints"), [("waiting", AWAY), ("running", SLOW), ("queued", LATER)])
def test_a_job_goes_on(root: Path, name: str, endpoints: tuple[str, ...]):
    job = ended(name)
    assert job.status == "succeeded", jobs().failures(job.id)
    assert stage(job, "collect") == stage(job, "index") == (len(endpoints), 0)
    assert [log["status"] for log in logs(root, name)] == ["200"] * len(endpoints)


def test_what_was_fetched_before_is_not_fetched_again(root: Path, site: Site):
    ended("running")
    assert len([name for name in site.asked if name in SLOW]) == len(SLOW) - 2


def test_a_parked_job_is_retried(root: Path):
    assert jobs().get(JOBS["parked"]).status == "parked"
    api.JobHandle(JOBS["parked"]).retry()
    job = ended("parked")
    assert (job.status, stage(job, "collect")) == ("succeeded", (len(HANGING), 0))
