"""Parse foreign URLs, some of which are invalid, without raising errors."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

_LOGIN = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?[/\\]*[^/\\?#]*@", re.IGNORECASE)
_EMPTY = SplitResult("", "", "", "", "")


def usable(url: str) -> bool:
    """Return whether a URL can be parsed: ``http://[::1/x`` cannot."""
    try:
        urlsplit(url)
    except ValueError:
        return False
    return True


def url_parts(url: str | None) -> SplitResult:
    """Return the parts of a URL; those of an invalid one are all empty."""
    return urlsplit(url) if url and usable(url) else _EMPTY


def host_of(url: str | None) -> str:
    """Return host and port of a URL, in lower case; empty if it has none, or is invalid."""
    return url_parts(url).netloc.rpartition("@")[2].lower()


def has_login(url: str) -> bool:
    """Tell whether a URL, with or without a scheme, holds a user or a password."""
    return _LOGIN.match(url.strip()) is not None


def without_credentials(text: str) -> str:
    """Return a text without the users and passwords of its URLs; a password may hold an ``@``."""
    return re.sub(r"(?<=//)[^/?#\s]*@", "", text)
