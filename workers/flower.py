"""Flower, for this installation's own pages only: ``python -m workers.flower --address=127.0.0.1 --port=5555``.

Flower by itself shows its pages and ``/metrics`` to everybody, and answers to any ``Host``. Here it does not start
without a login (``FLOWER_BASIC_AUTH=user:password``, or Flower's own OAuth options), asks for it everywhere but at
``/healthcheck``, and refuses the names of others as the webhook does (``DATAFAB_PUBLIC_URL``). With a login Flower
refuses requests of other sites' pages itself (``check_xsrf_cookie`` in ``flower/views/__init__.py``).
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Collection
from typing import Any, cast

from flower.app import Flower
from flower.command import apply_env_options, apply_options, extract_settings, setup_logging, sigterm_handler
from flower.urls import settings as flower_settings
from flower.views.monitor import Metrics
from tornado.httputil import HTTPMessageDelegate, HTTPServerRequest
from tornado.options import options
from tornado.web import RequestHandler, authenticated

from datafab.core.hosts_allowed import PublicHosts, is_host_allowed
from workers.app import app, settings


class ForeignHost(RequestHandler):
    """Refuses a request for a host name that is not this installation's."""

    def prepare(self) -> None:
        """Answer before any method is called."""
        self.set_status(403)
        self.finish("this host name is not served: add it to DATAFAB_PUBLIC_URL\n")


class OwnMetrics(Metrics):
    """Flower's metrics, for those who have the login."""

    @authenticated
    async def get(self) -> None:
        """Answer as Flower does."""
        await super().get()


class GuardedFlower(Flower):
    """Flower that answers to its own host names only.

    Args:
        names: the host names, beside ``localhost`` and addresses.
        known: what Flower's application takes.
    """

    def __init__(self, names: Collection[str], **known: Any) -> None:
        super().__init__(**known)
        self._names = names
        prefix = (self.options.url_prefix or "").strip("/")
        self.add_handlers(".*", [(f"{prefix and '/'}{prefix}/metrics", OwnMetrics)])

    def find_handler(self, request: HTTPServerRequest, **known: Any) -> HTTPMessageDelegate | None:
        """Return what answers a request."""
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
