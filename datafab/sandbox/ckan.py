"""A small CKAN on 127.0.0.1: resources and a datastore in memory, with the answers of CKAN 2.11 that a load meets.

``POST /api/3/action/<name>`` and the downloads of uploaded files. What it takes, what it refuses and in which words is
measured on the real one; ``tests/integration/test_ckan.py`` holds both to the same.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock, Thread
from typing import Any

from flask import Flask, Response, request
from werkzeug.serving import WSGIRequestHandler, make_server

from datafab.sandbox.ckan_table import Refused, Table

TOKEN = "sandbox-token"  # noqa: S105 - it opens nothing but this
Answer = tuple[int, Any]
Action = Callable[["Sandbox", dict[str, Any]], Any]

_ACTIONS: dict[str, tuple[Action, bool]] = {}


def _action(*, writes: bool) -> Callable[[Action], Action]:
    """Make a function an action; ``writes``: it needs the token."""

    def added(function: Action) -> Action:
        _ACTIONS[function.__name__] = (function, writes)
        return function

    return added


@dataclass(slots=True)
class Sandbox:
    """One CKAN.

    Attributes:
        url: its root.
        token: what opens it.
        resources: by id, as ``resource_show`` gives them.
        tables: the datastore, by resource id.
        uploads: bytes of uploaded files, by resource id.
        hooks: bodies that ``datapusher_hook`` got.
        calls: how often each action was asked for.
        delay: seconds that each insert takes.
        failures: (action, HTTP status, body) of the next calls that are to fail.
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
        """Add a resource with this URL; return its id."""
        name = str(uuid.uuid4())
        resource = {"id": name, "url": url, "url_type": None, "hash": "", "format": "", "datastore_active": False}
        self.resources[name] = resource | {"last_modified": None, "package_id": str(uuid.uuid4())} | fields
        return name

    def upload(self, name: str, body: bytes) -> str:
        """Add a resource whose file lies in this CKAN, for holders of the token only; return its id."""
        resource = self.add("", url_type="upload")
        package = self.resources[resource]["package_id"]
        # CKAN writes its site_url there, which need not be where we reach it.
        path = f"/dataset/{package}/resource/{resource}/download/{name}"
        self.resources[resource]["url"] = "http://ckan.example" + path
        self.uploads[resource] = body
        return resource

    def resource(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the resource that is asked for."""
        if not given.get("id"):
            raise Refused(409, {"id": ["Missing value"], "__type": "Validation Error"})
        if given["id"] not in self.resources:
            raise Refused(404, {"message": "Not found", "__type": "Not Found Error"})
        return self.resources[given["id"]]

    def table(self, given: Mapping[str, Any]) -> Table:
        """Return the table that is asked for, by ``resource_id`` or ``id``."""
        name = given.get("resource_id") or given.get("id")
        if not name:
            raise Refused(409, {"resource_id": ["Missing value"], "__type": "Validation Error"})
        if name not in self.tables:
            raise Refused(404, {"message": f'Not found: Resource "{name}" was not found.', "__type": "Not Found Error"})
        return self.tables[name]

    def writable(self, given: Mapping[str, Any]) -> None:
        """Refuse to change the datastore of a resource that is not its own, unless forced."""
        name = given.get("resource_id")
        resource = self.resources.get(str(name))
        if name and resource is None:
            raise Refused(404, {"message": f'Not found: Resource "{name}" was not found.', "__type": "Not Found Error"})
        if resource and resource["url_type"] != "datastore" and not given.get("force"):
            text = 'Cannot edit read-only resource. Either pass "force=True" or change url-type to "datastore"'
            raise Refused(409, {"read-only": [text], "__type": "Validation Error"})

    def answer(self, name: str, given: dict[str, Any], token: str | None) -> Answer:
        """Do an action; return the HTTP status and what CKAN would say."""
        self.calls[name] += 1
        for planned in self.failures:
            if planned[0] == name:
                self.failures.remove(planned)
                return planned[1], planned[2].replace("{token}", token or "")
        if name not in _ACTIONS:
            return 400, f"Bad request - Action name not known: {name}"
        action, writes = _ACTIONS[name]
        if writes and token != self.token:
            text = f"Access denied: User not authorized to call {name}"
            return 403, {"success": False, "error": {"message": text, "__type": "Authorization Error"}}
        try:
            with self.lock:
                return 200, {"success": True, "result": action(self, given)}
        except Refused as refused:
            return refused.status, {"success": False, "error": refused.error}


@_action(writes=False)
def status_show(_: Sandbox, __: dict[str, Any]) -> Any:
    """Say that it is there."""
    return {"ckan_version": "2.11.6", "site_title": "sandbox", "extensions": ["datastore"]}


@_action(writes=True)
def package_create(_: Sandbox, given: dict[str, Any]) -> Any:
    """Make a dataset; only its id matters here."""
    return {"id": str(uuid.uuid4()), "name": given.get("name")}


@_action(writes=True)
def resource_create(ckan: Sandbox, given: dict[str, Any]) -> Any:
    """Add a resource to a dataset."""
    return ckan.resources[ckan.add(**({"url": ""} | given))]


@_action(writes=False)
def resource_show(ckan: Sandbox, given: dict[str, Any]) -> Any:
    """Show a resource."""
    return ckan.resource(given)


@_action(writes=True)
def resource_patch(ckan: Sandbox, given: dict[str, Any]) -> Any:
    """Change some fields of a resource."""
    ckan.resource(given).update(given)
    return ckan.resource(given)


@_action(writes=True)
def datastore_create(ckan: Sandbox, given: dict[str, Any]) -> Any:
    """Make a table, with its first records where there are some."""
    ckan.writable(given)
    name = str(given["resource_id"])
    table = ckan.tables.get(name) or Table()
    table.define(given.get("fields") or [])
    table.insert(given.get("records") or [], strict=False)
    ckan.tables[name] = table
    ckan.resources[name]["datastore_active"] = True
    return {"resource_id": name, "fields": given.get("fields"), "method": "insert"}


@_action(writes=True)
def datastore_upsert(ckan: Sandbox, given: dict[str, Any]) -> Any:
    """Insert records; CKAN's other methods need a primary key, which nothing here makes."""
    ckan.writable(given)
    if given.get("method") != "insert":
        raise Refused(409, {"table": ["unique constraint must be passed"], "__type": "Validation Error"})
    time.sleep(ckan.delay)
    ckan.table(given).insert(given.get("records") or [], strict=True)
    return {"resource_id": given["resource_id"], "method": "insert"}


@_action(writes=True)
def datastore_delete(ckan: Sandbox, given: dict[str, Any]) -> Any:
    """Drop a table."""
    ckan.writable(given)
    ckan.table(given)
    del ckan.tables[given["resource_id"]]
    ckan.resources[given["resource_id"]]["datastore_active"] = False
    return {"resource_id": given["resource_id"]}


@_action(writes=False)
def datastore_search(ckan: Sandbox, given: dict[str, Any]) -> Any:
    """Return rows of a table, in their order."""
    table = ckan.table(given)
    first, limit = int(given.get("offset", 0)), int(given.get("limit", 100))
    fields = [{"id": "_id", "type": "int"}, *table.described()]
    return {"fields": fields, "records": table.rows[first : first + limit], "total": len(table.rows)}


@_action(writes=False)
def datastore_info(ckan: Sandbox, given: dict[str, Any]) -> Any:
    """Describe a table."""
    table = ckan.table(given)
    return {"meta": {"count": len(table.rows), "table_type": "BASE TABLE"}, "fields": table.described()}


@_action(writes=True)
def datapusher_hook(ckan: Sandbox, given: dict[str, Any]) -> Any:
    """Take a callback."""
    for key in ("metadata", "status"):
        if key not in given:
            raise Refused(409, {key: ["Missing value"], "__type": "Validation Error"})
    ckan.hooks.append(given)


def _reply(status: int, content: Any) -> Response:
    if isinstance(content, str):
        return Response(content, status, content_type="text/html; charset=utf-8")
    return Response(json.dumps(content), status, content_type="application/json;charset=utf-8")


def _app(ckan: Sandbox) -> Flask:
    app = Flask("sandbox-ckan", static_folder=None)

    @app.route("/api/3/action/<name>", methods=["GET", "POST"])
    def action(name: str) -> Response:
        given = request.get_json(silent=True) if request.method == "POST" else request.args.to_dict()
        if not isinstance(given, dict):
            return _reply(400, "Bad request - JSON Error: No request body data")
        return _reply(*ckan.answer(name, given, request.headers.get("Authorization")))

    @app.get("/dataset/<_package>/resource/<resource>/download/<_name>")
    def download(_package: str, resource: str, _name: str) -> Response:
        if request.headers.get("Authorization") != ckan.token or resource not in ckan.uploads:
            return _reply(404, "Not found")
        return Response(ckan.uploads[resource], content_type="text/csv")

    return app


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def ckan(port: int = 0) -> Iterator[Sandbox]:
    """Run a CKAN; it is empty."""
    sandbox = Sandbox()
    server = make_server("127.0.0.1", port, _app(sandbox), threaded=True, request_handler=_Quiet)
    sandbox.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, args=(0.05,), name="sandbox-ckan", daemon=True).start()
    try:
        yield sandbox
    finally:
        server.shutdown()
        server.server_close()
