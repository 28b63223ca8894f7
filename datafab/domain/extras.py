"""What a catalogue is told of a file that was looked at: the ``extras`` of its resource, in hydra's words."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from datafab.domain.payload import Item, Status

#: All that is told; what is not known is null, so that nothing stays that is no longer so.
CHECK = ("available", "status", "timeout", "date", "headers:content-type", "headers:content-length")
ANALYSIS = ("checksum", "content-length", "mime-type", "last-modified-at", "last-modified-detection", "error")
_STATUS = re.compile(r"http_(\d{3})")


def extras(item: Item, at: float) -> dict[str, Any]:
    """Return what is told of an item as it was at this Unix time."""
    told: dict[str, Any] = {f"check:{name}": None for name in CHECK} | {f"analysis:{name}": None for name in ANALYSIS}
    code = item.error.type if item.error else ""
    refused = _STATUS.fullmatch(code)
    fetched = item.sha256 is not None
    told |= {
        "check:available": fetched,
        "check:status": 200 if fetched else int(refused[1]) if refused else None,
        "check:timeout": code == "timeout",
        "check:date": _iso(at),
    }
    if fetched:
        told |= {"check:headers:content-type": item.media_type, "check:headers:content-length": item.size}
        told |= {"analysis:checksum": item.sha256, "analysis:content-length": item.size}
        told |= {"analysis:mime-type": item.media_type} | _modified(item, at)
    if item.error is not None and item.status is Status.FAILED:
        told["analysis:error"] = item.error.message
    return told


def _modified(item: Item, at: float) -> dict[str, str]:
    modified = item.catalogue.modified if item.catalogue else None
    try:
        when = parsedate_to_datetime(modified).astimezone(UTC).isoformat() if modified else None
    except (ValueError, OverflowError):  # servers write anything there
        when = None
    how = "last-modified-header" if when else "computed-checksum"
    return {"analysis:last-modified-at": when or _iso(at), "analysis:last-modified-detection": how}


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()
