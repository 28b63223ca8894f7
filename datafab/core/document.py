"""The index's document of one source, made from an item and its analysis, and search results. Pure.

The field names are those of the Elasticsearch mapping, so that all indexes share one form.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from pydantic import Field

from datafab.core.item import Item, ItemError, Status, Value
from datafab.urls import url_parts, without_credentials

#: The version of analyses: csv-detective's, and the revision of our code around it.
#: After a change every resource is analysed anew.
VERSION = "csv-detective-0.13.0-4"
#: The longest id that all indexes accept, in bytes; a longer source is hashed.
MAX_ID_BYTES = 512
#: The number of columns that a document lists; further ones are only counted.
MAX_COLUMNS = 2000
#: The number of characters that are kept of a column's name.
MAX_NAME_CHARS = 500


class Column(Value):
    """A column of a table, as analysed."""

    name: str
    #: from 0
    position: int
    format: str | None = None
    python_type: str | None = None
    #: 0 to 1.5
    score: float | None = None
    date_format: str | None = None


class Document(Value):
    """The index's document of one source."""

    source: str
    #: Unix time in milliseconds at which the content was found; an older document never replaces a newer one
    version: int
    status: Status
    title: str
    error: ItemError | None = None
    resource_url: str | None = None
    #: host of the URL
    domain: str | None = None
    dataset_id: str | None = None
    dataset_title: str | None = None
    #: its publisher
    organisation: str | None = None
    #: when the file was modified, according to its catalogue or server; UTC
    modified: datetime | None = None
    sha256: str | None = None
    mime: str | None = None
    #: bytes
    filesize: int | None = None
    analyzer_version: str | None = None
    encoding: str | None = None
    separator: str | None = None
    engine: str | None = None
    compression: str | None = None
    sampled: bool | None = None
    #: rows below the header
    total_lines: int | None = None
    nb_columns: int | None = None
    header_row_idx: int | None = None
    header: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    cols: tuple[Column, ...] = ()


class Highlight(Value):
    """The places of a query's words in one text of a document."""

    #: ``title``, ``dataset``, ``organisation``; of a column ``column`` (its name), ``format`` or ``type``
    field: str
    #: of the column
    position: int | None = None
    #: characters, from and to (not included)
    spans: tuple[tuple[int, int], ...]


class Count(Value):
    """The number of results that have a value."""

    value: str
    count: int


class Results(Value):
    """A page of search results, and their number."""

    total: int
    hits: tuple[Document, ...] = ()
    #: by source; only documents that were found by words
    highlights: dict[str, tuple[Highlight, ...]] = Field(default_factory=dict)
    #: by facet, the most frequent values of all results first; only the facets that were asked for
    facets: dict[str, tuple[Count, ...]] = Field(default_factory=dict)


def analysis_name(sha256: str, sheet: str | None = None) -> str:
    """Return the name of a resource's analysis in its store: that of a chosen sheet has a name of its own."""
    chosen = f".sheet-{hashlib.sha256(sheet.encode(errors='surrogatepass')).hexdigest()[:16]}" if sheet else ""
    return f"analysis/{sha256}/{VERSION}{chosen}.json"


def document_id(source: str) -> str:
    """Return the id of a source's document: the source, or its hash if that is too long."""
    encoded = source.encode(errors="surrogatepass")
    return source if len(encoded) <= MAX_ID_BYTES else f"sha256:{hashlib.sha256(encoded).hexdigest()}"


def filename(item: Item) -> str:
    """Return the file's name for people: its own, else the last part of its URL, else its source."""
    if item.filename:
        return item.filename
    parts = url_parts(item.url)
    return unquote(PurePosixPath(parts.path).name) or parts.hostname or item.source


def document(item: Item, analysis: Mapping[str, Any] | None, version: int) -> Document:
    """Return the document of an item.

    Args:
        item: at the end of its flow.
        analysis: its analysis, if there is one.
        version: Unix time in milliseconds at which the content was found.
    """
    item = item.effective()
    known = dict(analysis or {})
    cols = _columns(known)
    dataset = item.dataset
    facts = ("encoding", "separator", "engine", "compression", "sampled", "total_lines", "header_row_idx")
    return Document(
        source=item.source,
        version=version,
        # Whether it has changed since the last look concerns the job, not the file.
        status=Status.OK if item.status is Status.UNCHANGED else item.status,
        title=_title(item),
        error=item.error,
        resource_url=item.url and without_credentials(item.url),
        domain=url_parts(item.url).hostname,
        dataset_id=dataset.id if dataset else None,
        dataset_title=dataset.title if dataset else None,
        organisation=dataset.organisation if dataset else None,
        modified=_modified(item),
        sha256=item.sha256,
        mime=item.media_type,
        filesize=item.size,
        analyzer_version=known.get("analyser"),
        nb_columns=len(known["header"]) if "header" in known else None,
        header=tuple(column.name for column in cols),
        formats=tuple(sorted({column.format for column in cols if column.format})),
        cols=cols,
        **{name: known.get(name) for name in facts},
    )


def _title(item: Item) -> str:
    """Return the file's title, not its dataset's: a dataset may have many files."""
    title = item.catalogue.title if item.catalogue else None
    if title is None and item.dataset and not (item.catalogue and item.catalogue.part):
        title = item.dataset.title
    return title or filename(item)


def _modified(item: Item) -> datetime | None:
    facts = item.catalogue
    if facts is None:
        return None
    if facts.dated:
        return facts.dated.astimezone(UTC)
    try:
        return parsedate_to_datetime(facts.modified).astimezone(UTC) if facts.modified else None
    except (ValueError, OverflowError):  # not every server sends a date
        return None


def _columns(analysis: Mapping[str, Any]) -> tuple[Column, ...]:
    found = analysis.get("columns", {})
    wanted = ("format", "python_type", "score", "date_format")
    return tuple(
        Column(name=name[:MAX_NAME_CHARS], position=position, **{key: found.get(name, {}).get(key) for key in wanted})
        for position, name in enumerate(analysis.get("header", [])[:MAX_COLUMNS])
    )
