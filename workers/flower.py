"""Flower, for this installation's own pages only: ``python -m workers.flower --address=127.0.0.1 --port=5555``.

By default Flower shows its pages and ``/metrics`` to everybody, and accepts any ``Host``. This one does not start
without a login (``FLOWER_BASIC_AUTH=user:password``, or Flower's OAuth options), requires it everywhere except at
``/healthcheck``, and refuses foreign host names as the webhook does (``DATAFAB_PUBLIC_URL``). With a login, Flower
itself refuses requests from other sites' pages (``check_xsrf_cookie`` in ``flower/views/__init__.py``). Its answers
have headers against embedding, and do not name the server's version.
"""

from __future__ import annotations

import signal
import sys
from base64 import b64encode
from collections.abc import Collection
from functools import cache
from hashlib import sha256
from typing import Any, cast

from flower.app import Flower
from flower.command import apply_env_options, apply_options, extract_settings, setup_logging, sigterm_handler
from flower.urls import settings as flower_settings
from flower.views.monitor import Metrics
from tornado.httputil import HTTPMessageDelegate, HTTPServerRequest
from tornado.options import options
from tornado.web import RequestHandler, StaticFileHandler, authenticated

from datafab.core.hosts_allowed import PublicHosts, is_host_allowed
from workers.app import app, settings

#: The only script within a page, in ``flower/templates/workers.html``, for each of its values, as Tornado shortens it.
INLINE_SCRIPTS = tuple(f"\nvar autorefresh = {value};\n" for value in (0, 1))
_HASHES = " ".join(f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" for script in INLINE_SCRIPTS)
#: Headers of every answer. Flower's pages have styles in their elements, and pictures within their style sheets.
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    f"script-src 'self' {_HASHES}; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@cache
def with_headers(handler: Any) -> Any:
    """Return a subclass of a handler whose answers have these headers."""

    def set_default_headers(self: RequestHandler) -> None:
        handler.set_default_headers(self)
        self.clear_header("Server")
        for name, value in PAGE_HEADERS.items():
            self.set_header(name, value)
        if not issubclass(handler, StaticFileHandler):
            self.set_header("Cache-Control", "no-store")

    return type(handler.__name__, (handler,), {"set_default_headers": set_default_headers})


class ForeignHost(RequestHandler):
    """A handler that refuses requests for foreign host names."""

    def prepare(self) -> None:
        """Refuse the request before a method is called."""
        self.set_status(403)
        self.finish("this host name is not served: add it to DATAFAB_PUBLIC_URL\n")


class OwnMetrics(Metrics):
    """Flower's metrics, behind the login."""

    @authenticated
    async def get(self) -> None:
        """Return the metrics."""
        await super().get()


class GuardedFlower(Flower):
    """Flower, limited to its own host names.

    Args:
        names: the host names, besides ``localhost`` and addresses.
        options: those of Flower's application.
    """

    def __init__(self, names: Collection[str], **options: Any) -> None:
        super().__init__(**options)
        self._names = names
        prefix = (self.options.url_prefix or "").strip("/")
        self.add_handlers(".*", [(f"{prefix and '/'}{prefix}/metrics", OwnMetrics)])

    def get_handler_delegate(self, request: HTTPServerRequest, target_class: Any, *args: Any, **kwargs: Any) -> Any:
        """Return what answers a request, with our headers."""
        return super().get_handler_delegate(request, with_headers(target_class), *args, **kwargs)

    def find_handler(self, request: HTTPServerRequest, **known: Any) -> HTTPMessageDelegate | None:
        """Return the handler of a request."""
        if not is_host_allowed(request.headers.get("Host"), self._names):
            return cast("HTTPMessageDelegate", self.get_handler_delegate(request, ForeignHost))
        return cast("HTTPMessageDelegate | None", super().find_handler(request, **known))


def main(arguments: list[str]) -> None:
    """Serve until SIGTERM or SIGINT."""
    apply_env_options()
    apply_options("workers.flower", arguments)
    if not (options.basic_auth or options.auth):
        sys.exit("Flower can stop workers and send tasks: set FLOWER_BASIC_AUTH=user:password")
    extract_settings()
    setup_logging()
    names = PublicHosts.of(settings().public_url).names
    monitor = GuardedFlower(names, capp=app, options=options, **flower_settings)
    signal.signal(signal.SIGTERM, sigterm_handler)
    monitor.start_http_server()
    try:
        monitor.start()
    except (KeyboardInterrupt, SystemExit):
        monitor.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
