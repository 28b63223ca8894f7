"""The routes of the small udata. Source: opendatateam/udata; each route names its file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, jsonify, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from datafab.sandbox import catalogue_extras
from datafab.sandbox.answers import refused
from datafab.sandbox.catalogue_list import lines
from datafab.sandbox.control import Operation
from datafab.sandbox.mask import Malformed, masked

if TYPE_CHECKING:
    from datafab.sandbox.catalogue import Sandbox

API = "/api/1"
#: Source: opendatateam/udata, ``udata/core/dataset/api.py`` (``DatasetApiParser.sorts``).
_SORTS = ("title", "created", "last_update", "reuses", "followers", "views")
_NO_SUCH_URL = "The requested URL was not found on the server."


def app_of(sandbox: Sandbox) -> Flask:
    """Return the app of a catalogue."""
    app = Flask("sandbox-catalogue", static_folder=None)
    _datasets(app, sandbox)
    _files(app, sandbox)
    catalogue_extras.routes(app, sandbox)
    operations: dict[str, Operation] = {
        "add": lambda given: sandbox.add(*given.pop("urls", ()), **given),
        "attach": lambda given: sandbox.attach(given.pop("dataset"), given.pop("url", None), **given),
        "change": lambda given: sandbox.change(given.pop("resource"), **given),
        "touch": lambda given: sandbox.touch(**given),
        "remove": sandbox.remove,
    }
    sandbox.control.operations |= operations
    sandbox.control.into(app)
    return app


def _datasets(app: Flask, sandbox: Sandbox) -> None:
    """Add the routes of datasets."""

    @app.get(f"{API}/datasets/")
    def datasets() -> Response:
        """List datasets, 20 a page unless it is said; beyond the last page is 404.

        Source: opendatateam/udata, ``udata/core/dataset/api.py`` (``DatasetListAPI``), ``udata/api/parsers.py``,
        ``udata/api/fields.py`` (``pager``) and ``udata/flask_mongoengine/pagination.py``.
        """
        errors = {name: f"The {name.replace('_', ' ')} must be a positive integer" for name in _odd()}
        sort = request.args.get("sort")
        if sort is not None and sort.removeprefix("-") not in _SORTS:
            asked = "The field (and direction) on which sorting apply"
            errors["sort"] = f"{asked} The value '{sort}' is not a valid choice for 'sort'."
        if errors:
            return refused(400, "Input payload validation failed", **errors)
        page, size = int(request.args.get("page", 1)), int(request.args.get("page_size", 20))
        found = sandbox.page(request.args, page, size)
        response = refused(404, _NO_SUCH_URL) if found is None else _masked(found)
        sandbox.meanwhile.pop(page, lambda: None)()
        return response

    @app.get(f"{API}/datasets/<name>/")
    def dataset(name: str) -> Response:
        """Return a dataset. Source: opendatateam/udata, ``udata/core/dataset/api.py`` (``DatasetAPI``)."""
        found = sandbox.dataset(name)
        if found is None or found["private"]:
            return refused(404, _NO_SUCH_URL)
        if found["deleted"]:
            return refused(410, "Dataset has been deleted")
        return _masked({name: value for name, value in found.items() if name != "community_resources"})


def _files(app: Flask, sandbox: Sandbox) -> None:
    """Add the routes of single files, and of the list of all."""

    @app.get(f"{API}/datasets/r/<uuid:rid>")
    def file(rid: Any) -> AnyResponse:
        """Lead to a resource's file, that of a deleted dataset too.

        Source: opendatateam/udata, ``udata/core/dataset/api.py`` (``ResourceRedirectAPI``).
        """
        listed = [each for every in list(sandbox.datasets.values()) for each in every["resources"]]
        found = next((each for each in listed if each["id"] == str(rid)), None)
        return redirect(found["url"].strip()) if found else refused(404, "Resource not found")

    @app.get(f"{API}/site/resources.csv")
    def export() -> Response:
        """List all resources as CSV. Source: opendatateam/udata, ``udata/core/site/api.py`` (``SiteResourcesCsv``)."""
        return Response(lines(sandbox.rows()), mimetype="text/csv")


def _odd() -> list[str]:
    """Return the parameters of paging that are no positive numbers."""
    given = ((name, request.args.get(name, "1")) for name in ("page", "page_size"))
    return [name for name, text in given if not re.fullmatch(r"0*[1-9][0-9]{0,8}", text)]


def _masked(document: dict[str, Any]) -> Response:
    """Answer with what the mask of ``X-Fields`` leaves. Source: python-restx/flask-restx, ``flask_restx/mask.py``."""
    try:
        return jsonify(masked(document, request.headers.get("X-Fields")))
    except Malformed as error:
        return refused(400, f"Mask parse error: {error}")
