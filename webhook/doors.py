"""Who may ask: requests for this installation's own host names, and changes by pages of its own or by no page at all.

A page in a browser on this host reaches what listens on 127.0.0.1 as the host's programs do. It cannot hide three
things: the name that it was loaded from, in ``Host`` where it has that name resolve to 127.0.0.1 (DNS rebinding);
its ``Origin``, where it posts; and its relation to the server asked, in ``Sec-Fetch-Site``. Programs send no
``Origin``. The names that are answered are in ``datafab/core/hosts_allowed.py``.
"""

from __future__ import annotations

from flask import Flask, Response, request
from werkzeug.exceptions import Forbidden

from datafab.core.hosts_allowed import PublicHosts, is_host_allowed, same_origin

#: Methods that change nothing.
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
#: What browsers say of requests by a page of the same server, or by the person at the address bar.
OWN = frozenset({"same-origin", "none"})
#: No page of others may embed an answer, or have it taken for another type.
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


def close(app: Flask, public: PublicHosts) -> None:
    """Refuse the requests of foreign pages before any route sees them."""

    @app.before_request
    def check() -> None:
        host = request.headers.get("Host")
        if not is_host_allowed(host, public.names):
            raise Forbidden(f"the host {host!r} is not served: add its name to DATAFAB_PUBLIC_URL")
        if request.method not in SAFE and not _own_page(host, public):
            raise Forbidden("a page of another site may not change anything here: call this API from a program")

    @app.after_request
    def mark(answer: Response) -> Response:
        answer.headers.extend(HEADERS)
        return answer


def _own_page(host: str | None, public: PublicHosts) -> bool:
    """Tell whether no page sent this request, or one of this server."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        return site in OWN
    return origin is None or same_origin(origin, host, public.origins)
