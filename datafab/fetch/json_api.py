"""One request to a JSON API that a setting or a job names, within limits of time and size.

Nothing is kept between requests, so a client may be shared by threads: they are few, and a lost connection is no case
of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, TypeVar

from requests import PreparedRequest, Response
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError

from datafab.core.backoff import retry_after
from datafab.errors import Fatal, Retriable
from datafab.fetch.connection import BUFFER, Leash
from datafab.fetch.refusal import explain
from datafab.fetch.transport import Adapter, trust
from datafab.settings import Settings
from datafab.urls import without_credentials

T = TypeVar("T")

#: Bytes of an answer, unpacked: a page of a catalogue has some hundred datasets, of thousands of resources some.
MAX_ANSWER = 64 * 1024**2
#: Seconds for a whole answer, unless ``total_timeout`` is less.
PATIENCE = 120.0
#: Characters of an answer that a message quotes.
QUOTED = 200
NAMES: dict[type, str] = {dict: "object", list: "list"}
#: Half of a pair of surrogates, without the other.
_HALF = re.compile(rb"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]")
#: Statuses that pass by themselves.
_LATER = frozenset({408, 425, 429})
#: Reasons that time does not mend.
_NEVER = frozenset({"invalid_url", "not_http", "private_address", "too_large"})


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of a status that was asked for.

    Attributes:
        url: what was asked, without credentials.
        service: whose answer it is.
        body: unpacked.
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
            Retriable: it is something else, such as the page of a server in trouble.
        """
        return self._json(dict)

    def _json(self, kind: type[T]) -> T:
        try:
            found = json.loads(self.body)
            if _HALF.search(self.body):
                # It could go into no message, key or index: one title would end a whole pass over a catalogue.
                plain = json.dumps(found, ensure_ascii=False).encode(errors="surrogatepass")
                found = json.loads(plain.decode(errors="replace"))
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, kind):
            said = self.body[:QUOTED].decode("utf-8", "replace").strip()
            raise self.garbage(f"no JSON {NAMES[kind]} came: {said!r}")
        return found

    def garbage(self, problem: str) -> Retriable:
        """Return the error for an answer that makes no sense."""
        return Retriable(f"{self.url}: {problem}", code=f"{self.service}_answer", field=self.url)


class Rest:
    """Asks one service. ``setting`` is the one that names its root, for messages."""

    def __init__(
        self, settings: Settings, *, service: str, setting: str, private: Collection[str], proxy: bool
    ) -> None:
        """Make a client.

        Args:
            settings: with the limits of time.
            service: begins the codes of errors.
            setting: as above.
            private: private addresses that may be asked, as ``DATAFAB_ALLOW_PRIVATE_HOSTS`` names them.
            proxy: whether it stands beyond the proxy of the settings, where there is one.
        """
        self._settings = settings if proxy else settings.model_copy(update={"proxy": None})
        self._service = service
        self._setting = setting
        self._private = private
        self._context = trust(settings.ca_bundle)

    def ask(
        self,
        method: str,
        url: str,
        *,
        answers: Collection[int] = (HTTPStatus.OK,),
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        data: Any = None,
        seconds: float = PATIENCE,
    ) -> Reply:
        """Send a request; redirects are not followed.

        Args:
            method: GET, POST, …
            url: absolute.
            answers: the statuses that are an answer; any other is an error.
            headers: sent beside the usual ones.
            params: of the query.
            body: sent as JSON.
            data: sent as it is: a mapping as a form, or chunks of bytes that know their length.
            seconds: in which the whole answer must have come.

        Raises:
            Retriable: no connection, no whole answer in time, or 408, 425, 429, 5xx.
            Fatal: any other status, or a URL that may not or cannot be asked; ``field`` is the URL.
        """
        settings = self._settings
        leash = Leash(self._private)
        leash.begin(min(settings.total_timeout, seconds), 2 * MAX_ANSWER)
        adapter = Adapter(settings, self._context, leash)
        request = PreparedRequest()
        usual = {"User-Agent": settings.user_agent, "Accept": "application/json", "Accept-Encoding": "gzip, deflate"}
        sent = usual | {"Connection": "close"} | dict(headers or {})
        try:
            request.prepare(method=method, url=url, headers=sent, params=dict(params or {}), json=body, data=data)
            with adapter.send(request) as answer:
                text = _read(answer)
        except (RequestException, HTTPError, Fatal, OSError, UnicodeError) as error:
            why = explain(error, request.url or url)
            kind = Fatal if why.code in _NEVER else Retriable
            raise kind(why.message, code=why.code, field=without_credentials(request.url or url)) from error
        finally:
            adapter.close()
        reply = Reply(without_credentials(answer.url), self._service, answer.status_code, answer.headers, text)
        if reply.status not in answers:
            raise self._refused(reply)
        return reply

    def _refused(self, reply: Reply) -> Fatal | Retriable:
        status, code = reply.status, f"{self._service}_{reply.status}"
        said = _said(reply.body) or "no reason given"
        msg = f"{reply.url}: answered {status}: {said}"
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _LATER:
            pause = retry_after(reply.headers.get("Retry-After", ""), datetime.now(UTC))
            return Retriable(msg, delay=pause, code=code, field=reply.url)
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST and "location" in reply.headers:
            msg = f"{reply.url}: sent elsewhere, to {without_credentials(reply.headers['location'])}"
        return Fatal(f"{msg}; is {self._setting} right?", code=code, field=reply.url)


def _read(answer: Response) -> bytes:
    parts: list[bytes] = []
    size = 0
    for chunk in answer.iter_content(BUFFER):
        size += len(chunk)
        if size > MAX_ANSWER:
            raise Fatal(f"more than {MAX_ANSWER} bytes came, which is no answer of this API", code="too_large")
        parts.append(chunk)
    return b"".join(parts)


def _said(text: bytes) -> str:
    """Return what an answer says went wrong, or its beginning."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        for key in ("error_description", "message", "error"):
            told = found.get(key)
            if isinstance(told, list) and told:
                return "; ".join(map(str, told))[:QUOTED]
            if isinstance(told, str) and told:
                return told[:QUOTED]
    return text.decode("utf-8", "replace").strip()[:QUOTED]
