"""Resolve the names of servers within a time limit."""

from __future__ import annotations

import socket
import threading
from ipaddress import ip_address
from typing import Any

from datafab.cancellation import current


def resolve(name: str, port: int, limit: float) -> list[str]:
    """Return the addresses of a host name, waiting for them at most ``limit`` seconds.

    The system's resolver has no time limit. A call that hangs is left behind: it ends when its own retries are over.

    Raises:
        socket.gaierror: there are none, or no answer came in time.
        UnicodeError: this cannot be a host name.
        Lost: the job was cancelled meanwhile.
    """
    found: list[Any] = []
    done = threading.Event()

    def look_up() -> None:
        try:
            found.append(socket.getaddrinfo(name, port, 0, socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.append(error)
        done.set()

    if _is_address(name):
        look_up()
    else:
        threading.Thread(target=look_up, name=f"resolve-{name}", daemon=True).start()
        with current().interrupted_by(done.set):
            done.wait(min(limit, threading.TIMEOUT_MAX))
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
