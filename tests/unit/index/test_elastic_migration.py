"""Migrate a real Elasticsearch index behind the same aliases, while others read and write."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from datafab.core.document import Document
from datafab.errors import FlowError, Retriable
from datafab.index import PutOutcome
from datafab.index.elastic_migration import migrate

MANY = 2500


def doc(number: int, version: int = 1, title: str = "avant") -> Document:
    return Document(source=f"file:{number:04}", version=version, status="ok", title=title)


def silent(done: int, total: int) -> None:
    pass


@pytest.fixture
def index(elastic_index):
    elastic_index.put_many([doc(number) for number in range(MANY)])
    elastic_index.refresh()
    return elastic_index


def test_an_index_that_is_up_to_date_is_left_alone(index):
    assert migrate(index, silent).new == f"{index.name}-v1-000001"
    assert list(index.aliases()) == [f"{index.name}-v1-000001"]


def test_there_is_nothing_to_migrate_yet(elastic_index):
    assert migrate(elastic_index, silent).new == f"{elastic_index.name}-v1-000001"


def test_whoever_reads_and_writes_during_a_migration_notices_nothing(index):
    over, began = Event(), Event()
    old, new = f"{index.name}-v1-000001", f"{index.name}-v1-000002"

    def write() -> int:
        """Put ever newer versions of a hundred documents, until the migration is over."""
        version = 1
        while not over.is_set():
            version += 1
            for _ in range(100):
                put = index.put_many([doc(number, version, "pendant") for number in range(100)])
                if all(became in set(PutOutcome) for became in put):
                    break  # else: refused for a moment, and tried again, as a stage is
                assert all(isinstance(became, Retriable | PutOutcome) for became in put)
            began.set()
        return version

    def read() -> set[int]:
        seen = set()
        while not over.is_set():
            seen.add(index.search("avant OR pendant").total)
        return seen

    with ThreadPoolExecutor(2) as pool:
        written, seen = pool.submit(write), pool.submit(read)
        assert began.wait(30)
        try:
            done = migrate(index, silent, force=True)
        finally:
            over.set()
        assert seen.result(30) == {MANY}
        last = written.result(30)
    assert (done.old, done.new) == (old, new)
    assert done.copied + done.known == MANY
    index.refresh()
    assert index.aliases()[new] == {index.name, index.write_alias}
    assert index.count() == MANY
    assert {index.get(f"file:{number:04}").version for number in range(100)} == {last}
    assert index.get("file:2000").version == 1
    index.client.indices.delete(index=old)


def test_a_migration_that_was_broken_off_goes_on_and_brings_nothing_back(index):
    def broken(done: int, total: int) -> None:
        assert total == MANY
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        migrate(index, broken, force=True)
    old, new = f"{index.name}-v1-000001", f"{index.name}-v1-000002"
    assert index.aliases() == {old: {index.name}, new: {index.write_alias}}
    assert index.search("avant").total == MANY
    assert index.put_many([doc(7, 5, "pendant"), doc(9999, 5, "pendant")]) == ["ok", "ok"]
    copied, waiting, old_one = (doc(number).source for number in (0, MANY - 1, MANY - 2))
    assert index.delete(copied)
    assert index.delete(waiting)
    assert index.delete(old_one, version=1)
    assert not index.delete("file:0007", version=4)  # it is of a later one
    assert not index.delete("file:nowhere")
    told: list[tuple[int, int]] = []
    done = migrate(index, lambda *args: told.append(args))
    assert (done.old, done.new) == (old, new)
    assert done.known >= 1000
    assert told[-1] == (MANY, MANY)
    index.refresh()
    assert index.count() == MANY - 3 + 1
    assert index.get(copied) is index.get(waiting) is index.get(old_one) is None
    assert index.get("file:0007").version == 5
    assert index.put_many([doc(0, 2**42)]) == ["ok"]
    index.client.indices.delete(index=old)


@pytest.mark.parametrize(
    ("odd", "told"),
    [
        ({"filesize": 2**70}, "does not take file:odd: .* out of range"),
        ({"foreign": 1}, "file:odd is not a document of"),
    ],
)
def test_a_document_that_cannot_be_copied_leaves_the_old_index_in_place(elastic_index, odd, told):
    client, name, old = elastic_index.client, elastic_index.name, f"{elastic_index.name}-v0-000001"
    client.indices.create(index=old, aliases={name: {}, elastic_index.write_alias: {}}, mappings={"dynamic": False})
    document = {"source": "file:odd", "version": 1, "status": "ok", "title": "x"} | odd
    client.index(index=old, id="file:odd", document=document, version=1, version_type="external")
    with pytest.raises(FlowError, match=told):
        migrate(elastic_index, silent)
    assert client.count(index=name)["count"] == 1
    assert elastic_index.aliases()[old] == {name}
    assert elastic_index.put_many([doc(1)]) == ["ok"]


def test_an_index_of_an_older_datafab_is_read_but_not_written(index):
    meta = {"schema_version": 0}
    index.client.indices.put_mapping(index=index.name, meta=meta)
    index.close()
    index._ensured = False
    with pytest.raises(FlowError, match="datafab index migrate"):
        index.put_many([doc(1, 2)])
    assert index.search("avant").total == MANY
    assert migrate(index, silent).copied == MANY
    assert index.put_many([doc(1, 2)]) == ["ok"]
    index.client.indices.delete(index=f"{index.name}-v1-000001")
