from __future__ import annotations

import sqlite3

import pytest

from datafab.core.document import Document
from datafab.errors import FlowError
from datafab.index import open_index
from tests.searches import TOWNS, SearchContract, sources


@pytest.fixture
def url(tmp_path) -> str:
    return f"sqlite:///{tmp_path}/index.db"


@pytest.fixture
def index(url):
    index = open_index(url)
    yield index
    index.close()


class TestSqlite(SearchContract):
    """An index in SQLite finds what the contract says."""


class TestElasticsearch(SearchContract):
    """A real Elasticsearch finds the same."""

    @pytest.fixture
    def index(self, elastic_index):
        return elastic_index

    @pytest.fixture
    def shown(self, elastic_index):
        return elastic_index.refresh


VERSION_1 = """
CREATE TABLE documents (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, version INTEGER NOT NULL, body TEXT NOT NULL
);
CREATE VIRTUAL TABLE words USING fts5(
    title, dataset, header, formats, tokenize = "unicode61 remove_diacritics 2"
);
PRAGMA user_version = 1;
"""


def test_an_index_of_version_1_is_brought_up_when_it_is_opened(url, index, tmp_path):
    with sqlite3.connect(tmp_path / "index.db") as before:
        before.executescript(VERSION_1)
        rows = [(town.source, town.version, town.model_dump_json(exclude_none=True)) for town in TOWNS]
        before.executemany("INSERT INTO documents (id, version, body) VALUES (?, ?, ?)", rows)
    before.close()
    assert sources(index.search("format:siret column:'code_postal'").hits) == ["1"]
    assert index.count() == len(TOWNS)
    assert index.get("file:3") == TOWNS[2]
    again = open_index(url)
    assert again.search("rows:>1000").total == 2
    again.close()


def test_a_move_to_the_present_version_that_breaks_off_changes_nothing(index, tmp_path):
    with sqlite3.connect(tmp_path / "index.db") as before:
        before.executescript(VERSION_1)
        before.execute("INSERT INTO documents (id, version, body) VALUES ('x', 1, '{}')")
    with pytest.raises(ValueError, match="source"):
        index.ping()
    assert before.execute("PRAGMA user_version").fetchone() == (1,)
    assert before.execute("SELECT count(*), body FROM documents").fetchone() == (1, "{}")
    before.close()


def test_an_index_of_a_newer_version_is_left_alone(index, tmp_path):
    with sqlite3.connect(tmp_path / "index.db") as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(FlowError, match="is of a newer datafab"):
        index.ping()


def test_what_is_put_again_leaves_nothing_of_before(index):
    index.put_many(TOWNS)
    index.put_many([Document(source="file:1", version=9, status="failed", title="neuf")])
    for gone in ("sante", "format:siret", "domain:data.sete.fr status:ok title:sante", "rows:10"):
        assert "1" not in sources(index.search(gone).hits)
    assert sources(index.search("neuf status:failed").hits) == ["1"]
    index.delete("file:1")
    assert index.search("neuf").total == 0
