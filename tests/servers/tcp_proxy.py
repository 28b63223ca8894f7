"""A TCP proxy between one host and a server, with the faults of a bad network: it stalls, or resets connections."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from typing import Self


class TcpProxy:
    """A proxy on 127.0.0.1 in front of a port of this host, from ``with`` to its end.

    Attributes:
        port: its own.
    """

    def __init__(self, behind: int) -> None:
        self._behind = behind
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = int(self._listener.getsockname()[1])
        self._flowing = threading.Event()
        self._flowing.set()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()

    def stall(self) -> None:
        """Hold back all bytes, in both directions, and all new connections."""
        self._flowing.clear()

    def flow(self) -> None:
        """Let go what was held back."""
        self._flowing.set()

    def reset(self) -> int:
        """Reset all connections (RST), with what is on its way in them; return their number."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for end in (end for pair in pairs for end in pair):
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RD)  # wakes the thread that reads from it, which closes both
        return len(pairs)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.flow()
        self.reset()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # it is closed
                return
            self._flowing.wait()
            try:
                server = socket.create_connection(("127.0.0.1", self._behind), 5)
            except OSError:  # the server is down, and so is what stands before it
                client.close()
                continue
            server.settimeout(None)
            pair = (client, server)
            with self._lock:
                self._pairs.add(pair)
            closing = threading.Barrier(2)
            for one, other in (pair, pair[::-1]):
                threading.Thread(target=self._pump, args=(one, other, pair, closing), daemon=True).start()

    def _pump(
        self, one: socket.socket, other: socket.socket, pair: tuple[socket.socket, ...], closing: threading.Barrier
    ) -> None:
        """Carry bytes until either end goes; the second of the two threads closes both ends."""
        with suppress(OSError):
            while data := one.recv(65536):
                self._flowing.wait()
                other.sendall(data)
        for end in pair:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RD if end is one else socket.SHUT_RDWR)
        if closing.wait() == 0:
            with self._lock:
                self._pairs.discard(pair)  # type: ignore[arg-type] # it is a pair
            for end in pair:
                end.close()
