"""Callbacks, which report the end of a push: one POST to the URL that was submitted with it."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Self

from requests.exceptions import RequestException

from datafab.core.services import Client, Services
from datafab.errors import Fatal, Retriable
from datafab.fetch.refusal import explain
from datafab.fetch.watched import WatchedSession
from datafab.push.ckan import require_allowed, sendable
from datafab.settings import Settings
from datafab.urls import without_credentials

#: Statuses besides 5xx after which a callback is retried.
_RETRIABLE_STATUSES = frozenset({408, 425, 429})


def key_header(key: str, settings: Settings) -> dict[str, str]:
    """Return the header that carries a key: ``Authorization``, or the one that a key of the form ``Header:key`` names.

    Raises:
        Fatal: no header can carry the key, or the settings do not allow that header, by which a submitter could
            otherwise set any header of our requests.
    """
    header, colon, value = sendable(key).partition(":")
    if not colon:
        return {"Authorization": key}
    if header.lower() not in {name.lower() for name in settings.ckan_key_headers}:
        msg = "api_key names a header that DATAFAB_CKAN_KEY_HEADERS does not list: send the key alone, or add it there"
        raise Fatal(msg, code="header_not_allowed", field="api_key")
    return {header: value}


class Callback(Client):
    """Client that sends callbacks to the CKANs that ``DATAFAB_CKAN_URLS`` allows."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @classmethod
    def connect(cls, services: Services) -> Self:
        """Return the client of a process."""
        return cls(services.settings)

    def post(self, url: str, body: Mapping[str, Any], key: str) -> None:
        """Send a callback.

        Args:
            url: URL of the receiver.
            body: object to send as JSON.
            key: sent as ``Authorization``, or as another header if it has the form ``Header:key``.

        Raises:
            Fatal: the URL is not allowed, or the receiver refuses.
            Retriable: the receiver may accept it later.
        """
        settings = self._settings
        require_allowed(url, settings)
        headers = key_header(key, settings)
        try:
            with WatchedSession(settings) as session:
                answer = session.post(
                    url,
                    json=dict(body),
                    headers=headers,
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
        _raise_for_status(status, url)


def _raise_for_status(status: int, url: str) -> None:
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return
    kind = Retriable if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _RETRIABLE_STATUSES else Fatal
    raise kind(
        f"{without_credentials(url)}: the callback was answered with {status}",
        code=f"http_{status}",
        field="result_url",
    )
