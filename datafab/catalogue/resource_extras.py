"""The extras of a resource that tell its catalogue how its file is: names and types are hydra's.

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
#: All names. Every one is sent each time, null where it is not known: a null removes what an earlier look has told.
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
#: Failures of files that their server has answered with 200.
ANSWERED = frozenset({"too_large", "html", "empty", "bad_encoding"})
_STATUS = re.compile(r"http_(\d{3})")
_TOO_MANY = 429


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a look at a file has found besides its item. Times are Unix seconds.

    Attributes:
        at: when it was looked at.
        changed: when its content was found to be another than before.
        sha1: of its content.
        parsed: when its analysis began and ended.
        cors: what its server answers to a preflight, by the names of ``check:cors``.
    """

    at: float
    changed: float
    sha1: str | None = None
    parsed: tuple[float, float] | None = None
    cors: Mapping[str, Any] = field(default_factory=dict)


def extras(item: Item, seen: Seen) -> dict[str, Any]:
    """Return all extras of an item's resource."""
    found = dict.fromkeys(NAMES) | {"check:date": _iso(seen.at)} | _check(item)
    found |= {f"check:cors:{name}": value for name, value in seen.cors.items()}
    return found | (_analysis(item, seen) if item.sha256 is not None else {})


def _check(item: Item) -> dict[str, Any]:
    """Return what became of the request for the file."""
    code, message = (item.error.type, item.error.message) if item.error else ("", None)
    if item.sha256 is not None:
        headers = {"check:headers:content-type": item.media_type, "check:headers:content-length": item.size}
        return {"check:available": True, "check:status": 200, "check:timeout": False} | headers
    if code in ANSWERED:
        return {"check:available": True, "check:status": 200, "check:timeout": False, "analysis:error": message}
    refused = _STATUS.fullmatch(code)
    status = int(refused[1]) if refused else None
    # That a server wants a pause says nothing of the file.
    available = None if status == _TOO_MANY else False
    facts = {"check:available": available, "check:status": status, "check:timeout": code == "timeout"}
    return facts | {"check:error": message}


def _analysis(item: Item, seen: Seen) -> dict[str, Any]:
    """Return what the file's content is, and how its analysis went."""
    began, ended = seen.parsed or (None, None)
    failed = item.error if item.status is Status.FAILED else None
    return {
        "analysis:checksum": seen.sha1,
        "analysis:content-length": item.size,
        "analysis:mime-type": item.media_type,
        "analysis:parsing:error": f"{failed.type}:{failed.message}" if failed else None,
        "analysis:parsing:started_at": None if began is None else _iso(began),
        "analysis:parsing:finished_at": None if ended is None else _iso(ended),
    } | _modified(item, seen)


def _modified(item: Item, seen: Seen) -> dict[str, str]:
    header = item.catalogue.modified if item.catalogue else None
    try:
        when = parsedate_to_datetime(header).astimezone(UTC).isoformat() if header else None
    except (ValueError, OverflowError):  # servers write anything there
        when = None
    how = "last-modified-header"
    if when is None:
        when = _iso(seen.changed)
        how = "computed-checksum" if seen.changed == seen.at else "previous-check-detection"
    return {"analysis:last-modified-at": when, "analysis:last-modified-detection": how}


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()
