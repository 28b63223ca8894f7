"""Parse foreign URLs, some of which are invalid, without raising errors; hide the secrets in them."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import SplitResult, urlsplit

_LOGIN = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?[/\\]*[^/\\?#]*@", re.IGNORECASE)
_CREDENTIALS = re.compile(r"(?<=//)[^/?#\s]*@")
#: Parameters of queries that grant access to whoever knows them: signatures, keys, tokens and passwords.
_SECRET = re.compile(
    r"""((?:[?&;]|%3f|%26)(?:x-(?:amz|goog)-(?:signature|credential|security-token)|sig(?:nature)?|(?:\w+[_-])?token"""
    r"""|(?:\w+[_-])?api[_-]?key|(?:\w+[_-])?(?:secret|password)|passwd|pwd|(?:api)?auth(?:key)?)=)[^&;#\s'"<>]+""",
    re.IGNORECASE,
)
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
    return _CREDENTIALS.sub("", text) if "@" in text else text


def hide_secrets(text: str) -> str:
    """Return a text for people: without users and passwords, and with ``***`` for the secrets in queries of URLs.

    An address that others fetch keeps its query, which is a part of it: the index and the logs of a collection.
    """
    return _SECRET.sub(r"\1***", without_credentials(text)) if "=" in text else without_credentials(text)


def hide_all_secrets(value: Any) -> Any:
    """Return a JSON value with the secrets of the URLs in all its texts hidden."""
    if isinstance(value, str):
        return hide_secrets(value)
    if isinstance(value, dict):
        return {hide_all_secrets(name): hide_all_secrets(each) for name, each in value.items()}
    return [hide_all_secrets(each) for each in value] if isinstance(value, list | tuple) else value
