"""URLs that somebody else has written: some cannot be taken apart, and nothing may stop at them."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

_LOGIN = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?[/\\]*[^/\\?#]*@", re.IGNORECASE)
_NOTHING = SplitResult("", "", "", "", "")


def usable(url: str) -> bool:
    """Tell whether a URL can be taken apart: ``http://[::1/x`` cannot."""
    try:
        urlsplit(url)
    except ValueError:
        return False
    return True


def url_parts(url: str | None) -> SplitResult:
    """Return the parts of a URL; those of an unusable one are all empty."""
    return urlsplit(url) if url and usable(url) else _NOTHING


def host_of(url: str | None) -> str:
    """Return host and port of a URL, in lower case; empty where it has none, or is unusable."""
    return url_parts(url).netloc.rpartition("@")[2].lower()


def has_login(url: str) -> bool:
    """Tell whether a URL, with or without a scheme, holds a user or a password."""
    return _LOGIN.match(url.strip()) is not None


def without_credentials(text: str) -> str:
    """Return a text without the users and passwords of its URLs; a password may hold an ``@``."""
    return re.sub(r"(?<=//)[^/?#\s]*@", "", text)
