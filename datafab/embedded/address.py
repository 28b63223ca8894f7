"""Addresses and ports of this host."""

from __future__ import annotations

import http.client
import socket
from dataclasses import dataclass

from datafab.core.hosts_allowed import is_loopback
from datafab.errors import SettingError


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A host and port to listen on."""

    host: str
    port: int

    @classmethod
    def of(cls, bind: str, setting: str) -> Address:
        """Parse ``host:port`` or ``[host]:port``.

        Raises:
            SettingError: ``bind`` has another form; the message names the setting.
        """
        host, _, port = bind.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            msg = f"{setting}={bind!r} is not an address and port like 127.0.0.1:8800"
            raise SettingError(msg, field=setting)
        return cls(host=host.removeprefix("[").removesuffix("]"), port=int(port))

    def check_free(self, setting: str) -> None:
        """Raise SettingError, naming the setting, unless a server can listen here."""
        try:
            family, kind, protocol, _, place = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind, protocol) as listener:
                # As the servers do, so that connections which have just been closed do not block the port.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(place)
        except OSError as error:
            msg = f"cannot listen on {self.host} port {self.port} ({error.strerror}): set {setting} to another address"
            raise SettingError(msg, field=setting) from error

    @property
    def loopback(self) -> bool:
        """Whether only this host can connect."""
        return is_loopback(self.host)

    @property
    def reached_at(self) -> str:
        """The host to connect to from this host."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - it is compared, not bound

    @property
    def url(self) -> str:
        """The URL to connect to from this host."""
        host = self.reached_at
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def healthy(self) -> bool:
        """Return whether ``/health`` answers 200. Proxies are bypassed."""
        connection = http.client.HTTPConnection(self.reached_at, self.port, timeout=2)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def listening(self) -> bool:
        """Return whether connections are accepted."""
        try:
            socket.create_connection((self.reached_at, self.port), timeout=1).close()
        except OSError:
            return False
        return True
