"""The ``Host`` headers that are allowed: a page that reaches us by DNS rebinding sends a host name of its own.

Addresses cannot be rebound: a page whose host is ``127.0.0.1`` came from ``127.0.0.1``. So all IP addresses and
``localhost`` are allowed, and of other names only those in ``DATAFAB_PUBLIC_URL``.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

#: A host with or without a port; an IPv6 address stands in brackets.
_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?")
#: Allowed on every host.
_LOCAL = "localhost"


@dataclass(frozen=True, slots=True)
class PublicHosts:
    """The setting ``DATAFAB_PUBLIC_URL``.

    Attributes:
        root: the URL that other services call back.
        names: the allowed host names.
        origins: the origins of its URLs, as browsers send them.
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
    """Return the name or address in a ``Host`` header, in lower case; None: the header has neither."""
    found = _AUTHORITY.fullmatch(authority)
    return (found[1] or found[2]).lower().rstrip(".") if found else None


def is_host_allowed(authority: str | None, names: Collection[str]) -> bool:
    """Return whether a ``Host`` header is allowed. HTTP/1.0 may omit it, browsers never do."""
    if authority is None:
        return True
    name = host_name(authority)
    return name is not None and (name == _LOCAL or name in names or _is_address(name))


def same_origin(origin: str, authority: str | None, origins: Collection[str]) -> bool:
    """Return whether an ``Origin`` is our own: its host is the request's, or it is one of the public origins.

    Behind a proxy the request's host may differ from the browser's; ``origins`` are those of ``DATAFAB_PUBLIC_URL``.
    """
    scheme, _, host = origin.lower().partition("://")
    if scheme not in {"http", "https"}:
        return False
    return host == (authority or "").lower() or f"{scheme}://{host}" in origins


def is_loopback(host: str | None) -> bool:
    """Return whether a host name or address is one that only this host can connect to."""
    return host is not None and (host == _LOCAL or (_is_address(host) and ip_address(host).is_loopback))


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
