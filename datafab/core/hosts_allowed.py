"""Which ``Host`` headers are answered. A browser's page that was led here by DNS rebinding sends a name of its own.

An address cannot be rebound: a page whose host is ``127.0.0.1`` came from ``127.0.0.1``. So every IP address is
answered, ``localhost`` is, and of all other names only those that ``DATAFAB_PUBLIC_URL`` lists.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

#: A host with or without a port; an IPv6 address stands in brackets.
_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?")
#: Answered on every host.
_LOCAL = "localhost"


@dataclass(frozen=True, slots=True)
class PublicHosts:
    """What ``DATAFAB_PUBLIC_URL`` says.

    Attributes:
        root: the URL that services are given to call back.
        names: the host names that requests may be for.
        origins: those of the URLs, as browsers send them.
    """

    root: str | None
    names: frozenset[str]
    origins: frozenset[str]

    @classmethod
    def of(cls, setting: str | None) -> PublicHosts:
        """Read the setting."""
        parts = [part.strip() for part in (setting or "").split(",") if part.strip()]
        urls = [part.rstrip("/") for part in parts if "://" in part]
        split = [urlsplit(url.lower()) for url in urls]
        names = {host_name(url.netloc) for url in split} | {host_name(part) for part in parts if "://" not in part}
        return cls(
            root=urls[0] if urls else None,
            names=frozenset(name for name in names if name),
            origins=frozenset(f"{url.scheme}://{url.netloc}" for url in split),
        )


def host_name(authority: str) -> str | None:
    """Return the name or address in a ``Host`` header, in lower case; None where the header holds neither."""
    found = _AUTHORITY.fullmatch(authority)
    return (found[1] or found[2]).lower().rstrip(".") if found else None


def is_host_allowed(authority: str | None, names: Collection[str]) -> bool:
    """Tell whether a request with this ``Host`` header is answered; HTTP/1.0 may leave it out, browsers never do."""
    if authority is None:
        return True
    name = host_name(authority)
    return name is not None and (name == _LOCAL or name in names or _is_address(name))


def same_origin(origin: str, authority: str | None, origins: Collection[str]) -> bool:
    """Tell whether a page of this ``Origin`` is the server's own: its host is the one asked, or it is a public one.

    A proxy may ask by another host than the browser did; ``origins`` are those of ``DATAFAB_PUBLIC_URL``.
    """
    scheme, _, host = origin.lower().partition("://")
    if scheme not in {"http", "https"}:
        return False
    return host == (authority or "").lower() or f"{scheme}://{host}" in origins


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
