"""The webhook as its own server runs it: ``python -m webhook``, on a real Redis."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from datafab.embedded import free_port
from datafab.embedded.address import Address
from tests.servers.celery import PATIENCE, Process, until

#: Seconds for an answer on an idle machine.
SECONDS = 6


@dataclass(frozen=True)
class Server:
    """A running webhook.

    Attributes:
        port: on 127.0.0.1.
        log: its log file.
        process: runs it.
    """

    port: int
    log: Path
    process: Process

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS * PATIENCE)

    def talk(self, data: bytes) -> str:
        """Send bytes, and return all that comes back until the server closes the connection."""
        with self.connect() as client:
            # It may be refused while it is being sent.
            with suppress(BrokenPipeError, ConnectionResetError):
                client.sendall(data)
            return read_all(client)

    def get(self, path: str = "/health") -> str:
        return self.talk(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())


def read_all(client: socket.socket) -> str:
    found = b""
    while data := client.recv(65536):
        found += data
    return found.decode("latin-1")


def statuses(answers: str) -> list[int]:
    """Return the statuses of the answers that came back on a connection."""
    return [int(status) for status in re.findall(r"^HTTP/1\.[01] (\d{3}) ", answers, flags=re.MULTILINE)]


@contextmanager
def webhook(folder: Path, redis_url: str, *, files: int | None = None, **settings: str) -> Iterator[Server]:
    """Run a webhook, which may open so many files; ``settings`` are variables of its environment."""
    port = free_port()
    env = {"DATAFAB_REDIS_URL": redis_url, "DATAFAB_HOME": str(folder), "DATAFAB_BIND": f"127.0.0.1:{port}"} | settings
    module = ("webhook",) if files is None else ("tests.servers.few_files", str(files), "webhook")
    process = Process("webhook", *module, env=env, log=folder)
    try:
        until(lambda: process.alive and Address(host="127.0.0.1", port=port).healthy(), 30)
        yield Server(port, process.log, process)
    finally:
        process.stop()
