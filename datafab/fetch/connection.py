"""Connections of urllib3 within limits: which addresses may be fetched from, for how long and how much."""

from __future__ import annotations

import io
import math
import socket
import ssl
import time
from collections.abc import Iterable
from http.client import HTTPResponse
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NameResolutionError, NewConnectionError

from datafab.errors import Fatal
from datafab.fetch.certificate import expiry_date
from datafab.fetch.resolver import resolve

#: Bytes of one read: most of what is fetched fits in one.
READ_BYTES = 64 * 1024

#: Statuses of interim answers, which another one follows.
INTERIM_STATUSES = range(102, 200)

#: OpenSSL's code for a certificate that has expired.
EXPIRED_CODE = 10

#: IPv6 addresses that stand for an IPv4 address (RFC 6052): the address inside is the one to check.
_NAT64 = IPv6Network("64:ff9b::/96")


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

    Attributes:
        deadline: when the fetch must have ended, by ``time.monotonic``.
        bytes_left: bytes that may still come over the wire.
        new_connection: whether the fetch opened a connection; False where it uses one that was open.
    """

    __slots__ = ("_any", "_networks", "bytes_left", "deadline", "new_connection")

    def __init__(self, allowed: Iterable[str]) -> None:
        allowed = tuple(allowed)
        self._any = "*" in allowed
        self._networks = [ip_network(part, strict=False) for part in allowed if part != "*"]
        self.deadline = math.inf
        self.bytes_left = 0
        self.new_connection = False

    def start(self, seconds: float, max_bytes: int) -> None:
        """Reset the limits for another fetch."""
        self.deadline = time.monotonic() + seconds
        self.bytes_left = max_bytes

    def check_address(self, address: str) -> None:
        """Raise PrivateAddress unless this IP address is public or allowed."""
        if not self._any and not is_permitted(address, self._networks):
            raise PrivateAddress(address)

    def seconds_left(self) -> float:
        """Return the seconds until the deadline.

        Raises:
            TimeoutError: it has passed.
        """
        left = self.deadline - time.monotonic()
        if left <= 0:
            msg = "the time limit of the complete answer has passed"
            raise TimeoutError(msg)
        return left


def is_permitted(address: str, networks: Iterable[IPv4Network | IPv6Network] = ()) -> bool:
    """Tell whether an IP address is public, or in one of the networks."""
    ip = _inner(ip_address(address.partition("%")[0]))
    if any(ip in network for network in networks):
        return True
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _inner(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(ip, IPv4Address):
        return ip
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    teredo = ip.teredo[1] if ip.teredo else None
    return ip.ipv4_mapped or ip.sixtofour or teredo or ip


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
            return super()._new_conn()
        name = self._dns_host
        try:
            sock = self._connect_to_first(self._addresses(name))
        finally:
            self._dns_host = name
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
            self._dns_host = address
            try:
                return super()._new_conn()
            except (NewConnectionError, ConnectTimeoutError):
                self.limits.seconds_left()
        self._dns_host = addresses[-1]
        return super()._new_conn()

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
