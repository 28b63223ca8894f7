"""The small link-proxy's decision whether to fetch, and its fetch.

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
#: Seconds to connect, and between two parts of the answer.
_TIMEOUTS = (6, 5)
_LARGEST = 1024**3
_BAD = 400


@dataclass(frozen=True, slots=True)
class Fetched:
    """The answer of a file's server."""

    status: int | None
    body: bytes
    cache_control: str
    error: str | None


def blacklisted(location: str, own: Iterable[str]) -> bool:
    """Return whether the host is on the blacklist; ``own`` are further hosts, or URLs on them."""
    parts = urlsplit(location)
    host = (parts.hostname or "").lower()
    if {host, parts.netloc.lower()} & {urlsplit(each).netloc or each for each in own}:
        return True
    return any(host.endswith(each[1:]) if each.startswith("*") else host == each for each in _HOSTS)


def unsupported(location: str) -> bool:
    """Return whether the URL is a part of a split archive."""
    return re.search(r"\.7z\.\d\d\d$", urlsplit(location).path) is not None


def recent(last: Fetched | None, finished: datetime | None, now: datetime) -> bool:
    """Return whether the last finished check is too recent for another one."""
    if last is None or finished is None:
        return False
    if "immutable" in last.cache_control:
        return True
    age = re.search(r"max-age=(\d+)", last.cache_control)
    # A max-age of 0 is ignored.
    seconds = int(age[1]) if age else 0
    return now - finished < (timedelta(seconds=seconds) if seconds else _SEVEN_DAYS)


def fetch(location: str) -> Fetched:
    """Fetch a file, and return its content or the error."""
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
