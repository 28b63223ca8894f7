"""Client of link-proxy, which fetches and keeps files, and notifies subscribers of their changes."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any, Self

from datafab.catalogue.linkproxy_checks import LINK_ID
from datafab.core.services import Client, Services
from datafab.errors import Fatal, SettingError
from datafab.fetch.json_api import JsonApi, Reply
from datafab.settings import Settings

_LINK_PATTERN = re.compile(LINK_ID)
_REDIRECT_OR_MISSING = frozenset({HTTPStatus.FOUND, HTTPStatus.NOT_FOUND})
_DOCUMENT_OR_MISSING = frozenset({HTTPStatus.OK, HTTPStatus.NOT_FOUND})


class LinkProxy(Client):
    """The link-proxy of ``DATAFAB_LINKPROXY_URL``; it has no authentication.

    Every call may raise Retriable (no answer, a timeout, 408, 425, 429, 5xx, or a malformed answer) and Fatal (any
    other status), with the URL as ``field``.
    """

    def __init__(self, settings: Settings) -> None:
        if settings.linkproxy_url is None:
            msg = "DATAFAB_LINKPROXY_URL is not set: set it to the URL of a link-proxy, e.g. http://localhost:5000"
            raise SettingError(msg, field="DATAFAB_LINKPROXY_URL")
        self._url = settings.linkproxy_url
        # link-proxy runs beside datafab: its address is mostly private, and it is not behind the proxy for downloads.
        setting = "DATAFAB_LINKPROXY_URL"
        self._api = JsonApi(settings, service="linkproxy", setting=setting, private=("*",), proxy=False)

    @classmethod
    def connect(cls, services: Services) -> Self:
        """Return the client of a process."""
        return cls(services.settings)

    def ping(self) -> None:
        """Raise unless link-proxy answers."""
        self.find("http://ping.invalid/")

    def submit(self, location: str, *, no_cache: bool = False) -> str:
        """Ask for a check of a URL; return the id of its link. A URL with a pending check is not checked twice.

        Args:
            location: the URL.
            no_cache: fetch the file even if the last check is recent.
        """
        body = {"location": location} | ({"noCache": True} if no_cache else {})
        reply = self._api.request("POST", f"{self._url}/", body=body)
        link = reply.document().get("_id")
        if not isinstance(link, str) or not _LINK_PATTERN.fullmatch(link):
            raise reply.bad_answer(f"it has no id of a link: _id is {link!r}")
        return link

    def find(self, location: str) -> str | None:
        """Return the id of the link for a URL; None if there is none yet."""
        reply = self._api.request("GET", f"{self._url}/", params={"location": location}, answers=_REDIRECT_OR_MISSING)
        return None if reply.status == HTTPStatus.NOT_FOUND else _last_segment(reply, "")

    def link(self, link: str) -> dict[str, Any] | None:
        """Return a link with its downloads; None if it does not exist."""
        reply = self._api.request("GET", f"{self._url}/{_valid_link(link)}", answers=_DOCUMENT_OR_MISSING)
        return None if reply.status == HTTPStatus.NOT_FOUND else reply.document()

    def latest(self, link: str) -> dict[str, Any] | None:
        """Return the latest finished check of a link; None if there is none yet.

        It may be older than the last ``submit``.
        """
        checks = f"{self._url}/{_valid_link(link)}/checks"
        reply = self._api.request("GET", f"{checks}/latest", answers=_REDIRECT_OR_MISSING)
        if reply.status == HTTPStatus.NOT_FOUND:
            return None
        # The redirect is not followed: behind a prefix, the Location is not the URL at which we reach it.
        number = _last_segment(reply, f"/{link}/checks")
        reply = self._api.request("GET", f"{checks}/{number}", answers=_DOCUMENT_OR_MISSING)
        return None if reply.status == HTTPStatus.NOT_FOUND else reply.document()


def _valid_link(link: str) -> str:
    """Return the id of a link; raise Fatal if it is malformed, as it becomes part of a URL."""
    if not _LINK_PATTERN.fullmatch(link):
        raise Fatal(f"{link!r} is not the id of a link", code="linkproxy_link", field="link")
    return link


def _last_segment(reply: Reply, before: str) -> str:
    """Return the last segment of the path of a redirect."""
    location = reply.headers.get("Location", "")
    found = re.search(rf"{re.escape(before)}/({LINK_ID})/?$", location)
    if found is None:
        raise reply.bad_answer(f"it redirects to {location!r}, which is not a URL of link-proxy")
    return found.group(1)
