"""A real Chromium that visits one page, and the server of that page: a stranger's, to which the page reports.

The stranger also plays DNS rebinding. Chromium is told that a name has the address of the stranger; it answers the
paths below ``/page`` itself and hands everything else on to the port under attack, as if the name had since been given
the address of the host. The bytes are handed on as they are, with the ``Host`` that Chromium wrote.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
#: Nothing but the page under test talks to anybody.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--disable-default-apps",
    # A page that was clicked on could open others.
    "--disable-popup-blocking",
)
#: Seconds for a page to report, on a machine that is busy with other tests.
PATIENCE = 180


def chromium() -> str:
    """Return the browser; skips the test where there is none, but in CI, where it is installed."""
    found = next((path for path in map(shutil.which, NAMES) if path), None)
    if found is None:
        missing = "no Chromium on this host: apt install chromium"
        pytest.skip(missing)
    return found


class Stranger:
    """Serves one page to a browser and keeps what it reports.

    Attributes:
        port: on 127.0.0.1.
        posts: what was posted to it apart from the report: path and content type.
    """

    def __init__(self, page: str, rebound: int | None = None) -> None:
        self.posts: list[tuple[str, str]] = []
        self._reports: queue.Queue[dict[str, Any]] = queue.Queue()
        stranger = self

        class Handler(BaseHTTPRequestHandler):
            def parse_request(self) -> bool:
                parsed = super().parse_request()
                if parsed and rebound is not None and not self.path.startswith("/page"):
                    self._hand_on(rebound)
                    return False
                return parsed

            def do_GET(self) -> None:
                self._answer(page.encode() if self.path == "/page" else b"readable")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.path == "/page/report":
                    stranger._reports.put(json.loads(body))
                else:
                    stranger.posts.append((self.path, self.headers.get_content_type()))
                self._answer(b"readable")

            def _answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def _hand_on(self, port: int) -> None:
                self.close_connection = True
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                del self.headers["Connection"]
                self.headers["Connection"] = "close"
                head = f"{self.raw_requestline.decode('latin-1')}{self.headers.as_string()}"
                with socket.create_connection(("127.0.0.1", port)) as there:
                    there.sendall(head.replace("\r\n", "\n").replace("\n", "\r\n").encode("latin-1") + body)
                    while block := there.recv(65536):
                        self.wfile.write(block)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def report(self) -> dict[str, Any]:
        """Wait for what the page reports."""
        return self._reports.get(timeout=PATIENCE)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def stranger(page: str, rebound: int | None = None) -> Iterator[Stranger]:
    """Serve a page; ``rebound``: the port that everything else is handed on to."""
    server = Stranger(page, rebound)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def visiting(url: str, profile: Path, names: Mapping[str, str]) -> Iterator[None]:
    """Have a Chromium with an empty profile at a page; ``names``: host (and port) -> address (and port)."""
    rules = ", ".join([*(f"MAP {name} {place}" for name, place in names.items()), "MAP *.invalid ~NOTFOUND"])
    command = [chromium(), *FLAGS, f"--user-data-dir={profile}", f"--host-resolver-rules={rules}", url]
    log = profile.with_suffix(".log")
    environment = {**os.environ, "HOME": str(profile.parent)}
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True)
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
