"""A small, fast HTTP/1.1 server with the faults that real ones have.

In a test: ``with Site({"/a.csv": Answer(b"id;nom")}) as site: site.url("/a.csv")``. For benchmarks, in a process of
its own: ``python -m tests.servers.http --ports 8 --delay 0.05 --size 20000`` prints ``{"ports": [...]}`` and serves
a CSV of its own at every path until its standard input is closed.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import socket
import ssl
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Self

INTERIM = b"".join(
    b"HTTP/1.1 %b\r\n\r\n" % status
    for status in (b"100 Continue", b"102 Processing", b"103 Early Hints\r\nLink: </style.css>; rel=preload")
)
REASONS = {200: "OK", 301: "Moved Permanently", 302: "Found", 404: "Not Found", 500: "Internal Server Error"}

Fault = Literal[
    "",
    "short",
    "no-length",
    "endless",
    "continues",
    "interim",
    "drip",
    "slow-head",
    "stall",
    "hang-up",
    "reset",
    "reset-chunk",
    "garbage",
]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a path answers; ``delay`` and ``pause`` are seconds.

    Faults: ``short`` announces 100 bytes more than it sends, ``no-length`` announces none and closes, ``endless`` sends
    until the client goes, ``continues`` says "100 Continue" until then, ``interim`` sends 100, 102 and 103 first,
    ``drip`` sends a byte every ``pause``, ``slow-head`` does so with the headers, ``stall`` sends half of the body and
    waits, ``reset`` breaks off there, ``hang-up`` closes without an answer, ``reset-chunk`` ends in the middle of a
    chunk, ``garbage`` is not HTTP.
    """

    body: bytes = b""
    status: int = 200
    content_type: str | None = "text/csv"
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    pause: float = 0.05
    chunked: bool = False
    close: bool = False
    gzip: bool = False
    fault: Fault = ""

    def encoded(self) -> bytes:
        """The whole answer, status line to last byte."""
        body = gzip.compress(self.body) if self.gzip else self.body
        lines = [f"HTTP/1.1 {self.status} {REASONS.get(self.status, 'Status')}"]
        if self.content_type is not None:
            lines.append(f"Content-Type: {self.content_type}")
        if self.gzip:
            lines.append("Content-Encoding: gzip")
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.close:
            lines.append("Connection: close")
        if self.chunked:
            lines.append("Transfer-Encoding: chunked")
            body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:]) if part)
            body += b"" if self.fault == "reset-chunk" else b"0\r\n\r\n"
        elif "Content-Length" not in self.headers and self.fault not in {"endless", "no-length"}:
            lines.append(f"Content-Length: {len(body) + (100 if self.fault == 'short' else 0)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def redirect(to: str, status: int = 302, **headers: str) -> Answer:
    """An answer that sends the client elsewhere."""
    return Answer(status=status, headers={"Location": to, **headers})


Router = Callable[[str, dict[str, str]], Answer]


class _Connection(asyncio.Protocol):
    """One client; requests have no body."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.site.connections += 1
        self.site.open.add(transport)

    def connection_lost(self, _error: Exception | None) -> None:
        self.site.open.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.buffer.startswith(b"\x16"):  # a TLS client at a plain port
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            self.transport.close()
            return
        while b"\r\n\r\n" in self.buffer:
            head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
            first, *rest = head.decode("latin-1").split("\r\n")
            method, path, _ = first.split(" ", 2)
            headers = dict(line.split(": ", 1) for line in rest)
            if method == "OPTIONS":
                self.site.preflights.append((path, headers))
                self.answer(self.site.preflight)
                continue
            self.site.hits[path] += 1
            self.site.requests.append((path, headers))
            answer = self.site.route(path, headers)
            if answer.delay:
                self.site.loop.call_later(answer.delay, self.answer, answer)
            else:
                self.answer(answer)

    def answer(self, answer: Answer) -> None:
        if answer.fault == "hang-up":
            self.transport.close()
        elif answer.fault == "garbage":
            self.transport.write(b"\x00\x01 this is not HTTP\r\n\r\n")
            self.transport.close()
        elif answer.fault == "endless":
            self.transport.write(answer.encoded())
            self.flood(b"0123456789abcdef" * 4096)
        elif answer.fault == "continues":
            self.flood(b"HTTP/1.1 100 Continue\r\n\r\n" * 2000)
        elif answer.fault in {"drip", "slow-head"}:
            whole = answer.encoded()
            start = whole.index(b"\r\n\r\n") + 4 if answer.fault == "drip" else 12
            self.transport.write(whole[:start])
            self.drip(whole[start:], answer.pause)
        elif answer.fault in {"stall", "reset"}:
            self.transport.write(answer.encoded()[: -len(answer.body) // 2])
            if answer.fault == "reset":  # what is not read yet goes too: the client has the head by then
                self.site.loop.call_later(answer.pause, self.reset)
        else:
            self.transport.write((INTERIM if answer.fault == "interim" else b"") + answer.encoded())
            if answer.close or answer.fault not in {"", "interim"}:
                self.transport.close()

    def reset(self) -> None:
        """Let the system tell the client that the connection is no more (RST)."""
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def drip(self, rest: bytes, pause: float) -> None:
        if rest and not self.transport.is_closing():
            self.transport.write(rest[:1])
            self.site.loop.call_later(pause, self.drip, rest[1:], pause)

    def flood(self, data: bytes) -> None:
        if not self.transport.is_closing():
            if self.transport.get_write_buffer_size() < 1 << 20:
                self.transport.write(data)
            self.site.loop.call_later(0.001, self.flood, data)


class Site:
    """A server on 127.0.0.1 in a thread of its own, from ``with`` to its end.

    Attributes:
        answers: path -> answer; change it at any time. An unknown path is 404.
        hits: requests by path.
        requests: (path, headers) of every request, in order, but for OPTIONS.
        preflights: the same of OPTIONS, each of which is answered with ``preflight``.
        connections: how many were made.
    """

    def __init__(
        self,
        answers: Mapping[str, Answer] | None = None,
        *,
        router: Router | None = None,
        context: ssl.SSLContext | None = None,
        ports: int = 1,
    ) -> None:
        self.answers = dict(answers or {})
        self.hits: Counter[str] = Counter()
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.preflights: list[tuple[str, dict[str, str]]] = []
        self.preflight = Answer(b"", 405)
        self.connections = 0
        self.open: set[asyncio.Transport] = set()
        self.ports: list[int] = []
        self.route = router or self._route
        self._context = context
        self._count = ports
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _route(self, path: str, headers: dict[str, str]) -> Answer:
        return self.answers.get(path) or Answer(b"no such page", 404, "text/plain")

    def url(self, path: str = "/", *, host: str = "127.0.0.1") -> str:
        """The address of a path."""
        return f"{'https' if self._context else 'http'}://{host}:{self.ports[0]}{path}"

    def _run(self) -> None:
        self.loop = asyncio.new_event_loop()
        servers = [
            self.loop.run_until_complete(
                self.loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, ssl=self._context, backlog=512)
            )
            for _ in range(self._count)
        ]
        self.ports = [server.sockets[0].getsockname()[1] for server in servers]
        self._ready.set()
        self.loop.run_forever()
        self.loop.run_until_complete(self._hang_up(servers))
        self.loop.close()

    async def _hang_up(self, servers: list[asyncio.Server]) -> None:
        """Close all connections, those that are being made or closed included: a warning counts as an error."""
        # A server that closes forgets those that it is accepting; a client that never shakes hands is not waited for.
        while accepting := asyncio.all_tasks() - {asyncio.current_task()}:
            _, late = await asyncio.wait(accepting, timeout=0.05)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for server in servers:
            server.close()
        for _ in range(10):
            for transport in list(self.open):
                transport.abort()
            await asyncio.sleep(0)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)


def table(path: str, size: int) -> bytes:
    """A CSV of about ``size`` bytes that no other path has."""
    name = path.strip("/").replace("/", "-") or "racine"
    row = f"{name};Société Générale des Données;12,50;2024-02-29;48.8566\n".encode()
    return b"id;nom;montant;date;latitude\n" + row * max(1, size // len(row))


def main() -> None:
    """Serve tables for a benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ports", type=int, default=1)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before every answer")
    parser.add_argument("--size", type=int, default=20_000, help="bytes of every body")
    options = parser.parse_args()

    def route(path: str, _headers: dict[str, str]) -> Answer:
        return Answer(table(path, options.size), delay=options.delay)

    with Site(router=route, ports=options.ports) as site:
        sys.stdout.write(json.dumps({"ports": site.ports}) + "\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
