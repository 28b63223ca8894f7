"""GET requests of a session, with the redirects that they are sent through."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urljoin, urlsplit

from requests import PreparedRequest, Response
from requests.cookies import RequestsCookieJar, extract_cookies_to_jar, get_cookie_header
from requests.exceptions import ConnectionError as RequestsConnectionError
from requests.exceptions import InvalidSchema, InvalidURL, TooManyRedirects
from requests.structures import CaseInsensitiveDict
from requests.utils import requote_uri

from datafab.fetch.answer import drain
from datafab.fetch.connection import FetchLimits
from datafab.fetch.refusal import explain
from datafab.fetch.transport import Adapter
from datafab.urls import without_credentials

REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})


class RedirectFollower:
    """Sends a GET request and follows its redirects.

    Attributes:
        url: the address of the current request.
        redirects: the addresses that redirects led to, without credentials.
    """

    def __init__(self, adapter: Adapter, limits: FetchLimits, headers: Mapping[str, str], max_redirects: int) -> None:
        self._adapter = adapter
        self._limits = limits
        self._headers = headers
        self._max_redirects = max_redirects
        self.url = ""
        self.redirects: list[str] = []

    def get(self, url: str, headers: Mapping[str, str]) -> Response:
        """Send a request, follow redirects and return the last answer, its body unread.

        Args:
            url: the first address.
            headers: extra headers, such as a key; sent to the origin of this address only.
        """
        jar: RequestsCookieJar | None = None
        origin: tuple[str, str] | None = None
        self.redirects = []
        for _ in range(self._max_redirects + 1):
            self.url = url
            request = self._prepare(url, jar)
            origin = origin or _origin(str(request.url))
            if headers and _origin(str(request.url)) == origin:
                request.headers.update(headers)
            answer = self._send(request)
            location = answer.headers.get("location") if answer.status_code in REDIRECT_STATUSES else None
            if not location:
                return answer
            if "set-cookie" in answer.headers:  # some servers redirect in circles until their cookie comes back
                jar = jar or RequestsCookieJar()
                extract_cookies_to_jar(jar, request, answer.raw)  # type: ignore[no-untyped-call]
            drain(answer)
            url = _target(answer.url, location)
            self.redirects.append(without_credentials(url))
        msg = f"more than {self._max_redirects} redirects"
        raise TooManyRedirects(msg)

    def route(self, url: str) -> str:
        """Return an address and where its redirects have led so far, for messages."""
        return url if self.url == url else f"{url} (redirected to {self.url})"

    def _prepare(self, url: str, jar: RequestsCookieJar | None) -> PreparedRequest:
        """Prepare a GET without the parts of ``Session.prepare_request`` that only other requests need."""
        request = PreparedRequest()
        request.method = "GET"
        request.prepare_url(url, None)
        request.headers = CaseInsensitiveDict(self._headers)
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
        """Send a request; send it again if the server had closed a kept-alive connection in the meantime."""
        self._limits.new_connection = False
        try:
            return self._adapter.send(request)
        except RequestsConnectionError as error:
            if self._limits.new_connection or explain(error, "").code != "disconnected":
                raise
            self._adapter.close()
            return self._adapter.send(request)


def _origin(url: str) -> tuple[str, str]:
    """Return the scheme, host and port of a URL: a key may be sent to no others."""
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _target(url: str, location: str) -> str:
    """Return where a redirect leads. Headers are read as latin-1, but servers write UTF-8 into them."""
    try:
        return urljoin(url, requote_uri(location.encode("latin-1").decode("utf-8", "replace")))
    except ValueError as error:
        raise InvalidURL(error) from error
