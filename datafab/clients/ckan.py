"""CKAN's action API, as far as loading a resource's datastore needs it. Only this module knows its answers.

Which CKANs may be asked: whoever submits a push names the CKAN and gives the key for it, as with the original, so by
default it may be any. An installation that serves known portals only lists their roots in ``DATAFAB_CKAN_URLS``; then
nothing is sent elsewhere, neither actions nor callbacks. The private-address rule is that of downloads and does not
hold here: a CKAN beside its pusher mostly has a private address.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NoReturn, Self

import requests
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError

from datafab.clients.refusal import explain, shown
from datafab.errors import Fatal, Retriable
from datafab.settings import Settings

#: Bytes of an answer that are read: the longest is the data dictionary of a wide table.
MAX_ANSWER = 16 * 1024**2
#: Characters of an answer that is not CKAN's JSON which a message quotes.
QUOTED = 200
#: Statuses that pass by themselves.
_LATER = frozenset({408, 425, 429})
_RIGHTS = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


def root(url: str) -> str:
    """Return a CKAN's root URL in one spelling: with its scheme, without slashes at its end."""
    url = url.strip().rstrip("/")
    return url if "://" in url else f"http://{url}"


def allowed(url: str, settings: Settings) -> None:
    """Refuse a URL below none of the roots in ``DATAFAB_CKAN_URLS``; without that setting any is right.

    Raises:
        Fatal: ``ckan_not_allowed``.
    """
    roots = [root(each) for each in settings.ckan_urls]
    if roots and not any(url == each or url.startswith(each + "/") for each in roots):
        msg = f"{shown(url)}: not below a CKAN that DATAFAB_CKAN_URLS allows; add its root there"
        raise Fatal(msg, code="ckan_not_allowed", field="DATAFAB_CKAN_URLS")


class Ckan:
    """One CKAN, asked with one key. To be closed: ``with services.ckan(url, key) as ckan``.

    What every action may raise: Fatal (401, 403, 404, 409 and other refusals) or Retriable (no connection, no answer in
    time, 408, 429, 5xx), ``code`` ``ckan_<status>`` or the reason, ``field`` the action's URL, the message CKAN's own.
    """

    def __init__(self, url: str, key: str | None, settings: Settings) -> None:
        self.url = root(url)
        allowed(self.url, settings)
        self._key = key or ""
        self._timeouts = (settings.connect_timeout, settings.read_timeout)
        self._session = requests.Session()
        # Neither proxies nor passwords from the environment: what is sent where is said by the settings alone.
        self._session.trust_env = False
        self._session.verify = str(settings.ca_bundle) if settings.ca_bundle else True
        self._session.headers["User-Agent"] = settings.user_agent
        if key:
            self._session.headers["Authorization"] = key

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def ping(self) -> None:
        """Raise unless it answers; closes the connections."""
        with self:
            self._ask("status_show", {})

    def resource_show(self, resource: str) -> dict[str, Any]:
        """Return a resource as CKAN has it."""
        found: dict[str, Any] = self._ask("resource_show", {"id": resource})
        return found

    def resource_patch(self, resource: str, **fields: Any) -> None:
        """Change these fields of a resource and no others."""
        self._ask("resource_patch", {"id": resource} | fields)

    def datastore_info(self, resource: str) -> dict[str, Any] | None:
        """Return ``meta`` (with ``count``) and ``fields`` of a resource's table; None: it has none."""
        try:
            found: dict[str, Any] = self._ask("datastore_info", {"id": resource})
        except Fatal as error:
            if error.code == "ckan_404":
                return None
            raise
        return found

    def datastore_delete(self, resource: str) -> bool:
        """Drop a resource's table; False: it had none."""
        try:
            self._ask("datastore_delete", {"resource_id": resource, "force": True})
        except Fatal as error:
            if error.code == "ckan_404":
                return False
            raise
        return True

    def datastore_create(self, resource: str, fields: Sequence[Mapping[str, Any]]) -> None:
        """Make an empty table: ``fields`` are ``{"id", "type", "info"}``."""
        self._ask("datastore_create", {"resource_id": resource, "force": True, "fields": list(fields)})

    def datastore_insert(self, resource: str, records: Sequence[Mapping[str, Any]], *, last: bool) -> None:
        """Append records; ``last``: have CKAN count the rows, which costs it a scan."""
        body = {"resource_id": resource, "force": True, "method": "insert", "records": list(records)}
        self._ask("datastore_upsert", body | {"calculate_record_count": last})

    def _ask(self, action: str, body: Mapping[str, Any]) -> Any:
        url = f"{self.url}/api/3/action/{action}"
        try:
            with self._session.post(
                url, json=body, timeout=self._timeouts, allow_redirects=False, stream=True
            ) as answer:
                text = answer.raw.read(MAX_ANSWER, decode_content=True)
        except (RequestException, HTTPError, OSError) as error:
            self._unreachable(error, url)
        if answer.status_code not in {HTTPStatus.OK, HTTPStatus.CREATED}:
            self._refused(answer, text, url)
        try:
            return json.loads(text)["result"]
        except (ValueError, TypeError, KeyError) as error:
            msg = f"{shown(url)}: the answer is not CKAN's: is {shown(self.url)} the root of a CKAN?"
            raise Fatal(msg, code="ckan_answer", field=shown(url)) from error

    def _unreachable(self, error: Exception, url: str) -> NoReturn:
        why = explain(error, url)
        kind = Fatal if why.code in {"invalid_url", "not_http"} else Retriable
        raise kind(self._silent(why.message), code=why.code, field=shown(url)) from error

    def _refused(self, answer: requests.Response, text: bytes, url: str) -> NoReturn:
        status = answer.status_code
        said = self._silent(_said(text) or answer.reason or "no reason given")
        msg = f"{shown(url)}: CKAN answered {status}: {said}"
        code = f"ckan_{status}"
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _LATER:
            raise Retriable(msg, delay=_pause(answer), code=code, field=shown(url))
        if status in _RIGHTS:
            msg += "; does the api_key belong to a user who may edit this resource?"
        elif answer.is_redirect:
            msg = f"{shown(url)}: CKAN is elsewhere, at {shown(answer.headers['location'])}: give that as its URL"
        raise Fatal(msg, code=code, field=shown(url))

    def _silent(self, text: str) -> str:
        """Return a text without the key, in case a server repeats what it was sent."""
        return text.replace(self._key, "***") if self._key else text


def _said(text: bytes) -> str:
    """Return what an answer says went wrong: CKAN's message, its fields' messages, or its beginning."""
    try:
        error = json.loads(text)["error"]
    except (ValueError, TypeError, KeyError):
        return text.decode("utf-8", "replace").strip()[:QUOTED]
    if not isinstance(error, dict):
        return str(error)
    if isinstance(error.get("message"), str):
        return str(error["message"])
    parts = {key: value for key, value in error.items() if key not in {"__type", "records_row"}}
    return "; ".join(f"{key}: {_flat(value)}" for key, value in parts.items())


def _flat(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _pause(answer: requests.Response) -> float | None:
    """Return the seconds that a Retry-After asks for."""
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None
