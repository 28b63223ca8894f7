"""The rows of an ``endpoint.csv``, and the checks of each before anything is fetched."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from io import StringIO
from typing import Any

from datafab.core.item import CollectFacts, Item, Status
from datafab.core.long_cells import allow_long_cells
from datafab.errors import DatafabError, Fatal, FlowError
from datafab.urls import usable

#: Columns that must be present; ``plugin``, ``parameters`` and ``end-date`` may be missing.
REQUIRED_COLUMNS = ("endpoint", "endpoint-url")
#: Ways to fetch an endpoint besides a plain GET.
PLUGINS = frozenset({"arcgis", "sparql", "wfs"})
#: Levels of nesting in the column ``parameters``; messages with more than two hundred cannot be read.
MAX_NESTING = 50


class FetchStatus(StrEnum):
    """The status of an endpoint, in digital-land's words."""

    OK = "OK"
    EXPIRED = "EXPIRED"
    HASH_FAILURE = "HASH_FAILURE"
    ALREADY_FETCHED = "ALREADY_FETCHED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Row:
    """One endpoint of the file.

    Attributes:
        line: its line in the file, the first being 1.
        url: as written, blanks included: its hash is the key of the endpoint.
        facts: its other columns.
        warning: a mistake in them that does not prevent a fetch.
    """

    line: int
    url: str
    facts: CollectFacts
    warning: str | None = None


def endpoint_hash(url: str) -> str:
    """Return the key of an endpoint: the sha256 of its URL in UTF-8."""
    return hashlib.sha256(url.encode()).hexdigest()


def read_rows(data: bytes, name: str) -> Iterator[Row]:
    """Read an ``endpoint.csv``: UTF-8, with or without a byte order mark, or cp1252; commas or semicolons.

    Rows without an ``endpoint-url`` (files added by hand) are left out, unknown columns ignored.

    Args:
        data: the file.
        name: its name, for messages.

    Raises:
        FlowError: a required column is missing, or the file is not CSV.
    """
    text = _decoded(data, name)
    head = text.partition("\n")[0]
    allow_long_cells()
    reader = csv.DictReader(StringIO(text, newline=""), delimiter=";" if ";" in head and "," not in head else ",")
    try:
        _check_columns(reader.fieldnames or (), name)
        for row in reader:
            if row["endpoint-url"]:
                yield _row(row, reader.line_num)
    except csv.Error as error:
        msg = f"{name}, line {reader.line_num + 1}: {error}"
        raise FlowError(msg, code="bad_csv", field="endpoints") from error


def _decoded(data: bytes, name: str) -> str:
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    msg = f"{name} is not text in UTF-8 or cp1252: save it as CSV in UTF-8"
    raise FlowError(msg, code="bad_csv", field="endpoints")


def _check_columns(present: Sequence[str], name: str) -> None:
    for column in REQUIRED_COLUMNS:
        if column not in present:
            # Without the columns it has: it may be another file than intended, with private content.
            msg = f"{name} has no column {column!r}; its first line must name {' and '.join(REQUIRED_COLUMNS)}"
            raise FlowError(msg, code="missing_column", field=column)


def _row(row: dict[str, str | None], line: int) -> Row:
    url = row["endpoint-url"] or ""
    parameters, warning = _parameters(row.get("parameters"), line)
    facts = CollectFacts(
        endpoint=row["endpoint"] or endpoint_hash(url),
        plugin=row.get("plugin") or None,
        parameters=parameters,
        end_date=row.get("end-date") or None,
    )
    return Row(line, url, facts, warning)


def _parameters(text: str | None, line: int) -> tuple[dict[str, Any] | None, str | None]:
    """Return the column ``parameters``, or None and a warning where it cannot be read."""
    if not text:
        return None, None
    too_deep = f"line {line}: the column 'parameters' is nested too deeply and is ignored"
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate cannot be sent in a message
    except ValueError as error:
        return None, f"line {line}: the column 'parameters' is not JSON and is ignored: {error}"
    except RecursionError:
        return None, too_deep
    if _is_too_deep(value):
        return None, too_deep
    if not isinstance(value, dict):
        return None, f"line {line}: the column 'parameters' is not a JSON object and is ignored"
    return value, None


def _is_too_deep(value: Any) -> bool:
    """Tell whether a value is nested too deeply to be sent in a message."""
    level = [value]
    for _ in range(MAX_NESTING):
        inner = [list(one.values()) if isinstance(one, dict) else one for one in level]
        level = [each for one in inner if isinstance(one, list) for each in one]
    return bool(level)


def is_expired(facts: CollectFacts, now: datetime) -> bool:
    """Tell whether an endpoint has ended at this time (UTC, without a zone): it ends at midnight of ``end-date``.

    A malformed date does not end it: ``endpoint_error`` fails that endpoint, after the other checks.
    """
    if not facts.end_date:
        return False
    try:
        return datetime.strptime(facts.end_date, "%Y-%m-%d") < now  # noqa: DTZ007 - UTC like now
    except ValueError:
        return False


def status_by_row(facts: CollectFacts, url: str, now: datetime) -> FetchStatus | None:
    """Return the status that follows from a row alone: EXPIRED before HASH_FAILURE; None when it is to be fetched."""
    if is_expired(facts, now):
        return FetchStatus.EXPIRED
    if facts.endpoint != endpoint_hash(url):
        return FetchStatus.HASH_FAILURE
    return None


def endpoint_error(facts: CollectFacts, url: str) -> Fatal | None:
    """Return why an endpoint fails without a request: its ``end-date``, plugin or URL cannot be used."""
    if facts.end_date:
        try:
            datetime.strptime(facts.end_date, "%Y-%m-%d")  # noqa: DTZ007 - only its form is checked
        except ValueError:
            msg = f"end-date {facts.end_date!r} is not a date such as 2026-12-31"
            return Fatal(msg, code="bad_end_date", field="end-date")
    if facts.plugin and facts.plugin not in PLUGINS:
        msg = f"unknown plugin {facts.plugin!r}; there are {', '.join(sorted(PLUGINS))}, or none for a plain GET"
        return Fatal(msg, code="unknown_plugin", field="plugin")
    if not usable(url):
        # Without the parser's message, which may contain a password.
        return Fatal("the endpoint-url is not a usable address", code="invalid_url", field="endpoint-url")
    return None


def with_fetch_status(
    item: Item,
    fetch: FetchStatus,
    error: DatafabError | None = None,
    status: Status | None = None,
    http_status: int | None = None,
) -> Item:
    """Return an item with the status of its fetch, and the status and error of the item."""
    facts = item.collect and item.collect.evolve(status=fetch.value, http_status=http_status)
    if error is not None:
        return item.evolve(collect=facts).failed(error, status or Status.FAILED)
    return item.evolve(collect=facts, status=status or (Status.OK if fetch is FetchStatus.OK else Status.FAILED))
