"""A reverse proxy in front of a CKAN, which refuses what real ones refuse: bodies that are too long, keys, everything.

In a test: ``with proxy(ckan.url) as front: front.faults.append(Fault("datastore_upsert", 403))``, and ``front.url``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

import requests

HOP_BY_HOP = {"connection", "content-length", "host", "transfer-encoding", "content-encoding", "date", "server"}


@dataclass
class Fault:
    """What an action answers instead of CKAN: from its call number ``first`` on, ``times`` times."""

    action: str
    status: int
    first: int = 1
    times: int = 1_000_000
    seen: int = 0

    def meets(self, action: str) -> bool:
        if action != self.action:
            return False
        self.seen += 1
        return self.first <= self.seen < self.first + self.times


@dataclass
class Front:
    """A proxy that runs.

    Attributes:
        url: its own.
        behind: root of the CKAN behind.
        limit: bytes of a body that pass, as nginx's ``client_max_body_size``.
        calls: (action, bytes of its body, status) of each call.
    """

    behind: str
    url: str = ""
    limit: int = 10**9
    faults: list[Fault] = field(default_factory=list)
    calls: list[tuple[str, int, int]] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def count(self, action: str, status: int = 200) -> int:
        return sum((name, said) == (action, status) for name, _, said in self.calls)

    def refusal(self, action: str, size: int) -> int | None:
        with self.lock:
            if size > self.limit:
                return 413
            return next((fault.status for fault in self.faults if fault.meets(action)), None)


def _handler(front: Front) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            action = self.path.rpartition("/")[2]
            status = front.refusal(action, len(body))
            if status is not None:
                self._reply(status, f"<html>{status} by the proxy</html>".encode(), {"Content-Type": "text/html"})
            else:
                sent = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
                answer = requests.request(
                    self.command, front.behind + self.path, data=body, headers=sent, timeout=120, allow_redirects=False
                )
                status = answer.status_code
                kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
                self._reply(status, answer.content, kept)
            front.calls.append((action, len(body), status))

        do_POST = do_GET  # noqa: N815 - its caller's name

        def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


@contextmanager
def proxy(behind: str) -> Iterator[Front]:
    """Run a proxy in front of the CKAN with this root."""
    front = Front(behind)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(front))
    server.daemon_threads = True
    front.url = f"http://127.0.0.1:{server.server_address[1]}"
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield front
    finally:
        server.shutdown()
        server.server_close()
