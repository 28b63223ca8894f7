"""The tables of an index in SQLite, and what of a document stands in which.

What a search looks at stands in ``words``, folded (``searchable.py``), with a mark between the names of columns
and of formats, so that no phrase goes from one to the next. What it counts and sorts by stands in ``documents``,
apart from the bodies, so that a search reads little.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datafab.core.document import Document, document_id
from datafab.errors import FlowError
from datafab.index.interface import Outcome
from datafab.index.query_values import milliseconds
from datafab.index.searchable import Searchable
from datafab.index.sqlite_query import ALL, MARK, token

#: Of what stands below; a file of version 1 is brought here when it is opened.
SCHEMA = 2
_TABLES = (
    """
CREATE TABLE documents (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, version INTEGER NOT NULL, title_key TEXT, organisation TEXT,
    domain TEXT, status TEXT, formats TEXT, total_lines INTEGER, nb_columns INTEGER, filesize INTEGER, modified INTEGER
)""",
    "CREATE INDEX newest ON documents (version DESC, id)",
    "CREATE TABLE bodies (number INTEGER PRIMARY KEY, body TEXT NOT NULL)",
    """
CREATE VIRTUAL TABLE words USING fts5(
    title, dataset, organisation, "column", formats, exact, tokenize = "unicode61 remove_diacritics 0"
)""",
)
_UPSERT = """
INSERT INTO documents
    (id, version, title_key, organisation, domain, status, formats, total_lines, nb_columns, filesize, modified)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
    version = excluded.version, title_key = excluded.title_key, organisation = excluded.organisation,
    domain = excluded.domain, status = excluded.status, formats = excluded.formats,
    total_lines = excluded.total_lines, nb_columns = excluded.nb_columns, filesize = excluded.filesize,
    modified = excluded.modified
WHERE version <= excluded.version
RETURNING number
"""
_APART = f" {MARK} "
#: What stands between the formats of a document, to be counted.
FORMATS_APART = "\n"


@contextmanager
def transaction(connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """Do several statements or none."""
    connection.execute(f"BEGIN {kind}")
    with connection:
        yield


def _schema(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables where there are none, and fill them from those of version 1 where they are: all in one step."""
    if _schema(connection) == SCHEMA:
        return
    with transaction(connection):
        version = _schema(connection)  # another process may have been quicker
        if version > SCHEMA:
            msg = f"the index {path} was made by a newer datafab: update this one, or give another DATAFAB_INDEX_URL"
            raise FlowError(msg, code="index", field="DATAFAB_INDEX_URL")
        if version == 1:
            connection.execute("ALTER TABLE documents RENAME TO before")
            connection.execute("DROP TABLE words")
        if version < SCHEMA:
            for statement in _TABLES:
                connection.execute(statement)
        if version == 1:
            for (body,) in connection.execute("SELECT body FROM before ORDER BY number"):
                put(connection, Document.model_validate_json(body))
            connection.execute("DROP TABLE before")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")


def put(connection: sqlite3.Connection, document: Document) -> Outcome:
    """Put a document, unless a newer one stands there."""
    seen = Searchable.of(document)
    facts = (
        *(seen.title_key, document.organisation, document.domain, document.status.value),
        FORMATS_APART.join(dict.fromkeys(document.formats)) or None,
        *(document.total_lines, document.nb_columns, document.filesize),
        document.modified and milliseconds(document.modified),
    )
    row = connection.execute(_UPSERT, (document_id(document.source), document.version, *facts)).fetchone()
    if row is None:
        return Outcome.STALE
    (number,) = row
    forget(connection, number)
    body = document.model_dump_json(exclude_none=True)
    connection.execute("INSERT INTO bodies (number, body) VALUES (?, ?)", (number, body))
    exact = [ALL, *(token(field, value) for field, values in seen.exact.items() for value in values)]
    texts = ((seen.title,), seen.dataset, (seen.organisation,), seen.column, seen.formats)
    connection.execute(
        'INSERT INTO words (rowid, title, dataset, organisation, "column", formats, exact)'
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (number, *(_APART.join(parts) for parts in texts), " ".join(exact)),
    )
    return Outcome.OK


def forget(connection: sqlite3.Connection, number: int) -> None:
    """Remove what stands beside a row of ``documents``."""
    connection.execute("DELETE FROM bodies WHERE number = ?", (number,))
    connection.execute("DELETE FROM words WHERE rowid = ?", (number,))
