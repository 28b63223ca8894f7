"""The connections of the webhook's server: a deadline for each request, and refusals in the form of the API."""

from __future__ import annotations

import json
import socket
import time
from contextlib import suppress
from typing import Any

from waitress.channel import HTTPChannel
from waitress.task import ErrorTask
from waitress.utilities import BadRequest
from werkzeug.exceptions import default_exceptions

from webhook.errors import http_error_type
from webhook.headers import ANSWER_HEADERS
from webhook.limits import MAX_UPLOADS, UPLOADS
from webhook.request_parser import RequestParser, RequestTimeout, TooManyUploads

#: The slowest rate at which a body may be sent, in bytes per second.
MIN_BYTES_PER_SECOND = 16 * 1024
#: Seconds for a client to close its connection after the last answer.
LINGER_SECONDS = 2.0
#: Connections below the limit at which the one whose client has been silent for longest makes room for a new one.
ROOM = 20


class Refusal(ErrorTask):
    """The answer to a request that never reaches the application."""

    def execute(self) -> None:
        """Write the answer, and log who was refused and why, but nothing of the request."""
        error = self.request.error
        exception = default_exceptions.get(error.code)
        kind = http_error_type(exception) if exception else "internal"
        field = getattr(self.request, "field", None)
        body = json.dumps({"error": {"type": kind, "message": error.body, "field": field}}).encode()
        route = _route(self.request)
        self.channel.logger.warning("refused %s of %s: %s %s", route, self.channel.addr[0], error.code, kind)
        self.status = f"{error.code} {error.reason}"
        self.response_headers.extend([("Content-Type", "application/json"), *ANSWER_HEADERS.items()])
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


def _uploads(channel: Channel) -> bool:
    return channel.request is not None and channel.request.is_unfinished_upload


def _route(request: Any) -> str:
    """Return the method and the path of a request, if they are those of a route with large bodies."""
    line = (getattr(request, "command", ""), getattr(request, "path", ""))
    return " ".join(line) if line in UPLOADS else "a request"


class Channel(HTTPChannel):
    """waitress's connection with a deadline: a client that sends a byte now and then keeps it open otherwise."""

    parser_class = RequestParser
    error_task_class = Refusal
    request: Any
    #: seconds for a request to arrive, apart from the time that a large body may take; set by ``server.py``
    limit_seconds: float
    _expected_since: float

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._expected_since = time.monotonic()
        self._lingers_until: float | None = None
        if len(self.server._map) >= self.adj.connection_limit - ROOM:  # noqa: SLF001 - as waitress counts them
            self._make_room()

    def received(self, data: bytes) -> bool:
        """Receive a part of a request."""
        if self.request is None:
            self._expected_since = time.monotonic()
        before = _uploads(self)
        received = bool(super().received(data))
        if _uploads(self) and not before:
            self._limit_uploads()
        return received

    def readable(self) -> bool:
        """Return whether to wait for more of a request; waitress asks this in every turn of its loop."""
        if self._lingers_until is not None:
            if time.monotonic() > self._lingers_until:
                self.handle_close()
                return False
            return True
        if self.request is not None and not self.requests and time.monotonic() > self._deadline():
            limit = f"DATAFAB_REQUEST_TIMEOUT is {self.limit_seconds:g} s"
            self._end_request(RequestTimeout(f"the request has not arrived in time: {limit}"))
        return bool(super().readable())

    def writable(self) -> bool:
        """Return whether there is something to send."""
        return self._lingers_until is None and bool(super().writable())

    def handle_read(self) -> None:
        """Receive; what comes after the last answer is discarded."""
        if self._lingers_until is None:
            super().handle_read()
        else:
            self.recv(self.adj.recv_bytes)  # closes at the client's end

    def handle_close(self) -> None:
        """Close the connection once the client has, or after a moment.

        A connection that is closed with unread bytes is reset, and the client may lose the answer.
        """
        if self._lingers_until is None and self.connected:
            self._lingers_until = time.monotonic() + LINGER_SECONDS
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
        else:
            super().handle_close()

    def _others(self) -> list[Channel]:
        """Return the connections that are open, apart from this one."""
        others = list(self.server.active_channels.values())
        return [one for one in others if one is not self and one._lingers_until != 0]  # noqa: SLF001 - as above

    def _make_room(self) -> None:
        """Close the connection whose client has been silent for longest, in the next turn of the loop."""
        if waiting := [one for one in self._others() if not one.requests]:
            min(waiting, key=lambda one: one.last_activity)._lingers_until = 0  # noqa: SLF001 - as above

    def _limit_uploads(self) -> None:
        """Refuse the oldest upload if there are too many: one that is sent quickly is never the oldest for long."""
        uploads = [one for one in self._others() if _uploads(one) and not one.requests]
        if len(uploads) >= MAX_UPLOADS:
            oldest = min(uploads, key=lambda one: one._expected_since)  # noqa: SLF001 - as above
            oldest._end_request(TooManyUploads(f"{MAX_UPLOADS} others are being uploaded: try again later"))  # noqa: SLF001

    def _deadline(self) -> float:
        arrived = self.request.body_bytes_received if self.request is not None else 0
        return self._expected_since + self.limit_seconds + arrived / MIN_BYTES_PER_SECOND

    def _end_request(self, error: BadRequest) -> None:
        """Answer a request that has not arrived completely, as waitress answers one that is invalid."""
        with self.requests_lock:
            request, self.request = self.request, None
            if request.error is None and not request.headers_finished:
                # A task needs a request line, though it answers with the error.
                request.parse_header(b"GET / HTTP/1.0\r\n\r\n")
            request.error = error
            request.completed = True
            self.requests.append(request)
        self.server.add_task(self)
