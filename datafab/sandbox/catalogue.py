"""A small udata on 127.0.0.1: the list of datasets with its sorting, paging and masks, as data.gouv.fr answers.

Rows move between pages as they do there: a dataset that is changed goes to the top of ``sort=-last_update``. To have
one move while somebody reads, give ``meanwhile`` what is to happen after a page.
"""

from __future__ import annotations

import csv
import io
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlencode

from flask import Flask, Response, jsonify, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from datafab.sandbox.control import Control, Operation, serving
from datafab.sandbox.mask import Malformed, masked

_SORTS = ("title", "created", "last_update", "reuses", "followers", "views")
_API = "/api/1"


@dataclass(slots=True)
class Sandbox:
    """One catalogue.

    Attributes:
        url: root of its API.
        export: URL of its list of all resources.
        public: what it calls that root in ``next_page``, if it is another.
        datasets: by id.
        key: what whoever writes has to show as ``X-API-KEY``.
        control: time, faults, and what was asked.
        meanwhile: number of a page -> what happens once, after that page was answered.
    """

    url: str = ""
    export: str = ""
    public: str | None = None
    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)
    key: str = "sandbox-key"
    control: Control = field(default_factory=Control)
    meanwhile: dict[int, Callable[[], object]] = field(default_factory=dict)

    def add(self, *urls: str, **fields: Any) -> str:
        """Add a dataset with a resource for each URL; return its id. A field of the dataset may be any."""
        now, name = self._now(), uuid.uuid4().hex[:24]
        self.datasets[name] = {
            "id": name,
            "title": f"Jeu de données {name[:4]}",
            "slug": name,
            "created_at": now,
            "last_modified": now,
            "last_update": now,
            "deleted": None,
            "private": False,
            "harvest": None,
            "schema": None,
            "metrics": {"followers": 0, "reuses": 0, "views": 0},
            "organization": {"id": uuid.uuid4().hex[:24], "name": "Producteur"},
            "owner": None,
            "resources": [self._resource(url) for url in urls],
            "community_resources": [],
        } | fields
        return name

    def attach(self, dataset: str, url: str | None, **fields: Any) -> str:
        """Add a resource to a dataset; return its id. A field of it may be anything, null included."""
        resource = self._resource(url) | fields
        self.datasets[dataset]["resources"].append(resource)
        self._touch(dataset)
        return str(resource["id"])

    def change(self, resource: str, **fields: Any) -> None:
        """Change a resource: modified now, unless the fields say otherwise. Its dataset goes to the top."""
        for name, dataset in list(self.datasets.items()):
            for each in dataset["resources"]:
                if each["id"] == resource:
                    each.update({"last_modified": self._now()} | fields)
                    self._touch(name)
                    return
        raise KeyError(resource)

    def touch(self, dataset: str, last_update: str | None = None) -> None:
        """Make a dataset updated now, or at a time of its own: harvested dates lie in the past and in the future."""
        self.datasets[dataset]["last_update"] = last_update or self._now()

    def remove(self, dataset: str) -> None:
        """Delete a dataset."""
        self.datasets[dataset]["deleted"] = self._now()

    def resource_ids(self, dataset: str) -> list[str]:
        """Return the ids of a dataset's resources."""
        return [str(each["id"]) for each in self.datasets[dataset]["resources"]]

    def _now(self) -> str:
        return self.control.clock.now().isoformat()

    def _touch(self, dataset: str) -> None:
        self.datasets[dataset] |= {"last_modified": self._now(), "last_update": self._now()}

    def _resource(self, url: str | None) -> dict[str, Any]:
        now, name = self._now(), str(uuid.uuid4())
        return {
            "id": name,
            "title": (url or "").rpartition("/")[2] or "ressource",
            "description": None,
            "filetype": "remote",
            "type": "main",
            "format": PurePosixPath(url or "").suffix.removeprefix(".") or None,
            "url": url,
            "latest": f"{self.url}/datasets/r/{name}",
            "checksum": None,
            "filesize": None,
            "mime": None,
            "created_at": now,
            "last_modified": now,
            "harvest": None,
            "extras": {},
            "preview_url": None,
            "schema": {"name": None, "version": None, "url": None},
        }

    def sorted(self, sort: str | None) -> list[dict[str, Any]]:
        """Return the datasets that there are, in the order that is asked for."""
        shown = [each for each in list(self.datasets.values()) if not each["deleted"] and not each["private"]]
        key = (sort or "-created").removeprefix("-")
        return sorted(shown, key=_KEYS.get(key, _metric(key)), reverse=not sort or sort.startswith("-"))

    def some(self, sort: str | None, first: int, last: int) -> tuple[list[dict[str, Any]], int]:
        """Return the datasets from one place to another in that order, and how many there are in all."""
        listed = self.sorted(sort)
        return listed[first:last], len(listed)

    def page(self, sort: str | None, page: int, size: int) -> dict[str, Any]:
        """Return a page of the list."""
        first = (page - 1) * size
        shown, total = self.some(sort, first, first + size)

        def address(number: int) -> str:
            query = ({"sort": sort} if sort else {}) | {"page": number, "page_size": size}
            return f"{self.public or self.url}/datasets/?{urlencode(query)}"

        return {
            "data": [_public(each) for each in shown],
            "page": page,
            "page_size": size,
            "total": total,
            "next_page": address(page + 1) if first + size < total else None,
            "previous_page": address(page - 1) if page > 1 else None,
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of the list of all resources; dates have no zone there."""
        for dataset in list(self.datasets.values()):
            if dataset["deleted"]:
                continue
            of = {f"dataset.{name}": dataset[name] for name in ("id", "title", "slug", "private")}
            of["dataset.organization"] = (dataset["organization"] or {}).get("name")
            for each in dataset["resources"]:
                names = ("id", "url", "title", "description", "filetype", "format", "type", "mime", "filesize")
                checksum = {f"checksum.{name}": (each["checksum"] or {}).get(name) for name in ("type", "value")}
                modified = datetime.fromisoformat(each["last_modified"]).replace(tzinfo=None).isoformat()
                yield of | {name: each[name] for name in names} | checksum | {"modified": modified}


def _date(name: str) -> Callable[[Mapping[str, Any]], datetime]:
    return lambda dataset: datetime.fromisoformat(dataset[name])


def _metric(name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda dataset: dataset["metrics"].get(name, 0)


_KEYS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "title": lambda dataset: dataset["title"],
    "created": _date("created_at"),
    "last_update": _date("last_update"),
}


def _public(dataset: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in dataset.items() if name != "community_resources"}


def _refused(status: int, message: str, **errors: str) -> Response:
    body = {"message": message} | ({"errors": errors} if errors else {})
    response = jsonify(body)
    response.status_code = status
    return response


def _given(name: str, default: int) -> int:
    text = request.args.get(name, str(default))
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else 0


def _masked(document: dict[str, Any]) -> Response:
    try:
        return jsonify(masked(document, request.headers.get("X-Fields")))
    except Malformed as error:
        return _refused(400, str(error))


def _csv(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of a list, one with the names first."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";", quoting=csv.QUOTE_ALL, lineterminator="\n")
    names: list[str] = []
    for row in rows:
        if not names:
            names = list(row)
            writer.writerow(names)
        writer.writerow([row[name] for name in names])
        yield text.getvalue()
        text.seek(0)
        text.truncate()
    if not names:
        yield '"dataset.id";"id";"url";"modified"\n'


def _app(sandbox: Sandbox) -> Flask:
    app = Flask("sandbox-catalogue", static_folder=None)

    @app.get(f"{_API}/datasets/")
    def datasets() -> Response:
        sort, page, size = request.args.get("sort"), _given("page", 1), _given("page_size", 20)
        if sort is not None and sort.removeprefix("-") not in _SORTS:
            return _refused(400, "Input payload validation failed", sort=f"The value '{sort}' is not a valid choice")
        if not page or not size:
            return _refused(400, "Input payload validation failed", page="page and page_size must be positive")
        response = _masked(sandbox.page(sort, page, size))
        sandbox.meanwhile.pop(page, lambda: None)()
        return response

    @app.get(f"{_API}/datasets/<name>/")
    def dataset(name: str) -> Response:
        found = next((each for each in list(sandbox.datasets.values()) if name in {each["id"], each["slug"]}), None)
        if found is None:
            return _refused(404, "Dataset not found")
        return _refused(410, "Dataset has been deleted") if found["deleted"] else _masked(_public(found))

    _resources(app, sandbox)
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


def _resources(app: Flask, sandbox: Sandbox) -> None:
    """Add the routes of single files, and of the list of all."""

    @app.put(f"{_API}/datasets/<name>/resources/<resource>/extras/")
    def extras(name: str, resource: str) -> Response:
        if request.headers.get("X-API-KEY") != sandbox.key:
            return _refused(401, "Invalid API Key")
        listed = sandbox.datasets.get(name, {"resources": ()})["resources"]
        found = next((each for each in listed if each["id"] == resource), None)
        if found is None:
            return _refused(404, "Resource does not exist")
        told = request.get_json()
        found["extras"] = {key: value for key, value in (found["extras"] | told).items() if value is not None}
        if found["filetype"] == "remote" and "analysis:last-modified-at" in found["extras"]:
            found["last_modified"] = found["extras"]["analysis:last-modified-at"]
        return jsonify(found["extras"])

    @app.get("/resources.csv")
    def export() -> Response:
        return Response(_csv(sandbox.rows()), content_type="text/csv; charset=utf-8")

    @app.get(f"{_API}/datasets/r/<resource>")
    def file(resource: str) -> AnyResponse:
        listed = [each for every in list(sandbox.datasets.values()) for each in every["resources"]]
        found = next((each for each in listed if each["id"] == resource), None)
        return redirect(found["url"]) if found else _refused(404, "Resource not found")


@contextmanager
def catalogue(port: int = 0, control: Control | None = None, sandbox: Sandbox | None = None) -> Iterator[Sandbox]:
    """Run a catalogue, an empty one unless it is given."""
    sandbox = sandbox or Sandbox(control=control or Control())
    with serving(_app(sandbox), port) as url:
        sandbox.url, sandbox.export = url + _API, f"{url}/resources.csv"
        yield sandbox
