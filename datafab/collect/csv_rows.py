"""The rows of a collection's ``log.csv`` and ``resource.csv``, as ``collection-save-csv`` of digital-land has them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from datafab.collect.endpoint import endpoint_hash

#: Columns of ``log.csv``.
LOG_COLUMNS = (
    "bytes",
    "content-type",
    "elapsed",
    "endpoint",
    "resource",
    "status",
    "entry-date",
    "start-date",
    "end-date",
    "exception",
)
_DIGEST = re.compile(r"[0-9a-f]{64}")

#: Columns of ``resource.csv``.
RESOURCE_COLUMNS = ("resource", "bytes", "organisations", "datasets", "endpoints", "start-date", "end-date")


def log_row(name: str, data: bytes) -> dict[str, str]:
    """Return the row of a log, datafab's or the original's.

    Args:
        name: ``log/YYYY-MM-DD/<endpoint>.json``.
        data: its content.

    Raises:
        ValueError: it is not a log, or its day or endpoint differs from its name.
    """
    log = json.loads(data)
    if not isinstance(log, dict):
        msg = "it is not a JSON object"
        raise ValueError(msg)  # noqa: TRY004 - to the caller it is a wrong value
    headers = log.get("response-headers")
    headers = headers if isinstance(headers, dict) else {}
    url = log.get("endpoint-url") or log.get("url") or ""
    given: dict[str, Any] = {
        "content-type": headers.get("Content-Type"),
        "bytes": headers.get("Content-Length"),
        "entry-date": log.get("datetime"),
        "endpoint": endpoint_hash(str(url)),
    }
    given |= {key: value for key, value in log.items() if key in LOG_COLUMNS and value is not None}
    row = {key: "" if given.get(key) is None else str(given[key]) for key in LOG_COLUMNS}
    day, _, endpoint = name.removeprefix("log/").removesuffix(".json").partition("/")
    if not row["entry-date"].startswith(day) or row["endpoint"] != endpoint:
        msg = f"it is of {row['entry-date'][:10] or 'no day'} and the endpoint {row['endpoint']}"
        raise ValueError(msg)
    if row["resource"] and not _DIGEST.fullmatch(row["resource"]):
        msg = f"its resource {row['resource']!r} is not a sha256 digest"
        raise ValueError(msg)
    return row


def final_before(latest: str | None) -> str:
    """Return the day before which logs no longer change, from the latest day of a ``log.csv``.

    A fetch that starts before midnight may be logged after it, and after a ``log.csv`` with the new day.
    """
    try:
        return (date.fromisoformat(latest or "") - timedelta(days=1)).isoformat()
    except ValueError:
        return ""


@dataclass(frozen=True, slots=True)
class Provenance:
    """The first and last day on which a resource was collected, and its endpoints."""

    start: str
    end: str
    endpoints: frozenset[str]


def merge_provenance(
    row: Mapping[str, str] | None, was: Provenance | None, now: Provenance | None
) -> tuple[Provenance | None, bool]:
    """Return a resource's provenance, and whether its former row has more of it than the former logs.

    So a row stays when its logs are long gone, and goes when its only log was replaced.

    Args:
        row: its former row in ``resource.csv``.
        was: its provenance in the former ``log.csv``.
        now: its provenance in the new one.
    """
    if row is None:
        return now, False
    start, end = row.get("start-date") or "", row.get("end-date") or ""
    others = _split_values(row.get("endpoints")) - (was.endpoints if was else frozenset())
    older = bool(start) and (was is None or start < was.start)
    later = bool(end) and (was is None or end > was.end)
    if was is not None and not (older or later or others):
        return now, False
    if now is None:
        return Provenance(start, end, frozenset(others or _split_values(row.get("endpoints")))), True
    return (
        Provenance(
            min(start, now.start) if older else now.start,
            max(end, now.end) if later else now.end,
            now.endpoints | others,
        ),
        True,
    )


def _split_values(text: str | None) -> frozenset[str]:
    return frozenset(part for part in (text or "").split(";") if part)


def join_values(parts: Iterable[str]) -> str:
    """Return the cell for several values."""
    return ";".join(sorted({part for part in parts if part}))
