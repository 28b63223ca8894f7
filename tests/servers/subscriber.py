"""Somebody who takes webhooks, and keeps them."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple, Self


class Message(NamedTuple):
    """One that came; the headers as they were written."""

    headers: dict[str, str]
    body: Any


class Subscriber:
    """A server on 127.0.0.1 that answers every POST with ``status``, from ``with`` to its end."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.got: list[Message] = []
        subscriber = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                subscriber.got.append(Message(dict(self.headers), json.loads(body)))
                self.send_response(subscriber.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
