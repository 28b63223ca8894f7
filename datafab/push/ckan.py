"""CKAN's action API, as far as loading a resource's datastore needs it. Only this module knows its answers.

Which CKANs may be asked: whoever submits a push names the CKAN and gives the key for it, as with the original, so by
default it may be any. An installation that serves known portals only lists their roots in ``DATAFAB_CKAN_URLS``; then
nothing is sent elsewhere, neither actions nor callbacks. The private-address rule is that of downloads and does not
hold here: a CKAN beside its pusher mostly has a private address.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from http import HTTPStatus
from typing import Any, NoReturn, Self

import requests
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError

from datafab.core.services import Services
from datafab.errors import Fatal, Retriable
from datafab.fetch.refusal import explain
from datafab.push.datapusher import root
from datafab.settings import Settings
from datafab.urls import has_login, without_credentials

#: Bytes of an answer that are read: the longest is the data dictionary of a wide table.
MAX_ANSWER = 16 * 1024**2
#: Statuses that pass by themselves.
_LATER = frozenset({408, 425, 429})
#: The last character that a header can carry.
LATIN_1 = 0xFF
_JSON = {"Content-Type": "application/json"}
#: How the texts begin that CKAN answers instead of an object (``_finish_bad_request`` of its ``ckan/views/api.py``, …).
_BARE = ("Bad request", "Not found", "Access denied")
_RIGHTS = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


def named(url: str) -> str:
    """Return the root URL that somebody gives for a CKAN.

    Raises:
        Fatal: it has a query or a fragment, which would take the place of the action's path.
    """
    if "?" in url or "#" in url:
        msg = f"{without_credentials(url)}: the URL of a CKAN has no query and no fragment: give its root"
        raise Fatal(msg, code="invalid_url", field="ckan_url")
    if has_login(url):
        shown = without_credentials(root(url))
        msg = f"{shown}: the URL of a CKAN must not hold a user or a password: CKAN is shown the API key"
        raise Fatal(msg, code="invalid_url", field="ckan_url")
    return root(url)


def sendable(key: str) -> str:
    """Return an API key that a header can carry.

    Raises:
        Fatal: it holds a control character or one that is not Latin-1, or blanks around it; it is not quoted.
    """
    if not key.isprintable() or key != key.strip() or any(ord(letter) > LATIN_1 for letter in key):
        why = "a line break, a blank around it or another character that no header can carry"
        msg = f"the API key holds {why}: copy it anew from CKAN"
        raise Fatal(msg, code="bad_key", field="api_key")
    return key


def allowed(url: str, settings: Settings) -> None:
    """Refuse a URL below none of the roots in ``DATAFAB_CKAN_URLS``; without that setting any is right.

    Raises:
        Fatal: ``ckan_not_allowed``.
    """
    roots = [root(each) for each in settings.ckan_urls]
    if roots and not any(url == each or url.startswith(each + "/") for each in roots):
        msg = f"{without_credentials(url)}: not below a CKAN that DATAFAB_CKAN_URLS allows; add its root there"
        raise Fatal(msg, code="ckan_not_allowed", field="DATAFAB_CKAN_URLS")


class Ckan:
    """One CKAN, asked with one key. To be closed: ``with Ckan.at(services, url, key) as ckan``.

    What every action may raise: Fatal (401, 403, 404, 409 and other refusals) or Retriable (no connection, no answer in
    time, 408, 429, 5xx), ``code`` ``ckan_<status>`` or the reason, ``field`` the action's URL, the message CKAN's own.
    """

    def __init__(self, url: str, key: str | None, settings: Settings) -> None:
        self.url = named(url)
        allowed(self.url, settings)
        self._key = sendable(key or "")
        self._timeouts = (settings.connect_timeout, settings.read_timeout)
        self._session = requests.Session()
        # Neither proxies nor passwords from the environment: what is sent where is said by the settings alone.
        self._session.trust_env = False
        self._session.verify = str(settings.ca_bundle) if settings.ca_bundle else True
        self._session.headers["User-Agent"] = settings.user_agent
        if key:
            self._session.headers["Authorization"] = key

    @classmethod
    def at(cls, services: Services, url: str, key: str | None = None) -> Self:
        """Return a client of the CKAN at a URL, with this key."""
        return cls(url, key, services.settings)

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

    def datastore_create(self, resource: str, fields: Sequence[Mapping[str, Any]], **more: Any) -> None:
        """Make an empty table: ``fields`` are ``{"id", "type", "info"}``.

        ``more``: ``primary_key``, ``indexes`` and ``aliases``, as CKAN wants them.
        """
        self._ask("datastore_create", {"resource_id": resource, "force": True, "fields": list(fields)} | more)

    def datastore_insert(
        self, resource: str, records: Sequence[Mapping[str, Any] | bytes], *, last: bool = False, dry_run: bool = False
    ) -> None:
        """Append records, given as mappings or as encoded JSON.

        Args:
            resource: its id.
            records: what to append.
            last: have CKAN refresh the row count of its statistics, which costs it a scan.
            dry_run: roll the rows back; only whether CKAN takes them is of interest.
        """
        options = {"resource_id": resource, "force": True, "method": "insert", "calculate_record_count": last}
        texts = [record if isinstance(record, bytes) else encoded(record) for record in records]
        head = encoded(options | ({"dry_run": True} if dry_run else {}))[:-1]
        self._post("datastore_upsert", head + b',"records":[' + b",".join(texts) + b"]}")

    def may_write(self, resource: str) -> None:
        """Raise Fatal (``ckan_403``) unless the key may change the datastore of a resource; change nothing."""
        # CKAN checks the key before it looks for the table, and an insert without records does nothing.
        body = {"resource_id": resource, "force": True, "method": "insert", "dry_run": True}
        try:
            self._ask("datastore_upsert", body)
        except Fatal as error:
            if error.code in {"ckan_401", "ckan_403"}:
                raise

    def unique_key(self, resource: str, names: Sequence[str]) -> list[str]:
        """Return the fields of a table's primary key, which CKAN names only where a record lacks them.

        Args:
            resource: its id.
            names: all fields of the table.
        """
        body = {"resource_id": resource, "force": True, "method": "upsert", "dry_run": True, "records": [{}]}
        try:
            self._ask("datastore_upsert", body)
        except Fatal as error:
            if error.code != "ckan_409":
                raise
            found = re.search(r'fields "(.*)" are missing', error.message, re.DOTALL)
            return _named(found[1], names) if found else []
        return []

    def datastore_rows(self, resource: str, offset: int, limit: int) -> tuple[list[str], list[list[Any]]] | None:
        """Return field names, ``_id`` first, and rows of a table in the order of ``_id``; None: too long an answer.

        Numbers with a decimal point come as ``Decimal``, so that none loses a digit.
        """
        body = {"resource_id": resource, "offset": offset, "limit": limit, "sort": "_id"}
        body |= {"records_format": "lists", "include_total": False}
        try:
            found = self._ask("datastore_search", body, parse_float=Decimal)
        except Fatal as error:
            if error.code == "ckan_too_long":
                return None
            raise
        return [field["id"] for field in found["fields"]], found["records"]

    def _ask(self, action: str, body: Mapping[str, Any], **parsing: Any) -> Any:
        return self._post(action, encoded(body), **parsing)

    def _post(self, action: str, body: bytes, **parsing: Any) -> Any:
        url = f"{self.url}/api/3/action/{action}"
        try:
            with self._session.post(
                url, data=body, headers=_JSON, timeout=self._timeouts, allow_redirects=False, stream=True
            ) as answer:
                text = answer.raw.read(MAX_ANSWER + 1, decode_content=True)
        except (RequestException, HTTPError, OSError) as error:
            self._unreachable(error, url)
        if answer.status_code not in {HTTPStatus.OK, HTTPStatus.CREATED}:
            self._refused(answer, text, url)
        if len(text) > MAX_ANSWER:
            msg = f"{without_credentials(url)}: the answer is longer than {MAX_ANSWER} bytes"
            raise Fatal(msg, code="ckan_too_long", field=without_credentials(url))
        try:
            return json.loads(text, **parsing)["result"]
        except (ValueError, TypeError, KeyError) as error:
            asked, root = without_credentials(url), without_credentials(self.url)
            msg = f"{asked}: the answer is not CKAN's: is {root} the root of a CKAN?"
            raise Fatal(msg, code="ckan_answer", field=without_credentials(url)) from error

    def _unreachable(self, error: Exception, url: str) -> NoReturn:
        why = explain(error, url)
        kind = Fatal if why.code in {"invalid_url", "not_http"} else Retriable
        raise kind(self._silent(why.message), code=why.code, field=without_credentials(url)) from error

    def _refused(self, answer: requests.Response, text: bytes, url: str) -> NoReturn:
        status = answer.status_code
        said = self._silent(_said(text) or answer.reason or "no reason given")
        msg = f"{without_credentials(url)}: CKAN answered {status}: {said}"
        code = f"ckan_{status}"
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _LATER:
            raise Retriable(msg, delay=_pause(answer), code=code, field=without_credentials(url))
        if status in _RIGHTS:
            msg += "; does the api_key belong to a user who may edit this resource?"
        elif answer.is_redirect:
            there = without_credentials(answer.headers["location"])
            msg = f"{without_credentials(url)}: CKAN is elsewhere, at {there}: give that as its URL"
        raise Fatal(msg, code=code, field=without_credentials(url))

    def _silent(self, text: str) -> str:
        """Return a text without the key, in case a server repeats what it was sent."""
        return text.replace(self._key, "***") if self._key else text


def encoded(value: Any) -> bytes:
    """Return a value as JSON in UTF-8; a lone surrogate, which UTF-8 has not, stays an escape."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def _named(text: str, names: Sequence[str]) -> list[str]:
    """Return the names in a list that is joined by ``", "``; names may hold that as well."""
    for name in sorted(names, key=len, reverse=True):
        if text == name:
            return [name]
        if text.startswith(name + ", ") and (rest := _named(text[len(name) + 2 :], names)):
            return [name, *rest]
    return []


def _said(text: bytes) -> str:
    """Return what an answer says went wrong: CKAN's message, or its fields' messages.

    An answer that is not CKAN's is not quoted: whoever submits a push chooses who is asked, and reads what was said.
    """
    try:
        found = json.loads(text)
        if isinstance(found, str):
            return found if found.startswith(_BARE) else ""
        error = found["error"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""
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
