"""A small udata on 127.0.0.1: the list of datasets with sorting, paging and masks, as data.gouv.fr has it.

Datasets move between pages as they do in the original: a changed one goes to the top of ``sort=-last_update``. To move
one while a client reads the pages, put a function into ``meanwhile``, which is called after a page.

Source: opendatateam/udata; each route names its file. Other paths are answered with 404, as in the original.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlencode

from datafab.sandbox.catalogue_list import rows_of
from datafab.sandbox.catalogue_routes import API, app_of
from datafab.sandbox.control import Control, serving


@dataclass(slots=True)
class Sandbox:
    """A catalogue.

    Attributes:
        url: root URL of the API.
        export: URL of the list of all resources.
        public: root URL of the API in ``next_page``, if it differs.
        datasets: the datasets by id.
        key: an administrator's API key, for the header ``X-API-KEY``.
        others: API keys of other users.
        control: time, faults and journal.
        meanwhile: functions by number of a page; each is called once, after the answer with that page.
    """

    url: str = ""
    export: str = ""
    public: str | None = None
    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)
    key: str = "sandbox-key"
    others: tuple[str, ...] = ()
    control: Control = field(default_factory=Control)
    meanwhile: dict[int, Callable[[], object]] = field(default_factory=dict)

    def add(self, *urls: str, **fields: Any) -> str:
        """Add a dataset with a resource for each URL, and return its id. ``fields`` replace any of its fields."""
        now, name = self._now(), uuid.uuid4().hex[:24]
        self.datasets[name] = {
            "id": name,
            "title": f"Jeu de données {name[:4]}",
            "slug": name,
            "created_at": now,
            "last_modified": now,
            "last_update": now,
            "deleted": None,
            "archived": None,
            "private": False,
            "harvest": None,
            "extras": {},
            "schema": None,
            "metrics": {"followers": 0, "reuses": 0, "views": 0},
            "organization": {"id": uuid.uuid4().hex[:24], "name": "Producteur"},
            "owner": None,
            "resources": [self._resource(url) for url in urls],
            "community_resources": [],
        } | fields
        return name

    def attach(self, dataset: str, url: str | None, **fields: Any) -> str:
        """Add a resource to a dataset, and return its id. ``fields`` replace any of its fields, with any value."""
        resource = self._resource(url) | fields
        self.datasets[dataset]["resources"].append(resource)
        self._touch(dataset)
        return str(resource["id"])

    def change(self, resource: str, **fields: Any) -> None:
        """Change a resource, which is modified now unless ``fields`` have a date. Its dataset goes to the top."""
        for name, dataset in list(self.datasets.items()):
            for each in dataset["resources"]:
                if each["id"] == resource:
                    each.update({"last_modified": self._now()} | fields)
                    self._touch(name)
                    return
        raise KeyError(resource)

    def touch(self, dataset: str, last_update: str | None = None) -> None:
        """Set the update time of a dataset: now, or any date, because harvested dates may be in past or future."""
        self.datasets[dataset]["last_update"] = last_update or self._now()

    def remove(self, dataset: str) -> None:
        """Delete a dataset."""
        self.datasets[dataset]["deleted"] = self._now()

    @property
    def keys(self) -> dict[str, bool]:
        """The API keys, and whether they are an administrator's."""
        return dict.fromkeys(self.others, False) | {self.key: True}

    def dataset(self, name: str) -> dict[str, Any] | None:
        """Return a dataset by id or slug, even a deleted one."""
        return next((each for each in list(self.datasets.values()) if name in {each["id"], each["slug"]}), None)

    def resource(self, dataset: Mapping[str, Any], name: str) -> dict[str, Any] | None:
        """Return a resource of a dataset."""
        return next((each for each in dataset["resources"] if each["id"] == name), None)

    def write_extras(self, dataset: dict[str, Any], resource: dict[str, Any], extras: dict[str, Any]) -> None:
        """Set a resource's extras, which may have a remote file's date; the date of its dataset follows.

        Source: opendatateam/udata, ``udata/core/dataset/models.py`` (``ResourceMixin.last_modified``,
        ``Dataset.compute_last_update``).
        """
        resource["extras"] = extras
        harvested = (resource["harvest"] or {}).get("modified_at")
        if resource["filetype"] == "remote" and "analysis:last-modified-at" in extras and not harvested:
            resource["last_modified"] = extras["analysis:last-modified-at"]
        if not (dataset["harvest"] or {}).get("modified_at"):
            dates = [each["last_modified"] for each in dataset["resources"]]
            dataset["last_update"] = max(dates, key=datetime.fromisoformat)

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
            "metrics": {"views": 0},
            "extras": {},
            "preview_url": None,
            "schema": {"name": None, "version": None, "url": None},
        }

    def sorted(self, sort: str | None) -> list[dict[str, Any]]:
        """Return the public datasets in the requested order."""
        hidden = ("deleted", "archived", "private")
        shown = [each for each in list(self.datasets.values()) if not any(each.get(name) for name in hidden)]
        key = (sort or "-created").removeprefix("-")
        return sorted(shown, key=_KEYS.get(key, _metric(key)), reverse=not sort or sort.startswith("-"))

    def some(self, sort: str | None, first: int, last: int) -> tuple[list[dict[str, Any]], int]:
        """Return a range of the datasets in that order, and the number of all."""
        listed = self.sorted(sort)
        return listed[first:last], len(listed)

    def page(self, query: Mapping[str, str], page: int, size: int) -> dict[str, Any] | None:
        """Return a page of the list, or None if the list ends before it. Its links to other pages repeat the query."""
        first = (page - 1) * size
        shown, total = self.some(query.get("sort"), first, first + size)
        if not shown and page > 1:
            return None

        def address(number: int) -> str:
            return f"{self.public or self.url}/datasets/?{urlencode(dict(query) | {'page': number})}"

        return {
            "data": [public(each) for each in shown],
            "page": page,
            "page_size": size,
            "total": total,
            "next_page": address(page + 1) if first + size < total else None,
            "previous_page": address(page - 1) if page > 1 else None,
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of the list of all resources, in which dates have no time zone."""
        for dataset in list(self.datasets.values()):
            yield from rows_of(dataset)


def _date(name: str) -> Callable[[Mapping[str, Any]], datetime]:
    return lambda dataset: datetime.fromisoformat(dataset[name])


def _metric(name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda dataset: dataset["metrics"].get(name, 0)


_KEYS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "title": lambda dataset: dataset["title"],
    "created": _date("created_at"),
    "last_update": _date("last_update"),
}


def public(dataset: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a dataset in version 1 of the API, without a mask."""
    return {name: value for name, value in dataset.items() if name != "community_resources"}


@contextmanager
def catalogue(port: int = 0, control: Control | None = None, sandbox: Sandbox | None = None) -> Iterator[Sandbox]:
    """Run a catalogue; by default it is empty."""
    sandbox = sandbox or Sandbox(control=control or Control())
    with serving(app_of(sandbox), port) as url:
        sandbox.url, sandbox.export = url + API, f"{url}{API}/site/resources.csv"
        yield sandbox
