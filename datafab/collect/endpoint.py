"""The rows of an ``endpoint.csv``, and what is status_by_row about each before anything is fetched."""

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
from datafab.errors import DatafabError, Fatal, FlowError
from datafab.urls import usable

#: Columns without which nothing can be collected; ``plugin``, ``parameters`` and ``end-date`` may be missing.
REQUIRED = ("endpoint", "endpoint-url")
#: Ways to fetch an endpoint besides a plain GET.
PLUGINS = frozenset({"arcgis", "sparql", "wfs"})
#: Levels of the column ``parameters``; messages are not read beyond two hundred.
DEEPEST = 50


class FetchStatus(StrEnum):
    """What became of an endpoint, in digital-land's words."""

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
        url: as written, blanks included: its hash is the endpoint.
        facts: its other columns.
        warning: what was wrong with them, if it did not matter.
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
        name: what it is called, for messages.

    Raises:
        FlowError: a required column is missing, or this is no CSV.
    """
    text = _decoded(data, name)
    head = text.partition("\n")[0]
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


def _check_columns(there: Sequence[str], name: str) -> None:
    for column in REQUIRED:
        if column not in there:
            # Not what is there: this may be another file than was meant, with what nobody is to see.
            msg = f"{name} has no column {column!r}; its first line must name {' and '.join(REQUIRED)}"
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
    """Return the column ``parameters``, or None and a warning: what cannot be read is as if it were not there."""
    if not text:
        return None, None
    deep = f"line {line}: the column 'parameters' is nested too deeply and is ignored"
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair could not travel on
    except ValueError as error:
        return None, f"line {line}: the column 'parameters' is not JSON and is ignored: {error}"
    except RecursionError:
        return None, deep
    if _deep(value):
        return None, deep
    if not isinstance(value, dict):
        return None, f"line {line}: the column 'parameters' is not a JSON object and is ignored"
    return value, None


def _deep(value: Any) -> bool:
    """Tell whether a value is nested too deeply to travel in a message."""
    level = [value]
    for _ in range(DEEPEST):
        inner = [list(one.values()) if isinstance(one, dict) else one for one in level]
        level = [each for one in inner if isinstance(one, list) for each in one]
    return bool(level)


def expired(facts: CollectFacts, now: datetime) -> bool:
    """Tell whether an endpoint had ended at this time (UTC, without a zone): it has from midnight of ``end-date`` on.

    A malformed date has not passed: ``endpoint_error`` fails that endpoint, after the other checks.
    """
    if not facts.end_date:
        return False
    try:
        return datetime.strptime(facts.end_date, "%Y-%m-%d") < now  # noqa: DTZ007 - UTC like now
    except ValueError:
        return False


def status_by_row(facts: CollectFacts, url: str, now: datetime) -> FetchStatus | None:
    """Return the status that a row has by itself: EXPIRED before HASH_FAILURE; None when it is to be fetched."""
    if expired(facts, now):
        return FetchStatus.EXPIRED
    if facts.endpoint != endpoint_hash(url):
        return FetchStatus.HASH_FAILURE
    return None


def endpoint_error(facts: CollectFacts, url: str) -> Fatal | None:
    """Return why an endpoint fails without a request: its ``end-date``, plugin or URL is of no use."""
    if facts.end_date:
        try:
            datetime.strptime(facts.end_date, "%Y-%m-%d")  # noqa: DTZ007 - only its form counts
        except ValueError:
            msg = f"end-date {facts.end_date!r} is not a date such as 2026-12-31"
            return Fatal(msg, code="bad_end_date", field="end-date")
    if facts.plugin and facts.plugin not in PLUGINS:
        msg = f"unknown plugin {facts.plugin!r}; there are {', '.join(sorted(PLUGINS))}, or none for a plain GET"
        return Fatal(msg, code="unknown_plugin", field="plugin")
    if not usable(url):
        # The parser's own words may hold a password.
        return Fatal("the endpoint-url is not a usable address", code="invalid_url", field="endpoint-url")
    return None


def with_fetch_status(
    item: Item,
    fetch: FetchStatus,
    error: DatafabError | None = None,
    status: Status | None = None,
    http_status: int | None = None,
) -> Item:
    """Return the item with the fetch's status, and its own."""
    facts = item.collect and item.collect.evolve(status=fetch.value, http_status=http_status)
    if error is not None:
        return item.evolve(collect=facts).failed(error, status or Status.FAILED)
    return item.evolve(collect=facts, status=status or (Status.OK if fetch is FetchStatus.OK else Status.FAILED))
