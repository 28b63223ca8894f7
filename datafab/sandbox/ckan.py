"""A small CKAN on 127.0.0.1: resources and a DataStore in memory, with the answers of CKAN 2.11 that a push needs.

It has ``POST /api/3/action/<name>`` and the downloads of uploaded files. What it accepts and refuses, and the texts of
errors, are those of the repository ckan/ckan, whose files the docstrings name; ``tests/integration/test_ckan.py`` runs
the same tests on this one and on a real one. The actions of the DataStore are in ``ckan_datastore.py``.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock, Thread
from typing import Any

from flask import Flask, Response, request
from werkzeug.serving import WSGIRequestHandler, make_server

from datafab.sandbox.ckan_actions import ACTIONS, action
from datafab.sandbox.ckan_datastore import not_found
from datafab.sandbox.ckan_table import Refused, Table

TOKEN = "sandbox-token"  # noqa: S105 - it opens nothing but this
Answer = tuple[int, Any]


@dataclass(slots=True)
class Sandbox:
    """A CKAN.

    Attributes:
        url: root URL.
        token: the API token.
        resources: the resources by id, as ``resource_show`` returns them.
        tables: the tables of the DataStore, by resource id.
        uploads: bytes of uploaded files, by resource id.
        hooks: bodies that ``datapusher_hook`` has received.
        calls: number of calls of each action.
        delay: seconds that each insert takes.
        failures: (action, HTTP status, body) of the next calls, which will fail.
    """

    url: str = ""
    token: str = TOKEN
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    hooks: list[dict[str, Any]] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    delay: float = 0.0
    failures: list[tuple[str, int, str]] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def add(self, url: str, **fields: Any) -> str:
        """Add a resource with this URL, and return its id."""
        name = str(uuid.uuid4())
        resource = {"id": name, "url": url, "url_type": None, "hash": "", "format": "", "datastore_active": False}
        self.resources[name] = resource | {"last_modified": None, "package_id": str(uuid.uuid4())} | fields
        return name

    def upload(self, name: str, body: bytes) -> str:
        """Add a resource whose file is stored in this CKAN and needs the token, and return its id."""
        resource = self.add("", url_type="upload")
        package = self.resources[resource]["package_id"]
        # CKAN writes its site_url there, which may differ from the URL that clients use.
        path = f"/dataset/{package}/resource/{resource}/download/{name}"
        self.resources[resource]["url"] = "http://ckan.example" + path
        self.uploads[resource] = body
        return resource

    def resource(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the requested resource."""
        if not given.get("id"):
            raise Refused(409, {"id": ["Missing value"], "__type": "Validation Error"})
        if given["id"] not in self.resources:
            raise not_found()
        return self.resources[given["id"]]

    def table(self, given: Mapping[str, Any]) -> Table:
        """Return the requested table, by ``resource_id``, ``id`` or alias."""
        name = given.get("resource_id") or given.get("id")
        if not name:
            raise Refused(409, {"resource_id": ["Missing value"], "__type": "Validation Error"})
        alias = next((one for one, table in self.tables.items() if name in table.aliases), name)
        if alias not in self.tables:
            raise not_found(f'Resource "{name}" was not found.')
        return self.tables[alias]

    def answer(self, name: str, given: dict[str, Any], token: str | None, method: str = "POST") -> Answer:
        """Run an action, and return the HTTP status and CKAN's answer: ``ckan/views/api.py``, ``action``."""
        self.calls[name] += 1
        for planned in self.failures:
            if planned[0] == name:
                self.failures.remove(planned)
                return planned[1], planned[2].replace("{token}", token or "")
        if method == "GET" and name in ACTIONS and ACTIONS[name][1]:
            given = {}  # CKAN does not read parameters from the URL if the action changes data
        if name not in ACTIONS:
            return 400, f"Bad request - Action name not known: {name}"
        function, writes = ACTIONS[name]
        if writes and token != self.token:
            text = f"Access denied: User not authorized to call {name}"
            return 403, {"success": False, "error": {"message": text, "__type": "Authorization Error"}}
        try:
            with self.lock:
                return 200, {"success": True, "result": function(self, given)}
        except Refused as refused:
            return refused.status, {"success": False, "error": refused.error}


@action(writes=False)
def status_show(_: Sandbox, __: dict[str, Any]) -> Any:
    """Return the version: ``ckan/logic/action/get.py``."""
    return {"ckan_version": "2.11.6", "site_title": "sandbox", "extensions": ["datastore"]}


@action(writes=True)
def package_create(_: Sandbox, given: dict[str, Any]) -> Any:
    """Create a dataset, of which only the id matters here: ``ckan/logic/action/create.py``."""
    return {"id": str(uuid.uuid4()), "name": given.get("name")}


@action(writes=True)
def resource_create(ckan: Sandbox, given: dict[str, Any]) -> Any:
    """Add a resource to a dataset: ``ckan/logic/action/create.py``."""
    return ckan.resources[ckan.add(**({"url": ""} | given))]


@action(writes=False)
def resource_show(ckan: Sandbox, given: dict[str, Any]) -> Any:
    """Show a resource: ``ckan/logic/action/get.py``."""
    return ckan.resource(given)


@action(writes=True)
def resource_patch(ckan: Sandbox, given: dict[str, Any]) -> Any:
    """Change some fields of a resource: ``ckan/logic/action/patch.py``."""
    ckan.resource(given).update(given)
    return ckan.resource(given)


@action(writes=True)
def datapusher_hook(ckan: Sandbox, given: dict[str, Any]) -> Any:
    """Receive a callback: ``ckanext/datapusher/logic/action.py``."""
    for key in ("metadata", "status"):
        if not given.get(key):
            raise Refused(409, {key: ["Missing value"], "__type": "Validation Error"})
    if not given["metadata"].get("resource_id"):
        raise Refused(409, {"resource_id": ["Missing value"], "__type": "Validation Error"})
    ckan.hooks.append(given)


def _reply(status: int, content: Any) -> Response:
    if isinstance(content, str):
        return Response(content, status, content_type="text/html; charset=utf-8")
    return Response(json.dumps(content), status, content_type="application/json;charset=utf-8")


def _app(ckan: Sandbox) -> Flask:
    app = Flask("sandbox-ckan", static_folder=None)

    @app.route("/api/3/action/<name>", methods=["GET", "POST"])
    def act(name: str) -> Response:
        """Run an action: ``ckan/views/api.py``, ``action``."""
        given = request.get_json(silent=True) if request.method == "POST" else request.args.to_dict()
        if not isinstance(given, dict):
            return _reply(400, "Bad request - JSON Error: No request body data")
        return _reply(*ckan.answer(name, given, request.headers.get("Authorization"), request.method))

    @app.get("/dataset/<_package>/resource/<resource>/download/<_name>")
    def download(_package: str, resource: str, _name: str) -> Response:
        """Return an uploaded file: ``ckan/views/resource.py``, ``download``; here as if its dataset were private."""
        if request.headers.get("Authorization") != ckan.token or resource not in ckan.uploads:
            return _reply(404, "Not found")
        return Response(ckan.uploads[resource], content_type="text/csv")

    return app


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        """Do nothing."""


@contextmanager
def ckan(port: int = 0) -> Iterator[Sandbox]:
    """Run an empty CKAN."""
    sandbox = Sandbox()
    server = make_server("127.0.0.1", port, _app(sandbox), threaded=True, request_handler=_Quiet)
    sandbox.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, args=(0.05,), name="sandbox-ckan", daemon=True).start()
    try:
        yield sandbox
    finally:
        server.shutdown()
        server.server_close()
