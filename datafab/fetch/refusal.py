"""Why a fetch gave no resource: a code for machines, a sentence for people."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException, RemoteDisconnected

import requests.exceptions as rq
import urllib3.exceptions as u3

from datafab.cancellation import check
from datafab.errors import DatafabError
from datafab.urls import without_credentials


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no resource.

    Attributes:
        code: e.g. ``http_404``, ``timeout``, ``html``.
        message: a sentence that names the URL.
        exception: class name of the error, as ``requests`` names it; None where an answer was refused.
    """

    code: str
    message: str
    exception: str | None = None


#: Codes after which a later fetch may succeed, besides the HTTP statuses 408, 425, 429 and 5xx.
_TRANSIENT = frozenset(
    {"timeout", "connection_refused", "disconnected", "incomplete", "unreachable", "dns", "bad_answer", "host_rests"}
)
_TRANSIENT_STATUSES = ("http_408", "http_425", "http_429", "http_5")


def is_transient(code: str) -> bool:
    """Tell whether a fetch that failed with this code may succeed later."""
    return code in _TRANSIENT or code.startswith(_TRANSIENT_STATUSES)


#: Exceptions -> code, sentence; the first line that matches any of an error's causes is the reason.
_RULES: tuple[tuple[tuple[type[BaseException], ...], str, str], ...] = (
    ((rq.MissingSchema, rq.InvalidSchema), "not_http", "the address does not begin with http:// or https://"),
    ((rq.InvalidURL, u3.LocationValueError), "invalid_url", "this is not a usable address"),
    ((rq.TooManyRedirects,), "too_many_redirects", "the server redirects too often"),
    ((rq.ProxyError,), "proxy", "the proxy of DATAFAB_PROXY refused the connection"),
    ((u3.NameResolutionError,), "dns", "the host name cannot be resolved"),
    ((rq.SSLError, ssl.SSLError), "tls", "no secure connection could be made"),
    ((rq.Timeout, u3.ReadTimeoutError, TimeoutError), "timeout", "the server took too long"),
    ((ConnectionRefusedError,), "connection_refused", "nothing listens at this address"),
    ((rq.ContentDecodingError,), "bad_encoding", "the body could not be unpacked"),
    ((u3.IncompleteRead, u3.InvalidChunkLength), "incomplete", "the answer broke off before its end"),
    ((rq.ChunkedEncodingError,), "incomplete", "the answer broke off before its end"),
    ((RemoteDisconnected, ConnectionError), "disconnected", "the server closed the connection without an answer"),
    ((HTTPException, rq.InvalidHeader), "bad_answer", "the server does not speak HTTP"),
    ((rq.RequestException, OSError), "unreachable", "the server cannot be reached"),
)


#: OpenSSL's code of a certificate that was rejected -> what its owner should do
_CERTIFICATES = {
    9: "it is valid from a later day on",
    10: "its owner must renew it",
    18: "it is self-signed; its owner must get one from a certificate authority",
    19: "its chain ends in a self-signed certificate that is not trusted here",
    20: "its issuer is not trusted here, or the server does not send the intermediate certificates",
    21: "its issuer is not trusted here, or the server does not send the intermediate certificates",
    62: "it belongs to another server",
    64: "it belongs to another server",
}
#: OpenSSL's reason of a handshake that failed -> what it means
_HANDSHAKES = {
    "WRONG_VERSION_NUMBER": "this port does not use TLS: http:// instead of https://?",
    "UNSUPPORTED_PROTOCOL": "the server is too old for a secure connection",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the server is too old for a secure connection",
}


def explain(error: Exception, url: str) -> Refusal:
    """Return the refusal for an error that fetching ``url`` raised.

    Raises:
        Lost: the job was cancelled. The error says nothing about the server then: its connection was shut down here.
    """
    check()
    name = type(error).__name__
    if isinstance(error, DatafabError):
        return Refusal(error.code, f"{without_credentials(url)}: {error.message}", name)
    causes = list(_causes(error))
    for types, code, sentence in _RULES:
        if any(isinstance(cause, types) for cause in causes):
            return Refusal(code, f"{without_credentials(url)}: {sentence}{_detail(causes)}", name)
    return Refusal("failed", without_credentials(f"{url}: {name}: {error}"), name)


def bad_status(status: int, url: str) -> Refusal:
    """Return why an answer with this HTTP status was refused."""
    try:
        phrase = f" {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = ""
    return Refusal(f"http_{status}", f"{without_credentials(url)}: the server answered {status}{phrase}")


def web_page(url: str) -> Refusal:
    """Return why a web page was refused."""
    return Refusal("html", f"{without_credentials(url)}: a web page (text/html) instead of data")


def firewall(url: str) -> Refusal:
    """Return why a firewall's page was refused: its status is 200, but it is not the file."""
    return Refusal("firewall", f"{without_credentials(url)}: the page of a firewall instead of data")


def empty(url: str) -> Refusal:
    """Return why an empty body was refused."""
    return Refusal("empty", f"{without_credentials(url)}: the answer is empty")


def host_paused(url: str, silences: int, *, requested: bool) -> Refusal:
    """Return why a URL was not requested: its server asked for a pause, or did not answer other requests."""
    why = "asked for a pause" if requested else f"did not answer {silences} requests before"
    sentence = f"not requested: its server {why}"
    return Refusal("host_rests", f"{without_credentials(url)}: {sentence}", "ConnectionError")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and the errors wrapped in it: requests and urllib3 keep those in ``reason`` or ``args``."""
    seen: list[BaseException] = []
    queue: list[BaseException] = [error]
    while queue:
        cause = queue.pop(0)
        if cause in seen:
            continue
        seen.append(cause)
        yield cause
        inner = [getattr(cause, "reason", None), *cause.args, cause.__cause__]
        queue += [each for each in inner if isinstance(each, BaseException)]


def _detail(causes: list[BaseException]) -> str:
    """Return what the system reported, where that says more than the sentence of the rule."""
    for cause in causes:
        if isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_AGAIN:
            return " (the name servers do not answer)"
        if isinstance(cause, ssl.SSLCertVerificationError):
            hint = _CERTIFICATES.get(cause.verify_code)
            return f" ({cause.verify_message}{'; ' + hint if hint else ''})"
        if isinstance(cause, ssl.SSLError) and cause.reason:
            hint = _HANDSHAKES.get(cause.reason)
            return f" ({cause.reason}{'; ' + hint if hint else ''})"
    return ""
