"""A small Géoplateforme entrepôt on 127.0.0.1, over HTTP; what it does stands in ``archives``.

Status codes that no documentation states are assumed: they stand in ``archives.Refused``'s uses and below.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import requests
from flask import Blueprint, Flask, Response, jsonify, request

from datafab.sandbox.archives import COPY, Refused, Sandbox
from datafab.sandbox.control import Control, Operation, serving

Entity = dict[str, Any]


def _page(entries: list[Any]) -> Response:
    """Answer with a page of a list."""
    page, limit = int(request.args.get("page", 1)), int(request.args.get("limit", 10))
    mine = entries[(page - 1) * limit : page * limit]
    response = jsonify(mine)
    first = (page - 1) * limit + 1
    response.headers["Content-Range"] = f"{min(first, len(entries))}-{first + len(mine) - 1}/{len(entries)}"
    response.status_code = 200 if len(mine) == len(entries) else 206
    return response


class _Shown:
    """Entities as the API shows them."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def upload(self, upload: Entity) -> Entity:
        size = sum(size for size, _ in upload["files"].values())
        shown = {key: upload[key] for key in ("_id", "name", "description", "type", "srs", "tags")}
        return shown | {"status": self._sandbox.state(upload), "size": size, "open": upload["state"] == "OPEN"}

    def execution(self, execution: Entity) -> Entity:
        sandbox = self._sandbox
        uploads = [self.upload(sandbox.uploads[name]) for name in execution["inputs"]["upload"]]
        return {
            "_id": execution["_id"],
            "status": sandbox.status(execution),
            "processing": {"_id": COPY, "name": "Recopie d'une archive livrée"},
            "inputs": {"upload": uploads, "stored_data": []},
            "output": {"stored_data": self.stored(sandbox.stored[execution["output"]])},
            "parameters": {},
        }

    def stored(self, stored: Entity) -> Entity:
        sandbox = self._sandbox
        shown = {key: value for key, value in stored.items() if key not in {"execution", "comments"}}
        shown["status"] = sandbox.stored_status(stored)
        if shown["status"] == "GENERATED":
            uploads = [sandbox.uploads[name] for name in sandbox.executions[stored["execution"]]["inputs"]["upload"]]
            files = [size for upload in uploads for size, _ in upload["files"].values()]
            shown |= {"size": sum(files), "srs": uploads[0]["srs"], "type_infos": {"files_number": len(files)}}
        return shown


def _tree(upload: Entity) -> list[Entity]:
    """Return files in their folders, the md5 lists at the root."""
    root: list[Entity] = []
    for path, (size, _) in upload["files"].items():
        *folders, name = path.split("/")
        level = root
        for folder in folders:
            there = next((each for each in level if each["name"] == folder), None)
            if there is None:
                there = {"type": "DIRECTORY", "name": folder, "size": 0, "children": []}
                level.append(there)
            level = there["children"]
        level.append({"type": "FILE", "name": name, "size": size})
    return root + [{"type": "FILE", "name": name, "size": len(text)} for name, text in upload["md5"].items()]


def _app(sandbox: Sandbox) -> Flask:
    app = Flask("sandbox-entrepot", static_folder=None)
    shown = _Shown(sandbox)
    sandbox.control.operations |= _operations(sandbox)
    sandbox.control.into(app)

    @app.errorhandler(Refused)
    def refused(error: Refused) -> tuple[Response, int]:
        return jsonify({"error": f"error_{error.status}", "error_description": error.said}), error.status

    @app.before_request
    def known() -> None:
        if request.path in {"/_sim", "/token"}:
            return
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in sandbox.tokens or sandbox.tokens[token] < sandbox.control.clock.now():
            raise Refused(401, "invalid_token")

    _access(app, sandbox)
    root = f"/api/datastores/{sandbox.datastore}"

    @app.get(root)
    def datastore() -> Entity:
        return {"_id": sandbox.datastore, "name": "bac à sable", "processings": [], "endpoints": []}

    groups = {"uploads": _uploads, "checks": _checks, "files": _files, "runs": _runs, "stored": _stored}
    for name, add in groups.items():
        routes = Blueprint(name, __name__, url_prefix=root)
        add(routes, sandbox, shown)
        app.register_blueprint(routes)
    return app


def _access(app: Flask, sandbox: Sandbox) -> None:
    @app.post("/token")
    def token() -> tuple[Response, int]:
        given = request.form.to_dict()
        wanted = {"client_id": sandbox.client_id, "client_secret": sandbox.client_secret}
        if given.get("grant_type") == "password":
            wanted |= {"username": sandbox.login, "password": sandbox.password}
        if any(given.get(key) != value for key, value in wanted.items()):
            return jsonify({"error": "invalid_grant", "error_description": "Invalid user credentials"}), 401
        name = uuid.uuid4().hex
        sandbox.tokens[name] = sandbox.control.clock.now() + timedelta(seconds=sandbox.timings.token)
        return jsonify({"access_token": name, "expires_in": int(sandbox.timings.token)}), 200

    @app.get("/api/users/me")
    def me() -> Entity:
        community = {"community": {"datastore": sandbox.datastore}, "rights": ["UPLOAD", "PROCESSING"]}
        return {"_id": str(uuid.uuid4()), "first_name": "Ada", "last_name": "M", "communities_member": [community]}


def _uploads(routes: Blueprint, sandbox: Sandbox, shown: _Shown) -> None:
    def upload(name: str) -> Entity:
        return sandbox.find(sandbox.uploads, name)

    @routes.post("/uploads")
    def create() -> tuple[Entity, int]:
        return shown.upload(sandbox.create_upload(request.get_json())), 201

    @routes.get("/uploads")
    def listed() -> Response:
        return _page(_named(sandbox.uploads, shown.upload))

    @routes.get("/uploads/<name>")
    def one(name: str) -> Entity:
        return shown.upload(upload(name))

    @routes.delete("/uploads/<name>")
    def delete(name: str) -> tuple[str, int]:
        sandbox.delete_upload(upload(name))
        return "", 204

    @routes.post("/uploads/<name>/close")
    def close(name: str) -> tuple[str, int]:
        sandbox.close(upload(name))
        return "", 204

    @routes.post("/uploads/<name>/open")
    def reopen(name: str) -> tuple[str, int]:
        if sandbox.state(upload(name)) not in {"CLOSED", "UNSTABLE"}:
            raise Refused(409, f"the upload is {sandbox.state(upload(name))}")
        upload(name)["state"] = "OPEN"
        return "", 204

    _notes(routes, "/uploads", upload)


def _checks(routes: Blueprint, sandbox: Sandbox, _shown: _Shown) -> None:
    @routes.get("/uploads/<name>/checks")
    def checks(name: str) -> Response:
        return jsonify(sandbox.checks(sandbox.find(sandbox.uploads, name)))

    @routes.get("/checks/executions/<_name>/logs")
    def check_logs(_name: str) -> Response:
        return _page(["contrôle commencé", "contrôle terminé"])


def _files(routes: Blueprint, sandbox: Sandbox, _shown: _Shown) -> None:
    def upload(name: str) -> Entity:
        return sandbox.find(sandbox.uploads, name)

    @routes.get("/uploads/<name>/tree")
    def tree(name: str) -> Response:
        return jsonify(_tree(upload(name)))

    @routes.post("/uploads/<name>/data")
    def data(name: str) -> tuple[str, int]:
        sandbox.put(upload(name), request.args["path"], request.files["file"].read())
        return "", 204

    @routes.delete("/uploads/<name>/<any(data, md5):kind>")
    def remove(name: str, kind: str) -> tuple[str, int]:
        there = sandbox.writable(upload(name))["files" if kind == "data" else "md5"]
        if there.pop(request.args["path"], None) is None:
            raise Refused(404, "no such file")
        return "", 204

    @routes.post("/uploads/<name>/md5")
    def md5(name: str) -> tuple[str, int]:
        file = request.files["file"]
        sandbox.writable(upload(name))["md5"][file.filename or "md5"] = file.read().decode()
        return "", 204


def _runs(routes: Blueprint, sandbox: Sandbox, shown: _Shown) -> None:
    copy = {"_id": COPY, "name": "Recopie d'une archive livrée", "description": "", "required_checks": []}
    kinds = {"input_types": {"upload": ["ARCHIVE"], "stored_data": []}, "output_type": {"stored_data": "ARCHIVE"}}

    def execution(name: str) -> Entity:
        return sandbox.find(sandbox.executions, name)

    @routes.get("/processings")
    def processings() -> Response:
        return _page([copy] if request.args.get("name", copy["name"]) == copy["name"] else [])

    @routes.get("/processings/<name>")
    def processing(name: str) -> Entity:
        if name != COPY:
            raise Refused(404, f"{name} not found")
        return {**copy, **kinds, "parameters": []}

    @routes.post("/processings/executions")
    def create() -> tuple[Entity, int]:
        return shown.execution(sandbox.create_execution(request.get_json())), 201

    @routes.get("/processings/executions")
    def listed() -> Response:
        wanted = request.args.get("output_stored_data")
        found = [each for each in sandbox.executions.values() if wanted in {None, each["output"]}]
        return _page([{"_id": each["_id"], "status": sandbox.status(each)} for each in found])

    @routes.get("/processings/executions/<name>")
    def one(name: str) -> Entity:
        return shown.execution(execution(name))

    @routes.post("/processings/executions/<name>/<any(launch, abort):what>")
    def act(name: str, what: str) -> tuple[str, int]:
        {"launch": sandbox.launch, "abort": sandbox.abort}[what](execution(name))
        return "", 204

    @routes.get("/processings/executions/<name>/logs")
    def logs(name: str) -> Response:
        return _page(sandbox.logs if "launched" in execution(name) else [])


def _stored(routes: Blueprint, sandbox: Sandbox, shown: _Shown) -> None:
    def stored(name: str) -> Entity:
        return sandbox.find(sandbox.stored, name)

    @routes.get("/stored_data")
    def listed() -> Response:
        return _page(_named(sandbox.stored, shown.stored))

    @routes.get("/stored_data/<name>")
    def one(name: str) -> Entity:
        return shown.stored(stored(name))

    @routes.patch("/stored_data/<name>")
    def patch(name: str) -> Entity:
        sandbox.patch(stored(name), request.get_json())
        return shown.stored(stored(name))

    @routes.delete("/stored_data/<name>")
    def delete(name: str) -> tuple[str, int]:
        stored(name)["deleted"] = True
        return "", 204

    _notes(routes, "/stored_data", stored)


def _notes(routes: Blueprint, base: str, find: Callable[[str], Entity]) -> None:
    """Add tags and comments."""

    def tag(name: str) -> tuple[str, int]:
        find(name)["tags"] |= request.get_json()
        return "", 204

    def comments(name: str) -> Response:
        return _page(find(name)["comments"])

    def comment(name: str) -> tuple[str, int]:
        find(name)["comments"].append({"_id": str(uuid.uuid4()), "text": request.get_json()["text"]})
        return "", 201

    routes.add_url_rule(f"{base}/<name>/tags", "tag", tag, methods=["POST"])
    routes.add_url_rule(f"{base}/<name>/comments", "comments", comments, methods=["GET"])
    routes.add_url_rule(f"{base}/<name>/comments", "comment", comment, methods=["POST"])


def _named(kind: Mapping[str, Entity], show: Callable[[Entity], Entity]) -> list[Entity]:
    """Return what a list shows; its filter takes any name that begins so, as LIKE may."""
    wanted = request.args.get("name", "")
    found = [each for each in kind.values() if each["name"].startswith(wanted) and not each.get("deleted")]
    return [{key: show(each)[key] for key in ("_id", "name", "status", "type") if key in show(each)} for each in found]


def _operations(sandbox: Sandbox) -> dict[str, Operation]:
    """Return what ``/_sim`` can do."""

    def timings(given: dict[str, float]) -> None:
        for name, seconds in given.items():
            setattr(sandbox.timings, name, seconds)

    return {
        "timings": timings,
        "deliver": lambda _: deliver(sandbox),
        "expire_tokens": lambda _: sandbox.tokens.clear(),
        "ends": lambda status: setattr(sandbox, "ends", status),
        "becomes": lambda status: setattr(sandbox, "becomes", status),
        "failing": sandbox.failing.update,
        "logs": lambda lines: setattr(sandbox, "logs", lines),
    }


def deliver(sandbox: Sandbox) -> list[int]:
    """Send the callbacks of all executions that have ended, as often as this is asked for; return the answers."""
    answers = []
    for execution in list(sandbox.executions.values()):
        callback, status = execution["callback"], sandbox.status(execution)
        if callback and status in {"SUCCESS", "FAILURE", "ABORTED"}:
            told = {"type": "PROCESSING", "id": execution["_id"], "status": status}
            headers = callback.get("headers") or {}
            answers.append(
                requests.request(callback["method"], callback["url"], json=told, headers=headers, timeout=10)
            )
    return [answer.status_code for answer in answers]


@contextmanager
def entrepot(port: int = 0, control: Control | None = None) -> Iterator[Sandbox]:
    """Run an entrepôt; it is empty."""
    sandbox = Sandbox(control=control or Control())
    with serving(_app(sandbox), port) as root:
        sandbox.url, sandbox.token_url = f"{root}/api", f"{root}/token"
        yield sandbox
