"""The routes of the small udata. Source: opendatateam/udata; each route names its file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, jsonify, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from datafab.sandbox import catalogue_extras
from datafab.sandbox.answers import error_response
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
    sandbox.control.attach(app)
    return app


def _datasets(app: Flask, sandbox: Sandbox) -> None:
    """Add the routes of datasets."""

    @app.get(f"{API}/datasets/")
    def datasets() -> Response:
        """List datasets, by default 20 per page; after the last page the answer is 404.

        Source: opendatateam/udata, ``udata/core/dataset/api.py`` (``DatasetListAPI``), ``udata/api/parsers.py``,
        ``udata/api/fields.py`` (``pager``) and ``udata/flask_mongoengine/pagination.py``.
        """
        errors = {name: f"The {name.replace('_', ' ')} must be a positive integer" for name in _invalid_paging()}
        sort = request.args.get("sort")
        if sort is not None and sort.removeprefix("-") not in _SORTS:
            asked = "The field (and direction) on which sorting apply"
            errors["sort"] = f"{asked} The value '{sort}' is not a valid choice for 'sort'."
        if errors:
            return error_response(400, "Input payload validation failed", **errors)
        page, size = int(request.args.get("page", 1)), int(request.args.get("page_size", 20))
        found = sandbox.page(request.args, page, size)
        response = error_response(404, _NO_SUCH_URL) if found is None else _masked(found)
        sandbox.meanwhile.pop(page, lambda: None)()
        return response

    @app.get(f"{API}/datasets/<name>/")
    def dataset(name: str) -> Response:
        """Return a dataset. Source: opendatateam/udata, ``udata/core/dataset/api.py`` (``DatasetAPI``)."""
        found = sandbox.dataset(name)
        if found is None or found["private"]:
            return error_response(404, _NO_SUCH_URL)
        if found["deleted"]:
            return error_response(410, "Dataset has been deleted")
        return _masked({name: value for name, value in found.items() if name != "community_resources"})


def _files(app: Flask, sandbox: Sandbox) -> None:
    """Add the routes of single files and of the list of all resources."""

    @app.get(f"{API}/datasets/r/<uuid:rid>")
    def file(rid: Any) -> AnyResponse:
        """Redirect to a resource's file, even if its dataset is deleted.

        Source: opendatateam/udata, ``udata/core/dataset/api.py`` (``ResourceRedirectAPI``).
        """
        listed = [each for every in list(sandbox.datasets.values()) for each in every["resources"]]
        found = next((each for each in listed if each["id"] == str(rid)), None)
        return redirect(found["url"].strip()) if found else error_response(404, "Resource not found")

    @app.get(f"{API}/site/resources.csv")
    def export() -> Response:
        """List all resources as CSV. Source: opendatateam/udata, ``udata/core/site/api.py`` (``SiteResourcesCsv``)."""
        return Response(lines(sandbox.rows()), mimetype="text/csv")


def _invalid_paging() -> list[str]:
    """Return the names of the paging parameters that are not positive integers."""
    given = ((name, request.args.get(name, "1")) for name in ("page", "page_size"))
    return [name for name, text in given if not re.fullmatch(r"0*[1-9][0-9]{0,8}", text)]


def _masked(document: dict[str, Any]) -> Response:
    """Answer with the fields of the mask ``X-Fields``. Source: python-restx/flask-restx, ``flask_restx/mask.py``."""
    try:
        return jsonify(masked(document, request.headers.get("X-Fields")))
    except Malformed as error:
        return error_response(400, f"Mask parse error: {error}")
