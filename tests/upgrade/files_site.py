"""Files of http://files.test, served as a proxy would: their address is the same on every machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

HOST = "http://files.test"
#: Endpoints by what they are for: done at once, slow, away when the version before asked, hanging, asked for later.
DONE, MISSING, SLOW = ("communes", "bornes"), ("nulle-part",), ("un", "deux", "trois", "quatre")
AWAY, HANGING, LATER = ("en-panne",), ("muet",), ("plus-tard",)


def table(name: str) -> bytes:
    """Return the CSV file of a name."""
    return f"code_commune;département;valeur\n01004;Ain;{name}\n07019;Ardèche;2,5\n".encode()


@dataclass
class Site:
    """A proxy that runs; ``healthy``: nothing hangs or is away any more."""

    url: str = ""
    healthy: bool = True
    asked: list[str] = field(default_factory=list)


@contextmanager
def files(*, healthy: bool) -> Iterator[Site]:
    """Serve until the end of ``with``."""
    site = Site(healthy=healthy)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2].removesuffix(".csv")
            site.asked.append(name)
            if name in HANGING and not site.healthy:
                time.sleep(600)
            if name in SLOW and not site.healthy:
                time.sleep(2)
            away = name in AWAY and not site.healthy
            status = 404 if name in MISSING else 503 if away else 200
            body = table(name) if status == 200 else b"<html>absent</html>"
            self.send_response(status)
            self.send_header("Content-Type", "text/csv" if status == 200 else "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
