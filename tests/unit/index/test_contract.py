"""The contract of all indexes, on SQLite and on a real Elasticsearch."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from datafab.core.document import MAX_COLUMNS, Column, Document, document_id
from datafab.core.item import ItemError
from datafab.index import PutOutcome, open_index


@pytest.fixture(params=["sqlite", "elastic"])
def index(request, tmp_path):
    if request.param == "elastic":
        yield request.getfixturevalue("elastic_index")
        return
    index = open_index(f"sqlite:///{tmp_path}/index.db")
    yield index
    index.close()


def doc(source: str = "file:a", version: int = 1, **facts) -> Document:
    return Document(**({"source": source, "version": version, "status": "ok", "title": "Titre"} | facts))


def sources(index, query: str) -> list[str]:
    index.refresh()
    return sorted(hit.source.removeprefix("file:") for hit in index.search(query).hits)


def test_an_index_that_was_never_written_is_empty(index):
    index.ping()
    assert (index.get("file:a"), index.count(), index.search("titre").total) == (None, 0, 0)
    assert not index.delete("file:a")
    assert index.put_many([]) == []
    assert list(index.documents()) == []


def test_what_is_put_twice_is_one_and_an_older_version_never_replaces_a_newer_one(index):
    assert index.put_many([doc(version=5), doc("file:b")]) == [PutOutcome.OK, PutOutcome.OK]
    assert index.put_many([doc(version=5, title="pareil"), doc(version=4, title="ancien")]) == ["ok", "stale"]
    index.refresh()
    assert index.count() == 2
    assert index.get("file:a").title == "pareil"
    assert sources(index, "ancien") == []
    assert index.put_many([doc(version=6, title="nouveau")]) == ["ok"]
    assert sources(index, "nouveau") == ["a"]


def test_one_source_twice_in_one_call_ends_as_the_newest(index):
    assert index.put_many([doc(version=2, title="deux"), doc(version=1, title="un"), doc(version=3)]) == [
        "ok", "stale", "ok",
    ]  # fmt: skip
    assert index.get("file:a").version == 3


def test_what_became_of_many_is_told_in_their_order(index):
    later = {3, 240, 449}
    index.put_many([doc(f"file:{number}", version=2) for number in later])
    became = index.put_many([doc(f"file:{number}") for number in range(450)])
    assert {number for number, one in enumerate(became) if one is PutOutcome.STALE} == later
    assert became.count(PutOutcome.OK) == 447
    index.refresh()
    assert index.count() == 450


def test_a_document_is_had_and_forgotten(index):
    index.put_many([doc(), doc("file:b")])
    assert index.delete("file:a")
    assert not index.delete("file:a")
    assert index.get("file:a") is None
    assert sources(index, "titre") == ["b"]
    index.put_many([doc(version=9)])
    assert sources(index, "titre") == ["a", "b"]


def test_a_document_of_a_later_version_is_not_forgotten(index):
    assert not index.delete("file:a", version=9)  # and it makes nothing of its own
    index.put_many([doc(version=5), doc("file:b", version=5)])
    assert not index.delete("file:a", version=4)
    assert index.get("file:a").version == 5
    assert index.delete("file:a", version=5)
    assert index.delete("file:b", version=6)
    assert not index.delete("file:b", version=6)
    index.refresh()
    assert index.count() == 0
    index.put_many([doc(version=7)])
    assert sources(index, "titre") == ["a"]


AWKWARD = (
    "", " ", "\0", "a\0b", '"', "\\", "{}", "';--", "a.b.c", ".", "_id", "é", "e\u0301", "🦆", "عربي", "\u202eabc",
    "\ue000", "x" * 500, "\n\r\t", "$ref", "*", "naïve œuvre", "\ufeff", "\uffff",
)  # fmt: skip


def test_awkward_characters_come_back_as_they_were(index):
    columns = tuple(Column(name=name, position=n, format="siret", score=1.5) for n, name in enumerate(AWKWARD))
    documents = [
        doc(
            f"file:{name}{number}",
            title=name,
            header=AWKWARD,
            cols=columns,
            formats=(name or "x",),
            dataset_title=name,
            domain=name,
            mime=name,
            separator=name,
            error=ItemError(type=name or "x", message=name, field=name),
        )
        for number, name in enumerate(AWKWARD)
    ]
    assert index.put_many(documents) == [PutOutcome.OK] * len(documents)
    assert [index.get(one.source) for one in documents] == documents


def test_a_table_of_many_columns_is_one_document(index):
    names = tuple(f"colonne {n} " + "é" * 200 for n in range(MAX_COLUMNS))
    columns = tuple(
        Column(name=name, position=n, format="datetime_aware", python_type="datetime", score=1.25)
        for n, name in enumerate(names)
    )
    wide = doc(header=names, cols=columns, formats=("datetime_aware",), nb_columns=9000)
    assert index.put_many([wide, doc("file:b")]) == ["ok", "ok"]
    assert index.get("file:a") == wide
    assert sources(index, "colonne 1999") == ["a"]


def test_a_long_source_is_known_by_a_hash(index):
    long = "file:https://example.fr/" + "é" * 5000
    index.put_many([doc(long)])
    assert index.get(long).source == long
    assert document_id(long).startswith("sha256:")
    assert index.delete(long)


def test_more_than_one_request_of_documents(index):
    many = [doc(f"file:{n:04}", resource_url="https://example.fr/" + "x" * 1000) for n in range(1100)]
    assert index.put_many(iter(many)) == [PutOutcome.OK] * 1100
    index.refresh()
    assert index.count() == index.search("titre").total == 1100
    assert sorted(one.source for one in index.documents()) == [one.source for one in many]


def test_threads_share_an_index(index):
    with ThreadPoolExecutor(8) as pool:
        put = [pool.submit(index.put_many, [doc(f"file:{n}"), doc(f"file:x{n}")]) for n in range(20)]
        found = [pool.submit(index.search, "titre") for _ in range(10)]
    assert {outcome for each in put for outcome in each.result()} == {PutOutcome.OK}
    assert all(each.result().total <= 40 for each in found)
    index.refresh()
    assert index.count() == 40


def test_a_forked_child_has_connections_of_its_own(index):
    index.put_many([doc()])
    child = os.fork()
    if child == 0:
        try:
            index.put_many([doc("file:child")])
            index.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert index.get("file:child") is not None
    assert index.put_many([doc("file:parent")]) == ["ok"]


def test_it_is_opened_anew_after_it_was_closed(index):
    index.put_many([doc()])
    index.close()
    assert index.get("file:a") == doc()
