from __future__ import annotations

import gzip
import hashlib
import json

import pytest

from datafab.analysis import stages as analyse
from datafab.core.document import VERSION, analysis_name
from datafab.core.item import Batch, Item, Status
from datafab.core.lease import Lease
from datafab.core.memory_jobs import MemoryJobs
from datafab.core.runner import Attempt, run_stage
from datafab.core.services import Services
from datafab.index import stages as index
from datafab.index.access import IndexAccess
from datafab.settings import load
from datafab.store.store import Store

(STAGE,) = analyse.STAGES
TABLE = b"siret;commune\n73282932000074;Lyon\n35600000000048;Privas\n"


@pytest.fixture
def services(tmp_path):
    services = Services(load(home=tmp_path, index_url=f"sqlite:///{tmp_path}/index.db"), jobs=MemoryJobs())
    yield services
    services.close()


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path / "racine"))


def put(store: Store, content: bytes, source: str = "file:x", **facts) -> Item:
    with store.new_resource() as resource:
        resource.write(content)
        sha256, size = resource.commit()
    return Item(source=source, store=store.root, sha256=sha256, size=size, **facts)


def run(services: Services, *items: Item, stage=STAGE) -> list[Item]:
    return run_stage(stage, Batch(job="j", flow="f", items=items), services, Attempt(Lease(job_created=1.0)))


@pytest.mark.parametrize("status", [Status.OK, Status.UNCHANGED])
def test_a_table_is_analysed_and_the_finding_kept(services, store, status):
    item = put(store, TABLE, status=status)
    (after,) = run(services, item)
    kept = store.read(f"analysis/{item.sha256}/{VERSION}.json")
    assert after == item.evolve(analysis=hashlib.sha256(kept).hexdigest())
    found = json.loads(kept)
    assert (found["status"], found["total_lines"], found["formats"]["siret"]) == ("ok", 2, ["siret"])


def test_a_content_is_analysed_once(services, store):
    item = put(store, TABLE)
    (first,) = run(services, item)
    # Without the resource only what is kept can answer.
    store.path(item.sha256).unlink()
    assert run(services, item.evolve(source="file:y")) == [first.evolve(source="file:y")]


def test_what_is_no_table_fails_with_its_reason_and_is_not_tried_again(services, store):
    item = put(store, b"<html><body>404</body></html>", filename="données.csv")
    (first,) = run(services, item)
    assert (first.status, first.error.type) == (Status.FAILED, "html")
    assert first.error.message.startswith("données.csv: is a web page")
    kept = json.loads(store.read(analysis_name(item.sha256)))
    assert (kept["v"], kept["status"], kept["error"]["type"]) == (1, "failed", "html")
    store.path(item.sha256).unlink()
    (again,) = run(services, item.evolve(filename="autre.csv"))
    assert again.error.message.startswith("autre.csv: is a web page")


def test_what_is_too_large_today_is_looked_at_again(services, store):
    item = put(store, gzip.compress(TABLE * 50))
    narrow = Services(load(max_bytes=100, home=services.settings.home), jobs=MemoryJobs())
    (first,) = run(narrow, item)
    narrow.close()
    assert (first.error.type, store.read(analysis_name(item.sha256))) == ("too_large", None)
    (again,) = run(services, item)
    assert again.status is Status.OK


def test_the_line_at_fault_is_named(services, store):
    (after,) = run(services, put(store, b"a;b\n1;2\n1;2;3\n"))
    assert (after.error.type, after.error.field) == ("ragged", "line 3")


def test_a_missing_resource_fails_the_item_and_leaves_no_finding(services, store):
    item = put(store, TABLE)
    store.path(item.sha256).unlink()
    (after,) = run(services, item)
    assert (after.status, after.error.type) == (Status.FAILED, "missing_resource")
    assert store.read(analysis_name(item.sha256)) is None


@pytest.mark.parametrize("status", list(Status))
def test_an_item_without_a_resource_passes(services, status):
    item = Item(source="file:x", status=status)
    assert run(services, item) == [item]


def test_one_bad_file_stops_no_other(services, store):
    items = [put(store, TABLE, "file:1"), put(store, b"", "file:2"), put(store, TABLE + b"1;2\n", "file:3")]
    assert [item.status for item in run(services, *items)] == [Status.OK, Status.FAILED, Status.OK]


def test_what_was_analysed_is_found(services, store):
    items = [put(store, TABLE, "file:1", filename="entreprises.csv"), put(store, b"{}", "file:2", filename="x.csv")]
    run(services, *run(services, *items), stage=index.STAGES[0])
    (hit,) = services.get(IndexAccess).reading.search("format:siret column:commune entreprises").hits
    assert (hit.source, hit.total_lines, hit.status) == ("file:1", 2, Status.OK)
    assert services.get(IndexAccess).reading.get("file:2").error.type == "not_tabular"
