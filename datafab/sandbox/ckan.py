"""A small CKAN on 127.0.0.1: resources and a DataStore in memory, with the answers of CKAN 2.11 that a push needs.

It has ``POST /api/3/action/<name>`` and the downloads of uploaded files. What it accepts and refuses, and the texts of
errors, are those of the repository ckan/ckan, whose files the docstrings name; ``tests/integration/test_ckan.py`` runs
the same tests on this one and on a real one. The actions of the DataStore are in ``ckan_datastore.py``.
"""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock, Thread
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import BadRequest
from werkzeug.serving import WSGIRequestHandler, make_server

from datafab.sandbox.ckan_actions import ACTIONS, action
from datafab.sandbox.ckan_datastore import not_found
from datafab.sandbox.ckan_table import Refused, Table, invalid

TOKEN = "sandbox-token"  # noqa: S105 - it opens nothing but this
Answer = tuple[int, Any]
#: What CKAN calls the formats of tables and of what they are mistaken for: ``ckan/config/resource_formats.json``.
_TYPES = {
    "CSV": "text/csv",
    "TSV": "text/tab-separated-values",
    "XLS": "application/vnd.ms-excel",
    "XLSX": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "ODS": "application/vnd.oasis.opendocument.spreadsheet",
    "JSON": "application/json",
    "GeoJSON": "application/geo+json",
    "PDF": "application/pdf",
    "ZIP": "application/zip",
}
_FORMATS = {name.lower(): name for name in _TYPES} | {kind: name for name, kind in _TYPES.items()}
#: Fields of a resource, as ``resource_show`` gives them: ``ckan/logic/schema.py``, ``default_resource_schema``.
_NULL = [
    "cache_last_updated",
    "cache_url",
    "description",
    "last_modified",
    "mimetype_inner",
    "name",
    "resource_type",
    "size",
    "url_type",
]


@dataclass(slots=True)
class Sandbox:
    """A CKAN.

    Attributes:
        url: root URL.
        token: the API token.
        packages: datasets by id, as ``package_create`` gives them, but for their resources.
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
    packages: dict[str, dict[str, Any]] = field(default_factory=dict)
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
        name, now = str(fields.get("id") or uuid.uuid4()), _now()
        resource: dict[str, Any] = dict.fromkeys(_NULL)
        resource |= {"id": name, "url": url, "hash": "", "format": "", "datastore_active": False, "state": "active"}
        resource |= {"created": now, "metadata_modified": now, "mimetype": _TYPES.get(_guessed(url)), "position": 0}
        self.resources[name] = _cleaned(resource | {"package_id": str(uuid.uuid4())} | fields)
        return name

    def package(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the dataset that a resource is for, by its id or name."""
        wanted = given.get("package_id")
        if not wanted:
            raise invalid("package_id", "Missing value")
        found = next((one for one in self.packages.values() if wanted in {one["id"], one["name"]}), None)
        if found is None:
            raise not_found()
        return found

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
            raise invalid("id", "Missing value")
        if given["id"] not in self.resources:
            raise not_found()
        return self.resources[given["id"]]

    def table(self, given: Mapping[str, Any]) -> Table:
        """Return the requested table, by ``resource_id``, ``id`` or alias."""
        name = given.get("resource_id") or given.get("id")
        if not name:
            raise invalid("resource_id", "Missing value")
        alias = next((one for one, table in self.tables.items() if name in table.aliases), name)
        if alias not in self.tables:
            raise not_found(f'Resource "{name}" was not found.')
        return self.tables[alias]

    def answer(self, name: str, given: dict[str, Any], token: str | None) -> Answer:
        """Run an action, and return the HTTP status and CKAN's answer: ``ckan/views/api.py``, ``action``."""
        help_url = f"{self.url}/api/3/action/help_show?name={name}"
        self.calls[name] += 1
        for planned in self.failures:
            if planned[0] == name:
                self.failures.remove(planned)
                return planned[1], planned[2].replace("{token}", token or "").encode()
        if name not in ACTIONS:
            return 400, f"Bad request - Action name not known: {name}"
        function, writes = ACTIONS[name]
        try:
            if writes and token != self.token:
                raise self._denied(name, given)
            with self.lock:
                return 200, {"help": help_url, "success": True, "result": function(self, given)}
        except Refused as refused:
            return refused.status, {"help": help_url, "success": False, "error": refused.error}

    def _denied(self, name: str, given: Mapping[str, Any]) -> Refused:
        """Return the refusal of somebody without a token, which may be of what is not there: ``ckan/logic/auth``."""
        if name == "package_create":
            what = "create packages"
        elif name == "resource_create":
            what = f"create resources on dataset {self.package(given)['id']}"
        else:
            wanted = given.get("id") or given.get("resource_id") or (given.get("metadata") or {}).get("resource_id")
            if not wanted:
                text = "Missing id, can not get Resource object"
                return Refused(409, {"message": text, "__type": "Validation Error"})
            if wanted not in self.resources:
                return not_found()
            what = f"edit resource {wanted}"
        text = f"Access denied: User  not authorized to {what}"  # where its name would be, there is none
        return Refused(403, {"message": text, "__type": "Authorization Error"})


def _now() -> str:
    return datetime.now(UTC).replace(tzinfo=None).isoformat()


def _guessed(url: Any) -> str:
    """Return the format that the end of a URL tells; empty: it tells none."""
    return _FORMATS.get(str(url).rpartition(".")[2].lower(), "")


def _cleaned(resource: dict[str, Any]) -> dict[str, Any]:
    """Return a resource as CKAN keeps it: ``if_empty_guess_format``, ``clean_format``, ``resource_dictize``."""
    url, size = resource["url"], resource["size"]
    if size is not None and not re.fullmatch(r"\s*-?[0-9]+\s*", str(size)):
        raise invalid("size", "Invalid integer")
    if not isinstance(url, str):
        raise Refused(500, {"message": "Internal Server Error", "__type": "Internal Server Error"})
    kind = str(resource["format"] or _guessed(url))
    known = _FORMATS.get(kind.lower(), kind)
    far = url if not url or "://" in url or resource["url_type"] == "upload" else "http://" + url
    return resource | {"url": far, "format": known, "size": None if size is None else int(size)}


@action(writes=False)
def status_show(ckan: Sandbox, _: dict[str, Any]) -> Any:
    """Return the version: ``ckan/logic/action/get.py``."""
    about = {"site_title": "sandbox", "site_description": "", "locale_default": "en", "error_emails_to": None}
    return about | {"ckan_version": "2.11.6", "site_url": ckan.url, "extensions": ["datastore", "datapusher"]}


@action(writes=True)
def package_create(ckan: Sandbox, given: dict[str, Any]) -> Any:
    """Create a dataset without an owner: ``ckan/logic/action/create.py``, names as ``logic/validators.py`` has them."""
    name = given.get("name")
    if not name:
        raise invalid("name", "Missing value")
    if len(name) < 2:  # noqa: PLR2004 - ``PACKAGE_NAME_MIN_LENGTH``
        texts = ["Must be at least 2 characters long", f'Name "{name}" length is less than minimum 2']
        raise Refused(409, {"name": texts, "__type": "Validation Error"})
    if not re.fullmatch(r"[a-z0-9_-]*", str(name)):
        raise invalid("name", "Must be purely lowercase alphanumeric (ascii) characters and these symbols: -_")
    if any(one["name"] == name for one in ckan.packages.values()):
        raise invalid("name", "That URL is already in use.")
    made = {"id": str(uuid.uuid4()), "name": name, "title": given.get("title") or name, "type": "dataset"}
    made |= {"state": "active", "private": bool(given.get("private")), "owner_org": None, "num_resources": 0}
    made |= {"metadata_created": _now(), "metadata_modified": _now(), "extras": [], "tags": [], "groups": []}
    ckan.packages[made["id"]] = made
    return made | {"resources": []}


@action(writes=True)
def resource_create(ckan: Sandbox, given: dict[str, Any]) -> Any:
    """Add a resource to a dataset: ``ckan/logic/action/create.py``."""
    package = ckan.package(given)
    beside = sum(one["package_id"] == package["id"] for one in ckan.resources.values())
    fixed = {"package_id": package["id"], "position": beside, "state": "active"}
    return ckan.resources[ckan.add(**({"url": ""} | given | fixed))]


@action(writes=False)
def resource_show(ckan: Sandbox, given: dict[str, Any]) -> Any:
    """Show a resource: ``ckan/logic/action/get.py``."""
    return ckan.resource(given)


@action(writes=True)
def resource_patch(ckan: Sandbox, given: dict[str, Any]) -> Any:
    """Change some fields of a resource: ``ckan/logic/action/patch.py``; those that CKAN keeps itself stay."""
    resource = ckan.resource(given)
    fixed = {name: resource[name] for name in ("package_id", "position", "state")}
    resource |= _cleaned(resource | given | fixed | {"metadata_modified": _now()})
    return resource


@action(writes=True)
def datapusher_hook(ckan: Sandbox, given: dict[str, Any]) -> Any:
    """Receive a callback: ``ckanext/datapusher/logic/action.py``."""
    for key in ("metadata", "status"):
        if not given.get(key):
            raise Refused(409, {key: ["Missing value"], "__type": "Validation Error"})
    if not given["metadata"].get("resource_id"):
        raise Refused(409, {"resource_id": ["Missing value"], "__type": "Validation Error"})
    ckan.hooks.append(given)


def _given(*, writes: bool) -> dict[str, Any]:
    """Return what was sent: ``ckan/views/api.py``, ``_get_request_data``.

    Raises:
        ValueError: it is nothing that an action takes.
    """
    if request.method == "GET":
        if writes:
            raise ValueError("Invalid request. Please use POST method for your request")
        return request.args.to_dict()
    if request.form or not request.data:
        return request.form.to_dict()
    try:
        found = request.get_json()
    except BadRequest as error:
        msg = f"Error decoding JSON data. Error: {error!r} JSON data extracted from the request: {{}}"
        raise ValueError(msg) from error
    if not isinstance(found, dict):
        msg = f"Request data JSON decoded to {found!r} but it needs to be a dictionary."
        raise ValueError(msg)  # noqa: TRY004 - as CKAN does
    return found


def _reply(status: int, content: Any) -> Response:
    if isinstance(content, bytes):
        return Response(content, status, content_type="text/html; charset=utf-8")
    return Response(json.dumps(content), status, content_type="application/json;charset=utf-8")


def _app(ckan: Sandbox) -> Flask:
    app = Flask("sandbox-ckan", static_folder=None)

    @app.route("/api/3/action/<name>", methods=["GET", "POST"])
    def act(name: str) -> Response:
        """Run an action: ``ckan/views/api.py``, ``action``."""
        try:
            given = _given(writes=name in ACTIONS and ACTIONS[name][1])
        except ValueError as error:
            return _reply(400, f"Bad request - JSON Error: {error}")
        return _reply(*ckan.answer(name, given, request.headers.get("Authorization")))

    @app.get("/dataset/<_package>/resource/<resource>/download/<_name>")
    def download(_package: str, resource: str, _name: str) -> Response:
        """Return an uploaded file: ``ckan/views/resource.py``, ``download``; here as if its dataset were private."""
        if request.headers.get("Authorization") != ckan.token or resource not in ckan.uploads:
            return _reply(404, b"Not found")
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
