"""An index that is filled from what is known without it."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from datafab.catalogue.source_state import Look, SourceState
from datafab.catalogue.sources import SourceRegistry
from datafab.collect.fetchlog import FetchLog, log_name
from datafab.core.document import Document, analysis_name
from datafab.core.item import ItemError
from datafab.core.job import Job
from datafab.core.memory_jobs import MemoryJobs
from datafab.core.services import Services
from datafab.errors import Fatal, Retriable
from datafab.index import PutOutcome, PutResult
from datafab.index.access import IndexAccess
from datafab.ops import rebuild
from datafab.settings import load
from datafab.store.store import Store

SHA = "a" * 64
ANALYSIS = json.dumps({"header": ["Siret"], "columns": {"Siret": {"format": "siret"}}}).encode()
NOON = datetime.fromisoformat("2026-11-20T12:00")


@pytest.fixture
def services(tmp_path):
    services = Services(load(home=tmp_path), jobs=MemoryJobs())
    yield services
    services.close()


def doc(source: str) -> Document:
    return Document(source=source, version=1, status="ok", title="Titre")


def put(services: Services, documents) -> rebuild.RebuildCounts:
    return rebuild.put(services.get(IndexAccess).reading, documents, lambda _: None)


def test_logs_and_analyses_of_a_store_make_documents(services, tmp_path):
    store = Store(str(tmp_path))
    store.write(
        analysis_name(SHA), json.dumps({"header": ["Siret"], "columns": {"Siret": {"format": "siret"}}}).encode()
    )
    url = "https://example.fr/données.csv"
    for day in (18, 19, 20):
        log = FetchLog(url=url, at=NOON.replace(day=day), status=200, resource=SHA if day > 18 else "b" * 64, size=day)
        store.write(log_name("e1", log.at), log.encoded(facts=True))
    gone = FetchLog(url="https://example.fr/absent", at=NOON, status=404, reason="http_404", message="absent")
    store.write(log_name("e2", NOON), gone.encoded(facts=True))
    store.write(log_name("e3", NOON), FetchLog(url="https://example.fr/x", at=NOON, exception="Timeout").encoded())
    store.write(log_name("e4", NOON), b"{cut sho")
    store.write(log_name("e5", NOON), FetchLog(url="https://example.fr/known", at=NOON, status=200).encoded())
    services.get(IndexAccess).reading.put_many([doc("endpoint:e5")])
    assert put(services, rebuild.from_logs(services, str(tmp_path))) == rebuild.RebuildCounts(ok=3)
    found = services.get(IndexAccess).reading.get("endpoint:e1")
    assert (found.title, found.status, found.formats, found.version) == ("données.csv", "ok", ("siret",), 1795176000000)
    assert services.get(IndexAccess).reading.get("endpoint:e2").error == ItemError(type="http_404", message="absent")
    assert services.get(IndexAccess).reading.get("endpoint:e3").error.type == "Timeout"
    assert services.get(IndexAccess).reading.get("endpoint:e5").title == "Titre"
    assert services.get(IndexAccess).reading.search("format:siret").total == 1
    assert put(services, rebuild.from_logs(services, str(tmp_path))) == rebuild.RebuildCounts()


class Known:
    """Jobs and sources, as Redis has them."""

    def __init__(self, *jobs: Job) -> None:
        self.jobs = list(jobs)

    def close(self) -> None:
        pass

    def newest(self, *, after: str | None, limit: int) -> list[Job]:
        ids = [job.id for job in self.jobs]
        first = 0 if after is None else ids.index(after) + 1
        return self.jobs[first : first + 1]

    def state(self, source: str) -> SourceState:
        return SourceState(sha256=SHA, media_type="text/csv") if source == "datagouv:1" else SourceState()

    def looks(self, source: str) -> list[Look]:
        error = None if source == "datagouv:1" else "http_404"
        return [] if source == "datagouv:3" else [Look(1.0, "failed" if error else "ok", "job-1", error)]

    def failures(self, job: str) -> dict[str, ItemError]:
        return {}


def job(number: int, flow: str, **params: object) -> Job:
    return Job(id=f"j{number}", flow=flow, params=params, status="succeeded", created=float(number), deadline=99.0)


def test_jobs_name_files_of_catalogues_and_collections(services, tmp_path):
    store = Store(services.settings.store)
    store.write(analysis_name(SHA), ANALYSIS)
    elsewhere = tmp_path / "collection"
    log = FetchLog(url="https://example.fr/a.csv", at=NOON, status=404, reason="http_404", message="absent")
    Store(str(elsewhere)).write(log_name("e1", NOON), log.encoded(facts=True))
    of = {"dataset": {"id": "d", "title": "Titre", "organisation": "o"}, "url": "https://example.fr/1"}
    known = Known(
        job(9, "source", source="datagouv:1", **of),
        job(8, "source", source="datagouv:1", **of | {"url": "https://example.fr/old"}),
        job(7, "source", source="datagouv:2", **of),
        job(6, "source", source="datagouv:3", **of),
        job(5, "collect", collection=str(elsewhere)),
        job(4, "collect", collection=str(elsewhere)),
        job(3, "analyse", file="a.csv"),
    )
    services.put(SourceRegistry, known)
    assert put(services, rebuild.from_jobs(services, known)) == rebuild.RebuildCounts(ok=3)
    found = services.get(IndexAccess).reading.get("datagouv:1")
    assert (found.version, found.resource_url, found.formats) == (9000, "https://example.fr/1", ("siret",))
    assert (found.title, found.organisation, found.mime) == ("Titre", "o", "text/csv")
    assert services.get(IndexAccess).reading.get("datagouv:2").error.type == "http_404"
    assert services.get(IndexAccess).reading.get("endpoint:e1").error.message == "absent"
    assert services.get(IndexAccess).reading.count() == 3


class Last(Known):
    """A source whose last look failed like this; its content is in the store."""

    def __init__(self, error: str, told: ItemError | None) -> None:
        super().__init__(job(9, "source", source="datagouv:1", url="https://example.fr/1.csv"))
        self.error, self.told = error, told

    def looks(self, source: str) -> list[Look]:
        return [Look(1.0, "failed", "job-1", self.error)]

    def failures(self, job: str) -> dict[str, ItemError]:
        return {} if self.told is None else {"datagouv:1": self.told}


@pytest.mark.parametrize(
    ("error", "told", "expected", "content"),
    [
        ("no_table", None, ("no_table", "1.csv: no rows"), SHA),
        ("connection_re", None, ("connection_re", "job job-1 has the reason"), None),
        ("timeout", ItemError(type="timeout", message="too long"), ("timeout", "too long"), None),
    ],
)
def test_what_failed_the_last_time_has_its_reason(services, error, told, expected, content):
    analysis = {"status": "failed", "error": {"type": "no_table", "message": "no rows"}}
    Store(services.settings.store).write(analysis_name(SHA), json.dumps(analysis).encode())
    known = services.put(SourceRegistry, Last(error, told))
    assert put(services, rebuild.from_jobs(services, known)) == rebuild.RebuildCounts(ok=1)
    found = services.get(IndexAccess).reading.get("datagouv:1")
    assert (found.status, (found.error.type, found.error.message), found.sha256) == ("failed", expected, content)


class Busy:
    """An index that is busy a few times, and refuses one document."""

    def __init__(self, busy: int) -> None:
        self.busy, self.had = busy, []

    def put_many(self, documents) -> list[PutResult]:
        found: list[PutResult] = []
        for one in documents:
            if one.source == "file:3":
                found.append(Fatal("out of range"))
            elif self.busy > 0:
                self.busy -= 1
                found.append(Retriable("full"))
            else:
                self.had.append(one.source)
                found.append(PutOutcome.OK)
        return found


def test_a_busy_index_is_waited_for_and_what_it_refuses_is_told(monkeypatch):
    slept = []
    monkeypatch.setattr(rebuild.time, "sleep", slept.append)
    index, told = Busy(3), []
    done = rebuild.put(index, [doc(f"file:{n}") for n in range(5)], told.append)
    assert done == rebuild.RebuildCounts(ok=4, refused=1, reason="out of range")
    assert sorted(index.had) == [f"file:{n}" for n in (0, 1, 2, 4)]
    assert slept == [2.0]
    assert told == [done]


def test_an_index_that_stays_away_ends_it(monkeypatch):
    monkeypatch.setattr(rebuild.time, "sleep", lambda _: None)
    with pytest.raises(Retriable, match="full"):
        rebuild.put(Busy(10**9), [doc("file:1")], lambda _: None)
