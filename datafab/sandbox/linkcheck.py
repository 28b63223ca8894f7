"""How the small link-proxy decides whether to fetch, and fetches.

Source: geodatagouv/link-proxy, ``jobs/check/utils/`` (``blacklist.js``, ``unsupported.js``, ``skip.js``); its limits:
``jobs/check/index.js``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import requests

_HOSTS = ("data.gouv.fr", "*.data.gouv.fr", "*.openstreetmap.fr")
_SEVEN_DAYS = timedelta(days=7)
#: connect, and between two parts of the answer; seconds
_TIMEOUTS = (6, 5)
_LARGEST = 1024**3
_BAD = 400


@dataclass(frozen=True, slots=True)
class Fetched:
    """What the file's server answered."""

    status: int | None
    body: bytes
    cache_control: str
    error: str | None


def blacklisted(location: str, own: Iterable[str]) -> bool:
    """Tell whether it is a host that is never fetched from; ``own``: further hosts, or URLs on them."""
    parts = urlsplit(location)
    host = (parts.hostname or "").lower()
    if {host, parts.netloc.lower()} & {urlsplit(each).netloc or each for each in own}:
        return True
    return any(host.endswith(each[1:]) if each.startswith("*") else host == each for each in _HOSTS)


def unsupported(location: str) -> bool:
    """Tell whether it is a part of an archive."""
    return re.search(r"\.7z\.\d\d\d$", urlsplit(location).path) is not None


def recent(last: Fetched | None, finished: datetime | None, now: datetime) -> bool:
    """Tell whether the last check that finished is too recent for another."""
    if last is None or finished is None:
        return False
    if "immutable" in last.cache_control:
        return True
    age = re.search(r"max-age=(\d+)", last.cache_control)
    # A max-age of 0 counts as none.
    seconds = int(age[1]) if age else 0
    return now - finished < (timedelta(seconds=seconds) if seconds else _SEVEN_DAYS)


def fetch(location: str) -> Fetched:
    """Fetch a file; what fails is told."""
    status = None
    try:
        with requests.Session() as session:
            session.trust_env = False
            with session.get(location, timeout=_TIMEOUTS, stream=True) as answer:
                status, caching = answer.status_code, answer.headers.get("Cache-Control", "")
                if status >= _BAD:
                    return Fetched(status, b"", caching, f"response code {status}")
                body = b""
                for chunk in answer.iter_content(1024 * 1024):
                    body += chunk
                    if len(body) > _LARGEST:
                        return Fetched(status, b"", caching, "file is too large")
                return Fetched(status, body, caching, None)
    except requests.RequestException as error:
        return Fetched(status, b"", "", f"{type(error).__name__} while fetching")
