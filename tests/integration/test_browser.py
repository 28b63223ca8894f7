"""A stranger's page in a real Chromium on the host of a real ``datafab up``: it changes nothing and reads nothing."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from datafab.embedded import ALL, Cluster, free_port
from datafab.settings import Settings, load
from tests.servers.browser import chromium, stranger, visiting
from workers import inspect as facts
from workers.app import use

#: A job that anybody who may enqueue one can enqueue.
JOB = {"flow": "catalogue", "params": {"url": "http://catalogue.invalid/api/1"}}
READS = ["/api/jobs", "/openapi.json", "/workers", "/api/flows", "/metrics", "/ready", "/tasks", "/api/workers", "/"]
#: How many of these are also loaded by the elements of a page.
LOADED = 3
PAGE = Path(__file__).with_name("hostile.html").read_text(encoding="utf-8")
EVIL = "evil.example"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A whole cluster, as ``datafab up`` runs it; gives its settings."""
    chromium()
    binds = {name: f"127.0.0.1:{free_port()}" for name in ("bind", "flower_bind")}
    home = tmp_path_factory.mktemp("home")
    with Cluster(load({}, home=home, cpu_processes=2, io_processes=1, **binds), ALL) as cluster:
        yield cluster.settings


def posts() -> list[str]:
    """Return what would change something, of the webhook and of Flower."""
    host = socket.gethostname()
    control = [f"/api/worker/{what}/{{}}@{host}" for what in ("pool/shrink", "shutdown", "queue/cancel-consumer")]
    return [
        *("/api/jobs", "/api/check-url", "/datapusher/job", "/hooks/link-proxy"),
        *(one.format("cpu") + "?n=2&queue=cpu" for one in control),
        "/api/task/send-task/datafab.tick",
        "/api/task/rate-limit/datafab.tick?workername=&ratelimit=0/m",
    ]


def page(targets: list[str]) -> str:
    """Return the page with what it is to try, and where."""
    given = {"targets": targets, "posts": posts(), "reads": READS, "loaded": LOADED, "job": JOB}
    return re.sub(r"/\*(\w+)\*/ (\[\]|\{\}|0)", lambda found: json.dumps(given[found[1]]), PAGE)


def state(settings: Settings) -> dict[str, Any]:
    """Return what no page may change."""
    use(settings)
    jobs = requests.get(f"http://{settings.bind}/api/jobs", timeout=60).json()["jobs"]
    workers = {name: told and (told.queues, told.slots) for name, told in facts.ask_workers(5).items()}
    return {"jobs": jobs, "workers": workers}


def unchanged(settings: Settings) -> None:
    host = socket.gethostname()
    found = state(settings)
    assert found["jobs"] == []
    assert found["workers"][f"cpu@{host}"] == (("cpu",), 2)
    assert found["workers"].keys() == {f"{name}@{host}" for name in ("io", "cpu", "control")}
    assert requests.get(f"http://{settings.bind}/ready", timeout=60).status_code == 200


@pytest.mark.timeout(900)
@pytest.mark.parametrize("where", [EVIL, "127.0.0.1"])
def test_a_page_of_another_site_changes_and_reads_nothing(settings: Settings, tmp_path: Path, where: str):
    """From a name, which is another site; and from another port of this host, which browsers call the same site."""
    with stranger("") as witness:
        names = {EVIL: "127.0.0.1"}
        guarded = [f"http://{bind}" for bind in (settings.bind, settings.flower_bind)]
        guarded.append(f"http://localhost:{settings.bind.rpartition(':')[2]}")
        with (
            stranger(page([*guarded, f"http://127.0.0.1:{witness.port}"])) as evil,
            visiting(f"http://{where}:{evil.port}/page", tmp_path / "profile", names),
        ):
            report = evil.report()
    # The same requests do reach a server that does not look who asks.
    sent = {kind for path, kind in witness.posts if path == "/api/jobs"}
    assert sent == {"text/plain", "application/x-www-form-urlencoded", "multipart/form-data"}
    assert {path for path, _ in witness.posts} == set(posts())
    known = [f"script http://127.0.0.1:{witness.port}{path}" for path in READS]
    known += [f"link http://127.0.0.1:{witness.port}{path}" for path in READS[:LOADED]]
    assert sorted(one["what"] for one in report["read"]) == sorted(known)
    unchanged(settings)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("bind", ["bind", "flower_bind"])
def test_a_name_that_was_rebound_to_this_host_reads_nothing(settings: Settings, tmp_path: Path, bind: str):
    port = int(getattr(settings, bind).rpartition(":")[2])
    with (
        stranger(page([""]), rebound=port) as evil,
        visiting(f"http://{EVIL}:{port}/page", tmp_path / "profile", {f"{EVIL}:{port}": f"127.0.0.1:{evil.port}"}),
    ):
        report = evil.report()
    assert report["tried"] > len(posts())
    assert report["read"] == []
    unchanged(settings)


@pytest.mark.timeout(900)
def test_without_the_check_a_rebound_name_would_read(tmp_path: Path):
    """What the test above shows is the check's doing: a server without it is read by the same page."""
    with (
        stranger("") as witness,
        stranger(page([""]), rebound=witness.port) as evil,
        visiting(
            f"http://{EVIL}:{witness.port}/page",
            tmp_path / "profile",
            {f"{EVIL}:{witness.port}": f"127.0.0.1:{evil.port}"},
        ),
    ):
        report = evil.report()
    assert {"what": "GET /api/jobs", "text": "readable"} in report["read"]
    assert "frame /api/jobs" in {one["what"] for one in report["read"]}
    assert ("/api/jobs", "application/json") in witness.posts
