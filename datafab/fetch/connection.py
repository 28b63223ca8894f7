"""Connections that know whom they may talk to, for how long and how much: urllib3's, with a leash."""

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
from datafab.fetch.certificate import last_day
from datafab.fetch.resolver import resolved

#: Most of what is fetched comes in one read of this many bytes.
BUFFER = 64 * 1024

#: Statuses of answers that another one follows.
INTERIM = range(102, 200)

#: OpenSSL's code for a certificate that has expired.
EXPIRED = 10

#: IPv6 addresses that stand for an IPv4 address (RFC 6052): what counts is the address inside.
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


class Leash:
    """How far one fetch may go; shared by the connections of a session, which fetches one URL at a time.

    Attributes:
        deadline: when it must have ended, by ``time.monotonic``.
        budget: bytes that may still come over the wire.
        connected: whether it made a connection, or used one that was open.
    """

    __slots__ = ("_any", "_networks", "budget", "connected", "deadline")

    def __init__(self, allowed: Iterable[str]) -> None:
        allowed = tuple(allowed)
        self._any = "*" in allowed
        self._networks = [ip_network(part, strict=False) for part in allowed if part != "*"]
        self.deadline = math.inf
        self.budget = 0
        self.connected = False

    def begin(self, seconds: float, budget: int) -> None:
        """Start anew for another fetch."""
        self.deadline = time.monotonic() + seconds
        self.budget = budget

    def check(self, address: str) -> None:
        """Raise PrivateAddress unless this IP address is public or allowed."""
        if not self._any and not permitted(address, self._networks):
            raise PrivateAddress(address)

    def left(self) -> float:
        """Return the seconds until the deadline.

        Raises:
            TimeoutError: it has passed.
        """
        left = self.deadline - time.monotonic()
        if left <= 0:
            msg = "the time for the whole answer is over"
            raise TimeoutError(msg)
        return left


def permitted(address: str, networks: Iterable[IPv4Network | IPv6Network] = ()) -> bool:
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


class _Wire(io.RawIOBase):
    """What comes out of a socket, as long as the leash lasts: a server that drips bytes is cut off too."""

    def __init__(self, sock: socket.socket, leash: Leash) -> None:
        self._sock = sock
        self._leash = leash
        self._raw: Any = sock.makefile("rb", buffering=0)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return the file that ``http.client`` asks a socket for."""
        return io.BufferedReader(self, BUFFER)

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what has come, waiting for it no longer than the leash allows."""
        leash = self._leash
        left = leash.left()
        timeout = self._sock.gettimeout()
        if timeout is None or left < timeout:
            self._sock.settimeout(left)
        count: int | None = self._raw.readinto(buffer)
        leash.budget -= count or 0
        if leash.budget < 0:
            msg = "the answer does not end"
            raise TooLarge(msg)
        return count

    def close(self) -> None:
        """Let go of the socket."""
        self._raw.close()
        super().close()


class _FinalResponse(HTTPResponse):
    """The final answer to a request: all interim ones before it are read over (RFC 9110, 15.2), not 100 alone.

    101 changes the protocol. Nobody asks for that here, so it is final, and refused by its status.
    """

    def begin(self) -> None:
        """Read the status line and the headers of the final answer."""
        super().begin()
        while self.status in INTERIM:
            self.headers = self.msg = None  # type: ignore[assignment]
            super().begin()


class Leashed(HTTPConnection):
    """A connection to a permitted address; says so before any byte is sent, so after every redirect too."""

    leash: Leash

    def _new_conn(self) -> socket.socket:
        self.leash.connected = True
        if self.proxy is not None:  # the proxy resolves names: what may be reached through it is its own rule
            return super()._new_conn()
        name = self._dns_host
        try:
            sock = self._first_that_answers(self._addresses(name))
        finally:
            self._dns_host = name
        try:
            self.leash.check(sock.getpeername()[0])
        except PrivateAddress:
            sock.close()
            raise
        return sock

    def _addresses(self, name: str) -> list[str]:
        """Resolve once, and leave out what is not permitted: a closed port there must not be told from an open one."""
        limit = self.timeout if isinstance(self.timeout, int | float) else math.inf
        try:
            addresses = resolved(name, self.port, min(limit, self.leash.left()))
        except (socket.gaierror, UnicodeError) as error:
            cause = error if isinstance(error, socket.gaierror) else socket.gaierror(str(error))
            raise NameResolutionError(self.host, self, cause) from error
        refused: PrivateAddress | None = None
        for address in list(addresses):
            try:
                self.leash.check(address)
            except PrivateAddress as error:
                refused = error
                addresses.remove(address)
        if not addresses and refused is not None:
            raise refused
        return addresses

    def _first_that_answers(self, addresses: list[str]) -> socket.socket:
        for address in addresses[:-1]:
            self._dns_host = address
            try:
                return super()._new_conn()
            except (NewConnectionError, ConnectTimeoutError):
                self.leash.left()
        self._dns_host = addresses[-1]
        return super()._new_conn()

    def response_class(  # type: ignore[override]
        self, sock: socket.socket, method: str | None = None
    ) -> HTTPResponse:
        """Read answers through the leash (``http.client`` asks for a class; it only calls it)."""
        return _FinalResponse(_Wire(sock, self.leash), method=method)  # type: ignore[arg-type]


class LeashedTLS(Leashed, HTTPSConnection):
    """The same with TLS."""

    def connect(self) -> None:
        """Connect; a certificate that has expired is told with its date."""
        try:
            super().connect()
        except ssl.SSLCertVerificationError as error:
            if error.verify_code == EXPIRED and (ended := self._ended()):
                error.verify_message = f"certificate has expired on {ended}"
            raise

    def _ended(self) -> str | None:
        """Ask the server for its certificate again, now without a check; return its last day."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            with self._new_conn() as sock, context.wrap_socket(sock, server_hostname=self.host) as secure:
                return last_day(secure.getpeercert(binary_form=True) or b"")
        except (OSError, HTTPError, Fatal):
            return None


def pool_classes(leash: Leash) -> dict[str, type[HTTPConnectionPool]]:
    """Return what a ``PoolManager`` needs as ``pool_classes_by_scheme``, for connections on this leash."""
    plain = type("Connection", (Leashed,), {"leash": leash})
    secure = type("ConnectionTLS", (LeashedTLS,), {"leash": leash})
    return {
        "http": type("Pool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("PoolTLS", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }
