"""Refuse requests of foreign web pages: those for other host names, and changes sent by pages of other sites.

A web page in a browser on this host can connect to 127.0.0.1 just as the host's programs can. Three headers give it
away: ``Host``, which is the name that the page was loaded from even if it makes that resolve to 127.0.0.1 (DNS
rebinding); ``Origin``, which browsers send with every POST; and ``Sec-Fetch-Site``, the page's relation to this server.
Programs send no ``Origin``. The allowed host names are in ``datafab/core/hosts_allowed.py``.
"""

from __future__ import annotations

from flask import Flask, request
from werkzeug.exceptions import Forbidden

from datafab.core.hosts_allowed import PublicHosts, is_host_allowed, same_origin

#: Methods that change nothing.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: Values of Sec-Fetch-Site for a page of this server, and for an address that the user has typed.
OWN_SITES = frozenset({"same-origin", "none"})


def refuse_foreign_requests(app: Flask, public: PublicHosts) -> None:
    """Make an application refuse the requests of foreign pages before any view is called."""

    @app.before_request
    def check() -> None:
        host = request.headers.get("Host")
        if not is_host_allowed(host, public.names):
            raise Forbidden(f"the host {host!r} is not served: add its name to DATAFAB_PUBLIC_URL")
        if request.method not in SAFE_METHODS and not _sent_by_own_page(host, public):
            raise Forbidden("pages of other sites may not change anything here: call this API from a program")


def _sent_by_own_page(host: str | None, public: PublicHosts) -> bool:
    """Return whether a page of this server sent the request, or no page at all."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        return site in OWN_SITES
    return origin is None or same_origin(origin, host, public.origins)
