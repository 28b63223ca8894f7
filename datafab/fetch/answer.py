"""Answers of servers: refused by their head, or read within limits of size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from http import HTTPStatus

from requests import Response
from urllib3.exceptions import HTTPError

from datafab.fetch.connection import READ_BYTES, TooLarge
from datafab.fetch.refusal import Refusal, bad_status, web_page
from datafab.fetch.result import Refused
from datafab.settings import MAX_UNPACK_RATIO
from datafab.store.store import Store
from datafab.urls import without_credentials

#: Bytes of one of several answers that make a resource: it is held in memory.
MAX_PAGE_BYTES = 256 * 1024 * 1024
#: Bytes below which a web page may be a firewall's.
MAX_FIREWALL_PAGE_BYTES = 4096
#: Phrases of firewalls' pages, in lower case.
FIREWALL_PHRASES = (
    b"request rejected",
    b"url was rejected",
    b"access denied",
    b"incapsula incident",
    b"web page blocked",
)

#: Changes a body on its way into the store: ``transform(content_type, chunks) -> chunks``.
Transform = Callable[[str, Iterator[bytes]], Iterator[bytes]]


def refuse_by_head(answer: Response, url: str, *, accept_html: bool) -> Refusal | None:
    """Return why an answer is refused by its status or type; None when its body is to be read."""
    if answer.status_code != HTTPStatus.OK:
        return bad_status(answer.status_code, url)
    if not accept_html and answer.headers.get("content-type", "").lower().lstrip().startswith("text/html"):
        return web_page(url)
    return None


def is_firewall_page(answer: Response) -> bool:
    """Tell whether a web page is a firewall's, by its size and its words."""
    page = answer.raw.read(MAX_FIREWALL_PAGE_BYTES, decode_content=True)
    return len(page) < MAX_FIREWALL_PAGE_BYTES and any(phrase in page.lower() for phrase in FIREWALL_PHRASES)


def store_body(answer: Response, store: Store, transform: Transform | None, max_bytes: int) -> tuple[str, int] | None:
    """Stream a body into a store; return its sha256 and size, None when it is empty."""
    announced = answer.raw.length_remaining
    if announced is not None and announced > max_bytes:
        msg = f"{announced} bytes are announced"
        raise TooLarge(msg)
    chunks = _limited(answer, max_bytes)
    if transform is not None:
        chunks = transform(answer.headers.get("content-type", ""), chunks)
    with store.new_resource() as resource:
        for chunk in chunks:
            resource.write(chunk)
        return resource.commit() if resource.size else None


def read_page(answer: Response, url: str, max_bytes: int) -> bytes:
    """Return a body that is held in memory.

    Raises:
        Refused: it is larger than ``MAX_PAGE_BYTES``.
    """
    parts: list[bytes] = []
    size = 0
    for chunk in _limited(answer, max_bytes):
        size += len(chunk)
        if size > MAX_PAGE_BYTES:
            sentence = f"one page has more than {MAX_PAGE_BYTES} bytes: let the plugin ask for smaller ones"
            raise Refused(Refusal("too_large", f"{without_credentials(url)}: {sentence}", "TooLarge"))
        parts.append(chunk)
    return b"".join(parts)


def _limited(answer: Response, max_bytes: int) -> Iterator[bytes]:
    """Yield the unpacked body until it is too large, on the wire or unpacked."""
    raw, size = answer.raw, 0
    packed = "content-encoding" in answer.headers
    max_unpacked = max_bytes * (MAX_UNPACK_RATIO if packed else 1)
    for chunk in answer.iter_content(READ_BYTES):
        size += len(chunk)
        if size > max_unpacked or raw.tell() > max_bytes:
            msg = f"more than {max_unpacked if size > max_unpacked else max_bytes} bytes came"
            raise TooLarge(msg)
        yield chunk


def drain(answer: Response) -> None:
    """Read the rest of a short body, so that its connection can be used again; close that of a long one."""
    left = answer.raw.length_remaining
    if left is not None and left <= READ_BYTES:
        with suppress(HTTPError):
            answer.raw.read(READ_BYTES, decode_content=False)
    answer.close()
