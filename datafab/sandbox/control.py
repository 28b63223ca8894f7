"""The control of every sandbox: its clock, faults and journal of requests, in Python and at ``/_sim`` over HTTP.

``GET /_sim`` returns the journal. ``POST /_sim`` takes an object of operations, which are executed in order: ``faults``
(a list of ``Fault``), ``advance`` (seconds), ``forget`` (the journal), and those of the sandbox.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Lock, Thread
from typing import Any

from flask import Flask, Response, g, jsonify, request
from werkzeug.serving import WSGIRequestHandler, make_server

Operation = Callable[[Any], Any]


@dataclass(slots=True)
class Clock:
    """The clock of a sandbox: the real time, which can be advanced or stopped.

    Attributes:
        at: the time at which it is stopped; None: it runs.
        ahead: how far it is ahead of the real time.
    """

    at: datetime | None = None
    ahead: timedelta = timedelta()

    def now(self) -> datetime:
        """Return the time in UTC."""
        return self.at or datetime.now(UTC) + self.ahead

    def advance(self, seconds: float) -> None:
        """Advance the clock."""
        step = timedelta(seconds=seconds)
        if self.at is None:
            self.ahead += step
        else:
            self.at += step


@dataclass(slots=True, kw_only=True)
class Fault:
    """A fault of the next requests.

    Attributes:
        path: prefix of the paths that are affected.
        ends: suffix of these paths.
        method: the method that is affected; empty: all.
        skip: number of requests that pass before.
        times: number of requests that fail then.
        status: status of the answer; 0: the connection is closed without an answer.
        body: body of the answer.
        headers: headers of the answer.
        delay: seconds before the answer.
        after: whether the request is processed before it fails.
    """

    path: str = "/"
    ends: str = ""
    method: str = ""
    skip: int = 0
    times: int = 1
    status: int = 500
    body: str = "<html>Internal Server Error</html>"
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    after: bool = False

    def hits(self, method: str, path: str) -> bool:
        """Return whether this request fails, and count it."""
        if not self.times or self.method not in {"", method} or not path.startswith(self.path):
            return False
        if not path.endswith(self.ends):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True

    def answer(self) -> Response:
        """Return the faulty answer."""
        time.sleep(self.delay)
        if self.status == 0:
            with suppress(OSError, KeyError):
                request.environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        response = Response(self.body, self.status or 500, dict(self.headers))
        response.headers.setdefault("Content-Type", "text/html")
        return response


@dataclass(slots=True)
class Control:
    """The control of a sandbox.

    Attributes:
        journal: method, path, query, body and status of every request, in the order of the answers.
        faults: the planned faults.
        operations: functions by name, for ``POST /_sim``.
    """

    clock: Clock = field(default_factory=Clock)
    journal: list[dict[str, Any]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    operations: dict[str, Operation] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def asked(self, method: str, path: str = "/") -> list[dict[str, Any]]:
        """Return the requests of a method to a path and those below it."""
        return [each for each in self.journal if each["method"] == method and each["path"].startswith(path)]

    def forget(self, _: object = None) -> None:
        """Start a new journal; requests that are still being answered are recorded in the old one."""
        self.journal = []

    def attach(self, app: Flask) -> None:
        """Add the control to an app."""
        own: dict[str, Operation] = {
            "faults": lambda planned: self.faults.extend(Fault(**each) for each in planned),
            "advance": self.clock.advance,
            "forget": self.forget,
        }

        @app.get("/_sim")
        def journal() -> Response:
            return jsonify({"journal": self.journal, "now": self.clock.now().isoformat()})

        @app.post("/_sim")
        def operate() -> tuple[Response, int]:
            given = request.get_json(silent=True)
            known = own | self.operations
            if not isinstance(given, dict) or not given.keys() <= known.keys():
                return jsonify({"error": f"an object of these operations: {', '.join(known)}"}), 400
            try:
                return jsonify({name: known[name](value) for name, value in given.items()}), 200
            except (TypeError, ValueError, KeyError) as error:
                return jsonify({"error": f"{type(error).__name__}: {error}"}), 400

        @app.before_request
        def fail() -> Response | None:
            if request.path == "/_sim":
                return None
            g.journal = self.journal
            with self.lock:
                g.fault = next((each for each in self.faults if each.hits(request.method, request.path)), None)
            return None if g.fault is None or g.fault.after else g.fault.answer()

        @app.after_request
        def note(response: Response) -> Response:
            if request.path == "/_sim":
                return response
            if g.fault is not None and g.fault.after:
                response = g.fault.answer()
            asked = {"method": request.method, "path": request.path, "query": request.args.to_dict()}
            g.journal.append(asked | {"body": request.get_json(silent=True), "status": response.status_code})
            return response


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        """Do nothing."""


@contextmanager
def serving(app: Flask, port: int = 0) -> Iterator[str]:
    """Serve an app on 127.0.0.1, and yield its root URL."""
    server = make_server("127.0.0.1", port, app, threaded=True, request_handler=_Quiet)
    Thread(target=server.serve_forever, args=(0.05,), name=app.name, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
