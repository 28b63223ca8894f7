"""A client's connection, as the webhook's server sees it: the request that arrives, and the answer that leaves."""

from __future__ import annotations

import socket
import time
from io import BytesIO
from typing import Any

from gunicorn import http

from webhook.incoming import Incoming

#: The slowest rate at which a body may be sent or an answer be read, in bytes per second.
MIN_RATE = 16 * 1024
#: Seconds that a request may have waited for a thread without it being checked that the client still waits too.
PATIENT_SECONDS = 2.0


class Exchange:
    """What a thread has in place of the socket: it reads the request and writes the answer without waiting."""

    def __init__(self, request: bytes) -> None:
        self.size = len(request)
        self._request = BytesIO(request)
        self.answer = bytearray()

    def recv(self, size: int) -> bytes:
        """Return the next bytes of the request, none at its end."""
        return self._request.read(size)

    def sendall(self, data: bytes) -> None:
        """Add to the answer."""
        self.answer += data

    def setblocking(self, _flag: bool) -> None:
        """Do nothing: neither direction blocks."""

    def settimeout(self, _seconds: float) -> None:
        """Do nothing, as above."""

    def shutdown(self, _how: int) -> None:
        """Do nothing: the connection is closed once the answer has left."""

    def close(self) -> None:
        """Do nothing, as above."""


class Connection:
    """A connection. Its socket is used by the server's loop, and ``sock`` by the thread that handles the request.

    Attributes:
        cfg, client, server, sock, parser, initialized, data_ready, is_http2: what gunicorn's threads read.
        socket: the socket.
        incoming: the request that is arriving.
        outgoing: what is left to send of the answer.
        deadline: when the present step must have ended (``time.monotonic``).
        reusable: whether another request may follow the present one.
    """

    initialized = data_ready = True
    is_http2 = False

    def __init__(self, cfg: Any, client_socket: socket.socket, client: Any, server: Any, incoming: Incoming) -> None:
        client_socket.setblocking(False)
        self.cfg = cfg
        self.socket = client_socket
        self.client = client
        self.server = server
        self.incoming = incoming
        self.outgoing = memoryview(b"")
        self.sock: Exchange = Exchange(b"")
        self.parser: Any = None
        self.deadline = 0.0
        self.reusable = False
        self._following = b""
        self._limit = 0.0
        self._step_began = 0.0
        self._moved = 0

    @property
    def address(self) -> str:
        """The client's address."""
        return str(self.client[0]) if isinstance(self.client, tuple) else "a local socket"

    @property
    def held(self) -> int:
        """The memory that it takes, in bytes."""
        return len(self.incoming) + self.sock.size + len(self.outgoing)

    def init(self) -> None:
        """Do nothing: ``begin`` has prepared everything."""

    def allow(self, seconds: float) -> None:
        """Begin a step that may take so long, and longer while bytes are moved."""
        self._limit, self._step_began, self._moved = seconds, time.monotonic(), 0
        self.deadline = self._step_began + seconds

    def moved(self, size: int) -> None:
        """Note that bytes were received or sent: they extend the deadline, but not beyond a pause."""
        self._moved += size
        earned = self._step_began + self._limit + self._moved / MIN_RATE
        self.deadline = min(earned, time.monotonic() + self._limit)

    def begin(self) -> None:
        """Prepare for a thread to handle the request that has arrived."""
        request, self._following = self.incoming.take()
        self.sock = Exchange(request)
        self.parser = http.get_parser(self.cfg, self.sock, self.client)
        self.reusable = not self.incoming.doubtful
        self._step_began = time.monotonic()

    def abandoned(self) -> bool:
        """Return whether the client has left while its request waited for a thread."""
        if time.monotonic() - self._step_began < PATIENT_SECONDS:
            return False
        try:
            return not self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def end(self, keep: bool) -> None:
        """Take the answer of the thread, which says whether to keep the connection."""
        # Bytes that gunicorn has not read as part of this request would be read as another one.
        left = self.sock.recv(1) or self.parser.unreader.take_buffered()
        self.reusable = self.reusable and keep and not left
        self.outgoing = memoryview(self.sock.answer)

    def expect(self, incoming: Incoming) -> None:
        """Expect another request, of which a part may have arrived."""
        self.incoming = incoming
        if self._following:
            incoming.feed(self._following)
        self.sock, self._following, self.outgoing = Exchange(b""), b"", memoryview(b"")

    def receive(self, size: int) -> int | None:
        """Receive a part of the request and return its length; 0: the client has closed; None: nothing has arrived."""
        data = self._receive(size)
        if data:
            self.incoming.feed(data)
            self.moved(len(data))
        return data if data is None else len(data)

    def discard(self, size: int) -> int | None:
        """Receive bytes that are not wanted."""
        data = self._receive(size)
        return data if data is None else len(data)

    def send(self, size: int) -> bool:
        """Send a part of the answer, and return whether the client still accepts it."""
        try:
            sent = self.socket.send(self.outgoing[:size])
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.outgoing = self.outgoing[sent:]
        self.moved(sent)
        return True

    def _receive(self, size: int) -> bytes | None:
        try:
            return self.socket.recv(size)
        except BlockingIOError:
            return None
        except OSError:
            return b""
