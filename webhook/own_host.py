"""Tell the programs of this host from everybody else, where there is no token yet.

Such a request comes from a loopback address to a server that listens on a loopback address, names a loopback host, and
has passed no proxy: what a reverse proxy of this host passes on comes from a loopback address, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from werkzeug.datastructures import Headers

from datafab.core.hosts_allowed import host_name, is_loopback

#: Headers that proxies add, beside those that begin with ``X-Forwarded``.
_PROXY_HEADERS = frozenset(
    {"forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip", "cf-connecting-ip"}
    | {"x-original-forwarded-for", "x-envoy-external-address", "x-proxyuser-ip", "proxy-connection"}
)


def is_own_host(environ: Mapping[str, Any], headers: Headers) -> bool:
    """Return whether a program of this host has sent a request to a server that only this host can reach.

    Args:
        environ: of WSGI; SERVER_NAME is the address that the server listens on.
        headers: of the request.
    """
    return (
        is_loopback(environ.get("SERVER_NAME"))
        and is_loopback(environ.get("REMOTE_ADDR"))
        and is_loopback(host_name(headers.get("Host", "localhost")))
        and not any(_is_proxys(name.lower()) for name in headers.keys())  # noqa: SIM118 - iterating yields pairs
        # nginx speaks HTTP/1.0 to what it passes requests on to, without any of these headers, unless it is told to.
        and environ.get("SERVER_PROTOCOL") != "HTTP/1.0"
    )


def _is_proxys(header: str) -> bool:
    return header.startswith("x-forwarded") or header in _PROXY_HEADERS
