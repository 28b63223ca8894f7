"""The gunicorn worker of the webhook: no thread ever waits for a client.

gunicorn's threads read a request and write its answer themselves, so as many slow clients as there are threads keep all
others out, ``/health`` included. Here the loop of the worker receives each request and sends each answer, without
blocking and within a deadline; a thread has the request only while it is handled. ``/health`` has a thread of its own.
"""

from __future__ import annotations

import json
import re
import selectors
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker
from werkzeug.exceptions import default_exceptions

from datafab.settings import load
from webhook.connection import Connection, Exchange
from webhook.errors import RETRY_AFTER_SECONDS, http_error_type
from webhook.headers import ANSWER_HEADERS
from webhook.incoming import Head, Incoming, Refusal
from webhook.limits import body_limit

#: The most bytes that are received from or sent to a client before it is the turn of others.
TURN_BYTES = 256 * 1024
#: The memory for requests that arrive, are handled or answered, apart from small ones, in bytes per process.
MAX_HELD_BYTES = 192 * 1024**2
#: Up to this size a request or an answer is small.
SMALL_BYTES = 64 * 1024
#: Seconds for a client to close its connection after the last answer. Until then its bytes are discarded, because a
#: connection that is closed with unread bytes is reset, and the client may lose the answer.
LINGER_SECONDS = 2.0
#: Seconds between two looks at the deadlines.
EXPIRY_SECONDS = 0.5
#: The path that has a thread of its own.
RESERVED_PATH = b"/health"

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
#: Answers to what gunicorn refuses, other than 400.
_STATUSES: tuple[tuple[type[Exception], HTTPStatus], ...] = (
    (errors.LimitRequestLine, HTTPStatus.REQUEST_URI_TOO_LONG),
    (errors.LimitRequestHeaders, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
    (errors.ExpectationFailed, HTTPStatus.EXPECTATION_FAILED),
    (errors.ForbiddenProxyRequest, HTTPStatus.FORBIDDEN),
)
#: What gunicorn raises through a fault of ours.
_OUR_FAULTS = (errors.ConfigurationProblem, errors.InvalidResponseHeader, errors.InvalidResponseHeaderName)


class Worker(ThreadWorker):
    """A worker process. Methods with a connection run in its loop, except ``handle`` and ``handle_error``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timeout = load().request_timeout
        self._reserve = ThreadPoolExecutor(max_workers=1)
        #: connections that wait for their client, the one that has waited longest first
        self._waiting: dict[Connection, None] = {}
        self._handled: set[Connection] = set()
        self._next_expiry = 0.0

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Warn of options that this worker does not have."""
        if cfg.is_ssl:
            log.error("the webhook does not speak TLS: remove keyfile and certfile, and put a proxy in front")

    def run(self) -> None:
        """Serve until told to stop."""
        super().run()
        self._reserve.shutdown(wait=False)

    # --- what gunicorn's loop calls ---

    def accept(self, listener: Any) -> None:
        """Accept a connection; if there are too many, the one that has waited longest for its client is closed."""
        try:
            client_socket, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:  # no more file descriptors
            self.log.warning("a connection was not accepted: %s", error)
            self._drop_oldest()
            return
        self.nr_conns += 1
        connection = Connection(self.cfg, client_socket, address, listener.getsockname(), Incoming(body_limit))
        self._expect(connection, self._timeout)
        if self.nr_conns >= self.worker_connections:
            self._drop_oldest()

    def finish_request(self, conn: Connection, fs: Future[Any]) -> None:
        """Send the answer that a thread has made."""
        self._handled.discard(conn)
        conn.end(not fs.cancelled() and fs.exception() is None and bool(fs.result()))
        self._answer(conn)

    def murder_keepalived(self, force: bool = False) -> None:
        """Close the connections whose deadline has passed, or all that wait for their client."""
        now = time.monotonic()
        if now < self._next_expiry and not force:
            return
        self._next_expiry = now + EXPIRY_SECONDS
        for connection in list(self._waiting):
            if force:
                self._drop(connection)
            elif connection.deadline <= now:
                self._expire(connection)

    def murder_pending(self) -> None:
        """Do nothing: the above has closed them."""

    def _cap_keepalive(self, deadline: float) -> None:
        """Let the connections that are between two requests end soon, because the worker stops."""
        for connection in self._waiting:
            if not connection.held:
                connection.deadline = min(connection.deadline, deadline)

    # --- the steps of a connection ---

    def _wait(self, connection: Connection, event: int, then: Callable[[Connection], None]) -> None:
        """Call a function whenever the client has sent or accepts more."""
        self._waiting[connection] = None
        self.poller.register(connection.socket, event, lambda _: then(connection))

    def _leave(self, connection: Connection) -> None:
        """End such a wait."""
        if connection in self._waiting:
            del self._waiting[connection]
            self.poller.unregister(connection.socket)

    def _expect(self, connection: Connection, seconds: float) -> None:
        """Wait for a request, of which a part may have arrived already."""
        connection.allow(seconds)
        self._wait(connection, selectors.EVENT_READ, self._receive)
        self._proceed(connection)

    def _receive(self, connection: Connection) -> None:
        began = bool(len(connection.incoming))
        size = connection.receive(TURN_BYTES)
        if size == 0:
            self._drop(connection)
        elif size is not None:
            if not began:
                connection.allow(self._timeout)
            self._proceed(connection)

    def _proceed(self, connection: Connection) -> None:
        """Do what the received part of a request allows."""
        incoming = connection.incoming
        if incoming.refusal is not None:
            self._refuse(connection, incoming.refusal)
        elif incoming.settled:
            self._hand_over(connection)
        elif len(incoming) > SMALL_BYTES and self._held() > MAX_HELD_BYTES:
            busy = "too many large requests are arriving: try again later"
            self._refuse(connection, Refusal(HTTPStatus.SERVICE_UNAVAILABLE, busy))
        elif incoming.wants_continue:
            connection.outgoing = memoryview(b"HTTP/1.1 100 Continue\r\n\r\n")
            connection.send(TURN_BYTES)
            connection.outgoing = memoryview(b"")
            incoming.wants_continue = False

    def _hand_over(self, connection: Connection) -> None:
        """Have a thread handle a complete request."""
        self._leave(connection)
        self._handled.add(connection)
        head = connection.incoming.head
        pool = self._reserve if head is not None and head.path == RESERVED_PATH else self.tpool
        connection.begin()
        future = pool.submit(self.handle, connection)
        future.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, connection, done))

    def _answer(self, connection: Connection) -> None:
        """Send an answer."""
        connection.allow(self._timeout)
        self._wait(connection, selectors.EVENT_WRITE, self._send)
        self._send(connection)
        if connection in self._waiting and len(connection.outgoing) > SMALL_BYTES and self._held() > MAX_HELD_BYTES:
            self.log.warning("an answer to %s was dropped: too many are being read slowly", connection.address)
            self._drop(connection)

    def _send(self, connection: Connection) -> None:
        if not connection.send(TURN_BYTES):
            self._drop(connection)
        elif not connection.outgoing:
            self._leave(connection)
            if connection.reusable:
                connection.expect(Incoming(body_limit))
                self._expect(connection, float(self.cfg.keepalive))
            else:
                self._linger(connection)

    def _linger(self, connection: Connection) -> None:
        """Tell the client that nothing more comes, and wait for it to close the connection."""
        connection.expect(Incoming(body_limit))
        connection.allow(LINGER_SECONDS)
        self._wait(connection, selectors.EVENT_READ, self._discard)
        try:
            connection.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(connection)

    def _discard(self, connection: Connection) -> None:
        if connection.discard(TURN_BYTES) == 0:
            self._drop(connection)

    def _expire(self, connection: Connection) -> None:
        """End a connection whose deadline has passed, with an answer if it has sent a part of a request."""
        if len(connection.incoming) and not connection.outgoing:
            late = f"the request has not arrived in time: DATAFAB_REQUEST_TIMEOUT is {self._timeout:g} s"
            self._refuse(connection, Refusal(HTTPStatus.REQUEST_TIMEOUT, late))
        else:
            self._drop(connection)

    def _refuse(self, connection: Connection, refusal: Refusal) -> None:
        """Answer a request that no thread handles, and close its connection."""
        self._leave(connection)
        self._log(connection.address, connection.incoming.head, refusal.status)
        connection.expect(Incoming(body_limit))
        connection.outgoing, connection.reusable = memoryview(render(refusal)), False
        self._answer(connection)

    def _drop_oldest(self) -> None:
        oldest = next(iter(self._waiting), None)
        if oldest is not None:
            self._drop(oldest)

    def _drop(self, connection: Connection) -> None:
        self._leave(connection)
        self.nr_conns -= 1
        connection.socket.close()

    def _held(self) -> int:
        return sum(connection.held for connection in (*self._waiting, *self._handled))

    # --- what runs in a thread ---

    def handle(self, conn: Connection) -> Any:
        """Handle the request of a connection, unless its client has given up."""
        return False if conn.abandoned() else super().handle(conn)

    def handle_request(self, req: Any, conn: Connection) -> Any:
        """Handle a request; the loop has sent its 100 Continue."""
        req._expected_100_continue = False  # noqa: SLF001 - gunicorn would send it again, before the answer
        if not conn.reusable:
            req.force_close()
        return super().handle_request(req, conn)

    def handle_error(self, req: Any, client: Exchange, addr: Any, exc: BaseException) -> None:
        """Answer what gunicorn refuses, or could not answer itself, without quoting it."""
        if isinstance(exc, errors.ParseException) and not isinstance(exc, _OUR_FAULTS):
            refusal = _refusal(exc)
            address = addr[0] if isinstance(addr, tuple) else "a local socket"
            self._log(address, None, refusal.status, type(exc).__name__)
        else:
            refusal = Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error: see the webhook's log")
            self.log.error("%s %s failed", getattr(req, "method", "?"), getattr(req, "path", "?"), exc_info=exc)
        client.answer[:] = render(refusal)

    def _log(self, address: str, head: Head | None, status: HTTPStatus, why: str = "") -> None:
        """Log a refused request: who, what and why, and nothing else of what was sent."""
        what = f"{head.method.decode('latin-1')} {head.path[:100].decode('latin-1')}" if head else "a request"
        self.log.warning("refused %s of %s: %s %s", what, address, status.value, why or status.phrase)


def render(refusal: Refusal) -> bytes:
    """Return a refusal as an answer."""
    kind = http_error_type(default_exceptions[refusal.status])
    body = json.dumps({"error": {"type": kind, "message": refusal.message, "field": refusal.field}}).encode()
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
    if refusal.status == HTTPStatus.SERVICE_UNAVAILABLE:
        fields["Retry-After"] = RETRY_AFTER_SECONDS
    lines = [f"HTTP/1.1 {refusal.status.value} {refusal.status.phrase}"]
    lines += [f"{name}: {value}" for name, value in (fields | ANSWER_HEADERS).items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _refusal(error: errors.ParseException) -> Refusal:
    """Return the answer to what gunicorn refuses; of a header it names nothing but the name."""
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), HTTPStatus.BAD_REQUEST)
    name = str(getattr(error, "hdr", "")).strip()
    field = name.title() if _TOKEN.fullmatch(name) else None
    said = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()
    return Refusal(status, f"{field}: {said}" if field else said, field)
