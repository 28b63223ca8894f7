from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from datafab.core.document import VERSION, Column, Document, analysis_name, document, document_id, filename
from datafab.core.item import Batch, CatalogueFacts, Dataset, Item, ItemError, Status
from datafab.core.lease import Lease
from datafab.core.memory_jobs import MemoryJobs
from datafab.core.runner import Attempt, run_stage
from datafab.core.services import Services
from datafab.errors import FlowError, Retriable, SettingError, Wait
from datafab.index import PutOutcome, open_index
from datafab.index.access import IndexAccess
from datafab.index.stages import STAGES
from datafab.settings import load
from datafab.store.store import Store

(STAGE,) = STAGES
SHA = "a" * 64
ANALYSIS = {
    "v": 1,
    "status": "ok",
    "analyser": VERSION,
    "encoding": "cp1252",
    "separator": ";",
    "header_row_idx": 0,
    "header": ["Siret", "Département", "vide"],
    "total_lines": 42,
    "sampled": False,
    "columns": {
        "Siret": {"format": "siret", "python_type": "string", "score": 1.5},
        "Département": {"format": "departement", "python_type": "string", "score": 1.25},
        "vide": {"format": "string", "python_type": "string", "score": 1.0},
    },
}


@pytest.fixture
def index(tmp_path):
    index = open_index(f"sqlite:///{tmp_path}/below/index.db")
    yield index
    index.close()


def doc(source: str = "file:a", version: int = 1, title: str = "Titre", status=Status.OK, **facts) -> Document:
    return Document(source=source, version=version, status=status, title=title, **facts)


def sources(found) -> list[str]:
    return sorted(hit.source.removeprefix("file:") for hit in found.hits)


def test_the_same_document_twice_is_one(index):
    assert index.put_many([doc()]) == [PutOutcome.OK]
    assert index.put_many([doc(), doc("file:b")]) == [PutOutcome.OK, PutOutcome.OK]
    assert index.count() == 2
    assert index.search("titre").total == 2


def test_an_older_version_never_replaces_a_newer_one(index):
    index.put_many([doc(version=5, title="nouveau")])
    assert index.put_many([doc(version=4, title="ancien"), doc(version=5, title="pareil")]) == ["stale", "ok"]
    assert index.get("file:a").title == "pareil"
    assert index.search("ancien").total == index.search("nouveau").total == 0


def test_a_document_is_had_and_forgotten(index):
    kept = doc(header=("a",), cols=(Column(name="a", position=0, format="int", score=1.0),), total_lines=3)
    index.put_many([kept])
    assert index.get("file:a") == kept
    assert index.delete("file:a")
    assert not index.delete("file:a")
    assert (index.get("file:a"), index.count(), index.search("titre").total) == (None, 0, 0)


def test_all_documents_are_put_or_none(index):
    def broken():
        yield doc()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        index.put_many(broken())
    assert index.count() == 0


def test_a_source_may_be_longer_than_an_id(index):
    long = "file:https://example.fr/" + "é" * 300
    index.put_many([doc(long)])
    assert index.get(long).source == long
    assert document_id(long).startswith("sha256:")
    assert document_id("file:" + "x" * 507) == "file:" + "x" * 507


def test_what_was_put_is_there_for_the_next_process(tmp_path):
    url = f"sqlite:///{tmp_path}/index.db"
    with closing(open_index(url)) as before:
        before.put_many([doc()])
    with closing(open_index(url)) as index:
        index.ping()
        assert index.count() == 1
        index.close()
        assert index.count() == 1


@pytest.mark.parametrize(
    "url",
    [
        "ftp://localhost",
        "http://localhost/Big",
        "http://:9200/",
        "https://host:x/",
        "sqlite:///",
        "sqlite://index.db",
        "index.db",
        "",
    ],
)
def test_other_indexes_are_refused(url):
    with pytest.raises(SettingError, match="DATAFAB_INDEX_URL"):
        open_index(url)


def test_a_file_that_is_no_index_is_named(tmp_path):
    (tmp_path / "index.db").write_text("no database " * 1000)
    with pytest.raises(FlowError, match=r"index\.db is damaged or not an index"):
        open_index(f"sqlite:///{tmp_path}/index.db").ping()


def test_an_index_that_is_away_may_come_back(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Retriable, match="cannot be used now"):
        open_index(f"sqlite:///{tmp_path}/file/index.db").ping()


WRITER = """
import sys
from datafab.index import open_index
from datafab.core.document import Document
index = open_index(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for number in range(60):
    one = Document(source=f"file:{number}", version=number, status="ok", title=f"{sys.argv[2]} {number}")
    index.put_many([one, one.evolve(source=f"file:{sys.argv[2]}{number}")])
"""


def test_two_processes_write_at_once(index, tmp_path):
    url = f"sqlite:///{tmp_path}/below/index.db"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, url, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in ("un", "deux")
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    assert [writer.communicate(timeout=60) and writer.returncode for writer in writers] == [0, 0]
    assert index.count() == 180
    assert index.search("un").total + index.search("deux").total == 180


def test_threads_share_an_index(index):
    with ThreadPoolExecutor(8) as pool:
        put = [pool.submit(index.put_many, [doc(f"file:{number}")]) for number in range(80)]
        found = [pool.submit(index.search, "titre") for _ in range(40)]
    assert {outcome for each in put for outcome in each.result()} == {PutOutcome.OK}
    assert all(each.result().total <= 80 for each in found)
    assert index.count() == 80


def test_a_forked_child_has_connections_of_its_own(index):
    index.put_many([doc()])
    child = os.fork()
    if child == 0:
        index.put_many([doc("file:child")])
        index.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert index.count() == 2


def test_a_writer_waits_for_another(index, tmp_path):
    index.ping()
    other = sqlite3.connect(tmp_path / "below" / "index.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as pool:
        put = pool.submit(index.put_many, [doc()])
        time.sleep(0.3)
        assert not put.done()
        assert index.count() == 0
        other.execute("COMMIT")
        assert put.result(timeout=10) == [PutOutcome.OK]
    other.close()


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({"filename": "écoles.csv", "url": "https://example.fr/x"}, "écoles.csv"),
        ({"url": "https://example.fr/data/%C3%A9coles.csv?v=1"}, "écoles.csv"),
        ({"url": "https://example.fr/data/"}, "data"),
        ({"url": "https://example.fr"}, "example.fr"),
        ({}, "file:x"),
    ],
)
def test_a_file_is_called_by_its_name_or_address(facts, name):
    assert filename(Item(source="file:x", **facts)) == name


def test_a_document_tells_what_item_and_analysis_say():
    item = Item(
        source="datagouv:1",
        url="https://www.data.gouv.fr/r/siret.csv",
        sha256=SHA,
        size=1000,
        media_type="text/csv",
        dataset=Dataset(id="d1", title="Entreprises"),
    )
    assert document(item, ANALYSIS, 7).dump() == {
        "source": "datagouv:1",
        "version": 7,
        "status": "ok",
        "title": "Entreprises",
        "resource_url": "https://www.data.gouv.fr/r/siret.csv",
        "domain": "www.data.gouv.fr",
        "dataset_id": "d1",
        "dataset_title": "Entreprises",
        "sha256": SHA,
        "mime": "text/csv",
        "filesize": 1000,
        "analyzer_version": VERSION,
        "encoding": "cp1252",
        "separator": ";",
        "sampled": False,
        "total_lines": 42,
        "nb_columns": 3,
        "header_row_idx": 0,
        "header": ["Siret", "Département", "vide"],
        "formats": ["departement", "siret", "string"],
        "cols": [
            {"name": "Siret", "position": 0, "format": "siret", "python_type": "string", "score": 1.5},
            {"name": "Département", "position": 1, "format": "departement", "python_type": "string", "score": 1.25},
            {"name": "vide", "position": 2, "format": "string", "python_type": "string", "score": 1.0},
        ],
    }


@pytest.mark.parametrize(
    ("facts", "modified"),
    [
        ({}, None),
        ({"dated": "2026-01-31T10:00:00+02:00", "modified": "Sat, 21 Nov 2026 08:00:00 GMT"}, "2026-01-31T08:00:00Z"),
        ({"modified": "Sat, 21 Nov 2026 08:00:00 GMT"}, "2026-11-21T08:00:00Z"),
        ({"modified": "yesterday"}, None),
        ({"modified": "Sat, 21 Nov 99999 08:00:00 GMT"}, None),
    ],
)
def test_a_document_tells_what_its_catalogue_says(facts, modified):
    item = Item(
        source="datagouv:1",
        dataset=Dataset(organisation="Ville de Sète"),
        catalogue=CatalogueFacts.model_validate(facts),
    )
    told = document(item, None, 7).dump()
    assert (told["organisation"], told.get("modified")) == ("Ville de Sète", modified)


def test_a_document_of_a_wide_table_stays_small():
    wide = {"header": [f"c{n}" for n in range(9000)], "columns": {"c0": {"format": "int"}}}
    found = document(Item(source="file:x"), wide, 1)
    assert (found.nb_columns, len(found.cols), found.formats) == (9000, 2000, ("int",))


@pytest.fixture
def services(tmp_path):
    settings_ = load(home=tmp_path, index_url=f"sqlite:///{tmp_path}/index.db")
    services = Services(settings_, jobs=MemoryJobs())
    yield services
    services.close()


def run(services: Services, *items: Item, created: float = 1.0) -> list[Item]:
    return run_stage(STAGE, Batch(job="j", flow="f", items=items), services, Attempt(Lease(job_created=created)))


def test_the_stage_indexes_what_came_of_each_item(services, tmp_path):
    Store(str(tmp_path)).write(analysis_name(SHA), json.dumps(ANALYSIS).encode())
    items = [
        Item(source="file:1", store=str(tmp_path), sha256=SHA, analysis="b" * 64, filename="a.csv"),
        Item(source="file:2", status=Status.FAILED, error=ItemError(type="html", message="is a web page")),
        Item(source="file:3", status=Status.UNCHANGED, store=str(tmp_path), sha256=SHA, analysis="b" * 64),
        Item(source="file:4", status=Status.SKIPPED),
        Item(source="file:5", store=str(tmp_path), sha256="c" * 64, analysis="d" * 64),
    ]
    assert run(services, *items) == items
    assert sources(services.get(IndexAccess).reading.search("")) == list("1235")
    assert sources(services.get(IndexAccess).reading.search("format:siret")) == list("13")
    # That it has not changed since the last look is the job's to say.
    assert [services.get(IndexAccess).reading.get(f"file:{number}").status for number in (1, 3)] == [
        Status.OK,
        Status.OK,
    ]
    assert sources(services.get(IndexAccess).reading.search("status:unchanged")) == []
    failed = services.get(IndexAccess).reading.get("file:2")
    assert (failed.status, failed.error.message, failed.version) == (Status.FAILED, "is a web page", 1000)


def test_an_item_without_news_leaves_its_document_alone(services):
    run(services, Item(source="file:1", filename="avant.csv"))
    run(services, Item(source="file:1", status=Status.UNCHANGED), created=2.0)
    assert services.get(IndexAccess).reading.get("file:1").title == "avant.csv"


def test_a_late_job_changes_nothing(services):
    run(services, Item(source="file:1", filename="nouveau.csv"), created=2.0)
    run(services, Item(source="file:1", filename="ancien.csv"), created=1.0)
    assert services.get(IndexAccess).reading.get("file:1").title == "nouveau.csv"


def test_all_items_wait_for_an_index_that_is_away(tmp_path):
    (tmp_path / "file").write_text("")
    away = Services(load(home=tmp_path, index_url=f"sqlite:///{tmp_path}/file/index.db"), jobs=MemoryJobs())
    with pytest.raises(Wait, match="cannot be used now"):
        run(away, Item(source="file:1"), Item(source="file:2"))
