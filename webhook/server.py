"""The webhook's HTTP server: ``python -m webhook``.

waitress receives requests and sends answers in one loop, and a thread has a request only once all of it has arrived, so
slow clients keep nobody out. ``/health`` has a thread of its own. Settings: ``DATAFAB_BIND`` and
``DATAFAB_REQUEST_TIMEOUT``. Other WSGI servers can serve ``webhook.wsgi:app`` behind a proxy that buffers requests.
"""

from __future__ import annotations

import argparse
import logging
import resource
import signal
import threading
import time
from collections.abc import Mapping
from typing import Any

from waitress import wasyncore
from waitress.server import BaseWSGIServer, create_server
from waitress.task import ThreadedTaskDispatcher

from datafab.embedded.address import Address
from datafab.settings import Settings, load
from webhook import create_app
from webhook.channel import Channel
from webhook.limits import MAX_HEAD_BYTES, MAX_UPLOAD_BYTES

#: Threads that handle requests.
THREADS = 8
#: Connections at a time, most of which wait for their client.
MAX_CONNECTIONS = 2000
#: Files of a connection: its socket, and a temporary one for a large body or answer.
FILES_PER_CONNECTION = 2
#: Files for everything else, such as connections to Redis, the store and the index.
OTHER_FILES = 200
#: Seconds in which the requests that have arrived are answered, once the server is to stop.
DRAIN_SECONDS = 15.0
#: A larger part of a body or an answer is kept in a temporary file, in bytes.
MAX_IN_MEMORY_BYTES = 128 * 1024
#: The path that has a thread of its own.
RESERVED_PATH = "/health"


class Dispatcher(ThreadedTaskDispatcher):
    """The threads that handle requests, and one for health checks, which answers while all others are busy."""

    def __init__(self) -> None:
        super().__init__()
        self._reserve = ThreadedTaskDispatcher()
        self._reserve.set_thread_count(1)
        self.set_thread_count(THREADS)

    def add_task(self, task: Any) -> None:
        """Queue a connection whose first request is complete."""
        if getattr(task.requests[0], "path", None) == RESERVED_PATH:  # an invalid request has none
            self._reserve.add_task(task)
        else:
            super().add_task(task)

    def shutdown(self, cancel_pending: bool = True, timeout: int = 5) -> bool:
        """End the threads when they have answered."""
        self._reserve.shutdown(cancel_pending, timeout)
        return bool(super().shutdown(cancel_pending, timeout))


def serve(settings: Settings, bind: str) -> None:
    """Serve the webhook until SIGTERM or SIGINT; requests that have arrived are answered first.

    Args:
        settings: of the application.
        bind: address and port to listen on.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    connections: dict[int, Any] = {}
    dispatcher = Dispatcher()
    create_server(
        create_app(settings),
        connections,
        _dispatcher=dispatcher,
        listen=bind,
        server_name=Address.of(bind, "--bind").host,
        connection_limit=connection_limit(),
        asyncore_use_poll=True,  # `select` stops at 1,024 files
        backlog=MAX_CONNECTIONS,
        channel_timeout=int(settings.request_timeout) + 1,
        cleanup_interval=1,
        max_request_header_size=MAX_HEAD_BYTES,
        max_request_body_size=MAX_UPLOAD_BYTES + 1,
        inbuf_overflow=MAX_IN_MEMORY_BYTES,
        outbuf_overflow=MAX_IN_MEMORY_BYTES,
        ident=None,
        # They tell a request that a proxy has passed on from one of this host's programs (own_host.py).
        clear_untrusted_proxy_headers=False,
    )
    timed = type("TimedChannel", (Channel,), {"limit_seconds": settings.request_timeout})
    for listener in connections.values():
        # One for each address of the name in DATAFAB_BIND.
        listener.channel_class = timed
    while not stop.is_set():
        _turn(connections)
    _drain(connections)
    dispatcher.shutdown()


def connection_limit() -> int:
    """Return how many connections there may be at a time, after allowing this process the files that they need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = MAX_CONNECTIONS * FILES_PER_CONNECTION + OTHER_FILES
    if resource.RLIM_INFINITY != soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return MAX_CONNECTIONS
    limit = max(1, (soft - OTHER_FILES) // FILES_PER_CONNECTION)
    logging.getLogger(__name__).warning(
        "at most %d connections at a time, not %d: this process may open %d files (`ulimit -n`, LimitNOFILE)",
        limit, MAX_CONNECTIONS, soft,
    )  # fmt: skip
    return limit


def _turn(connections: Mapping[int, Any]) -> None:
    """Wait up to a second for clients, and receive and send what is possible."""
    wasyncore.loop(timeout=1, use_poll=True, map=connections, count=1)


def _drain(connections: Mapping[int, Any]) -> None:
    """Accept no more connections, and close each one once its requests that have arrived are answered."""
    end = time.monotonic() + DRAIN_SECONDS
    for listener in [one for one in connections.values() if isinstance(one, BaseWSGIServer)]:
        wasyncore.dispatcher.close(listener)  # but not what wakes the loop for an answer
    while time.monotonic() < end:
        channels = [one for one in connections.values() if isinstance(one, Channel)]
        busy = [one for one in channels if one.requests or one.total_outbufs_len]
        if not busy:
            return
        for one in channels:
            one.will_close = one.will_close or one not in busy
        _turn(connections)


def main() -> None:
    """Run the server with the settings of the environment."""
    settings = load()
    parser = argparse.ArgumentParser(prog="python -m webhook", description="Serve the webhook.")
    parser.add_argument("--bind", default=settings.bind, help="address and port in a container; default: DATAFAB_BIND")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    # waitress warns of each request that waits for a thread.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    serve(settings, parser.parse_args().bind)
