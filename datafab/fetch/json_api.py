"""Requests to a JSON API that a setting or a job names, within limits of time and size.

No connection is kept between requests: they are few, threads may share a client, and a lost connection needs no
handling of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

from requests import PreparedRequest, Response
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError

from datafab.core.backoff import retry_after
from datafab.errors import Fatal, Retriable
from datafab.fetch.connection import READ_BYTES, FetchLimits
from datafab.fetch.refusal import explain
from datafab.fetch.transport import Adapter, tls_context
from datafab.settings import Settings
from datafab.urls import without_credentials

T = TypeVar("T")

#: Bytes of an answer, unpacked: a page of a catalogue has some hundred datasets, some with thousands of resources.
MAX_ANSWER_BYTES = 64 * 1024**2
#: Time limit of a complete answer, unless ``total_timeout`` is less.
TIMEOUT_SECONDS = 120.0
#: Characters of an answer that a message quotes.
MAX_QUOTED_CHARS = 200
JSON_NAMES: dict[type, str] = {dict: "object", list: "list"}
#: One half of a surrogate pair without the other.
_LONE_SURROGATE = re.compile(rb"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]")
#: Statuses after which a later request may succeed, besides 5xx.
_TRANSIENT_STATUSES = frozenset({408, 425, 429})
#: Codes of refusals that no later request can change.
_PERMANENT_CODES = frozenset({"invalid_url", "not_http", "private_address", "too_large"})


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with one of the accepted statuses.

    Attributes:
        url: the address of the request, without credentials.
        service: name of the service, for the codes of errors.
        status: HTTP status.
        headers: the answer's.
        body: the answer's, unpacked.
    """

    url: str
    service: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    def documents(self) -> list[Any]:
        """Return the body as a JSON list; see ``document``."""
        return self._json(list)

    def document(self) -> dict[str, Any]:
        """Return the body as a JSON object.

        Raises:
            Retriable: it is something else, such as the error page of a server.
        """
        return self._json(dict)

    def _json(self, kind: type[T]) -> T:
        try:
            found = json.loads(self.body)
            if _LONE_SURROGATE.search(self.body):
                # It cannot be encoded for a message, key or index: one such title would fail a whole catalogue.
                plain = json.dumps(found, ensure_ascii=False).encode(errors="surrogatepass")
                found = json.loads(plain.decode(errors="replace"))
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, kind):
            quoted = self.body[:MAX_QUOTED_CHARS].decode("utf-8", "replace").strip()
            raise self.bad_answer(f"no JSON {JSON_NAMES[kind]} came: {quoted!r}")
        return found

    def bad_answer(self, problem: str) -> Retriable:
        """Return the error for an answer that cannot be used."""
        return Retriable(f"{self.url}: {problem}", code=f"{self.service}_answer", field=self.url)


class JsonApi:
    """The JSON API of one service."""

    def __init__(
        self, settings: Settings, *, service: str, setting: str, private: Collection[str], proxy: bool
    ) -> None:
        """Create a client.

        Args:
            settings: give the timeouts, the proxy and the certificates.
            service: name of the service: the codes of errors begin with it.
            setting: name of the setting that holds the service's root URL, for messages.
            private: private addresses that may be requested, as ``DATAFAB_ALLOW_PRIVATE_HOSTS`` names them.
            proxy: whether requests go through the proxy of the settings, where there is one.
        """
        self._settings = settings if proxy else settings.model_copy(update={"proxy": None})
        self._service = service
        self._setting = setting
        self._private = private
        self._context = tls_context(settings.ca_bundle)

    def request(
        self,
        method: str,
        url: str,
        *,
        answers: Collection[int] = (HTTPStatus.OK,),
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        data: Any = None,
        seconds: float = TIMEOUT_SECONDS,
    ) -> Reply:
        """Send a request; redirects are not followed.

        Args:
            method: GET, POST, …
            url: absolute.
            answers: the accepted statuses; any other is an error.
            headers: extra headers.
            params: parameters of the query.
            body: sent as JSON.
            data: sent unchanged: a mapping as a form, or chunks of bytes with a known length.
            seconds: time limit of the complete answer.

        Raises:
            Retriable: no connection, no complete answer in time, or 408, 425, 429, 5xx.
            Fatal: any other status, or a URL that may not or cannot be requested; ``field`` is the URL.
        """
        settings = self._settings
        limits = FetchLimits(self._private)
        limits.start(min(settings.total_timeout, seconds), 2 * MAX_ANSWER_BYTES)
        adapter = Adapter(settings, self._context, limits)
        prepared = PreparedRequest()
        usual = {"User-Agent": settings.user_agent, "Accept": "application/json", "Accept-Encoding": "gzip, deflate"}
        sent = usual | {"Connection": "close"} | dict(headers or {})
        try:
            prepared.prepare(method=method, url=url, headers=sent, params=dict(params or {}), json=body, data=data)
            with adapter.send(prepared) as answer:
                text = _read(answer)
        except (RequestException, HTTPError, Fatal, OSError, UnicodeError) as error:
            why = explain(error, prepared.url or url)
            kind = Fatal if why.code in _PERMANENT_CODES else Retriable
            raise kind(why.message, code=why.code, field=without_credentials(prepared.url or url)) from error
        finally:
            adapter.close()
            limits.finish()
        reply = Reply(without_credentials(answer.url), self._service, answer.status_code, answer.headers, text)
        if reply.status not in answers:
            raise self._refused(reply)
        return reply

    def _refused(self, reply: Reply) -> Fatal | Retriable:
        status, code = reply.status, f"{self._service}_{reply.status}"
        reason = _reason(reply.body) or "no reason given"
        msg = f"{reply.url}: answered {status}: {reason}"
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TRANSIENT_STATUSES:
            pause = retry_after(reply.headers.get("Retry-After", ""), reply.headers.get("Date", ""))
            return Retriable(msg, delay=pause, code=code, field=reply.url)
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST and "location" in reply.headers:
            msg = f"{reply.url}: sent elsewhere, to {without_credentials(reply.headers['location'])}"
        return Fatal(f"{msg}; is {self._setting} right?", code=code, field=reply.url)


def _read(answer: Response) -> bytes:
    parts: list[bytes] = []
    size = 0
    for chunk in answer.iter_content(READ_BYTES):
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            raise Fatal(
                f"more than {MAX_ANSWER_BYTES} bytes came, which cannot be an answer of this API", code="too_large"
            )
        parts.append(chunk)
    return b"".join(parts)


def _reason(text: bytes) -> str:
    """Return the error that an answer reports, or the first characters of the answer."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        for key in ("error_description", "message", "error"):
            problem = found.get(key)
            if isinstance(problem, list) and problem:
                return "; ".join(map(str, problem))[:MAX_QUOTED_CHARS]
            if isinstance(problem, str) and problem:
                return problem[:MAX_QUOTED_CHARS]
    return text.decode("utf-8", "replace").strip()[:MAX_QUOTED_CHARS]
