"""A small link-proxy on 127.0.0.1, with the HTTP API of link-proxy 1.4.6; its state is in ``links``.

Source of all routes except that of files: geodatagouv/link-proxy, ``index.js``; of their answers: ``lib/link.js`` and
``lib/check.js``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

from flask import Flask, Response, jsonify, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from datafab.sandbox.bundles import etag
from datafab.sandbox.control import Control, Operation, serving
from datafab.sandbox.links import BUCKET, DELIVERY, RUNNING, Sandbox


def _error(status: int, message: str) -> Response:
    response = jsonify({"error": message})
    response.status_code = status
    return response


_BRIEF = ("number", "createdAt", "updatedAt", "state", "statusCode")


def _brief(check: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a check in the list of checks; unknown ones are left out."""
    return {name: check[name] for name in _BRIEF if name in check}


def _app(sandbox: Sandbox) -> Flask:
    app = Flask("sandbox-link-proxy", static_folder=None)

    @app.post("/")
    def submit() -> Response:
        """Submit a URL for a check. Source: ``post('/')`` of geodatagouv/link-proxy, ``index.js``."""
        try:
            given = json.loads(request.get_data() or b"")
        except ValueError:
            return _error(400, "Invalid JSON")
        if given is None:
            return _error(500, "an unexpected error happened, we have been notified")
        if not isinstance(given, dict) or not given.get("location"):
            return _error(400, "location is required")
        return jsonify(sandbox.submit(str(given["location"]), no_cache=bool(given.get("noCache"))).shown())

    @app.get("/")
    def find() -> AnyResponse:
        """Redirect to the link of a URL. Source: ``get('/')`` of geodatagouv/link-proxy, ``index.js``."""
        location = request.args.get("location")
        if not location:
            return _error(400, "location is required")
        link = sandbox.find(location)
        return redirect(f"/{link.id}") if link else _error(404, f"link with location {location} was not found")

    @app.get("/<name>")
    def show(name: str) -> Response:
        """Return a link with its downloads. Source: ``get('/:link')`` of geodatagouv/link-proxy, ``index.js``."""
        link = sandbox.links.get(name)
        if link is None:
            return _error(404, f"link with id {name} was not found")
        below = [child for child in list(sandbox.links.values()) if name in child.parents]
        found = [download for each in (link, *below) for download in list(each.downloads)]
        updated = max(each.updated for each in (link, *below))
        return jsonify(link.shown() | {"updatedAt": updated, "downloads": found})

    _checks(app, sandbox)
    sandbox.control.operations |= _operations(sandbox)
    sandbox.control.attach(app)
    return app


def _checks(app: Flask, sandbox: Sandbox) -> None:
    """Add the routes of checks and files."""

    @app.get("/<name>/checks")
    def checks(name: str) -> Response:
        """Return the last 20 checks. Source: ``get('/:link/checks')`` of geodatagouv/link-proxy, ``index.js``."""
        link = sandbox.links.get(name)
        if link is None:
            return _error(404, f"link with id {name} was not found")
        return jsonify([_brief(each) for each in link.checks[:-21:-1]])

    @app.get("/<name>/checks/latest")
    def latest(name: str) -> AnyResponse:
        """Redirect to the last finished check.

        Source: ``get('/:link/checks/latest')`` of geodatagouv/link-proxy, ``index.js``.
        """
        link = sandbox.links.get(name)
        over = [each["number"] for each in link.checks if each["state"] not in RUNNING] if link else []
        if not over:
            return _error(404, f"latest check for link {name} was not found")
        return redirect(f"/{name}/checks/{over[-1]}")

    @app.get("/<name>/checks/<int:number>")
    def check(name: str, number: int) -> Response:
        """Return a check. Source: ``get('/:link/checks/:number')`` of geodatagouv/link-proxy, ``index.js``."""
        link = sandbox.links.get(name)
        if link is None or not 0 < number <= len(link.checks):
            return _error(404, f"check number {number} for link {name} was not found")
        return jsonify(link.checks[number - 1])

    @app.get(f"/{BUCKET}/<path:key>")
    def file(key: str) -> AnyResponse:
        """Return a stored file, like the S3 server of link-proxy.

        Source of its URL: geodatagouv/link-proxy, ``jobs/check/upload.js`` and ``lib/utils/store.js``.
        """
        if key not in sandbox.files:
            return _error(404, "NoSuchKey")
        response = Response(sandbox.files[key], content_type="application/octet-stream")
        response.set_etag(etag(sandbox.files[key]))
        return response.make_conditional(request)


def _operations(sandbox: Sandbox) -> dict[str, Operation]:
    """Return the operations of ``/_sim``."""
    return {
        "subscribe": lambda given: sandbox.subscribe(**given),
        "webhooks": lambda mode: setattr(sandbox, "webhooks", mode),
        "deliver": lambda _: sandbox.deliver(),
        "planned": sandbox.planned.update,
        "hold": lambda phases: sandbox.hold(*phases),
        "release": lambda phases: sandbox.release(*phases),
        "contain": lambda given: sandbox.contain(**given),
        "deliveries": lambda _: sandbox.deliveries,
    }


@contextmanager
def linkproxy(port: int = 0, control: Control | None = None) -> Iterator[Sandbox]:
    """Run a link-proxy without links and subscribers."""
    sandbox = Sandbox(control=control or Control())
    with serving(_app(sandbox), port) as url:
        sandbox.url = url
        checks = Thread(target=sandbox.run, name="sandbox-link-proxy-checks", daemon=True)
        checks.start()
        try:
            yield sandbox
        finally:
            sandbox.close()
            checks.join(2 * DELIVERY)
