"""The adapter of requests, for its errors and pools, without the parts that a plain GET does not need."""

from __future__ import annotations

import ssl
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidURL
from requests.structures import CaseInsensitiveDict
from requests.utils import DEFAULT_CA_BUNDLE_PATH, urldefragauth
from urllib3 import HTTPConnectionPool, PoolManager, Timeout
from urllib3.util.ssl_ import create_urllib3_context

from datafab.errors import SettingError
from datafab.fetch.connection import FetchLimits, pool_classes
from datafab.settings import Settings


@cache
def tls_context(bundle: Path | None = None) -> ssl.SSLContext:
    """Return the TLS context of all connections: loading its certificates costs more than thirty fetches.

    Args:
        bundle: file or folder of the certificates to trust instead of the usual ones.

    Raises:
        SettingError: no certificates can be read there.
    """
    context = create_urllib3_context()
    place = bundle or Path(DEFAULT_CA_BUNDLE_PATH)
    try:
        if place.is_dir():
            context.load_verify_locations(capath=place)
        else:
            context.load_verify_locations(cafile=place)
    except OSError as error:
        msg = f"DATAFAB_CA_BUNDLE={place}: no certificates can be read there: {error}"
        raise SettingError(msg, field="DATAFAB_CA_BUNDLE") from error
    return context


class Adapter(HTTPAdapter):
    """Sends requests within the limits of a session, one at a time."""

    def __init__(self, settings: Settings, context: ssl.SSLContext, limits: FetchLimits) -> None:
        self._context = context
        self._classes = pool_classes(limits)
        self._proxy = settings.proxy
        self._timeout = Timeout(connect=settings.connect_timeout, read=settings.read_timeout)
        super().__init__()

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **_: Any) -> None:
        """Create the connection pools."""
        self.poolmanager = PoolManager(connections, maxsize=maxsize, block=block, ssl_context=self._context)
        self.poolmanager.pool_classes_by_scheme = self._classes

    def send(self, request: PreparedRequest, *_: Any, **__: Any) -> Response:
        """Send a request with the limits of the settings; the body stays unread."""
        return super().send(request, stream=True, timeout=self._timeout)  # type: ignore[arg-type]

    def cert_verify(self, *_: Any, **__: Any) -> None:
        """Do nothing: the TLS context verifies certificates."""

    def get_connection_with_tls_context(self, request: PreparedRequest, *_: Any, **__: Any) -> HTTPConnectionPool:
        """Return the pool of the request's host."""
        try:
            parts = urlsplit(request.url or "")
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise InvalidURL(error, request=request) from error
        manager: PoolManager = self.poolmanager
        if self._proxy is not None:
            manager = self.proxy_manager_for(self._proxy, ssl_context=self._context)
            manager.pool_classes_by_scheme = self._classes
        return manager.connection_from_host(host, port, parts.scheme)

    def request_url(self, request: PreparedRequest, *_: Any) -> str:
        """Return the target of the request line."""
        if self._proxy is not None and (request.url or "").startswith("http:"):
            return str(urldefragauth(request.url or ""))
        return request.path_url

    def build_response(self, req: PreparedRequest, resp: Any) -> Response:
        """Return the answer, without cookies and a guessed encoding, which no caller needs."""
        answer = Response()
        answer.status_code = resp.status
        answer.headers = CaseInsensitiveDict(resp.headers)
        answer.raw = resp
        answer.url = req.url or ""
        answer.request = req
        return answer
