"""An index in SQLite with FTS5, for a single host: any number of threads and processes can read while one writes."""

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
from datafab.index.highlight import find_highlights
from datafab.index.interface import MAX_FACET_VALUES, PutResult
from datafab.index.query import Facet, Sort, check_page
from datafab.index.sqlite_query import DocumentFilter, translate_query
from datafab.index.sqlite_tables import FORMAT_SEPARATOR, delete_texts, prepare_tables, put_document, transaction

#: Seconds to wait for another process that writes.
BUSY_TIMEOUT_SECONDS = 30.0
#: Maximum version of a document.
MAX_VERSION = 2**63 - 1
#: Number of rows that are counted at once.
FACET_BATCH_ROWS = 10_000
_FACET_COLUMNS = {
    Facet.FORMAT: "documents.formats",
    Facet.ORGANISATION: "documents.organisation",
    Facet.DOMAIN: "domain",
    Facet.STATUS: "status",
}


class SqliteIndex:
    """An index in a file. Safe for threads and forks; opened on first use."""

    def __init__(self, path: Path) -> None:
        self._path = path
        #: idle connections, with the id of the process that opened them
        self._idle: deque[tuple[int, sqlite3.Connection]] = deque()
        #: connections of a parent process, which must be neither used nor closed here
        self._foreign: list[sqlite3.Connection] = []

    def ping(self) -> None:
        """Raise Retriable or FlowError if the index cannot be used."""
        with self._connection() as connection:
            connection.execute("SELECT 1 FROM documents LIMIT 1")

    def close(self) -> None:
        """Close the idle connections; a later use opens new ones."""
        while (connection := self._take_idle()) is not None:
            connection.close()

    def put_many(self, documents: Iterable[Document]) -> list[PutResult]:
        """Put documents, all or none; return the result of each. An older version never replaces a newer one.

        Raises:
            Retriable: the file is locked, its disk is full, or it is unavailable.
        """
        with self._connection() as connection, transaction(connection):
            return [put_document(connection, document) for document in documents]

    def get(self, source: str) -> Document | None:
        """Return the document of a source."""
        with self._connection() as connection:
            row = connection.execute(
                "SELECT body FROM documents JOIN bodies USING (number) WHERE id = ?", (document_id(source),)
            ).fetchone()
        return Document.model_validate_json(row[0]) if row else None

    def delete(self, source: str, *, version: int | None = None) -> bool:
        """Delete the document of a source, unless it has a later version; return whether it was deleted."""
        with self._connection() as connection, transaction(connection):
            row = connection.execute(
                "DELETE FROM documents WHERE id = ? AND version <= ? RETURNING number",
                (document_id(source), MAX_VERSION if version is None else version),
            ).fetchone()
            if row:
                delete_texts(connection, row[0])
        return row is not None

    def documents(self) -> Iterator[Document]:
        """Yield all documents, in no particular order."""
        last, page = 0, "SELECT number, body FROM bodies WHERE number > ? ORDER BY number LIMIT 500"
        while True:
            with self._connection() as connection:
                rows = connection.execute(page, (last,)).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield from (Document.model_validate_json(body) for _, body in rows)

    def count(self) -> int:
        """Return the number of documents."""
        with self._connection() as connection:
            count: int = connection.execute("SELECT count(*) FROM documents").fetchone()[0]
        return count

    def refresh(self) -> None:
        """Do nothing, as searches always see all documents put so far."""

    def search(
        self,
        query: str,
        limit: int = 20,
        offset: int = 0,
        *,
        sort: Sort = Sort.RELEVANCE,
        facets: Collection[Facet] = (),
    ) -> Results:
        """Search documents."""
        from datafab.index.query_parser import parse_query  # noqa: PLC0415 - lark costs a tenth of a second

        parsed, (limit, offset) = parse_query(query), check_page(limit, offset)
        document_filter = translate_query(parsed)
        with self._connection() as connection, transaction(connection, "DEFERRED"):
            (total,) = connection.execute(f"SELECT count(*) {document_filter.count}", document_filter.values).fetchone()
            hits = _read_hits(connection, document_filter, sort, (limit, offset)) if limit and total else ()
            counts = _count_facets(connection, document_filter, facets)
        return Results(total=total, hits=hits, highlights=find_highlights(parsed, hits), facets=counts)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Provide a connection and translate its errors; after an error it is closed."""
        connection: sqlite3.Connection | None = None
        try:
            connection = self._take_idle() or _open(self._path)
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

    def _take_idle(self) -> sqlite3.Connection | None:
        while self._idle:
            try:
                pid, connection = self._idle.pop()
            except IndexError:  # another thread has taken it
                return None
            if pid == os.getpid():
                return connection
            self._foreign.append(connection)
        return None

    def _failure(self, error: sqlite3.DatabaseError | OSError) -> Retriable | FlowError:
        if isinstance(error, sqlite3.OperationalError | OSError):
            msg = f"the index {self._path} cannot be used now: {error}"
            return Retriable(msg, code="index", field="DATAFAB_INDEX_URL")
        msg = f"the index {self._path} is damaged or not an index ({error}): move it away and rebuild it"
        return FlowError(msg, code="index", field="DATAFAB_INDEX_URL")


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A connection is passed from thread to thread, but never used by two at once.
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        _enable_write_ahead_log(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        prepare_tables(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _enable_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Let readers read while one writes. SQLite itself does not wait if two processes set this mode at once."""
    until = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            return


def _read_hits(
    connection: sqlite3.Connection, document_filter: DocumentFilter, sort: Sort, page: tuple[int, int]
) -> tuple[Document, ...]:
    found = connection.execute(
        f"SELECT number {document_filter.documents} ORDER BY {document_filter.order(sort)} LIMIT ? OFFSET ?",
        (*document_filter.values, *page),
    ).fetchall()
    bodies = (connection.execute("SELECT body FROM bodies WHERE number = ?", number).fetchone()[0] for number in found)
    return tuple(Document.model_validate_json(body) for body in bodies)


def _count_facets(
    connection: sqlite3.Connection, document_filter: DocumentFilter, facets: Collection[Facet]
) -> dict[str, tuple[Count, ...]]:
    """Count the values of all facets in one pass; SQLite would search and sort once per facet."""
    if not facets:
        return {}
    found: list[Counter[str | None]] = [Counter() for _ in facets]
    columns = ", ".join(_FACET_COLUMNS[facet] for facet in facets)
    cursor = connection.execute(f"SELECT {columns} {document_filter.documents}", document_filter.values)
    while rows := cursor.fetchmany(FACET_BATCH_ROWS):
        for counter, values in zip(found, zip(*rows, strict=True), strict=True):
            counter.update(values)
    return {facet.value: _most_frequent(facet, counter) for facet, counter in zip(facets, found, strict=True)}


def _most_frequent(facet: Facet, counter: Counter[str | None]) -> tuple[Count, ...]:
    counts: Counter[str] = Counter()
    for value, count in counter.items():
        if value is not None:
            for one in value.split(FORMAT_SEPARATOR) if facet is Facet.FORMAT else (value,):
                counts[one] += count
    most = sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:MAX_FACET_VALUES]
    return tuple(Count(value=value, count=count) for value, count in most)
