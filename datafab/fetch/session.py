"""Downloads, streamed into a store within the limits of the settings. A failure is a value, not an exception."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Self

from requests import Response
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError

from datafab.core.services import Client, Services
from datafab.errors import Fatal
from datafab.fetch.answer import Transform, drain, is_firewall_page, read_page, refuse_by_head, store_body
from datafab.fetch.connection import FetchLimits, TooLarge
from datafab.fetch.redirects import RedirectFollower
from datafab.fetch.refusal import Refusal, bad_status, empty, explain, firewall
from datafab.fetch.result import FetchResult, Refused
from datafab.fetch.transport import Adapter, tls_context
from datafab.settings import MAX_UNPACK_RATIO, Settings
from datafab.store.store import Store

#: Bytes that may come over the wire beyond ``max_bytes``: headers and redirects.
OVERHEAD_BYTES = 1024 * 1024
#: How much larger a body may be on the wire, by the framing of its chunks.
CHUNKED_RATIO = 1.25

#: Tells from an answer's headers that its body is the one that is known already.
IsKnown = Callable[[Mapping[str, str]], bool]
#: Returns the body that a URL answers with; raises Refused.
Get = Callable[[str], bytes]


class Fetcher(Client):
    """Opens sessions; keeps one for each thread that fetches without a session of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._context = tls_context(settings.ca_bundle)
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
        accept_html: bool = True,
        headers: Mapping[str, str] | None = None,
        is_known: IsKnown | None = None,
        max_bytes: int | None = None,
    ) -> FetchResult:
        """Fetch one URL with this thread's session; for the arguments see ``Session.fetch``."""
        if not hasattr(self._local, "session"):
            self._local.session = self.session()
            self._open.append(self._local.session)
        session: Session = self._local.session
        return session.fetch(
            url,
            store,
            transform=transform,
            accept_html=accept_html,
            headers=headers,
            is_known=is_known,
            max_bytes=max_bytes,
        )

    def close(self) -> None:
        """Close the sessions of all threads."""
        while self._open:
            self._open.pop().close()


class Session:
    """Fetches one URL after another over connections that stay open.

    Attributes:
        headers: sent with each request.
    """

    def __init__(self, settings: Settings, context: ssl.SSLContext) -> None:
        self._max_bytes = settings.max_bytes
        self._total_seconds = settings.total_timeout
        self._limits = FetchLimits(settings.allow_private_hosts)
        self._adapter = Adapter(settings, context, self._limits)
        # The original's headers, in its order: they are part of the log.
        self.headers = {
            "User-Agent": settings.user_agent,
            "Accept-Encoding": "gzip, deflate",
            "Accept": "*/*",
            "Connection": "keep-alive",
        }
        self._follower = RedirectFollower(self._adapter, self._limits, self.headers, settings.max_redirects)

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
        accept_html: bool = True,
        headers: Mapping[str, str] | None = None,
        is_known: IsKnown | None = None,
        max_bytes: int | None = None,
    ) -> FetchResult:
        """Fetch a URL into a store.

        Args:
            url: with http or https.
            store: where the body goes.
            transform: changes the body before it is hashed and stored; it may raise Refused, then nothing is stored.
            accept_html: whether a web page is stored like any other body.
            headers: extra headers, such as a key; not sent to other hosts after a redirect, and not in the result.
            is_known: where it returns true, the body is not read, and the result is that of a status 304.
            max_bytes: largest body, where it is below the setting.

        Raises:
            FlowError: the store cannot be written.
        """
        started = time.perf_counter()
        limit = min(self._max_bytes, max_bytes or self._max_bytes)
        self._start_limits(limit)
        answer, stored, complete = None, None, True
        try:
            answer = self._follower.get(url, headers or {})
            refusal = self._refuse(answer, url, accept_html=accept_html, is_known=is_known)
            if refusal is None:
                stored = store_body(answer, store, transform, limit)
                refusal = None if stored else empty(self._follower.route(url))
            else:
                drain(answer)
        except (RequestException, HTTPError) as error:
            refusal, complete = explain(error, self._follower.route(url)), False
        except Refused as error:
            refusal = error.refusal
        except Fatal as error:
            refusal = explain(error, self._follower.route(url))
        finally:
            if answer is not None:
                answer.close()
            self._limits.finish()
        # An answer that broke off does not count: the original's log has only the exception then.
        return self._result(answer if complete else None, stored, refusal, time.perf_counter() - started)

    def _result(
        self, answer: Response | None, stored: tuple[str, int] | None, refusal: Refusal | None, elapsed: float
    ) -> FetchResult:
        """Return the result of a fetch; ``answer`` is its last complete answer."""
        sha256, size = stored or (None, None)
        return FetchResult(
            url=self._follower.url,
            elapsed=elapsed,
            status=answer.status_code if answer is not None else None,
            headers=dict(answer.headers) if answer is not None else {},
            request_headers=self.headers if answer is not None else {},
            sha256=sha256,
            size=size,
            refusal=refusal,
            redirects=tuple(self._follower.redirects),
        )

    def fetch_pages(
        self,
        url: str,
        store: Store,
        produce: Callable[[Get], Iterator[bytes]],
        *,
        page_seconds: float,
        headers: Mapping[str, str] | None = None,
    ) -> FetchResult:
        """Fetch a resource that is made of several answers.

        Args:
            url: the URL that stands for the resource.
            store: where the body goes.
            produce: yields the resource's bytes; ``produce(get)`` may get any URL, one after another.
            page_seconds: time limit of each answer.
            headers: extra headers of each request, as with ``fetch``.

        Raises:
            FlowError: the store cannot be written.
            Lost: the job was cancelled.
        """
        started = time.perf_counter()
        self._start_limits(self._max_bytes)
        deadline = self._limits.deadline
        stored: tuple[str, int] | None = None
        self._follower.url = url

        def get(page_url: str) -> bytes:
            self._limits.deadline = min(deadline, time.monotonic() + page_seconds)
            return self._get_page(page_url, headers or {})

        try:
            stored = self._store_chunks(produce(get), store)
            refusal = None
        except Refused as error:
            refusal = error.refusal
        except (RequestException, HTTPError, Fatal) as error:
            refusal = explain(error, self._follower.route(url))
        finally:
            self._limits.finish()
        sha256, size = stored or (None, None)
        return FetchResult(
            url=url,
            elapsed=time.perf_counter() - started,
            status=int(HTTPStatus.OK) if stored else None,
            sha256=sha256,
            size=size,
            refusal=refusal,
        )

    def _refuse(self, answer: Response, url: str, *, accept_html: bool, is_known: IsKnown | None) -> Refusal | None:
        """Return why the body of an answer is not to be stored."""
        route = self._follower.route(url)
        refusal = refuse_by_head(answer, route, accept_html=accept_html)
        if refusal is None and is_known is not None and is_known(answer.headers):
            return bad_status(HTTPStatus.NOT_MODIFIED, route)
        if refusal is not None and refusal.code == "html" and is_firewall_page(answer):
            return firewall(route)
        return refusal

    def _start_limits(self, max_bytes: int) -> None:
        self._limits.start(self._total_seconds, int(max_bytes * CHUNKED_RATIO) + OVERHEAD_BYTES)

    def _store_chunks(self, chunks: Iterator[bytes], store: Store) -> tuple[str, int]:
        """Store a resource that is made here; return its sha256 and size."""
        max_bytes = self._max_bytes * MAX_UNPACK_RATIO
        with store.new_resource() as resource:
            for chunk in chunks:
                resource.write(chunk)
                if resource.size > max_bytes:
                    msg = f"more than {max_bytes} bytes came"
                    raise TooLarge(msg)
            return resource.commit()

    def _get_page(self, url: str, headers: Mapping[str, str]) -> bytes:
        """Return the body that a URL answers with."""
        answer = self._follower.get(url, headers)
        try:
            refusal = refuse_by_head(answer, self._follower.route(url), accept_html=False)
            if refusal is not None:
                drain(answer)
                raise Refused(refusal)
            return read_page(answer, self._follower.url, self._max_bytes)
        finally:
            answer.close()
