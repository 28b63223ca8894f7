"""The tables of an index in SQLite, and the parts of a document in each.

``words`` holds the folded texts that are searched (``searchable.py``), with a mark between the names of columns and of
formats, so that no phrase spans two of them. ``documents`` holds what results are counted and sorted by, separate from
``bodies``, so that a search reads little.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datafab.core.document import Document, document_id
from datafab.errors import FlowError
from datafab.index.interface import PutOutcome
from datafab.index.query_values import unix_milliseconds
from datafab.index.searchable import Searchable
from datafab.index.sqlite_query import EVERY_DOCUMENT, PRIVATE_MARK, value_token

#: Version of the tables below; a file of version 1 is upgraded when it is opened.
SCHEMA_VERSION = 2
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
_PHRASE_BREAK = f" {PRIVATE_MARK} "
#: Separator of the formats of a document, which are counted one by one.
FORMAT_SEPARATOR = "\n"


@contextmanager
def transaction(connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """Execute several statements atomically."""
    connection.execute(f"BEGIN {kind}")
    with connection:
        yield


def _schema_version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def prepare_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Create the tables if there are none, or upgrade those of version 1, in one transaction."""
    if _schema_version(connection) == SCHEMA_VERSION:
        return
    with transaction(connection):
        version = _schema_version(connection)  # another process may have done it meanwhile
        if version > SCHEMA_VERSION:
            msg = f"the index {path} is of a newer datafab: install that version, or set another DATAFAB_INDEX_URL"
            raise FlowError(msg, code="index", field="DATAFAB_INDEX_URL")
        if version == 1:
            connection.execute("ALTER TABLE documents RENAME TO before")
            connection.execute("DROP TABLE words")
        if version < SCHEMA_VERSION:
            for statement in _TABLES:
                connection.execute(statement)
        if version == 1:
            for (body,) in connection.execute("SELECT body FROM before ORDER BY number"):
                put_document(connection, Document.model_validate_json(body))
            connection.execute("DROP TABLE before")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def put_document(connection: sqlite3.Connection, document: Document) -> PutOutcome:
    """Put a document, unless the index has a newer version."""
    searchable = Searchable.of(document)
    facts = (
        *(searchable.title_key, document.organisation, document.domain, document.status.value),
        FORMAT_SEPARATOR.join(dict.fromkeys(document.formats)) or None,
        *(document.total_lines, document.nb_columns, document.filesize),
        document.modified and unix_milliseconds(document.modified),
    )
    row = connection.execute(_UPSERT, (document_id(document.source), document.version, *facts)).fetchone()
    if row is None:
        return PutOutcome.STALE
    (number,) = row
    delete_texts(connection, number)
    body = document.model_dump_json(exclude_none=True)
    connection.execute("INSERT INTO bodies (number, body) VALUES (?, ?)", (number, body))
    exact = [
        EVERY_DOCUMENT,
        *(value_token(field, value) for field, values in searchable.exact.items() for value in values),
    ]
    texts = ((searchable.title,), searchable.dataset, (searchable.organisation,), searchable.column, searchable.formats)
    connection.execute(
        'INSERT INTO words (rowid, title, dataset, organisation, "column", formats, exact)'
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (number, *(_PHRASE_BREAK.join(parts) for parts in texts), " ".join(exact)),
    )
    return PutOutcome.OK


def delete_texts(connection: sqlite3.Connection, number: int) -> None:
    """Delete the body and the words that belong to a row of ``documents``."""
    connection.execute("DELETE FROM bodies WHERE number = ?", (number,))
    connection.execute("DELETE FROM words WHERE rowid = ?", (number,))
