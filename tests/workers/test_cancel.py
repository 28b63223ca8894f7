"""A job that is cancelled, or past its deadline, ends what its tasks are doing, on real workers and a real Redis."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest
from kombu.exceptions import OperationalError

from datafab.cancellation import Cancellation, Cancelled
from datafab.core.job import JobStatus
from datafab.sandbox.ckan import TOKEN
from tests.servers.celery import until
from tests.servers.http import Answer, Site
from tests.workers.conftest import Bench
from tests.workers.toys import app
from workers import leases
from workers.app import jobs
from workers.canvas import start

#: Far below any time limit of a request, so that a test in which nothing is interrupted fails.
SOON = 5.0
CSV = b"id;nom\n1;Paris\n"
#: The ways in which a server keeps a client waiting.
SLOW = {
    "/drip": Answer(CSV * 1000, fault="drip", pause=0.5),
    "/drip-in-chunks": Answer(CSV * 1000, fault="drip", pause=0.5, chunked=True),
    "/head": Answer(CSV * 1000, fault="slow-head", pause=0.5),
    "/stall": Answer(CSV * 1000, fault="stall"),
    "/silent": Answer(CSV, delay=600),
}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site(SLOW) as running:
        yield running


@contextmanager
def full_backlog() -> Iterator[int]:
    """Listen at a port whose queue of connections is full: another one is neither made nor refused."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        clients = [socket.socket() for _ in range(4)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield server.getsockname()[1]
        for client in clients:
            client.close()


def working(job: str) -> bool:
    """Tell whether any worker is still busy with a task of a job."""
    try:
        answers = app.control.broadcast("active", reply=True, timeout=1, limit=3)
    except OperationalError:
        return True
    return len(answers) < 3 or job in json.dumps(answers)


def cancel(bench: Bench, job: str) -> None:
    """Cancel a job, and see that everything of it ends, and that nothing else does."""
    assert jobs().end(job, JobStatus.CANCELLED)
    until(lambda: not working(job), SOON)
    assert bench.job(job).status == JobStatus.CANCELLED
    assert bench.ledger.row_states(job) == {}
    assert bench.redis.keys(f"datafab:1:job:{job}:done:*") == []
    assert bench.run("pair").status == JobStatus.SUCCEEDED


def collecting(folder: Path, *urls: str, **params: object) -> str:
    rows = "".join(f",{url}\n" for url in urls)
    (folder / "endpoint.csv").write_text(f"endpoint,endpoint-url\n{rows}", encoding="utf-8")
    given = {"endpoints": str(folder / "endpoint.csv"), "collection": str(folder)} | params
    return start("collect", given)[0].id


def files(folder: Path) -> list[str]:
    """Return what a job has left in a collection."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != "endpoint.csv")


@pytest.mark.parametrize("path", SLOW)
def test_a_fetch_ends(bench: Bench, site: Site, tmp_path: Path, path: str):
    before = site.hits[path]
    job = collecting(tmp_path, site.url(path))
    until(lambda: site.hits[path] > before, 20)
    cancel(bench, job)
    until(lambda: not site.open, SOON)  # the server is left alone, too
    assert files(tmp_path) == ["resource"]  # no log says that the server failed


def test_a_fetch_ends_that_waits_for_its_connection(bench: Bench, tmp_path: Path):
    with full_backlog() as port:
        job = collecting(tmp_path, *(f"http://127.0.0.1:{port}/{number}" for number in range(4)))
        until(lambda: list(bench.ledger.row_states(job).values()).count("run") == 4, 20)
        cancel(bench, job)
    assert files(tmp_path) == ["resource"]


def test_a_source_stage_ends_that_reads_a_catalogue(bench: Bench):
    with Site(router=lambda *_: SLOW["/silent"]) as catalogue:
        job = start("catalogue", {"url": catalogue.url("")})[0].id
        until(lambda: catalogue.requests, 20)
        cancel(bench, job)
    assert bench.job(job).total is None


def test_a_load_ends_whose_ckan_does_not_answer(bench: Bench):
    with Site({}, router=lambda *_: Answer(b"{}", delay=600)) as ckan:
        params = {"ckan_url": ckan.url(""), "resource_id": "a"}
        job = start("push", params, secrets={"api_key": TOKEN})[0].id
        until(lambda: ckan.requests, 20)
        cancel(bench, job)


def test_an_import_is_not_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Numpy, and with it all that needs it, cannot be imported a second time in the same process."""
    signalled = "import signal\nsignal.raise_signal(signal.SIGUSR2)\ncomplete = True\n"
    (tmp_path / "signalled_module.py").write_text(signalled, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    cancellation = Cancellation()
    before = signal.signal(leases.CANCEL_SIGNAL, leases.end_work)
    try:
        with cancellation.active():
            cancellation.cancel()
            assert import_module("signalled_module").complete
            with pytest.raises(Cancelled):
                signal.raise_signal(leases.CANCEL_SIGNAL)
            signal.raise_signal(leases.CANCEL_SIGNAL)  # once: what is cleaned up then is left alone
    finally:
        signal.signal(leases.CANCEL_SIGNAL, before)


@pytest.mark.parametrize("how", ["sleep", "loop", "stubborn"])
def test_a_child_process_ends_whatever_it_does(bench: Bench, how: str):
    job = bench.start("spinning", how=how, n=2)
    bench.until_told(job, "start", 2)
    assert work_left(bench)
    cancel(bench, job)
    until(lambda: not work_left(bench), SOON)
    assert not bench.redis.hget("datafab:1:counts", "attempts spin died")


def test_an_analysis_ends(bench: Bench, tmp_path: Path):
    table = b"id;nom;montant;jour\n" + b"1;Saint-Denis;12,5;2024-02-29\n" * 3_000_000
    with Site({"/large.csv": Answer(table)}) as large:
        job = collecting(tmp_path, large.url("/large.csv"), then=["analyse"])
        until(lambda: "run" in bench.ledger.row_states(job).values() and bench.job(job).stage == "analyse", 60)
        cancel(bench, job)
    assert not (tmp_path / "analysis").exists()
    until(lambda: not work_left(bench), SOON)


def test_a_job_past_its_deadline_ends_like_a_cancelled_one(bench: Bench, site: Site, tmp_path: Path):
    before = site.hits["/drip"]
    job = collecting(tmp_path, site.url("/drip"))
    until(lambda: site.hits["/drip"] > before, 20)
    bench.redis.zadd("datafab:1:deadlines", {job: 0})
    ended = bench.end(job)
    assert ended.error is not None
    assert (ended.status, ended.error.type) == (JobStatus.FAILED, "deadline")
    until(lambda: not working(job), SOON)
    assert files(tmp_path) == ["resource"]


def test_what_a_killed_worker_has_left_is_swept_and_nothing_else(bench: Bench):
    job = bench.start("spinning", how="sleep")
    bench.until_told(job, "start")
    mine, foreign = bench.cluster.folder / "datafab-demo-x", bench.cluster.folder / "pymp-of-another"
    for folder in (mine, foreign):
        folder.mkdir(exist_ok=True)
    assert not [path for path in bench.cluster.folder.glob("pymp-*") if path != foreign]
    (left,) = work_left(bench)
    bench.cluster.parts["cpu"].kill()
    jobs().end(job, JobStatus.CANCELLED)
    before = live_folders(bench)
    bench.mend()
    until(lambda: not Path(left).exists(), 15)
    assert before & live_folders(bench)  # those of io and control
    assert mine.exists()
    assert foreign.exists()


def live_folders(bench: Bench) -> set[Path]:
    return set(bench.cluster.folder.glob("datafab-work-*"))


def work_left(bench: Bench) -> list[str]:
    """Return the work folders of the cluster with something in them."""
    found = []
    for folder, _, names in os.walk(bench.cluster.folder):
        found += [f"{folder}/{name}" for name in names if "datafab-work-" in folder and not name.startswith(".")]
    return found
