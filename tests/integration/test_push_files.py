"""Pushes of files with hidden sheets, rows that do not fit and a hash that was not saved, into the sandbox's CKAN."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datafab.push.bad_rows_file import read_bad_rows
from datafab.sandbox.ckan import Sandbox, ckan
from datafab.settings import load
from datafab.store.store import Store
from tests.integration.test_ckan import Ours, Push
from tests.servers import http
from tests.unit.analysis.test_workbook import sheets_xlsx


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with ckan() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def portal() -> Iterator[http.Site]:
    with http.Site({}) as portal:
        yield portal


class Bench:
    """A resource of the sandbox whose file is pushed in this process."""

    def __init__(self, sandbox: Sandbox, portal: http.Site, home: Path) -> None:
        self.site = Ours(sandbox)
        self.sandbox = sandbox
        self.portal = portal
        self.resource = sandbox.add(portal.url("/file"))
        self._push = Push(self.site, home)

    def __call__(self, content: bytes, **params: Any) -> Any:
        """Push this content; return the counts."""
        self.portal.answers["/file"] = http.Answer(content)
        counts, self.jobs = self._push(self.resource, **params)
        return counts

    @property
    def rows(self) -> list[dict[str, Any]]:
        found = self.site.result("datastore_search", resource_id=self.resource, sort="_id", limit=5000)["records"]
        return [{name: row[name] for name in row if name != "_id"} for row in found]

    @property
    def store(self) -> Store:
        return Store(load({}, home=self._push.home).store)

    @property
    def log(self) -> list[str]:
        return [line["event"] for line in self.jobs.logs()]

    @property
    def error(self) -> str:
        (error,) = self.jobs.failures().values()
        return error.message


@pytest.fixture
def bench(sandbox: Sandbox, portal: http.Site, tmp_path: Path) -> Bench:
    return Bench(sandbox, portal, tmp_path)


DATA = [{"a": 1, "b": 2}, {"a": 3, "b": 4}]


def test_a_hidden_sheet_is_not_published_unless_it_is_chosen(bench: Bench):
    book = sheets_xlsx(Lists="hidden")
    assert (bench(book).ok, bench.rows) == (1, DATA)
    assert "Sheet: 'Data'; not loaded: 'Lists' (hidden), 'Note'" in bench.log
    for more in ({"sheet": "lists"}, {"sheet": 1}):
        assert bench(book, ignore_hash=True, **more).ok == 1
        assert len(bench.rows) == 50
        assert "Sheet: 'Lists' (hidden); not loaded: 'Data', 'Note'" in bench.log
    assert bench(book, ignore_hash=True, sheet="Dat").failed == 1
    assert bench.error.endswith("has no sheet 'Dat': choose one of 'Lists', 'Data', 'Note'")


def test_the_field_sheet_of_a_resource_chooses_unless_the_job_does(bench: Bench):
    book = sheets_xlsx(Lists="hidden")
    bench.sandbox.resources[bench.resource]["sheet"] = "Lists"
    assert (bench(book).ok, len(bench.rows)) == (1, 50)
    assert (bench(book, ignore_hash=True, sheet="Data").ok, bench.rows) == (1, DATA)


OLD, NEW = b"a;b\n1;2\n3;4\n", b"a;b\n9;9\n"


def fail(bench: Bench, action: str) -> None:
    error = {
        "help": "http://ckan/help_show",
        "success": False,
        "error": {"message": "no", "__type": "Authorization Error"},
    }
    bench.sandbox.failures.append((action, 403, json.dumps(error)))


def test_the_old_file_is_loaded_again_if_the_hash_could_not_be_saved(bench: Bench):
    bench(OLD)
    fail(bench, "resource_patch")
    assert bench(NEW).failed == 1
    assert bench.rows == [{"a": 9, "b": 9}]
    assert bench(OLD).ok == 1, "CKAN still has its hash, but other rows stand"
    assert bench.rows == DATA
    assert bench(OLD).unchanged == 1


def test_a_hash_that_was_not_saved_stays_outdated_after_a_load_that_was_undone(bench: Bench):
    bench(OLD)
    fail(bench, "resource_patch")
    bench(NEW)
    fail(bench, "datastore_create")
    assert bench(b"c\n5\n").failed == 1
    assert bench.rows == [{"a": 9, "b": 9}]
    assert (bench(OLD).ok, bench.rows) == (1, DATA)


def test_a_hash_that_another_loader_saved_counts(bench: Bench):
    bench(OLD)
    fail(bench, "resource_patch")
    bench(NEW)
    bench.sandbox.resources[bench.resource]["hash"] = hashlib.md5(NEW, usedforsecurity=False).hexdigest()
    assert bench(NEW).unchanged == 1


MANY = "".join(f"{n},{n}\n" for n in range(300))
#: Three bad rows, at the beginning, beyond the lines in which the header is looked for and at the end.
BAD = f"a,b\n1,2,\n3,Lyon, Rhône,x\n{MANY * 5}5,6,7\n{MANY}8,9, ,\n10,,,11".encode()


def test_a_few_rows_that_are_too_long_are_left_out_and_kept(bench: Bench):
    assert bench(BAD).ok == 1, bench.error
    assert len(bench.rows) == 1802
    assert {"a": 8, "b": 9} in bench.rows
    lines = "line 3 (4 cells), line 1504 (3 cells), line 1806 (4 cells)"
    assert f"3 rows with more cells than the header (2) left out: {lines}" in bench.log
    (job,) = re.findall("GET /api/jobs/(.*)/bad-rows", "\n".join(bench.log))
    assert list(csv.reader(io.StringIO(read_bad_rows(bench.store, job).decode()))) == [
        ["line", "reason", "row"],
        ["3", "4 cells, the header has 2", "3,Lyon, Rhône,x"],
        ["1504", "3 cells, the header has 2", "5,6,7"],
        ["1806", "4 cells, the header has 2", "10,,,11"],
    ]


def test_rows_that_are_too_long_are_refused_if_they_are_many_or_the_job_says_so(bench: Bench):
    assert bench(BAD, bad_rows="refuse").failed == 1
    message = "line 3 has 4 cells, the header 2: quote cells that hold the separator (3 such rows in all)"
    assert bench.error.endswith(message)
    assert bench(BAD, bad_rows="quarantine").ok == 1
    assert bench(b"a,b\n1,2\n3,4,5\n").failed == 1
    assert bench.error.endswith("line 3 has 3 cells, the header 2: quote cells that hold the separator")


def test_rows_that_are_left_out_have_no_say_in_types_and_none_in_chosen_types(bench: Bench):
    assert bench(BAD).ok == 1
    info = [{"id": "a", "type": "text", "info": {"type_override": "text"}}, {"id": "b", "type": "text"}]
    bench.site.result("datastore_create", resource_id=bench.resource, force=True, fields=info, records=[])
    assert bench(BAD, ignore_hash=True).ok == 1
    assert bench.rows[0] == {"a": "1", "b": 2}
    assert len(bench.rows) == 1802


def test_a_nul_in_a_text_is_refused_with_its_line_and_column(bench: Bench):
    assert bench(b"a,le nom\n1,x\n2,y\0z\n").failed == 1
    assert "line 3, column 'le nom': the cell holds a NUL character" in bench.error
