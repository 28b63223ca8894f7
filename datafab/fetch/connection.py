"""Connections of urllib3 within limits: which addresses may be fetched from, for how long and how much."""

from __future__ import annotations

import io
import math
import os
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from http.client import HTTPResponse
from ipaddress import ip_network
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NameResolutionError, NewConnectionError

from datafab.cancellation import Cancellation, current
from datafab.errors import Fatal
from datafab.fetch.certificate import expiry_date
from datafab.fetch.public_addresses import is_permitted
from datafab.fetch.resolver import resolve

#: Bytes of one read: most of what is fetched fits in one.
READ_BYTES = 64 * 1024

#: Statuses of interim answers, which another one follows.
INTERIM_STATUSES = range(102, 200)

#: OpenSSL's code for a certificate that has expired.
EXPIRED_CODE = 10


class PrivateAddress(Fatal):
    """The server is on a network that may not be fetched from."""

    def __init__(self, address: str) -> None:
        msg = f"{address} is a private address; DATAFAB_ALLOW_PRIVATE_HOSTS names those that may be fetched"
        super().__init__(msg, code="private_address")


class TooLarge(Fatal):
    """The answer is larger than DATAFAB_MAX_BYTES allows."""

    def __init__(self, message: str) -> None:
        super().__init__(f"{message}; the limit is DATAFAB_MAX_BYTES", code="too_large")


class FetchLimits:
    """The limits of one fetch; shared by the connections of a session, which fetches one URL at a time.

    They end with the job, too: a cancellation shuts down the sockets of the fetch, whatever it waits for.

    Attributes:
        deadline: when the fetch must have ended, by ``time.monotonic``.
        bytes_left: bytes that may still come over the wire.
        new_connection: whether the fetch opened a connection; False where it uses one that was open.
    """

    __slots__ = ("_any", "_cancellation", "_networks", "_watched", "bytes_left", "deadline", "new_connection")

    def __init__(self, allowed: Iterable[str]) -> None:
        allowed = tuple(allowed)
        self._any = "*" in allowed
        self._networks = [ip_network(part, strict=False) for part in allowed if part != "*"]
        self.deadline = math.inf
        self.bytes_left = 0
        self.new_connection = False
        self._cancellation: Cancellation = current()
        self._watched: list[Callable[[], None]] = []

    def start(self, seconds: float, max_bytes: int) -> None:
        """Reset the limits for another fetch, which ``finish`` ends."""
        self.finish()
        self.deadline = time.monotonic() + seconds
        self.bytes_left = max_bytes
        self._cancellation = current()

    def finish(self) -> None:
        """Let go of the sockets of the fetch."""
        while self._watched:
            self._watched.pop()()

    def watch(self, sock: socket.socket) -> None:
        """Shut a socket down when the job is cancelled, until the end of the fetch."""
        # A copy: wrapping it for TLS or closing it elsewhere does not change which connection this is.
        copy = socket.socket(sock.family, sock.type, sock.proto, fileno=os.dup(sock.fileno()))
        number = self._cancellation.register(partial(_shut_down, copy))

        def release() -> None:
            self._cancellation.unregister(number)
            copy.close()

        self._watched.append(release)

    def check(self) -> None:
        """Raise Lost if the job was cancelled."""
        self._cancellation.check()

    def check_address(self, address: str) -> None:
        """Raise PrivateAddress unless this IP address is public or allowed."""
        if not self._any and not is_permitted(address, self._networks):
            raise PrivateAddress(address)

    def seconds_left(self) -> float:
        """Return the seconds until the deadline.

        Raises:
            TimeoutError: it has passed.
            Lost: the job was cancelled.
        """
        self.check()
        left = self.deadline - time.monotonic()
        if left <= 0:
            msg = "the time limit of the complete answer has passed"
            raise TimeoutError(msg)
        return left


def _shut_down(sock: socket.socket) -> None:
    with suppress(OSError):  # it is not connected yet, or not any more
        sock.shutdown(socket.SHUT_RDWR)


class _LimitedFile(io.RawIOBase):
    """The bytes of a socket within the limits: a server that drips bytes is cut off too."""

    def __init__(self, sock: socket.socket, limits: FetchLimits) -> None:
        self._sock = sock
        self._limits = limits
        self._raw: Any = sock.makefile("rb", buffering=0)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return the file that ``http.client`` asks a socket for."""
        return io.BufferedReader(self, READ_BYTES)

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what has come; wait no longer than the limits allow."""
        limits = self._limits
        left = limits.seconds_left()
        timeout = self._sock.gettimeout()
        if timeout is None or left < timeout:
            self._sock.settimeout(left)
        count: int | None = self._raw.readinto(buffer)
        limits.check()  # the end of a socket that was shut down looks like that of the answer
        limits.bytes_left -= count or 0
        if limits.bytes_left < 0:
            msg = "more bytes came than any answer within the limits has"
            raise TooLarge(msg)
        return count

    def close(self) -> None:
        """Close the file of the socket."""
        self._raw.close()
        super().close()


class _FinalResponse(HTTPResponse):
    """The final answer to a request: all interim ones before it are skipped (RFC 9110, 15.2), not 100 alone.

    101 changes the protocol, which no request asks for: it counts as final and is refused by its status.
    """

    def begin(self) -> None:
        """Read the status line and the headers of the final answer."""
        super().begin()
        while self.status in INTERIM_STATUSES:
            self.headers = self.msg = None  # type: ignore[assignment]
            super().begin()


class LimitedConnection(HTTPConnection):
    """A connection to a permitted address: checked before any byte is sent, so after every redirect too."""

    limits: FetchLimits

    def _new_conn(self) -> socket.socket:
        self.limits.new_connection = True
        if self.proxy is not None:  # the proxy resolves names, and its own rules say what may be reached
            sock = super()._new_conn()
            self.limits.watch(sock)
            return sock
        sock = self._connect_to_first(self._addresses(self._dns_host))
        try:
            self.limits.check_address(sock.getpeername()[0])
        except PrivateAddress:
            sock.close()
            raise
        return sock

    def _addresses(self, name: str) -> list[str]:
        """Resolve the name once; leave out what is not permitted, so that open and closed ports there look the same."""
        limit = self.timeout if isinstance(self.timeout, int | float) else math.inf
        try:
            addresses = resolve(name, self.port, min(limit, self.limits.seconds_left()))
        except (socket.gaierror, UnicodeError) as error:
            cause = error if isinstance(error, socket.gaierror) else socket.gaierror(str(error))
            raise NameResolutionError(self.host, self, cause) from error
        refused: PrivateAddress | None = None
        for address in list(addresses):
            try:
                self.limits.check_address(address)
            except PrivateAddress as error:
                refused = error
                addresses.remove(address)
        if not addresses and refused is not None:
            raise refused
        return addresses

    def _connect_to_first(self, addresses: list[str]) -> socket.socket:
        for address in addresses[:-1]:
            try:
                return self._connect_to(address)
            except (NewConnectionError, ConnectTimeoutError):
                self.limits.seconds_left()
        return self._connect_to(addresses[-1])

    def _connect_to(self, address: str) -> socket.socket:
        """Connect to an IP address, as urllib3 does; a cancellation ends the attempt."""
        sock: socket.socket | None = None
        try:
            family, kind, proto, _, there = socket.getaddrinfo(
                address, self.port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST
            )[0]
            sock = socket.socket(family, kind, proto)
            for option in self.socket_options or ():
                sock.setsockopt(*option)
            if isinstance(self.timeout, int | float):
                sock.settimeout(self.timeout)
            self.limits.watch(sock)
            sock.connect(there)
        except OSError as error:
            if sock is not None:
                sock.close()
            self.limits.check()
            if isinstance(error, TimeoutError):
                msg = f"Connection to {self.host} timed out. (connect timeout={self.timeout})"
                raise ConnectTimeoutError(self, msg) from error
            raise NewConnectionError(self, f"Failed to establish a new connection: {error}") from error
        sys.audit("http.client.connect", self, self.host, self.port)
        return sock

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        """Start a request, on a connection that is open already or on a new one."""
        self.limits.check()
        if self.sock is not None:
            self.limits.watch(self.sock)
        super().putrequest(*args, **kwargs)

    def response_class(  # type: ignore[override]
        self, sock: socket.socket, method: str | None = None
    ) -> HTTPResponse:
        """Return an answer that is read within the limits (``http.client`` expects a class, and only calls it)."""
        return _FinalResponse(_LimitedFile(sock, self.limits), method=method)  # type: ignore[arg-type]


class LimitedTLSConnection(LimitedConnection, HTTPSConnection):
    """The same with TLS."""

    def connect(self) -> None:
        """Connect; the error for an expired certificate names its last day."""
        try:
            super().connect()
        except ssl.SSLCertVerificationError as error:
            if error.verify_code == EXPIRED_CODE and (expiry := self._expiry_date()):
                error.verify_message = f"certificate has expired on {expiry}"
            raise

    def _expiry_date(self) -> str | None:
        """Ask the server for its certificate again, without verifying it; return its last day."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            with self._new_conn() as sock, context.wrap_socket(sock, server_hostname=self.host) as secure:
                return expiry_date(secure.getpeercert(binary_form=True) or b"")
        except (OSError, HTTPError, Fatal):
            return None


def pool_classes(limits: FetchLimits) -> dict[str, type[HTTPConnectionPool]]:
    """Return a ``PoolManager``'s ``pool_classes_by_scheme`` for connections within these limits."""
    plain = type("Connection", (LimitedConnection,), {"limits": limits})
    secure = type("ConnectionTLS", (LimitedTLSConnection,), {"limits": limits})
    return {
        "http": type("Pool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("PoolTLS", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }
