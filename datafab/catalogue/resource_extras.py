"""The extras by which a resource's catalogue learns the state of its file, with hydra's names and types.

Source of the names: datagouv/hydra, ``udata_hydra/utils/http.py`` (``UdataPayload``); of the values,
``crawl/preprocess_check_data.py``, ``analysis/resource.py`` and ``analysis/helpers.py`` there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from datafab.core.item import Item, Status

#: Headers of an answer to a CORS preflight, without ``access-control-``.
CORS_HEADERS = (
    "allow-origin",
    "allow-methods",
    "allow-headers",
    "expose-headers",
    "max-age",
    "allow-credentials",
)
#: Names of all extras. Each is sent every time; null, if the value is unknown, removes the value of an earlier look.
NAMES = tuple(
    f"{category}:{name}"
    for category, names in {
        "check": ("available", "date", "error", "id", "status", "timeout"),
        "check:headers": ("content-type", "content-length"),
        "check:cors": ("status", "error", *CORS_HEADERS),
        "analysis": (
            "checksum",
            "content-length",
            "error",
            "check_id",
            "last-modified-at",
            "last-modified-detection",
            "mime-type",
        ),
        "analysis:parsing": (
            "error",
            "started_at",
            "finished_at",
            "parsing_table",
            "parquet_size",
            "parquet_url",
            "pmtiles_size",
            "pmtiles_url",
            "geojson_size",
            "geojson_url",
            "ogc_metadata",
        ),
    }.items()
    for name in names
)
#: Failures of files for which the server has answered 200.
ANSWERED_FAILURES = frozenset({"too_large", "html", "empty", "bad_encoding"})
_STATUS = re.compile(r"http_(\d{3})")
_TOO_MANY_REQUESTS = 429


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What a look at a file has found in addition to its item. Times are Unix seconds.

    Attributes:
        at: time of the look.
        changed: time at which the content was found to have changed.
        sha1: digest of the content.
        parsed: start and end of the analysis.
        cors: the server's answer to a preflight, under the names of ``check:cors``.
    """

    at: float
    changed: float
    sha1: str | None = None
    parsed: tuple[float, float] | None = None
    cors: Mapping[str, Any] = field(default_factory=dict)


def resource_extras(item: Item, observed: Observation) -> dict[str, Any]:
    """Return all extras of the resource of an item."""
    found = dict.fromkeys(NAMES) | {"check:date": _iso(observed.at)} | _check(item)
    found |= {f"check:cors:{name}": value for name, value in observed.cors.items()}
    return found | (_analysis(item, observed) if item.sha256 is not None else {})


def _check(item: Item) -> dict[str, Any]:
    """Return the extras that describe the request for the file."""
    code, message = (item.error.type, item.error.message) if item.error else ("", None)
    if item.sha256 is not None:
        headers = {"check:headers:content-type": item.media_type, "check:headers:content-length": item.size}
        return {"check:available": True, "check:status": 200, "check:timeout": False} | headers
    if code in ANSWERED_FAILURES:
        return {"check:available": True, "check:status": 200, "check:timeout": False, "analysis:error": message}
    refused = _STATUS.fullmatch(code)
    status = int(refused[1]) if refused else None
    # A server that asks for a pause tells nothing about the file.
    available = None if status == _TOO_MANY_REQUESTS else False
    facts = {"check:available": available, "check:status": status, "check:timeout": code == "timeout"}
    return facts | {"check:error": message}


def _analysis(item: Item, observed: Observation) -> dict[str, Any]:
    """Return the extras that describe the content of the file, and its analysis."""
    started, ended = observed.parsed or (None, None)
    failed = item.error if item.status is Status.FAILED else None
    return {
        "analysis:checksum": observed.sha1,
        "analysis:content-length": item.size,
        "analysis:mime-type": item.media_type,
        "analysis:parsing:error": f"{failed.type}:{failed.message}" if failed else None,
        "analysis:parsing:started_at": None if started is None else _iso(started),
        "analysis:parsing:finished_at": None if ended is None else _iso(ended),
    } | _modified(item, observed)


def _modified(item: Item, observed: Observation) -> dict[str, str]:
    header = item.catalogue.modified if item.catalogue else None
    try:
        when = parsedate_to_datetime(header).astimezone(UTC).isoformat() if header else None
    except (ValueError, OverflowError):  # some servers send malformed dates
        when = None
    how = "last-modified-header"
    if when is None:
        when = _iso(observed.changed)
        how = "computed-checksum" if observed.changed == observed.at else "previous-check-detection"
    return {"analysis:last-modified-at": when, "analysis:last-modified-detection": how}


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()
