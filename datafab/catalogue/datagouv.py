"""The API of a udata catalogue, such as data.gouv.fr's: its datasets, the last updated first."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import quote, urlsplit

from datafab.catalogue.dataset import api_roots
from datafab.catalogue.pagination import Page
from datafab.core.services import Client, Services
from datafab.errors import Fatal, SettingError
from datafab.fetch.json_api import JsonApi
from datafab.settings import Settings
from datafab.urls import without_credentials

PAGE_SIZE = 100
#: What is asked for of a dataset: without a mask a page is many times as long.
MASK = (
    "id,title,last_update,organization{name},"
    "resources{id,title,url,format,mime,filesize,checksum,last_modified,harvest}"
)
ABOUT = "id,title,organization{name}"
_GONE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
_LEADS = frozenset({HTTPStatus.FOUND, HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.SEE_OTHER})


class Datagouv(Client):
    """One catalogue: that of ``DATAFAB_CATALOGUE_URL``, or another that a job names.

    The former may have a private address; for the latter the rule of downloads holds.
    """

    def __init__(self, settings: Settings, url: str | None = None) -> None:
        self.url, self._writing = api_roots(url or settings.catalogue_url)
        private = ("*",) if url is None else settings.allow_private_hosts
        setting = "DATAFAB_CATALOGUE_URL" if url is None else "the parameter url"
        # The key is for the catalogue that the operator names, never for one that a job does.
        self._key = settings.catalogue_key if url is None else None
        self._api = JsonApi(settings, service="catalogue", setting=setting, private=private, proxy=True)
        either = f"{setting} or DATAFAB_CATALOGUE_KEY"
        self._writer = JsonApi(settings, service="catalogue", setting=either, private=private, proxy=True)

    @classmethod
    def connect(cls, services: Services) -> Self:
        """Return the catalogue of the settings."""
        return cls(services.settings)

    @classmethod
    def at(cls, services: Services, url: str | None) -> Self:
        """Return the catalogue at a URL; None: that of the settings."""
        return services.get(cls) if url is None else cls(services.settings, url)

    def ping(self) -> None:
        """Raise unless it answers."""
        self._api.request("GET", f"{self.url}/datasets/", params={"page_size": "1"}, headers={"X-Fields": "total"})

    def page(self, url: str | None = None) -> Page:
        """Return a page of the datasets, the last updated first.

        Args:
            url: what ``next_page`` was on the page before; None: the first page.

        Raises:
            Retriable: no answer, none in time, 408, 425, 429, 5xx, or one that is no page.
            Fatal: the URL is not this catalogue's, or it refuses.
        """
        params: Mapping[str, str] = {}
        answers = {HTTPStatus.OK}
        if url is None:
            url, params = f"{self.url}/datasets/", {"sort": "-last_update", "page": "1", "page_size": str(PAGE_SIZE)}
        elif not url.startswith(f"{self.url}/datasets/?"):
            msg = f"{without_credentials(url)}: not a page of {without_credentials(self.url)}/datasets/"
            raise Fatal(msg, code="catalogue_elsewhere", field=without_credentials(url))
        else:
            # udata's answer beyond the last page: datasets were deleted since the page before was read.
            answers.add(HTTPStatus.NOT_FOUND)
        headers = {"X-Fields": f"data{{{MASK}}},next_page,total"}
        reply = self._api.request("GET", url, answers=answers, params=params, headers=headers)
        if reply.status == HTTPStatus.NOT_FOUND:
            return Page(datasets=[], next_page=None, total=None)
        document = reply.document()
        datasets, total = document.get("data"), document.get("total")
        if not isinstance(datasets, list):
            raise reply.bad_answer("no list of datasets (data) came")
        return Page(
            datasets=[dataset for dataset in datasets if isinstance(dataset, dict)],
            next_page=self._own(document.get("next_page")),
            total=total if isinstance(total, int) else None,
        )

    def dataset(self, dataset: str, *, mask: str = MASK) -> dict[str, Any] | None:
        """Return a dataset with its resources; None: there is none, or no longer."""
        url = f"{self.url}/datasets/{quote(dataset, safe='')}/"
        reply = self._api.request("GET", url, answers={HTTPStatus.OK, *_GONE}, headers={"X-Fields": mask})
        return None if reply.status in _GONE else reply.document()

    def about(self, dataset: str) -> dict[str, Any] | None:
        """Return a dataset without its resources; None: there is none, or no longer."""
        return self.dataset(dataset, mask=ABOUT)

    def resource(self, dataset: str, resource: str) -> dict[str, Any] | None:
        """Return a resource of a dataset; None: there is none, or no longer."""
        listed = (self.dataset(dataset) or {}).get("resources")
        found = (each for each in listed or () if isinstance(each, dict) and each.get("id") == resource)
        return next(found, None)

    def address(self, resource: str) -> str | None:
        """Return where a resource's file lies now; None: the catalogue has no such resource, or no longer."""
        url = f"{self.url}/datasets/r/{quote(resource, safe='')}"
        reply = self._api.request("GET", url, answers=_LEADS | _GONE)
        if reply.status in _GONE:
            return None
        location = reply.headers.get("Location")
        if not location:
            raise reply.bad_answer("it leads nowhere")
        return location

    def tell(self, dataset: str, resource: str, extras: Mapping[str, Any]) -> None:
        """Merge extras into those of a resource, with ``DATAFAB_CATALOGUE_KEY``; a null removes its key.

        Raises:
            Retriable: no answer, none in time, 408, 425, 429, 5xx, or one that does not hold what was sent.
            Fatal: any other answer, 404 and 410 included.
        """
        if self._key is None:
            msg = "DATAFAB_CATALOGUE_KEY is not set: without it nothing is written to a catalogue"
            raise SettingError(msg, field="DATAFAB_CATALOGUE_KEY")
        if self._writing is None:
            root = without_credentials(self.url)
            msg = f"DATAFAB_CATALOGUE_URL={root} does not end in /api/1, so the address of its API 2 is not known"
            raise Fatal(msg, code="catalogue_root", field=root)
        url = f"{self._writing}/datasets/{quote(dataset, safe='')}/resources/{quote(resource, safe='')}/extras/"
        reply = self._writer.request("PUT", url, headers={"X-API-KEY": self._key}, body=dict(extras))
        # Another server than a udata, such as a page for whatever is asked, may say 200 as well.
        missing = {name for name, value in extras.items() if value is not None} - reply.document().keys()
        if missing:
            raise reply.bad_answer(f"{min(missing)} is not among the extras that it has now")

    def _own(self, url: Any) -> str | None:
        """Return a next page under our own root: behind a proxy an API names itself by another, and none leads away."""
        if not isinstance(url, str):
            return None
        try:
            query = urlsplit(url).query
        except ValueError:
            query = ""
        return f"{self.url}/datasets/?{query}" if query else None
