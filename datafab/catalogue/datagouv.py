"""Client of the API of a udata catalogue, such as data.gouv.fr."""

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

PAGE_DATASETS = 100
#: Fields requested of a dataset. Without a mask a page is many times as long.
MASK = (
    "id,title,last_update,organization{name},"
    "resources{id,title,url,format,mime,filesize,checksum,last_modified,harvest}"
)
DESCRIPTION_MASK = "id,title,organization{name}"
_GONE_STATUSES = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
_REDIRECTS = frozenset({HTTPStatus.FOUND, HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.SEE_OTHER})


class Datagouv(Client):
    """One catalogue: the one of ``DATAFAB_CATALOGUE_URL``, or another that a job names.

    The former may have a private address; the latter is subject to the rule for downloads.
    """

    def __init__(self, settings: Settings, url: str | None = None) -> None:
        self.url, self._writing_root = api_roots(url or settings.catalogue_url)
        private = ("*",) if url is None else settings.allow_private_hosts
        setting = "DATAFAB_CATALOGUE_URL" if url is None else "the parameter url"
        # The key is only sent to the catalogue that the operator has set, never to one that a job names.
        self._key = settings.catalogue_key if url is None else None
        self._reader = JsonApi(settings, service="catalogue", setting=setting, private=private, proxy=True)
        either = f"{setting} or DATAFAB_CATALOGUE_KEY"
        self._writer = JsonApi(settings, service="catalogue", setting=either, private=private, proxy=True)

    @classmethod
    def connect(cls, services: Services) -> Self:
        """Return the client of the catalogue of the settings."""
        return cls(services.settings)

    @classmethod
    def at(cls, services: Services, url: str | None) -> Self:
        """Return the client of the catalogue at a URL; None: the one of the settings."""
        return services.get(cls) if url is None else cls(services.settings, url)

    def ping(self) -> None:
        """Raise unless the catalogue answers."""
        self._reader.request("GET", f"{self.url}/datasets/", params={"page_size": "1"}, headers={"X-Fields": "total"})

    def page(self, url: str | None = None) -> Page:
        """Return a page of the datasets, the most recently updated first.

        Args:
            url: ``next_page`` of the page before; None: the first page.

        Raises:
            Retriable: no answer, a timeout, 408, 425, 429, 5xx, or a malformed page.
            Fatal: the URL belongs to another catalogue, or any other status.
        """
        params: Mapping[str, str] = {}
        answers = {HTTPStatus.OK}
        if url is None:
            url, params = (
                f"{self.url}/datasets/",
                {"sort": "-last_update", "page": "1", "page_size": str(PAGE_DATASETS)},
            )
        elif not url.startswith(f"{self.url}/datasets/?"):
            msg = f"{without_credentials(url)}: not a page of {without_credentials(self.url)}/datasets/"
            raise Fatal(msg, code="catalogue_elsewhere", field=without_credentials(url))
        else:
            # udata answers 404 beyond the last page, if datasets were deleted since the page before was read.
            answers.add(HTTPStatus.NOT_FOUND)
        headers = {"X-Fields": f"data{{{MASK}}},next_page,total"}
        reply = self._reader.request("GET", url, answers=answers, params=params, headers=headers)
        if reply.status == HTTPStatus.NOT_FOUND:
            return Page(datasets=[], next_page=None, total=None)
        document = reply.document()
        datasets, total = document.get("data"), document.get("total")
        if not isinstance(datasets, list):
            raise reply.bad_answer("it has no list of datasets (data)")
        return Page(
            datasets=[dataset for dataset in datasets if isinstance(dataset, dict)],
            next_page=self._under_own_root(document.get("next_page")),
            total=total if isinstance(total, int) else None,
        )

    def dataset(self, dataset: str, *, mask: str = MASK) -> dict[str, Any] | None:
        """Return a dataset with its resources; None if it does not exist or was deleted."""
        url = f"{self.url}/datasets/{quote(dataset, safe='')}/"
        reply = self._reader.request("GET", url, answers={HTTPStatus.OK, *_GONE_STATUSES}, headers={"X-Fields": mask})
        return None if reply.status in _GONE_STATUSES else reply.document()

    def dataset_description(self, dataset: str) -> dict[str, Any] | None:
        """Return a dataset without its resources; None if it does not exist or was deleted."""
        return self.dataset(dataset, mask=DESCRIPTION_MASK)

    def resource(self, dataset: str, resource: str) -> dict[str, Any] | None:
        """Return a resource of a dataset; None if it does not exist or was deleted."""
        listed = (self.dataset(dataset) or {}).get("resources")
        found = (each for each in listed or () if isinstance(each, dict) and each.get("id") == resource)
        return next(found, None)

    def file_url(self, resource: str) -> str | None:
        """Return the current URL of a resource's file; None if the resource does not exist or was deleted."""
        url = f"{self.url}/datasets/r/{quote(resource, safe='')}"
        reply = self._reader.request("GET", url, answers=_REDIRECTS | _GONE_STATUSES)
        if reply.status in _GONE_STATUSES:
            return None
        location = reply.headers.get("Location")
        if not location:
            raise reply.bad_answer("it is a redirect without a Location")
        return location

    def write_extras(self, dataset: str, resource: str, extras: Mapping[str, Any]) -> None:
        """Merge extras into those of a resource, with ``DATAFAB_CATALOGUE_KEY``; a null removes its key.

        Raises:
            Retriable: no answer, a timeout, 408, 425, 429, 5xx, or an answer without the extras that were sent.
            Fatal: any other status, 404 and 410 included.
        """
        if self._key is None:
            msg = "DATAFAB_CATALOGUE_KEY is not set: set it to an API key of the catalogue to write to it"
            raise SettingError(msg, field="DATAFAB_CATALOGUE_KEY")
        if self._writing_root is None:
            root = without_credentials(self.url)
            msg = f"DATAFAB_CATALOGUE_URL={root} does not end in /api/1, so the address of its API 2 is not known"
            raise Fatal(msg, code="catalogue_root", field=root)
        url = f"{self._writing_root}/datasets/{quote(dataset, safe='')}/resources/{quote(resource, safe='')}/extras/"
        reply = self._writer.request("PUT", url, headers={"X-API-KEY": self._key}, body=dict(extras))
        # A server that is not a udata may answer 200 as well, such as one with the same page for every URL.
        missing = {name for name, value in extras.items() if value is not None} - reply.document().keys()
        if missing:
            raise reply.bad_answer(f"{min(missing)} is not among the extras in the answer")

    def _under_own_root(self, url: Any) -> str | None:
        """Return the URL of the next page below our own root.

        Behind a proxy an API may give another root for itself; and no page may lead to another server.
        """
        if not isinstance(url, str):
            return None
        try:
            query = urlsplit(url).query
        except ValueError:
            query = ""
        return f"{self.url}/datasets/?{query}" if query else None
