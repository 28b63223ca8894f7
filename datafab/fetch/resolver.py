"""Names of servers: their addresses, in time."""

from __future__ import annotations

import socket
import threading
from ipaddress import ip_address
from typing import Any


def resolved(name: str, port: int, limit: float) -> list[str]:
    """Return the addresses of a name, waiting for them no longer than this many seconds.

    The system's resolver knows no limit, and one that hangs is left to itself: it ends when its own tries are over.

    Raises:
        socket.gaierror: there are none, or nobody has said so in time.
        UnicodeError: no name can be like this.
    """
    found: list[Any] = []

    def ask() -> None:
        try:
            found.append(socket.getaddrinfo(name, port, 0, socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.append(error)

    if _is_address(name):
        ask()
    else:
        asking = threading.Thread(target=ask, name=f"resolve-{name}", daemon=True)
        asking.start()
        asking.join(min(limit, threading.TIMEOUT_MAX))
    if not found:
        raise socket.gaierror(socket.EAI_AGAIN, "no answer in time")
    if isinstance(found[0], Exception):
        raise found[0]
    return list(dict.fromkeys(str(info[4][0]) for info in found[0]))


def _is_address(name: str) -> bool:
    try:
        ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True
