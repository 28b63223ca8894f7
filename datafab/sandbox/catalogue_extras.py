"""The extras of resources, which only version 2 of udata's API accepts.

Source: opendatateam/udata, ``udata/core/dataset/apiv2.py`` (``ResourceExtrasAPI``), ``udata/api/__init__.py`` (keys),
``udata/mongo/extras_fields.py`` with the types of ``udata/core/dataset/models.py`` (``ResourceMixin.extras``).
"""

from __future__ import annotations

from datetime import datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, abort, jsonify, request

from datafab.sandbox.answers import error_response

if TYPE_CHECKING:
    from datafab.sandbox.catalogue import Sandbox

API_2 = "/api/2"
_PATH = f"{API_2}/datasets/<name>/resources/<uuid:rid>/extras/"
#: Names that only administrators may write.
RESERVED = ("analysis:*", "check:*", "csv-export:*", "validation-report:*", "dcat")


def routes(app: Flask, sandbox: Sandbox) -> None:
    """Add the routes of extras to an app."""

    @app.get(_PATH)
    def extras(name: str, rid: Any) -> Response:
        """Return a resource's extras. Source: opendatateam/udata, ``udata/core/dataset/apiv2.py``."""
        dataset = _known(sandbox.dataset(name))
        if dataset["deleted"]:
            abort(error_response(404 if dataset["private"] else 410, "Dataset has been deleted"))
        return jsonify(_resource(sandbox, dataset, rid)["extras"])

    @app.put(_PATH)
    def write_extras(name: str, rid: Any) -> Response:
        """Merge extras into those of a resource; null removes a key. Source and order of checks: as above."""
        dataset = _known(sandbox.dataset(name))
        administrator = _authenticated(sandbox)
        given = request.get_json()
        if not isinstance(given, dict):
            abort(error_response(400, "Wrong payload format, dict expected"))
        if dataset["deleted"]:
            abort(error_response(410, "Dataset has been deleted"))
        found = _resource(sandbox, dataset, rid)
        reserved = [each for each in given if any(fnmatchcase(each, pattern) for pattern in RESERVED)]
        if reserved and not administrator:
            abort(error_response(400, f"Extras keys reserved to platform services: {', '.join(reserved)}"))
        merged = {each: value for each, value in (found["extras"] | given).items() if value is not None}
        if errors := _wrong(merged):
            abort(error_response(400, "Unsupported types", **errors))
        sandbox.write_extras(dataset, found, merged)
        return jsonify(merged)


def _known(dataset: dict[str, Any] | None) -> dict[str, Any]:
    if dataset is None:
        abort(error_response(404, "The requested URL was not found on the server."))
    return dataset


def _resource(sandbox: Sandbox, dataset: dict[str, Any], rid: Any) -> dict[str, Any]:
    found = sandbox.resource(dataset, str(rid))
    if found is None:
        abort(error_response(404, "Resource does not exist"))
    return found


def _authenticated(sandbox: Sandbox) -> bool:
    """Return whether the request's key is that of an administrator."""
    key = request.headers.get("X-API-KEY", "")
    if key not in sandbox.keys:
        abort(error_response(401, "Invalid API token" if key else "Unauthorized"))
    return sandbox.keys[key]


def _wrong(extras: dict[str, Any]) -> dict[str, str]:
    """Return udata's errors for values that do not have the type which it has declared for their names."""
    errors = {}
    if not isinstance(extras.get("check:available", True), bool):
        errors["check:available"] = "BooleanField only accepts boolean values"
    try:
        int(extras.get("check:status", 0))
    except (ValueError, TypeError):
        errors["check:status"] = f"{extras['check:status']} could not be converted to int"
    try:
        datetime.fromisoformat(extras.get("check:date", "2026-01-01"))
    except (ValueError, TypeError):
        errors["check:date"] = f'cannot parse date "{extras["check:date"]}"'
    return errors
