"""Endpoints that serve anything but tables: they are collected, and what `analyse` makes of them is counted apart."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import openpyxl
import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from datafab.cli.main import main
from datafab.core.item import Status
from datafab.core.job import Job, JobStatus
from datafab.core.services import Services
from datafab.index.access import IndexAccess
from tests.servers.celery import Cluster
from tests.servers.http import Answer, Site
from tests.servers.redis import RedisServer
from tests.workers.conftest import Bench
from tests.workers.toys import app
from webhook import create_app
from workers.app import jobs, use


def _shapefile() -> bytes:
    """Return an archive as portals publish it: no member of it is a table that `analyse` reads."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for suffix in ("shp", "shx", "prj"):
            archive.writestr(f"zones.{suffix}", b"\x00\x00\x27\x0a" + bytes(100))
    return buffer.getvalue()


def _workbook() -> bytes:
    book = openpyxl.Workbook()
    assert book.active is not None
    for number in range(50):
        book.active.append([number, "x"])
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


TABLES = {"/a.csv": Answer(b"siret;commune\n73282932000074;Lyon\n"), "/b.csv": Answer(b"a,b\n1,2\n3,4\n")}
OTHERS = {
    "/zones.kml": Answer(b'<?xml version="1.0"?><kml><Document/></kml>', content_type="application/xml"),
    "/zones.gml": Answer(b'<?xml version="1.0"?><gml:Coverage xmlns:gml="g"/>', content_type="application/gml+xml"),
    "/zones.zip": Answer(_shapefile(), content_type="application/zip"),
    "/plan.pdf": Answer(b"%PDF-1.4\n%\xe2\xe3\n", content_type="application/pdf"),
    "/plan.png": Answer(b"\x89PNG\r\n\x1a\n" + bytes(range(256)), content_type="image/png"),
}
DAMAGED = {
    "/half.xlsx": Answer(_workbook()[:1500], content_type="application/octet-stream"),
    "/ragged.csv": Answer(b"a;b\n1;2\n1;2;3\n" + b"4;5\n" * 50),
}
OWN = """
[[flow]]
name = "tables"
source = "endpoints"
stages = ["collect", "analyse"]
"""
GONE = {"/gone.csv": Answer(b"", status=404)}


@pytest.fixture(scope="module")
def open_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A cluster that may fetch from this host."""
    folder = tmp_path_factory.mktemp("kinds")
    with RedisServer(folder / "redis") as server:
        (folder / "datafab.toml").write_text(OWN)
        own = {"DATAFAB_ALLOW_PRIVATE_HOSTS": "127.0.0.1", "DATAFAB_CONFIG": str(folder / "datafab.toml")}
        bench = Bench(Cluster(server.url, folder, **own), server)
        use(bench.settings)
        try:
            for name in ("io", "cpu", "control", "beat"):
                bench.cluster.start(name)
            bench.cluster.ready(app, "io", "cpu", "control")
            yield bench
        finally:
            bench.cluster.stop()


class Collected:
    """A collection of what a site serves."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench = bench
        self.folder = folder

    def run(self, answers: dict[str, Answer], **params: object) -> Job:
        with Site(answers) as site:
            lines = [f",{site.url(path)}\n" for path in answers]
            (self.folder / "endpoint.csv").write_text("endpoint,endpoint-url\n" + "".join(lines))
            file = str(self.folder / "endpoint.csv")
            return self.bench.run("collect", 60, endpoints=file, collection=str(self.folder), **params)


@pytest.fixture
def collected(open_bench: Bench, tmp_path: Path) -> Collected:
    use(open_bench.settings)
    return Collected(open_bench, tmp_path)


def sums(job: Job) -> tuple[int, int, int, int]:
    assert job.counts is not None
    return job.counts.ok, job.counts.unchanged, job.counts.skipped, job.counts.failed


def stages(job: Job) -> dict[str, tuple[int, int, int, int | None]]:
    return {one.stage: (one.ok, one.skipped, one.failed, one.passed) for one in job.progress}


def test_endpoints_are_collected_whatever_they_serve(collected: Collected):
    job = collected.run(TABLES | OTHERS)
    assert (job.status, job.asked, sums(job)) == (JobStatus.SUCCEEDED, "collect", (7, 0, 0, 0))
    assert stages(job) == {"collect": (7, 0, 0, None), "analyse": (2, 5, 0, None), "index": (7, 0, 0, None)}
    assert jobs().failures(job.id) == {}
    warnings = [line["event"] for line in jobs().logs(job.id) if line["level"] == "warning"]
    assert sorted(warning.partition(":")[0] for warning in warnings) == sorted(path[1:] for path in OTHERS)


def test_a_damaged_table_is_listed_with_its_reason_and_an_endpoint_that_is_gone_fails(collected: Collected):
    job = collected.run(TABLES | OTHERS | DAMAGED | GONE)
    assert sums(job) == (9, 0, 0, 1)
    assert stages(job) == {"collect": (9, 0, 1, None), "analyse": (2, 5, 2, 1), "index": (10, 0, 0, None)}
    failures = jobs().failures(job.id).values()
    assert {(error.type, error.stage) for error in failures} == {
        ("http_404", None),
        ("corrupt_archive", "analyse"),
        ("ragged", "analyse"),
    }


def test_what_the_index_tells_of_each(collected: Collected):
    job = collected.run(TABLES | OTHERS | DAMAGED | GONE)
    assert job.counts
    services = Services(collected.bench.settings)
    try:
        found = services.get(IndexAccess).reading.search("", 100).hits
    finally:
        services.close()
    known = {hit.title: (hit.status, hit.error.type if hit.error else None) for hit in found}
    assert known["a.csv"] == (Status.OK, None)
    assert known["zones.kml"] == (Status.FAILED, "not_tabular")
    assert known["ragged.csv"] == (Status.FAILED, "ragged")
    assert known["gone.csv"] == (Status.FAILED, "http_404")


def test_a_second_run_of_the_day_says_the_same(collected: Collected):
    first = collected.run(OTHERS | GONE)
    assert sums(first) == (5, 0, 0, 1)
    again = collected.bench.run("collect", 60, **first.params)
    assert sums(again) == (0, 5, 0, 1)
    assert stages(again)["analyse"] == (0, 5, 0, 1)


def test_a_flow_that_asks_for_tables_fails_what_is_none(collected: Collected, monkeypatch: pytest.MonkeyPatch):
    """The stages of a flow are what its jobs ask for; those of its ``then`` follow."""
    monkeypatch.setattr("datafab.flows.registry._override", (collected.bench.cluster.folder / "datafab.toml",))
    job = collected.run({"/zones.kml": OTHERS["/zones.kml"]}, then=[])
    assert sums(job) == (1, 0, 0, 0)
    again = collected.bench.run("tables", 60, **job.params)
    assert (again.asked, sums(again)) == ("analyse", (0, 0, 0, 1))
    (error,) = jobs().failures(again.id).values()
    assert (error.type, error.stage) == ("not_tabular", None)


def test_every_face_tells_the_same(collected: Collected):
    job = collected.run(TABLES | OTHERS | DAMAGED | GONE)
    web = create_app(collected.bench.settings)
    http = web.test_client()
    try:
        told = http.get(f"/api/jobs/{job.id}").get_json()
        assert {name: told["counts"][name] for name in ("ok", "unchanged", "skipped", "failed")} == {
            "ok": 9, "unchanged": 0, "skipped": 0, "failed": 1,
        }  # fmt: skip
        assert told["progress"] == job.dump()["progress"]
        assert len(told["failures"]) == 3
        metrics = text_string_to_metric_families(http.get("/metrics").text)
        items = {
            (sample.labels["stage"], sample.labels["status"])
            for family in metrics
            for sample in family.samples
            if sample.name == "datafab_items_total"
        }
        assert {("collect", "ok"), ("collect", "failed"), ("analyse", "skipped"), ("analyse", "failed")} <= items
    finally:
        web.extensions["datafab"].services.close()
    listed = CliRunner().invoke(main, ["jobs", "list", "--limit", "1"], catch_exceptions=False).output
    assert "10/10, 1 failed" in listed
    shown = CliRunner().invoke(main, ["jobs", "show", job.id], catch_exceptions=False).output
    assert "10/10, 1 failed" in shown
    assert "refused by analyse" in shown


def test_a_stage_that_breaks_fails_what_it_follows(collected: Collected):
    """Only a refusal of the content is no failure: what the host cannot do is one, whatever was asked for."""
    job = collected.run(TABLES, then=["analyse", "faulty"], fault="bug")
    assert sums(job) == (0, 0, 0, 2)
    assert stages(job) == {"collect": (2, 0, 0, None), "analyse": (2, 0, 0, None), "faulty": (0, 0, 2, None)}
