"""Tell whoever submitted a push how it has ended: one POST to the address that was given with it."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Self

import requests
from requests.exceptions import RequestException

from datafab.core.services import Client, Services
from datafab.errors import Fatal, Retriable
from datafab.fetch.refusal import explain
from datafab.push.ckan import allowed, sendable
from datafab.settings import Settings
from datafab.urls import without_credentials

#: Statuses that pass by themselves.
_LATER = frozenset({408, 425, 429})


def key_header(key: str, settings: Settings) -> dict[str, str]:
    """Return the header that shows a key: ``Authorization``, or the one that the key names as ``Header:key``.

    Raises:
        Fatal: no header can carry the key; or the settings do not know that header: with any, a submit could set what
            it likes in our requests.
    """
    header, colon, value = sendable(key).partition(":")
    if not colon:
        return {"Authorization": key}
    if header.lower() not in {name.lower() for name in settings.ckan_key_headers}:
        msg = "api_key names a header that DATAFAB_CKAN_KEY_HEADERS does not list: send the key alone, or add it there"
        raise Fatal(msg, code="header_not_allowed", field="api_key")
    return {header: value}


class Callback(Client):
    """Sends callbacks, within the CKANs that ``DATAFAB_CKAN_URLS`` allows."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @classmethod
    def connect(cls, services: Services) -> Self:
        """Return the client of a process."""
        return cls(services.settings)

    def post(self, url: str, body: Mapping[str, Any], key: str) -> None:
        """Send one.

        Args:
            url: where to.
            body: JSON.
            key: sent as ``Authorization``, or as another header where it has the form ``Header:key``.

        Raises:
            Fatal: the address is not allowed, or it refused.
            Retriable: it may be taken later.
        """
        settings = self._settings
        allowed(url, settings)
        headers = key_header(key, settings)
        try:
            with requests.Session() as session:
                session.trust_env = False
                session.verify = str(settings.ca_bundle) if settings.ca_bundle else True
                answer = session.post(
                    url,
                    json=dict(body),
                    headers={"User-Agent": settings.user_agent} | headers,
                    timeout=(settings.connect_timeout, settings.read_timeout),
                    allow_redirects=False,
                    stream=True,
                )
                status = answer.status_code
                answer.close()
        except (RequestException, OSError) as error:
            why = explain(error, url)
            kind = Fatal if why.code in {"invalid_url", "not_http", "bad_answer"} else Retriable
            raise kind(why.message.replace(key, "***"), code=why.code, field="result_url") from error
        _judge(status, url)


def _judge(status: int, url: str) -> None:
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return
    kind = Retriable if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _LATER else Fatal
    raise kind(
        f"{without_credentials(url)}: the callback was answered with {status}",
        code=f"http_{status}",
        field="result_url",
    )
