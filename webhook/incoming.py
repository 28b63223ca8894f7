"""The bytes of a request as they arrive: where the request ends, or why it is refused before that.

How long a request is must be beyond doubt, because whatever follows on the connection is read as the next request: a
proxy in front that counts differently would pass on a request that its sender has hidden in another one (request
smuggling). So only two forms of a body are taken: one ``Content-Length``, or ``Transfer-Encoding: chunked`` with
neither extensions nor trailers, which no client of such an API sends.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

#: The largest request line and headers together, in bytes.
MAX_HEAD_BYTES = 64 * 1024
#: How much longer a chunked body may be than its content, in bytes.
MAX_CHUNKING_BYTES = 64 * 1024

_REQUEST_LINE = re.compile(rb"[!-~]+ ([!-~]+) HTTP/[0-9]\.([0-9])")
_BARE_NEWLINE = re.compile(rb"(?<!\r)\n")
_LENGTH = re.compile(rb"[0-9]{1,15}")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,8}")
_MAX_CHUNK_LINE = 8


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer to a request that is not read to its end."""

    status: HTTPStatus
    message: str
    field: str | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """The request line and the headers.

    Attributes:
        method: the method.
        target: what is requested.
        fields: names in lower case, and values.
        modern: whether the version is HTTP/1.1.
    """

    method: bytes
    target: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    modern: bool

    @classmethod
    def parse(cls, data: bytes) -> Head:
        """Read a head; what is not valid in it is refused later, by gunicorn."""
        first, *lines = data.split(b"\r\n")
        found = _REQUEST_LINE.fullmatch(first)
        parts = (line.partition(b":") for line in lines)
        return cls(
            method=first.partition(b" ")[0],
            target=found[1] if found else b"",
            fields=tuple((name.lower(), value.strip(b" \t")) for name, _, value in parts),
            modern=found is not None and found[2] != b"0",
        )

    @property
    def path(self) -> bytes:
        """The target without its query."""
        return self.target.partition(b"?")[0]

    def all(self, name: bytes) -> list[bytes]:
        """Return the values of a header."""
        return [value for each, value in self.fields if each == name]


class Incoming:
    """A request of which a part has arrived.

    Args:
        limit: returns the largest body for a head, in bytes.

    Attributes:
        head: the head, once all of it has arrived.
        length: the length of the request, once all of it has arrived.
        doubtful: gunicorn will refuse this request, so that what follows it is not a request.
        refusal: why it is not read any further.
        wants_continue: the client waits for leave to send the body.
    """

    def __init__(self, limit: Callable[[Head], int]) -> None:
        self._limit = limit
        self._data = bytearray()
        self._body = self._next = 0
        self._chunked = False
        self._wanted = 0
        self.head: Head | None = None
        self.length: int | None = None
        self.doubtful = False
        self.refusal: Refusal | None = None
        self.wants_continue = False

    def __len__(self) -> int:
        return len(self._data)

    @property
    def settled(self) -> bool:
        """Whether nothing more is to be read: the request is complete, or refused."""
        return self.length is not None or self.refusal is not None

    def feed(self, more: bytes) -> None:
        """Add what has arrived."""
        searched = max(0, len(self._data) - 3)
        self._data += more
        if self.head is None:
            self._find_head(searched)
        if self.head is not None and not self.settled:
            self._find_end()

    def take(self) -> tuple[bytes, bytes]:
        """Give away the complete request, and what has arrived of the next one."""
        end = len(self._data) if self.length is None else self.length
        with memoryview(self._data) as data:
            request, following = bytes(data[:end]), bytes(data[end:])
        self._data = bytearray()
        return request, following

    def _find_head(self, searched: int) -> None:
        if self._data[:2] == b"\r\n":
            # Some clients send an empty line after a body.
            del self._data[:2]
            searched = 0
        end = self._data.find(b"\r\n\r\n", searched)
        head = self._data[: end + 2] if end >= 0 else self._data
        if len(head) > MAX_HEAD_BYTES:
            message = f"the request line and the headers are longer than {MAX_HEAD_BYTES} bytes"
            self.refusal = Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, message)
        elif _hopeless(self._data, searched, len(head)):
            self.length, self.doubtful = len(self._data), True
        elif end >= 0:
            self.head = Head.parse(bytes(self._data[:end]))
            self._body = self._next = end + 4
            self._find_framing(self.head)
            self.wants_continue = self.head.modern and b"100-continue" in map(bytes.lower, self.head.all(b"expect"))

    def _find_framing(self, head: Head) -> None:
        self.refusal = _host_refusal(head)
        if self.refusal is not None:
            return
        lengths, codings = head.all(b"content-length"), head.all(b"transfer-encoding")
        if codings:
            self._chunked = True
            self.refusal = _chunked_refusal(head, codings, lengths)
        elif lengths:
            if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
                self.refusal = _bad("Content-Length", "one number of bytes is needed")
            else:
                self._want(head, int(lengths[0]))

    def _want(self, head: Head, size: int) -> None:
        """Expect a body of so many bytes."""
        self._wanted = size
        limit = self._limit(head)
        if size > limit:
            message = f"Content-Length: a body of {limit} bytes at most is taken here"
            self.refusal = Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message, "Content-Length")

    def _find_end(self) -> None:
        if not self._chunked:
            if len(self._data) >= self._body + self._wanted:
                self.length = self._body + self._wanted
            return
        assert self.head is not None
        limit = self._limit(self.head)
        while not self.settled and self._skip_chunk(limit):
            pass
        if self.length is None and self.refusal is None and len(self._data) - self._body > limit + MAX_CHUNKING_BYTES:
            self.refusal = _too_large(limit)

    def _skip_chunk(self, limit: int) -> bool:
        """Skip a chunk, or find the end, and return whether it has arrived as a whole."""
        end = self._data.find(b"\r\n", self._next, self._next + _MAX_CHUNK_LINE + 2)
        line = bytes(self._data[self._next : end if end >= 0 else self._next + _MAX_CHUNK_LINE + 2])
        if end < 0 and len(line) < _MAX_CHUNK_LINE + 2:
            return False
        if not _CHUNK_SIZE.fullmatch(line):
            self.refusal = _bad("Transfer-Encoding", "a chunk begins with its size, without extensions")
            return False
        size = int(line, 16)
        if self._wanted + size > limit:
            self.refusal = _too_large(limit)
            return False
        following = end + 2 + size
        if len(self._data) < following + 2:
            return False
        if self._data[following : following + 2] != b"\r\n":
            self.refusal = _bad("Transfer-Encoding", "a chunk ends with CRLF, and trailers are not taken")
            return False
        self._next, self._wanted = following + 2, self._wanted + size
        if size == 0:
            self.length = self._next
        return True


def _hopeless(data: bytearray, searched: int, end: int) -> bool:
    """Return whether gunicorn will refuse a head, so that the rest of it need not be waited for."""
    line = data.find(b"\r\n", 0, end)
    return bool(_BARE_NEWLINE.search(data, searched, end)) or (line >= 0 and not _REQUEST_LINE.fullmatch(data, 0, line))


def _host_refusal(head: Head) -> Refusal | None:
    """Refuse a request that does not say for which host it is, or says it twice: the host's name is checked later."""
    hosts = head.all(b"host")
    if head.modern and len(hosts) != 1:
        return _bad("Host", "it is needed once")
    scheme, found, rest = head.target.partition(b"://")
    if found and b"/" not in scheme and rest.partition(b"/")[0].lower() not in [host.lower() for host in hosts]:
        return _bad("Host", "it is not that of the request's target")
    return None


def _chunked_refusal(head: Head, codings: list[bytes], lengths: list[bytes]) -> Refusal | None:
    if lengths:
        return _bad("Transfer-Encoding", "it may not be sent with a Content-Length")
    if not head.modern or [coding.lower() for coding in codings] != [b"chunked"]:
        return _bad("Transfer-Encoding", "only `chunked` is taken, once, in HTTP/1.1")
    return None


def _bad(field: str, why: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, f"{field}: {why}", field)


def _too_large(limit: int) -> Refusal:
    return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body of {limit} bytes at most is taken here")
