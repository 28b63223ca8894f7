"""An index in SQLite with FTS5, for one host: any number of threads and processes read while one writes.

The columns and formats of a document stand in the full-text table with a mark before, between and after them, so that
``format:date`` is a phrase, mark, date, mark, and neither ``date_naissance`` nor two neighbours make it true by chance.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from datafab.clients.index.interface import Outcome, Put
from datafab.domain.document import Document, Results, document_id
from datafab.errors import FlowError, Retriable

#: Seconds to wait for another writer.
BUSY = 30.0
#: Documents on a page, documents before it, terms of a query and words of a term: more are not looked at.
MAX_PAGE, MAX_OFFSET, MAX_TERMS, MAX_WORDS = 1000, 10**9, 50, 50
#: For the private use of whoever; the tokenizer takes it for a letter.
_MARK = "\ue000"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, version INTEGER NOT NULL, body TEXT NOT NULL
);
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(
    title, dataset, header, formats, tokenize = "unicode61 remove_diacritics 2"
);
PRAGMA user_version = 1;
"""
_UPSERT = """
INSERT INTO documents (id, version, body) VALUES (?1, ?2, ?3)
ON CONFLICT (id) DO UPDATE SET version = ?2, body = ?3 WHERE version <= ?2
RETURNING number
"""
_FIELDS = {"format": "formats", "column": "header", "dataset": "dataset", "title": "title"}
_TERM = re.compile(r'(?:(\w+):)?(?:"([^"]*)"?|([^\s"]+))')
_WORD = re.compile(r"[^\W_]+")


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
        with self._use() as connection, _transaction(connection):
            return [_put(connection, document) for document in documents]

    def get(self, source: str) -> Document | None:
        """Return a source's document."""
        with self._use() as connection:
            row = connection.execute("SELECT body FROM documents WHERE id = ?", (document_id(source),)).fetchone()
        return Document.model_validate_json(row[0]) if row else None

    def delete(self, source: str) -> bool:
        """Forget a source's document; False if there was none."""
        with self._use() as connection, _transaction(connection):
            row = connection.execute(
                "DELETE FROM documents WHERE id = ? RETURNING number", (document_id(source),)
            ).fetchone()
            if row:
                connection.execute("DELETE FROM words WHERE rowid = ?", row)
        return row is not None

    def count(self) -> int:
        """Return how many documents there are."""
        with self._use() as connection:
            count: int = connection.execute("SELECT count(*) FROM documents").fetchone()[0]
        return count

    def search(self, query: str, limit: int = 20, offset: int = 0) -> Results:
        """Find documents that have all that a query asks for, the best match first.

        Args:
            query: words, ``"several words"``, ``format:siret``, ``column:"code postal"``, ``dataset:...``,
                ``title:...``; accents and case do not matter. Empty or ``*``: everything, the newest first.
            limit: documents to return at most.
            offset: documents to leave out first.
        """
        everything = query.strip() in {"", "*"}
        match = _match(query)
        if not everything and not match:
            return Results(total=0)
        page = (min(max(0, limit), MAX_PAGE), min(max(0, offset), MAX_OFFSET))
        with self._use() as connection:
            if everything:
                total = connection.execute("SELECT count(*) FROM documents").fetchone()
                rows = connection.execute(
                    "SELECT body FROM documents ORDER BY version DESC, id LIMIT ? OFFSET ?", page
                ).fetchall()
            else:
                total = connection.execute("SELECT count(*) FROM words WHERE words MATCH ?", (match,)).fetchone()
                rows = connection.execute(
                    "SELECT body FROM words JOIN documents ON number = words.rowid WHERE words MATCH ?"
                    " ORDER BY bm25(words, 4, 2, 2, 1), version DESC, id LIMIT ? OFFSET ?",
                    (match, *page),
                ).fetchall()
        return Results(total=total[0], hits=tuple(Document.model_validate_json(body) for (body,) in rows))

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
    _write_ahead(connection)
    connection.execute("PRAGMA synchronous = NORMAL")
    if connection.execute("PRAGMA user_version").fetchone() == (0,):
        connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
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


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        yield


def _put(connection: sqlite3.Connection, document: Document) -> Outcome:
    body = document.model_dump_json(exclude_none=True)
    row = connection.execute(_UPSERT, (document_id(document.source), document.version, body)).fetchone()
    if row is None:
        return Outcome.STALE
    connection.execute("DELETE FROM words WHERE rowid = ?", row)
    words = (document.title, document.dataset_title or "", _marked(document.header), _marked(document.formats))
    connection.execute(
        "INSERT INTO words (rowid, title, dataset, header, formats) VALUES (?, ?, ?, ?, ?)",
        (*row, *(unicodedata.normalize("NFC", text) for text in words)),
    )
    return Outcome.OK


def _marked(parts: Sequence[str]) -> str:
    return f" {_MARK} ".join(["", *(part.replace(_MARK, " ") for part in parts), ""])


def _match(query: str) -> str:
    """Translate a query for FTS5: only letters and digits of it arrive there, each word within quotes."""
    phrases = []
    for field, quoted, plain in _TERM.findall(unicodedata.normalize("NFC", query))[:MAX_TERMS]:
        known = _FIELDS.get(field.lower())
        text = quoted or plain
        words = _WORD.findall(text if known or not field else f"{field} {text}")[:MAX_WORDS]
        if not words:
            continue
        exact = known == "formats"
        phrase = " ".join([_MARK, *words, _MARK] if exact else words)
        phrases.append(f'{known} : "{phrase}"' if known else f'"{phrase}"')
    return " AND ".join(phrases)
