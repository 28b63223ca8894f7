"""CORS preflight requests, which ask a server whether web pages may read a file."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Self
from urllib.parse import urlsplit

from datafab.catalogue.resource_extras import CORS_HEADERS
from datafab.core.services import Client, Services
from datafab.errors import Fatal, Retriable
from datafab.fetch.json_api import JsonApi
from datafab.settings import Settings

#: Timeout for the whole answer.
TIMEOUT_SECONDS = 5.0
#: Headers that a page would send with its request.
REQUEST_HEADERS = "authorization,content-type"
_PERMITTED_STATUSES = range(HTTPStatus.OK, HTTPStatus.BAD_REQUEST)


class Cors(Client):
    """Client that sends preflights for pages of the catalogue, such as its previews of files."""

    def __init__(self, settings: Settings) -> None:
        parts = urlsplit(settings.catalogue_url)
        self._origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        private = settings.allow_private_hosts
        self._api = JsonApi(settings, service="cors", setting="the file's address", private=private, proxy=True)

    @classmethod
    def connect(cls, services: Services) -> Self:
        """Return the client of a process."""
        return cls(services.settings)

    def probe(self, url: str) -> dict[str, Any]:
        """Return the status and the ``access-control-*`` headers of the answer; empty if it permits nothing."""
        headers = {
            "Origin": self._origin,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": REQUEST_HEADERS,
        }
        try:
            reply = self._api.request(
                "OPTIONS", url, answers=_PERMITTED_STATUSES, headers=headers, seconds=TIMEOUT_SECONDS
            )
        except (Fatal, Retriable):
            return {}
        permissions = {name: reply.headers.get(f"access-control-{name}") for name in CORS_HEADERS}
        return {"status": reply.status} | permissions
