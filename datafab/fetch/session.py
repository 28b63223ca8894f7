"""Downloads, streamed into a store within the limits of the settings. No failure is raised: each is a value."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Self
from urllib.parse import urljoin, urlsplit

from requests import PreparedRequest, Response
from requests.cookies import RequestsCookieJar, extract_cookies_to_jar, get_cookie_header
from requests.exceptions import ConnectionError as RequestsConnectionError
from requests.exceptions import InvalidSchema, InvalidURL, RequestException, TooManyRedirects
from requests.structures import CaseInsensitiveDict
from requests.utils import requote_uri
from urllib3.exceptions import HTTPError

from datafab.core.backoff import retry_after
from datafab.core.services import Client, Services
from datafab.errors import Fatal, Retriable
from datafab.fetch.connection import BUFFER, Leash, TooLarge
from datafab.fetch.refusal import Refusal, bad_status, empty, explain, firewall, may_pass, web_page
from datafab.fetch.transport import Adapter, trust
from datafab.settings import MAX_UNPACK_RATIO, Settings
from datafab.store.store import Store
from datafab.urls import without_credentials

#: What may come over the wire beyond ``max_bytes``: headers, redirects, and the framing of chunks.
OVERHEAD = 1024 * 1024
FRAMING = 1.25
#: Bytes of one of several answers that make a resource.
PAGE = 256 * 1024 * 1024
#: Bytes below which a web page may be a firewall's, and what those say, in small letters.
WALL = 4096
WALLS = (b"request rejected", b"url was rejected", b"access denied", b"incapsula incident", b"web page blocked")
REDIRECTS = frozenset({301, 302, 303, 307, 308})

#: Changes a body on its way: ``transform(content_type, chunks) -> chunks``.
Transform = Callable[[str, Iterator[bytes]], Iterator[bytes]]
#: Tells from an answer's headers whether its body is known already.
Known = Callable[[Mapping[str, str]], bool]
#: Gives the body that a URL answers with; raises Refused.
Get = Callable[[str], bytes]


class Refused(Exception):
    """One of several answers that make a resource is no good."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What came of a fetch.

    Attributes:
        url: the last one asked for, after redirects.
        status: HTTP status of the last answer; None where no whole answer came.
        headers: its headers, names as the server wrote them.
        request_headers: what was sent for it, without credentials.
        elapsed: seconds, to the last byte.
        sha256: digest of the resource in the store; None when refused.
        size: its bytes.
        refusal: why there is no resource.
        redirects: the addresses that redirects led to, the last one included.
    """

    url: str
    elapsed: float
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    request_headers: Mapping[str, str] = field(default_factory=dict)
    sha256: str | None = None
    size: int | None = None
    refusal: Refusal | None = None
    redirects: tuple[str, ...] = ()

    def header(self, name: str) -> str:
        """Return a header of the last answer by its name in small letters; empty when there is none."""
        return next((text for key, text in self.headers.items() if key.lower() == name), "")

    @property
    def pause(self) -> float | None:
        """Seconds for which the server wants to be left alone; None: it does not say."""
        return retry_after(self.header("retry-after"), datetime.now(UTC))

    def error(self, field: str, *, later: Collection[str] = (), budget: int | None = None) -> Fatal | Retriable:
        """Return why there is no resource, as an error. What may pass is tried again, when the server says if it does.

        Args:
            field: what the error is about.
            later: codes of refusals that may pass here, besides those that always may.
            budget: see ``Retriable``.
        """
        assert self.refusal is not None
        code, message = self.refusal.code, self.refusal.message
        if not (may_pass(code) or code in later):
            return Fatal(message, code=code, field=field)
        return Retriable(message, delay=self.pause, budget=budget, code=code, field=field)


class Fetcher(Client):
    """Makes sessions; keeps one for each thread that fetches without its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._context = trust(settings.ca_bundle)
        self._local = threading.local()
        self._open: list[Session] = []

    @classmethod
    def connect(cls, services: Services) -> Self:
        """Return the client of a process."""
        return cls(services.settings)

    def session(self) -> Session:
        """Return a session for a batch; to be closed. It belongs to one thread."""
        return Session(self._settings, self._context)

    def fetch(
        self,
        url: str,
        store: Store,
        *,
        transform: Transform | None = None,
        html: bool = True,
        headers: Mapping[str, str] | None = None,
        known: Known | None = None,
        limit: int | None = None,
    ) -> Fetched:
        """Fetch one URL on this thread's own session; see ``Session.fetch``."""
        if not hasattr(self._local, "session"):
            self._local.session = self.session()
            self._open.append(self._local.session)
        session: Session = self._local.session
        return session.fetch(url, store, transform=transform, html=html, headers=headers, known=known, limit=limit)

    def close(self) -> None:
        """Close all threads' sessions."""
        while self._open:
            self._open.pop().close()


class Session:
    """Fetches one URL after another over connections that stay open.

    Attributes:
        headers: sent with each request.
    """

    def __init__(self, settings: Settings, context: ssl.SSLContext) -> None:
        self._max = self._limit = settings.max_bytes
        self._total = settings.total_timeout
        self._redirects = settings.max_redirects
        self._led: list[str] = []
        self._leash = Leash(settings.allow_private_hosts)
        self._at = ""
        self._adapter = Adapter(settings, context, self._leash)
        # The original's headers, in its order: they are part of the log.
        self.headers = {
            "User-Agent": settings.user_agent,
            "Accept-Encoding": "gzip, deflate",
            "Accept": "*/*",
            "Connection": "keep-alive",
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._adapter.close()

    def fetch(
        self,
        url: str,
        store: Store,
        *,
        transform: Transform | None = None,
        html: bool = True,
        headers: Mapping[str, str] | None = None,
        known: Known | None = None,
        limit: int | None = None,
    ) -> Fetched:
        """Fetch a URL into a store.

        Args:
            url: with http or https.
            store: where the body goes.
            transform: changes the body before it is hashed and stored.
            html: whether a web page is welcome.
            headers: sent beside the others, such as a key; not to another host that a redirect leads to, and not told.
            known: where it says so, the answer is refused as one of 304 would be, its body unread.
            limit: largest body, where less than ``max_bytes`` is wanted.

        Raises:
            FlowError: the store cannot be written.
        """
        started = time.perf_counter()
        self._limit = min(self._max, limit or self._max)
        self._leash.begin(self._total, int(self._limit * FRAMING) + OVERHEAD)
        answer: Response | None = None
        kept: tuple[str, int] | None = None
        whole = True
        try:
            answer = self._ask(url, headers or {})
            refusal = _judge(answer, self._route(url), html=html)
            if refusal is None and known is not None and known(answer.headers):
                refusal = bad_status(HTTPStatus.NOT_MODIFIED, self._route(url))
            if refusal is not None and refusal.code == "html" and _walled(answer):
                refusal = firewall(self._route(url))
            if refusal is None:
                kept = self._keep(answer, store, transform)
                refusal = None if kept else empty(self._route(url))
            else:
                _skip(answer)
        except (RequestException, HTTPError) as error:
            refusal, whole = explain(error, self._route(url)), False
        except Fatal as error:
            refusal = explain(error, self._route(url))
        finally:
            if answer is not None:
                answer.close()
        # An answer that broke off is none: the original's log has only the exception then.
        told = answer if whole else None
        sha256, size = kept or (None, None)
        return Fetched(
            url=self._at,
            elapsed=time.perf_counter() - started,
            status=told.status_code if told is not None else None,
            headers=dict(told.headers) if told is not None else {},
            request_headers=self.headers if told is not None else {},
            sha256=sha256,
            size=size,
            refusal=refusal,
            redirects=tuple(self._led),
        )

    def gather(
        self,
        url: str,
        store: Store,
        produce: Callable[[Get], Iterator[bytes]],
        *,
        page: float,
        headers: Mapping[str, str] | None = None,
    ) -> Fetched:
        """Fetch a resource that a server gives out in pages.

        Args:
            url: what the resource is called.
            store: where the body goes.
            produce: yields the resource's bytes; ``produce(get)`` may get any URL, one after another.
            page: seconds in which each of them must have come.
            headers: sent for each, as with ``fetch``.

        Raises:
            FlowError: the store cannot be written.
        """
        started = time.perf_counter()
        self._limit = self._max
        self._leash.begin(self._total, int(self._limit * FRAMING) + OVERHEAD)
        end = self._leash.deadline
        kept: tuple[str, int] | None = None
        self._at = url

        def get(page_url: str) -> bytes:
            self._leash.deadline = min(end, time.monotonic() + page)
            return self._body(page_url, headers or {})

        try:
            with store.incoming() as incoming:
                for chunk in produce(get):
                    incoming.write(chunk)
                    if incoming.size > self._limit * MAX_UNPACK_RATIO:
                        msg = f"more than {self._limit * MAX_UNPACK_RATIO} bytes came"
                        raise TooLarge(msg)
                kept = incoming.commit()
            refusal = None
        except Refused as error:
            refusal = error.refusal
        except (RequestException, HTTPError, Fatal) as error:
            refusal = explain(error, self._route(url))
        sha256, size = kept or (None, None)
        return Fetched(
            url=url,
            elapsed=time.perf_counter() - started,
            status=int(HTTPStatus.OK) if kept else None,
            sha256=sha256,
            size=size,
            refusal=refusal,
        )

    def _body(self, url: str, headers: Mapping[str, str]) -> bytes:
        """Return what a URL answers with."""
        answer = self._ask(url, headers)
        try:
            refusal = _judge(answer, self._route(url), html=False)
            if refusal is not None:
                _skip(answer)
                raise Refused(refusal)
            return b"".join(self._page(answer))
        finally:
            answer.close()

    def _page(self, answer: Response) -> Iterator[bytes]:
        """Yield a body that will be held in memory."""
        size = 0
        for chunk in self._counted(answer):
            size += len(chunk)
            if size > PAGE:
                sentence = f"one page has more than {PAGE} bytes: let the plugin ask for smaller ones"
                raise Refused(Refusal("too_large", f"{without_credentials(self._at)}: {sentence}", "TooLarge"))
            yield chunk

    def _route(self, url: str) -> str:
        """Return how we came to where we are, for people."""
        return url if self._at == url else f"{url} (redirected to {self._at})"

    def _ask(self, url: str, headers: Mapping[str, str]) -> Response:
        """Send the request, follow redirects and return the last answer, its body unread."""
        jar: RequestsCookieJar | None = None
        origin: tuple[str, str] | None = None
        self._led = []
        for _ in range(self._redirects + 1):
            self._at = url
            request = self._request(url, jar)
            origin = origin or _origin(str(request.url))
            if headers and _origin(str(request.url)) == origin:
                request.headers.update(headers)
            answer = self._send(request)
            location = answer.headers.get("location") if answer.status_code in REDIRECTS else None
            if not location:
                return answer
            if "set-cookie" in answer.headers:  # some servers go round in circles until their cookie comes back
                jar = jar or RequestsCookieJar()
                extract_cookies_to_jar(jar, request, answer.raw)  # type: ignore[no-untyped-call]
            _skip(answer)
            url = _target(answer.url, location)
            self._led.append(without_credentials(url))
        msg = f"more than {self._redirects} redirects"
        raise TooManyRedirects(msg)

    def _request(self, url: str, jar: RequestsCookieJar | None) -> PreparedRequest:
        """Prepare a GET, leaving out what ``Session.prepare_request`` does for other requests."""
        request = PreparedRequest()
        request.method = "GET"
        request.prepare_url(url, None)
        request.headers = CaseInsensitiveDict(self.headers)
        if request.url is None or not request.url.lower().startswith(("http://", "https://")):
            msg = f"not http or https: {url!r}"
            raise InvalidSchema(msg)
        if "@" in request.url:
            try:
                request.prepare_auth(None, request.url)
            except UnicodeError as error:
                raise InvalidURL(error) from error
        cookie = jar and get_cookie_header(jar, request)  # type: ignore[no-untyped-call]
        if cookie:
            request.headers["Cookie"] = cookie
        return request

    def _send(self, request: PreparedRequest) -> Response:
        """Send a request; once more if a connection kept open had been closed by the server meanwhile."""
        self._leash.connected = False
        try:
            return self._adapter.send(request)
        except RequestsConnectionError as error:
            if self._leash.connected or explain(error, "").code != "disconnected":
                raise
            self._adapter.close()
            return self._adapter.send(request)

    def _keep(self, answer: Response, store: Store, transform: Transform | None) -> tuple[str, int] | None:
        """Stream the body into the store; return its sha256 and size, None when it is empty."""
        announced = answer.raw.length_remaining
        if announced is not None and announced > self._limit:
            msg = f"{announced} bytes are announced"
            raise TooLarge(msg)
        chunks = self._counted(answer)
        if transform is not None:
            chunks = transform(answer.headers.get("content-type", ""), chunks)
        with store.incoming() as incoming:
            for chunk in chunks:
                incoming.write(chunk)
            return incoming.commit() if incoming.size else None

    def _counted(self, answer: Response) -> Iterator[bytes]:
        """Yield the unpacked body until it is too large, on the wire or unpacked."""
        raw, size = answer.raw, 0
        packed = "content-encoding" in answer.headers
        limit = self._limit * (MAX_UNPACK_RATIO if packed else 1)
        for chunk in answer.iter_content(BUFFER):
            size += len(chunk)
            if size > limit or raw.tell() > self._limit:
                msg = f"more than {limit if size > limit else self._limit} bytes came"
                raise TooLarge(msg)
            yield chunk


def _judge(answer: Response, url: str, *, html: bool) -> Refusal | None:
    """Return why an answer is refused by its head alone."""
    if answer.status_code != HTTPStatus.OK:
        return bad_status(answer.status_code, url)
    if not html and answer.headers.get("content-type", "").lower().lstrip().startswith("text/html"):
        return web_page(url)
    return None


def _walled(answer: Response) -> bool:
    """Tell whether a web page is that of a firewall: a short one, by what it says."""
    page = answer.raw.read(WALL, decode_content=True)
    return len(page) < WALL and any(word in page.lower() for word in WALLS)


def _origin(url: str) -> tuple[str, str]:
    """Return what a key that was meant for a URL may be sent to: its scheme, host and port."""
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _target(url: str, location: str) -> str:
    """Return where a redirect goes. Headers are read as latin-1, but servers write UTF-8 into them."""
    try:
        return urljoin(url, requote_uri(location.encode("latin-1").decode("utf-8", "replace")))
    except ValueError as error:
        raise InvalidURL(error) from error


def _skip(answer: Response) -> None:
    """Read over a short body, so that the connection can be used again; a long one is not worth it."""
    left = answer.raw.length_remaining
    if left is not None and left <= BUFFER:
        with suppress(HTTPError):
            answer.raw.read(BUFFER, decode_content=False)
    answer.close()
