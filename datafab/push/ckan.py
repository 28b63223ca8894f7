"""Client of CKAN's action API, with the actions that loading a datastore needs.

As with the original, the submitter of a push names the CKAN and gives the key for it, so by default any CKAN is
accepted. An installation that serves known portals lists their roots in ``DATAFAB_CKAN_URLS``; then neither actions nor
callbacks are sent elsewhere. The rule against private addresses, which protects downloads, does not apply: a CKAN
mostly has a private address for the pusher beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from http import HTTPStatus
from typing import Any, NoReturn, Self
from urllib.parse import unquote, urljoin

import requests
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError

from datafab.core.backoff import retry_after
from datafab.core.services import Services
from datafab.errors import Fatal, Retriable
from datafab.fetch.refusal import explain
from datafab.fetch.watched import WatchedSession
from datafab.push.datapusher import root
from datafab.settings import Settings
from datafab.urls import has_login, without_credentials

#: Between the root of a CKAN and the name of an action.
ACTION_PATH = "/api/3/action/"
#: Longest answer that is read. The longest of all is the data dictionary of a wide table.
MAX_ANSWER_BYTES = 16 * 1024**2
#: Statuses besides 5xx after which a request is retried.
_RETRIABLE_STATUSES = frozenset({408, 425, 429})
#: The last character that a header can carry.
LATIN_1 = 0xFF
_JSON = {"Content-Type": "application/json"}
#: Start of the plain texts that CKAN answers instead of an object (``_finish_bad_request`` in ``ckan/views/api.py``).
_PLAIN_TEXT_ERRORS = ("Bad request", "Not found", "Access denied")
_PERMISSION_STATUSES = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


def ckan_root(url: str) -> str:
    """Return the root URL of a CKAN in one spelling.

    Raises:
        Fatal: it has a query or a fragment, which would replace the path of the action, a part that would change the
            path, or a user or a password.
    """
    require_plain(url, "ckan_url")
    if "?" in url or "#" in url:
        msg = f"{without_credentials(url)}: the URL of a CKAN cannot have a query or a fragment: give its root"
        raise Fatal(msg, code="invalid_url", field="ckan_url")
    if has_login(url):
        shown = without_credentials(root(url))
        msg = f"{shown}: the URL of a CKAN must not hold a user or a password: CKAN is shown the API key"
        raise Fatal(msg, code="invalid_url", field="ckan_url")
    return root(url)


def require_plain(url: str, field: str) -> None:
    """Raise Fatal if a URL is read differently by the parts that it passes through.

    ``..`` in any spelling would lead out of a root in ``DATAFAB_CKAN_URLS``, and blanks and control characters are
    removed by some parsers only.
    """
    path = unquote(url.partition("://")[2] or url).replace("\\", "/")
    if any(part in {".", ".."} for part in path.split("/")) or not url.strip().isprintable() or " " in url.strip():
        msg = f"{field}: a URL with `..`, a blank or a control character is not accepted: give the plain address"
        raise Fatal(msg, code="invalid_url", field=field)


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


def require_allowed(url: str, settings: Settings) -> None:
    """Raise unless a URL is below one of the roots in ``DATAFAB_CKAN_URLS``; without that setting any is allowed.

    Raises:
        Fatal: ``ckan_not_allowed``.
    """
    roots = [root(each) for each in settings.ckan_urls]
    if roots and not any(url == each or url.startswith(each + "/") for each in roots):
        msg = f"{without_credentials(url)}: not below a CKAN in DATAFAB_CKAN_URLS; add its root there"
        raise Fatal(msg, code="ckan_not_allowed", field="DATAFAB_CKAN_URLS")


class Ckan:
    """One CKAN with one key. It must be closed: ``with Ckan.at(services, url, key) as ckan``.

    Every action may raise Fatal (401, 403, 404, 409 and other refusals) or Retriable (no connection, a timeout, 408,
    429, 5xx). ``code`` is ``ckan_<status>`` or the reason, ``field`` the action's URL, the message CKAN's own.
    """

    def __init__(self, url: str, key: str | None, settings: Settings) -> None:
        self.url = ckan_root(url)
        require_allowed(self.url, settings)
        self._key = sendable(key or "")
        self._timeouts = (settings.connect_timeout, settings.read_timeout)
        self._session = WatchedSession(settings)
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
        """Raise unless CKAN answers; close the connections."""
        with self:
            self._ask("status_show", {})

    def resource_show(self, resource: str) -> dict[str, Any]:
        """Return a resource as CKAN describes it."""
        found: dict[str, Any] = self._ask("resource_show", {"id": resource})
        return found

    def resource_patch(self, resource: str, **fields: Any) -> None:
        """Change some fields of a resource."""
        self._ask("resource_patch", {"id": resource} | fields)

    def datastore_info(self, resource: str) -> dict[str, Any] | None:
        """Return ``meta`` (with ``count``) and ``fields`` of a resource's table; None if it has no table."""
        try:
            found: dict[str, Any] = self._ask("datastore_info", {"id": resource})
        except Fatal as error:
            if error.code == "ckan_404":
                return None
            raise
        return found

    def datastore_delete(self, resource: str) -> bool:
        """Delete a resource's table; return False if it had none."""
        try:
            self._ask("datastore_delete", {"resource_id": resource, "force": True})
        except Fatal as error:
            if error.code == "ckan_404":
                return False
            raise
        return True

    def datastore_create(self, resource: str, fields: Sequence[Mapping[str, Any]], **more: Any) -> None:
        """Create an empty table with fields of the form ``{"id", "type", "info"}``.

        ``more`` may hold ``primary_key``, ``indexes`` and ``aliases``, as CKAN expects them.
        """
        self._ask("datastore_create", {"resource_id": resource, "force": True, "fields": list(fields)} | more)

    def datastore_insert(
        self, resource: str, records: Sequence[Mapping[str, Any] | bytes], *, last: bool = False, dry_run: bool = False
    ) -> None:
        """Append records, given as mappings or as encoded JSON.

        Args:
            resource: id of the resource.
            records: records to append.
            last: let CKAN refresh the row count of its statistics, which costs it a scan.
            dry_run: roll the rows back, to find out whether CKAN accepts them.
        """
        options = {"resource_id": resource, "force": True, "method": "insert", "calculate_record_count": last}
        texts = [record if isinstance(record, bytes) else encoded(record) for record in records]
        head = encoded(options | ({"dry_run": True} if dry_run else {}))[:-1]
        self._post("datastore_upsert", head + b',"records":[' + b",".join(texts) + b"]}")

    def require_write_access(self, resource: str) -> None:
        """Raise Fatal (``ckan_403``) unless the key may change the datastore of a resource; change nothing."""
        # CKAN checks the key before it looks up the table, and an insert without records does nothing.
        body = {"resource_id": resource, "force": True, "method": "insert", "dry_run": True}
        try:
            self._ask("datastore_upsert", body)
        except Fatal as error:
            if error.code in {"ckan_401", "ckan_403"}:
                raise

    def primary_key(self, resource: str, names: Sequence[str]) -> list[str]:
        """Return the fields of a table's primary key, which CKAN only names in the error for a record without them.

        Args:
            resource: id of the resource.
            names: names of all fields of the table.
        """
        body = {"resource_id": resource, "force": True, "method": "upsert", "dry_run": True, "records": [{}]}
        try:
            self._ask("datastore_upsert", body)
        except Fatal as error:
            if error.code != "ckan_409":
                raise
            found = re.search(r'fields "(.*)" are missing', error.message, re.DOTALL)
            return _split_names(found[1], names) if found else []
        return []

    def datastore_rows(self, resource: str, offset: int, limit: int) -> tuple[list[str], list[list[Any]]] | None:
        """Return field names, ``_id`` first, and rows of a table ordered by ``_id``; None if the answer is too long.

        Numbers with a decimal point are ``Decimal``, so that none loses a digit.
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
        url = f"{self.url}{ACTION_PATH}{action}"
        try:
            with self._session.post(
                url, data=body, headers=_JSON, timeout=self._timeouts, allow_redirects=False, stream=True
            ) as answer:
                text = answer.raw.read(MAX_ANSWER_BYTES + 1, decode_content=True)
        except (RequestException, HTTPError, OSError) as error:
            self._unreachable(error, url)
        if answer.status_code not in {HTTPStatus.OK, HTTPStatus.CREATED}:
            self._refused(answer, text, url)
        if len(text) > MAX_ANSWER_BYTES:
            msg = f"{without_credentials(url)}: the answer is longer than {MAX_ANSWER_BYTES} bytes"
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
        raise kind(self._redact(why.message), code=why.code, field=without_credentials(url)) from error

    def _refused(self, answer: requests.Response, text: bytes, url: str) -> NoReturn:
        status = answer.status_code
        reason = self._redact(_error_text(text) or _phrase(status))
        msg = f"{without_credentials(url)}: CKAN answered {status}: {reason}"
        code = f"ckan_{status}"
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _RETRIABLE_STATUSES:
            raise Retriable(msg, delay=_retry_after(answer), code=code, field=without_credentials(url))
        if status in _PERMISSION_STATUSES:
            msg += "; does the api_key belong to a user who may edit this resource?"
        elif answer.is_redirect:
            msg = f"{without_credentials(url)}: CKAN redirects: {_new_root(url, answer.headers['location'])}"
        raise Fatal(msg, code=code, field=without_credentials(url))

    def _redact(self, text: str) -> str:
        """Remove the key from a text, in case a server repeats what it was sent."""
        return text.replace(self._key, "***") if self._key else text


def encoded(value: Any) -> bytes:
    """Encode a value as JSON in UTF-8; a lone surrogate, which UTF-8 cannot encode, stays an escape."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def _split_names(text: str, names: Sequence[str]) -> list[str]:
    """Split a list of names joined by ``", "``, which the names may contain as well."""
    for name in sorted(names, key=len, reverse=True):
        if text == name:
            return [name]
        if text.startswith(name + ", ") and (rest := _split_names(text[len(name) + 2 :], names)):
            return [name, *rest]
    return []


def _error_text(text: bytes) -> str:
    """Return the error in an answer: CKAN's message, or the messages of its fields.

    An answer that is not CKAN's is not quoted: the submitter of a push chooses the server, and can read the error.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    if isinstance(found, str):
        return found if found.startswith(_PLAIN_TEXT_ERRORS) else ""
    if not isinstance(found, dict) or found.get("success") is not False or not isinstance(found.get("help"), str):
        return ""
    error = found.get("error")
    if not isinstance(error, dict):
        return error if isinstance(error, str) else ""
    if isinstance(error.get("message"), str):
        return str(error["message"])
    parts = {key: value for key, value in error.items() if key not in {"__type", "records_row"}}
    return "; ".join(f"{key}: {_joined(value)}" for key, value in parts.items())


def _phrase(status: int) -> str:
    """Return the usual phrase of a status: that of the answer is the server's own."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"


def _new_root(url: str, location: str) -> str:
    """Say where a CKAN redirects to; only an address of the same action is shown, as of a CKAN that has moved."""
    root, action, _ = urljoin(url, location).partition(url[url.index(ACTION_PATH) :])
    if not action:
        return "not to the same action: is this the root of a CKAN?"
    return f"give {without_credentials(root)} as its URL"


def _joined(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _retry_after(answer: requests.Response) -> float | None:
    """Return the seconds of a Retry-After; None if there is none."""
    return retry_after(answer.headers.get("Retry-After", ""), answer.headers.get("Date", ""))
