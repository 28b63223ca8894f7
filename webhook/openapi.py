"""``/openapi.json``: the application's routes, described by ``OPERATIONS``. A test compares the two."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal

from flask import Blueprint, Flask, Response, current_app, jsonify
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from werkzeug.routing import Rule

from datafab.catalogue.linkproxy_checks import Webhook
from datafab.core.document import Results
from datafab.core.job import Job
from datafab.core.roles import Role
from datafab.version import __version__
from webhook import api as views
from webhook import catalogue as hydra
from webhook import login, tokens
from webhook import schemas as answers
from webhook.access import ACCESS
from webhook.caller import COOKIE
from webhook.schemas import DatapusherError, ErrorAnswer

routes = Blueprint("openapi", __name__)

JSON = "application/json"
_PREFIX = "#/components/schemas/"
Security = Literal["linkproxy", "hook", "hydra", "datapusher"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """The request and the answers of a route. ``failure`` is the answer with any other status."""

    answers: Mapping[int, type[BaseModel] | str] = field(default_factory=dict)
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    #: parameters of the job that may be uploaded as files of a form, whose part ``job`` is the body
    uploads: tuple[str, ...] = ()
    #: the key of the service that calls it
    security: Security | None = None
    failure: type[BaseModel] = ErrorAnswer

    @property
    def models(self) -> Iterator[type[BaseModel]]:
        """All models of the operation."""
        yield self.failure
        yield from (answer for answer in self.answers.values() if not isinstance(answer, str))
        yield from (model for model in (self.body, self.query) if model is not None)


def _datapusher(**fields: Any) -> Operation:
    return Operation(failure=DatapusherError, **fields)


_KEYED: Mapping[str, Any] = {"security": "datapusher"}

#: Operations by Flask's name of the view.
OPERATIONS: Mapping[str, Operation] = {
    "health.health": Operation(answers={200: answers.Health}),
    "health.ready": Operation(answers={200: answers.Health, 503: answers.Health}),
    "metrics.metrics": Operation(answers={200: CONTENT_TYPE_LATEST}),
    "openapi.describe": Operation(answers={200: JSON}),
    "api.enqueue": Operation(
        answers={200: answers.Accepted, 202: answers.Accepted}, body=views.NewJob, uploads=("endpoints", "event")
    ),
    "api.list_jobs": Operation(answers={200: answers.JobsPage}, query=views.JobsQuery),
    "api.show_job": Operation(answers={200: answers.ShownJob}, query=views.JobQuery),
    "api.retry_job": Operation(answers={200: Job}),
    "api.cancel_job": Operation(answers={200: Job}),
    "api.show_bad_rows": Operation(answers={200: views.CSV_TYPE}),
    "api.show_source": Operation(answers={200: answers.ShownSource}, query=views.SourceQuery),
    "api.check_url": Operation(answers={202: answers.Accepted}, body=views.NewCheck),
    "api.show_check": Operation(answers={200: answers.CheckedUrl}),
    "api.list_flows": Operation(answers={200: answers.Flows}),
    "api.search": Operation(answers={200: Results}, query=views.SearchQuery),
    "login.log_in": Operation(answers={200: answers.ShownCaller}, body=login.NewSession),
    "login.log_out": Operation(answers={200: answers.Done}),
    "login.show_caller": Operation(answers={200: answers.ShownCaller}),
    "tokens.list_tokens": Operation(answers={200: answers.TokensList}),
    "tokens.create_token": Operation(answers={201: answers.CreatedToken}, body=tokens.NewToken),
    "tokens.revoke_token": Operation(answers={200: answers.ShownToken}),
    "hooks.receive_link_proxy": Operation(answers={202: answers.WokenJobs}, body=Webhook, security="linkproxy"),
    "hooks.receive_entrepot": Operation(answers={202: answers.WokenTasks}, security="hook"),
    "hydra.create": Operation(answers={201: answers.EnqueuedCheck}, body=hydra.PushedResource, security="hydra"),
    "hydra.update": Operation(answers={200: answers.EnqueuedCheck}, body=hydra.PushedResource, security="hydra"),
    "hydra.delete": Operation(answers={200: answers.EnqueuedCheck}, security="hydra"),
    "datapusher.index": _datapusher(answers={200: answers.Help}),
    "datapusher.sums": _datapusher(answers={200: answers.Stats}),
    "datapusher.submit": _datapusher(answers={200: answers.Pushed}, body=answers.Submit),
    "datapusher.listing": _datapusher(answers={200: answers.Listed}, query=answers.DatapusherListing),
    "datapusher.one": _datapusher(answers={200: answers.Pushed}, query=answers.DatapusherLog, **_KEYED),
    # A push creates a table in CKAN, so this answer is empty; its content type is that of the file.
    "datapusher.data": _datapusher(answers={200: "*/*"}, **_KEYED),
    "datapusher.delete": _datapusher(answers={200: answers.Deleted}, **_KEYED),
    "datapusher.admin": _datapusher(answers={501: DatapusherError}),
}
#: Views that are not described: the answer to unknown paths below ``/datapusher``.
UNDESCRIBED = frozenset({"datapusher.unknown"})

#: What shows a caller's role; either is enough.
CALLER_SECURITY: Mapping[str, Mapping[str, str]] = {
    "token": {"type": "http", "scheme": "bearer", "description": "a token of `datafab token create`"},
    "session": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "the cookie of `POST /login`"},
}
SECURITY: Mapping[Security, Mapping[str, str]] = {
    "linkproxy": {"name": "Authorization", "description": "`Basic`, a space and the token of DATAFAB_LINKPROXY_TOKEN"},
    "hook": {"name": "X-Datafab-Key", "description": "the key that the job has given with its callback"},
    "hydra": {"name": "Authorization", "description": "`Bearer`, a space and the key of DATAFAB_CATALOGUE_PUSH_KEY"},
    "datapusher": {"name": "Authorization", "description": "the `job_key` of the answer to the submit"},
}


@routes.get("/openapi.json")
def describe() -> Response:
    """Describe this API."""
    return jsonify(document(current_app))


def document(app: Flask) -> dict[str, Any]:
    """Return the description of an application's routes."""
    models = sorted({model for each in OPERATIONS.values() for model in each.models}, key=lambda model: model.__name__)
    refs, schemas = models_json_schema([(model, "validation") for model in models], ref_template=_PREFIX + "{model}")
    known = {model: refs[model, "validation"] for model in models}
    components = schemas.get("$defs", {})
    paths: dict[str, dict[str, Any]] = {}
    for rule, method in described_routes(app):
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        paths.setdefault(path, {})[method.lower()] = _operation(app, rule, method, known, components)
    keys = {name: {"type": "apiKey", "in": "header", **how} for name, how in SECURITY.items()}
    schemes = {name: dict(how) for name, how in CALLER_SECURITY.items()} | keys
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "datafab",
            "version": __version__,
            "license": {"name": "MIT", "identifier": "MIT"},
            "description": "Enqueue flows, follow jobs, search the index; CKAN's DataPusher and the hooks of udata.",
        },
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": schemes},
    }


def described_routes(app: Flask) -> Iterator[tuple[Rule, str]]:
    """Yield the routes with each of their methods, without those that Flask adds to every route."""
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        if rule.endpoint not in UNDESCRIBED:
            yield from ((rule, method) for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}))


def _operation(
    app: Flask, rule: Rule, method: str, known: Mapping[type[BaseModel], Any], components: Mapping[str, Any]
) -> dict[str, Any]:
    operation = OPERATIONS[rule.endpoint]
    title = (app.view_functions[rule.endpoint].__doc__ or "").partition("\n")[0]
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in sorted(rule.arguments)
    ]
    if operation.query is not None:
        schema = components[known[operation.query]["$ref"].removeprefix(_PREFIX)]
        required = schema.get("required", [])
        parameters += [
            {"name": name, "in": "query", "required": name in required, "schema": _without_null(part)}
            for name, part in schema["properties"].items()
        ]
    found: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{method.lower()}{rule.rule}").strip("_"),
        "summary": title,
        "tags": [rule.endpoint.partition(".")[0]],
        "parameters": parameters,
        "responses": {str(status): _answer(status, answer, known) for status, answer in operation.answers.items()},
    }
    found["responses"]["default"] = {"description": "error", **_content(operation.failure, known)}
    if operation.body is not None:
        found["requestBody"] = {"required": True, **_content(operation.body, known)}
    if operation.body is not None and operation.uploads:
        files = {name: {"type": "string", "format": "binary"} for name in operation.uploads}
        form = {"type": "object", "required": ["job"], "properties": {"job": known[operation.body], **files}}
        found["requestBody"]["content"]["multipart/form-data"] = {"schema": form}
    return found | _security(rule.endpoint, operation)


def _security(endpoint: str, operation: Operation) -> dict[str, Any]:
    """Return what a caller must show; ``x-role`` is the role that the route needs."""
    access = ACCESS[endpoint]
    if isinstance(access, Role):
        return {"security": [{name: []} for name in CALLER_SECURITY], "x-role": access.value}
    return {"security": [{operation.security: []}] if operation.security else []}


def _without_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a query parameter: if it has no value, it is left out, never null."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if name != "anyOf" and value is not None}
    return {**rest, **kinds[0]} if len(kinds) == 1 else rest


def _answer(status: int, answer: type[BaseModel] | str, known: Mapping[type[BaseModel], Any]) -> dict[str, Any]:
    content = {"content": {answer: {}}} if isinstance(answer, str) else _content(answer, known)
    return {"description": HTTPStatus(status).phrase, **content}


def _content(model: type[BaseModel], known: Mapping[type[BaseModel], Any]) -> dict[str, Any]:
    return {"content": {JSON: {"schema": known[model]}}}
