"""link-proxy's API: it fetches files, keeps them, and tells their changes to whoever subscribed."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any, Self

from datafab.catalogue.linkproxy_checks import LINK
from datafab.core.services import Client, Services
from datafab.errors import Fatal, SettingError
from datafab.fetch.json_api import JsonApi, Reply
from datafab.settings import Settings

_LINK = re.compile(LINK)
_FOUND = frozenset({HTTPStatus.FOUND, HTTPStatus.NOT_FOUND})
_GIVEN = frozenset({HTTPStatus.OK, HTTPStatus.NOT_FOUND})


class LinkProxy(Client):
    """The link-proxy of ``DATAFAB_LINKPROXY_URL``. It asks for no password.

    What every call may raise: Retriable (no answer, none in time, 408, 425, 429, 5xx, or one that makes no sense),
    Fatal (any other), with ``field`` the URL.
    """

    def __init__(self, settings: Settings) -> None:
        if settings.linkproxy_url is None:
            msg = "DATAFAB_LINKPROXY_URL is not set: no link-proxy to ask; e.g. http://localhost:5000"
            raise SettingError(msg, field="DATAFAB_LINKPROXY_URL")
        self._url = settings.linkproxy_url
        # It is a neighbour: mostly at a private address, and not behind the proxy for fetches.
        setting = "DATAFAB_LINKPROXY_URL"
        self._api = JsonApi(settings, service="linkproxy", setting=setting, private=("*",), proxy=False)

    @classmethod
    def connect(cls, services: Services) -> Self:
        """Return the client of a process."""
        return cls(services.settings)

    def ping(self) -> None:
        """Raise unless it answers."""
        self.find("http://ping.invalid/")

    def submit(self, location: str, *, no_cache: bool = False) -> str:
        """Have a URL checked; return the id of its link. Asked twice while one waits, it is checked once.

        Args:
            location: the URL.
            no_cache: have it fetched even when the last check is recent.
        """
        body = {"location": location} | ({"noCache": True} if no_cache else {})
        reply = self._api.request("POST", f"{self._url}/", body=body)
        link = reply.document().get("_id")
        if not isinstance(link, str) or not _LINK.fullmatch(link):
            raise reply.bad_answer(f"no link came, its _id is {link!r}")
        return link

    def find(self, location: str) -> str | None:
        """Return the id of a URL's link; None: it has none yet."""
        reply = self._api.request("GET", f"{self._url}/", params={"location": location}, answers=_FOUND)
        return None if reply.status == HTTPStatus.NOT_FOUND else _last(reply, "")

    def link(self, link: str) -> dict[str, Any] | None:
        """Return a link with its downloads; None: there is none."""
        reply = self._api.request("GET", f"{self._url}/{_checked(link)}", answers=_GIVEN)
        return None if reply.status == HTTPStatus.NOT_FOUND else reply.document()

    def latest(self, link: str) -> dict[str, Any] | None:
        """Return the latest check of a link that is over; None: there is none yet.

        It may still be the one before the last ``submit``.
        """
        checks = f"{self._url}/{_checked(link)}/checks"
        reply = self._api.request("GET", f"{checks}/latest", answers=_FOUND)
        if reply.status == HTTPStatus.NOT_FOUND:
            return None
        # Followed by hand: behind a prefix the Location is not where we reach it.
        number = _last(reply, f"/{link}/checks")
        reply = self._api.request("GET", f"{checks}/{number}", answers=_GIVEN)
        return None if reply.status == HTTPStatus.NOT_FOUND else reply.document()


def _checked(link: str) -> str:
    """Return a link's id if it can be one: it becomes part of a URL."""
    if not _LINK.fullmatch(link):
        raise Fatal(f"{link!r} is no id of a link", code="linkproxy_link", field="link")
    return link


def _last(reply: Reply, before: str) -> str:
    """Return the last part of where an answer leads."""
    location = reply.headers.get("Location", "")
    found = re.search(rf"{re.escape(before)}/({LINK})/?$", location)
    if found is None:
        raise reply.bad_answer(f"sent to {location!r}, which is no address of link-proxy's")
    return found.group(1)
