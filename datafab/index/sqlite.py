"""An index in SQLite with FTS5, for one host: any number of threads and processes read while one writes."""

from __future__ import annotations

import os
import sqlite3
import time
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from datafab.core.document import Count, Document, Results, document_id
from datafab.errors import FlowError, Retriable
from datafab.index.highlight import highlights
from datafab.index.interface import MAX_FACET, Put
from datafab.index.query import Facet, Sort, page
from datafab.index.sqlite_query import Selection, select
from datafab.index.sqlite_tables import FORMATS_APART, forget, prepare, put, transaction

#: Seconds to wait for another writer.
BUSY = 30.0
#: No document has a later one.
MAX_VERSION = 2**63 - 1
#: Documents that are counted together.
CHUNK = 10_000
_FACETS = {
    Facet.FORMAT: "documents.formats",
    Facet.ORGANISATION: "documents.organisation",
    Facet.DOMAIN: "domain",
    Facet.STATUS: "status",
}


class SqliteIndex:
    """An index in a file. Safe for threads and forks; opened when it is first used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        #: connections that nobody uses just now, with the process that opened them
        self._idle: deque[tuple[int, sqlite3.Connection]] = deque()
        #: those of a parent process: they must not be used here, nor closed
        self._foreign: list[sqlite3.Connection] = []

    def ping(self) -> None:
        """Raise Retriable or FlowError when the index cannot be used."""
        with self._use() as connection:
            connection.execute("SELECT 1 FROM documents LIMIT 1")

    def close(self) -> None:
        """Close what is open; a later use opens it anew."""
        while (connection := self._take()) is not None:
            connection.close()

    def put_many(self, documents: Iterable[Document]) -> list[Put]:
        """Put documents, all or none; return what became of each. An older version never replaces a newer one.

        Raises:
            Retriable: the index is locked, full or away.
        """
        with self._use() as connection, transaction(connection):
            return [put(connection, document) for document in documents]

    def get(self, source: str) -> Document | None:
        """Return a source's document."""
        with self._use() as connection:
            row = connection.execute(
                "SELECT body FROM documents JOIN bodies USING (number) WHERE id = ?", (document_id(source),)
            ).fetchone()
        return Document.model_validate_json(row[0]) if row else None

    def delete(self, source: str, *, version: int | None = None) -> bool:
        """Forget a source's document, unless that is of a later version than this; False: nothing was forgotten."""
        with self._use() as connection, transaction(connection):
            row = connection.execute(
                "DELETE FROM documents WHERE id = ? AND version <= ? RETURNING number",
                (document_id(source), MAX_VERSION if version is None else version),
            ).fetchone()
            if row:
                forget(connection, row[0])
        return row is not None

    def documents(self) -> Iterator[Document]:
        """Yield every document, in no order."""
        last, page = 0, "SELECT number, body FROM bodies WHERE number > ? ORDER BY number LIMIT 500"
        while True:
            with self._use() as connection:
                rows = connection.execute(page, (last,)).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield from (Document.model_validate_json(body) for _, body in rows)

    def count(self) -> int:
        """Return how many documents there are."""
        with self._use() as connection:
            count: int = connection.execute("SELECT count(*) FROM documents").fetchone()[0]
        return count

    def refresh(self) -> None:
        """Let searches see what was put: they do."""

    def search(
        self,
        query: str,
        limit: int = 20,
        offset: int = 0,
        *,
        sort: Sort = Sort.RELEVANCE,
        facets: Collection[Facet] = (),
    ) -> Results:
        """Find documents."""
        from datafab.index.query_parser import parse  # noqa: PLC0415 - lark costs a tenth of a second

        asked, (limit, offset) = parse(query), page(limit, offset)
        selection = select(asked)
        with self._use() as connection, transaction(connection, "DEFERRED"):
            (total,) = connection.execute(f"SELECT count(*) {selection.count}", selection.values).fetchone()
            hits = _hits(connection, selection, sort, (limit, offset)) if limit and total else ()
            counts = _counts(connection, selection, facets)
        return Results(total=total, hits=hits, highlights=highlights(asked, hits), facets=counts)

    @contextmanager
    def _use(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection to one thread and translate what goes wrong; after an error it is not used again."""
        connection: sqlite3.Connection | None = None
        try:
            connection = self._take() or _open(self._path)
            yield connection
        except (sqlite3.DatabaseError, OSError) as error:
            if connection is not None:
                connection.close()
            raise self._failure(error) from error
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        self._idle.append((os.getpid(), connection))

    def _take(self) -> sqlite3.Connection | None:
        while self._idle:
            try:
                pid, connection = self._idle.pop()
            except IndexError:  # another thread was quicker
                return None
            if pid == os.getpid():
                return connection
            self._foreign.append(connection)
        return None

    def _failure(self, error: sqlite3.DatabaseError | OSError) -> Retriable | FlowError:
        if isinstance(error, sqlite3.OperationalError | OSError):
            msg = f"the index {self._path} cannot be used now: {error}"
            return Retriable(msg, code="index", field="DATAFAB_INDEX_URL")
        msg = f"the index {self._path} is damaged or no index ({error}): move it away and rebuild it"
        return FlowError(msg, code="index", field="DATAFAB_INDEX_URL")


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Lent from thread to thread, never used by two at once.
    connection = sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)
    try:
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Let readers read while one writes. SQLite does not wait by itself when two processes ask for this at once."""
    until = time.monotonic() + BUSY
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            return


def _hits(
    connection: sqlite3.Connection, selection: Selection, sort: Sort, on_page: tuple[int, int]
) -> tuple[Document, ...]:
    found = connection.execute(
        f"SELECT number {selection.documents} ORDER BY {selection.order(sort)} LIMIT ? OFFSET ?",
        (*selection.values, *on_page),
    ).fetchall()
    bodies = (connection.execute("SELECT body FROM bodies WHERE number = ?", number).fetchone()[0] for number in found)
    return tuple(Document.model_validate_json(body) for body in bodies)


def _counts(
    connection: sqlite3.Connection, selection: Selection, facets: Collection[Facet]
) -> dict[str, tuple[Count, ...]]:
    """Count all documents in one pass: SQLite would look for them once a facet, and sort each time."""
    if not facets:
        return {}
    found: list[Counter[str | None]] = [Counter() for _ in facets]
    columns = ", ".join(_FACETS[facet] for facet in facets)
    cursor = connection.execute(f"SELECT {columns} {selection.documents}", selection.values)
    while rows := cursor.fetchmany(CHUNK):
        for counter, values in zip(found, zip(*rows, strict=True), strict=True):
            counter.update(values)
    return {facet.value: _most(facet, counter) for facet, counter in zip(facets, found, strict=True)}


def _most(facet: Facet, counter: Counter[str | None]) -> tuple[Count, ...]:
    counts: Counter[str] = Counter()
    for value, count in counter.items():
        if value is not None:
            for one in value.split(FORMATS_APART) if facet is Facet.FORMAT else (value,):
                counts[one] += count
    most = sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:MAX_FACET]
    return tuple(Count(value=value, count=count) for value, count in most)
