"""A small Géoplateforme entrepôt on 127.0.0.1; its state is in ``archives``.

Each route's docstring names its source:

- guide: IGNF/cartes.gouv.fr-documentation, content/fr/guides-developpeur/tutoriels/gestion-des-donnees-archive/…
- note: the same repository's change notes (guides-utilisateur/…/changements-evolutions/…)
- SDK: Geoplateforme/sdk-entrepot, sdk_entrepot_gpf/…; its routes are keys of _conf/default.ini
- APP: IGNF/cartes.gouv.fr, src/Services/EntrepotApi/… and assets/@types/entrepot.ts

Status codes that none of these sources states are assumed: see the uses of ``archives.Refused``, and below.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import requests
from flask import Blueprint, Flask, Response, jsonify, request

from datafab.sandbox.archives import CHECKS, COPY, UPLOAD_FIELDS, Refused, Sandbox
from datafab.sandbox.control import Control, Operation, serving
from datafab.sandbox.entrepot_views import Entity, Views, named, page, tree


def _app(sandbox: Sandbox) -> Flask:
    app = Flask("sandbox-entrepot", static_folder=None)
    views = Views(sandbox)
    sandbox.control.operations |= _operations(sandbox)
    sandbox.control.attach(app)

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
        """SDK: store/Datastore.py."""
        return {"_id": sandbox.datastore, "name": "bac à sable", "processings": [], "endpoints": []}

    groups = {
        "uploads": _uploads,
        "checks": _checks,
        "files": _files,
        "processings": _processings,
        "executions": _executions,
        "stored": _stored,
    }
    for name, add in groups.items():
        routes = Blueprint(name, __name__, url_prefix=root)
        add(routes, sandbox, views)
        app.register_blueprint(routes)
    return app


def _access(app: Flask, sandbox: Sandbox) -> None:
    @app.post("/token")
    def token() -> tuple[Response, int]:
        """SDK: auth/Authentifier.py; the original is a Keycloak."""
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
        """SDK: store/User.py; APP: ``UserDto``."""
        community = {"community": {"datastore": sandbox.datastore}, "rights": ["UPLOAD", "PROCESSING"]}
        return {"_id": sandbox.user, "first_name": "Ada", "last_name": "M", "communities_member": [community]}


def _uploads(routes: Blueprint, sandbox: Sandbox, views: Views) -> None:
    def upload(name: str) -> Entity:
        return sandbox.find(sandbox.uploads, name)

    @routes.post("/uploads")
    def create() -> tuple[Entity, int]:
        """Guide: livraison.md, "Déclarer la livraison"; APP: ``UploadCreateDto``."""
        return views.upload(sandbox.create_upload(request.get_json())), 201

    @routes.get("/uploads")
    def listed() -> Response:
        """SDK: store/StoreEntity.py, ``api_list``."""
        return page(named(sandbox.uploads, views.upload, ("type", "name", "srs", "description", "status")))

    @routes.get("/uploads/<name>")
    def one(name: str) -> Entity:
        """APP: ``UploadPrivateDetailResponseDto``."""
        return views.upload(upload(name))

    @routes.patch("/uploads/<name>")
    def patch(name: str) -> Entity:
        """Note: champ-extra-sur-les-entites.md; APP: ``UploadUpdateDto``."""
        sandbox.change(upload(name), request.get_json(), UPLOAD_FIELDS)
        return views.upload(upload(name))

    @routes.delete("/uploads/<name>")
    def delete(name: str) -> tuple[str, int]:
        """Guide: integration.md, "Nettoyage de la livraison"."""
        sandbox.delete_upload(upload(name))
        return "", 204

    @routes.post("/uploads/<name>/close")
    def close(name: str) -> tuple[str, int]:
        """Guide: livraison.md, "Fermeture"."""
        sandbox.close(upload(name))
        return "", 204

    @routes.post("/uploads/<name>/open")
    def reopen(name: str) -> tuple[str, int]:
        """SDK: store/Upload.py, ``api_open``."""
        if sandbox.state(upload(name)) not in {"CLOSED", "UNSTABLE"}:
            raise Refused(409, f"the upload is {sandbox.state(upload(name))}")
        upload(name)["state"] = "OPEN"
        return "", 204

    _notes(routes, "/uploads", upload)


def _checks(routes: Blueprint, sandbox: Sandbox, _views: Views) -> None:
    @routes.get("/uploads/<name>/checks")
    def checks(name: str) -> Response:
        """Guide: livraison.md, "Consultation des vérifications sur ma livraison"."""
        return jsonify(sandbox.checks(sandbox.find(sandbox.uploads, name)))

    @routes.get("/checks/executions/<_name>/logs")
    def check_logs(_name: str) -> Response:
        """SDK: ``check_execution_logs``."""
        return page(["contrôle commencé", "contrôle terminé"])


def _files(routes: Blueprint, sandbox: Sandbox, _views: Views) -> None:
    def upload(name: str) -> Entity:
        return sandbox.find(sandbox.uploads, name)

    @routes.get("/uploads/<name>/tree")
    def files(name: str) -> Response:
        """Guide: livraison.md, "Contrôler le contenu"."""
        return jsonify(tree(upload(name)))

    @routes.post("/uploads/<name>/data")
    def data(name: str) -> tuple[str, int]:
        """Guide: livraison.md, "Téléverser un fichier"."""
        sandbox.put(upload(name), request.args["path"], request.files["file"].read())
        return "", 204

    @routes.delete("/uploads/<name>/<any(data, md5):kind>")
    def remove(name: str, kind: str) -> tuple[str, int]:
        """SDK: store/Upload.py, ``api_delete_data_file`` and ``api_delete_md5_file``."""
        there = sandbox.writable(upload(name))["files" if kind == "data" else "md5"]
        if there.pop(request.args["path"], None) is None:
            raise Refused(404, "no such file")
        return "", 204

    @routes.post("/uploads/<name>/md5")
    def md5(name: str) -> tuple[str, int]:
        """SDK: store/Upload.py, ``api_push_md5_file``; APP: UploadApiService.php, ``uploadFile``."""
        file = request.files["file"]
        sandbox.writable(upload(name))["md5"][file.filename or "md5"] = file.read().decode()
        return "", 204


def _processings(routes: Blueprint, _sandbox: Sandbox, _views: Views) -> None:
    copy = {"_id": COPY, "name": "Recopie d'une archive livrée", "description": ""}
    kinds = {
        "priority": "STANDARD",
        "input_types": {"upload": ["ARCHIVE"], "stored_data": []},
        "output_type": {"stored_data": "ARCHIVE", "storage": ["S3"]},
        "parameters": [],
        "required_checks": [{"_id": number, "name": name} for name, number in CHECKS.items()],
    }

    @routes.get("/processings")
    def processings() -> Response:
        """Guide: integration.md, "Consultation des traitements disponibles"."""
        return page([copy] if request.args.get("name", copy["name"]) == copy["name"] else [])

    @routes.get("/processings/<name>")
    def processing(name: str) -> Entity:
        """Guide: integration.md, "Consultation du traitement qui nous intéresse"."""
        if name != COPY:
            raise Refused(404, f"{name} not found")
        return copy | kinds


def _executions(routes: Blueprint, sandbox: Sandbox, views: Views) -> None:
    def execution(name: str) -> Entity:
        return sandbox.find(sandbox.executions, name)

    @routes.post("/processings/executions")
    def create() -> tuple[Entity, int]:
        """Guide: integration.md, "Configuration d'une exécution de ce traitement"."""
        return views.execution(sandbox.create_execution(request.get_json())), 201

    @routes.get("/processings/executions")
    def listed() -> Response:
        """SDK: workflow/action/ProcessingExecutionAction.py, its filters."""
        output, given = request.args.get("output_stored_data"), request.args.get("input_upload")
        found = [
            each
            for each in sandbox.executions.values()
            if output in {None, each["output"]}
            and (given is None or given in each["inputs"]["upload"])
            and request.args.get("processing", COPY) == COPY
        ]
        return page([{"_id": each["_id"], "status": sandbox.status(each)} for each in found])

    @routes.get("/processings/executions/<name>")
    def one(name: str) -> Entity:
        """Guide: integration.md, "Consultation de l'état de l'exécution"."""
        return views.execution(execution(name))

    @routes.post("/processings/executions/<name>/<any(launch, abort):what>")
    def act(name: str, what: str) -> tuple[str, int]:
        """Guide: integration.md, "Déclenchement de cette exécution"; SDK: ``processing_execution_abort``."""
        {"launch": sandbox.launch, "abort": sandbox.abort}[what](execution(name))
        return "", 204

    @routes.get("/processings/executions/<name>/logs")
    def logs(name: str) -> Response:
        """SDK: store/interface/LogsInterface.py."""
        return page(sandbox.logs if "launched" in execution(name) else [])


def _stored(routes: Blueprint, sandbox: Sandbox, views: Views) -> None:
    def stored(name: str) -> Entity:
        return sandbox.find(sandbox.stored, name)

    @routes.get("/stored_data")
    def listed() -> Response:
        """SDK: store/StoreEntity.py, ``api_list``; its usual fields lack the status (note: parametre-fields-…md)."""
        return page(named(sandbox.stored, views.stored, ("name", "type", "srs")))

    @routes.get("/stored_data/<name>")
    def one(name: str) -> Entity:
        """APP: ``StoredDataPrivateDetailResponseDto``."""
        return views.stored(stored(name))

    @routes.patch("/stored_data/<name>")
    def patch(name: str) -> Entity:
        """Guide: integration.md, "Ajout d'informations sur la donnée stockée"; APP: ``StoredDataUpdateDto``."""
        sandbox.patch(stored(name), request.get_json())
        return views.stored(stored(name))

    @routes.delete("/stored_data/<name>")
    def delete(name: str) -> tuple[str, int]:
        """SDK: ``stored_data_delete``."""
        stored(name)["deleted"] = True
        return "", 204

    _notes(routes, "/stored_data", stored)


def _notes(routes: Blueprint, base: str, find: Callable[[str], Entity]) -> None:
    """Add tags and comments: of uploads and stored data, not of executions (SDK: _conf/default.ini)."""

    def tag(name: str) -> tuple[str, int]:
        """SDK: store/interface/TagInterface.py, ``api_add_tags``; APP: UploadApiService.php, ``addTags``."""
        find(name)["tags"] |= request.get_json()
        return "", 204

    def untag(name: str) -> tuple[str, int]:
        """SDK: TagInterface.py sends ``tags[]`` for each; APP: UploadApiService.php sends ``tags``, with commas."""
        for key in [*request.args.getlist("tags[]"), *request.args.get("tags", "").split(",")]:
            find(name)["tags"].pop(key, None)
        return "", 204

    def comments(name: str) -> Response:
        """SDK: store/interface/CommentInterface.py, ``api_list_comments``."""
        return page(find(name)["comments"])

    def comment(name: str) -> tuple[str, int]:
        """SDK: store/interface/CommentInterface.py, ``api_add_comment``."""
        find(name)["comments"].append({"_id": str(uuid.uuid4()), "text": request.get_json()["text"]})
        return "", 201

    for path, name, function, method in (
        ("tags", "tag", tag, "POST"),
        ("tags", "untag", untag, "DELETE"),
        ("comments", "comments", comments, "GET"),
        ("comments", "comment", comment, "POST"),
    ):
        routes.add_url_rule(f"{base}/<name>/{path}", name, function, methods=[method])


def _operations(sandbox: Sandbox) -> dict[str, Operation]:
    """Return the operations of ``/_sim``."""

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
    """Send the callbacks of all ended executions, even if they have been sent before, and return the statuses.

    Note: nouveau-service-validateurs-changements-sur-lapi-entrepot.md, "Définition d'un callback".
    """
    answers = []
    for execution in list(sandbox.executions.values()):
        callback, status = execution["callback"], sandbox.status(execution)
        if callback and status in {"SUCCESS", "FAILURE", "ABORTED"}:
            url = f"{sandbox.url}/datastores/{sandbox.datastore}/processings/executions/{execution['_id']}"
            body = {"type": "PROCESSING", "id": execution["_id"], "status": status}
            body |= {"execution_url": url, "log_url": f"{url}/logs"}
            headers = callback.get("headers") or {}
            answers.append(
                requests.request(callback["method"], callback["url"], json=body, headers=headers, timeout=10)
            )
    return [answer.status_code for answer in answers]


@contextmanager
def entrepot(port: int = 0, control: Control | None = None) -> Iterator[Sandbox]:
    """Run an empty entrepôt."""
    sandbox = Sandbox(control=control or Control())
    with serving(_app(sandbox), port) as root:
        sandbox.url, sandbox.token_url = f"{root}/api", f"{root}/token"
        yield sandbox
