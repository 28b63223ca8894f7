"""Parse requests with waitress, and refuse those that a proxy in front might read differently.

A request whose length or host is in doubt lets a client hide a second request in it (request smuggling). waitress is
lenient where RFC 9112 allows it; these checks are not. Sources: RFC 9112, sections 2.2, 3.2, 5 and 6; Pylons/waitress,
``src/waitress/parser.py``.
"""

from __future__ import annotations

import re
from typing import NoReturn
from urllib.parse import urlsplit

from waitress.parser import HTTPRequestParser, ParsingError
from waitress.utilities import BadRequest, RequestEntityTooLarge

from webhook.limits import (
    MAX_BODY_BYTES,
    MAX_CHUNK_LINE_BYTES,
    MAX_CHUNKING_BYTES,
    MAX_FIELDS,
    MAX_LINE_BYTES,
    body_limit,
)

_REQUEST_LINE = re.compile(rb"[!-~]+ ([!-~]+) HTTP/1\.([01])")
_BARE_NEWLINE = re.compile(rb"(?<!\r)\n")
_NAME = re.compile(rb"[!#$%&'*+.^`|~0-9A-Za-z-]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_LENGTH = re.compile(rb"[0-9]{1,15}")
#: Headers that must not be there twice.
_SINGLE = frozenset({b"host", b"content-length", b"transfer-encoding", b"content-type"})


class RequestTimeout(BadRequest):
    """The request did not arrive in time."""

    code, reason = 408, "Request Timeout"


class TooManyUploads(BadRequest):
    """There are too many uploads at the same time, and this one is the slowest."""

    code, reason = 503, "Service Unavailable"


class URITooLong(BadRequest):
    """The request line is too long."""

    code, reason = 414, "URI Too Long"


class ExpectationFailed(BadRequest):
    """The client expects what this server does not do."""

    code, reason = 417, "Expectation Failed"


class TooManyFields(BadRequest):
    """There are too many headers."""

    code, reason = 431, "Request Header Fields Too Large"


class RequestParser(HTTPRequestParser):
    """waitress's parser of one request, with these checks and the body limit of the request's route.

    Attributes:
        field: the header because of which the request is refused.
    """

    completed: bool
    error: BadRequest | None
    field: str | None = None

    def received(self, data: bytes) -> int:
        """Parse a part of a request, and return the number of bytes that belong to it."""
        consumed: int = super().received(data)
        if self.error is not None:
            if self.headers_finished and self.chunked and self.error.code == BadRequest.code:
                self.field = "Transfer-Encoding"
        elif self.headers_finished:
            self._check_body()
        elif not self.completed and _BARE_NEWLINE.search(self.header_plus):
            # waitress would wait for an end of the headers that never comes.
            self._refuse(BadRequest("lines must end with CR and LF"))
        if self.completed:
            # After a 100 Continue waitress waits for a body, also of a request that has none.
            self.expect_continue = False
        return consumed

    @property
    def is_unfinished_upload(self) -> bool:
        """Whether a larger body is arriving than other routes take."""
        arriving = self.headers_finished and not self.completed
        return arriving and self._limit > MAX_BODY_BYTES and (self.chunked or self.content_length > MAX_BODY_BYTES)

    @property
    def _limit(self) -> int:
        return body_limit(self.command, getattr(self, "path", ""), self.headers.get("CONTENT_TYPE", ""))

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the request line and the headers.

        Raises:
            ParsingError: they are invalid, or can be understood in two ways.
        """
        line, *lines = [line for line in header_plus.split(b"\r\n") if line]
        found = _REQUEST_LINE.fullmatch(line)
        if found is None:
            raise ParsingError("the request line must be a method, a path and HTTP/1.0 or HTTP/1.1")
        self._check_fields(_fields(lines, self))
        self._check_host(found[1], modern=found[2] == b"1")
        if found[2] == b"0" and b"transfer-encoding" in self._sent:
            self._fail(b"transfer-encoding", "it needs HTTP/1.1")
        super().parse_header(header_plus)
        if len(line) > MAX_LINE_BYTES:
            self._refuse(URITooLong(f"the request line is longer than {MAX_LINE_BYTES} bytes"))
        elif len(lines) > MAX_FIELDS:
            self._refuse(TooManyFields(f"there are more than {MAX_FIELDS} headers"))
        elif self._sent.get(b"expect", b"100-continue").lower() != b"100-continue":
            self._refuse(ExpectationFailed("only `100-continue` can be expected"))

    def _fail(self, name: bytes, why: str) -> NoReturn:
        """Raise the refusal of a header."""
        self.field = name.decode("latin-1").title()
        raise ParsingError(f"{self.field}: {why}")

    def _refuse(self, error: BadRequest, field: str | None = None) -> None:
        """Answer with an error, without a 100 Continue before it."""
        self.error, self.field = error, field
        self.completed, self.expect_continue = True, False

    def _check_fields(self, fields: list[tuple[bytes, bytes]]) -> None:
        """Raise for headers from which a length could be read in two ways."""
        self._sent = dict(fields)
        names = [name for name, _ in fields]
        for name in _SINGLE:
            if names.count(name) > 1:
                self._fail(name, "it must be there once only")
        length, coding = self._sent.get(b"content-length"), self._sent.get(b"transfer-encoding")
        if coding is not None and (coding.lower() != b"chunked" or length is not None):
            self._fail(b"transfer-encoding", "only `chunked` is supported, and no Content-Length beside it")
        if length is not None and not _LENGTH.fullmatch(length):
            self._fail(b"content-length", "a number of bytes is needed")

    def _check_host(self, target: bytes, *, modern: bool) -> None:
        """Raise unless the host is known, and the same where the target names it too."""
        host = self._sent.get(b"host")
        if host is None and modern:
            self._fail(b"host", "the header is missing")
        if not target.startswith(b"/") and target != b"*":
            try:
                parts = urlsplit(target)
            except ValueError as error:  # such as a bracket without another
                raise ParsingError("the target must be a path") from error
            if parts.scheme.lower() not in {b"http", b"https"}:
                raise ParsingError("the target must be a path")
            if parts.netloc.lower() != (host or b"").lower():
                self._fail(b"host", "it differs from the host of the target")

    def _check_body(self) -> None:
        """Refuse a body that is, or will be, larger than its route takes."""
        limit, size = self._limit, self.content_length
        if self.chunked:
            if max(len(self.body_rcv.control_line), len(self.body_rcv.trailer)) > MAX_CHUNK_LINE_BYTES:
                # waitress copies and searches all of it with each part that arrives.
                self._refuse(BadRequest("the size of a chunk, or the trailer, is too long"), "Transfer-Encoding")
                return
            size = max(
                len(self.body_rcv) + self.body_rcv.chunk_remainder, self.body_bytes_received - MAX_CHUNKING_BYTES
            )
        if size > limit:
            field = None if self.chunked else "Content-Length"
            self._refuse(RequestEntityTooLarge(f"a body of {limit} bytes at most is taken here"), field)


def _fields(lines: list[bytes], parser: RequestParser) -> list[tuple[bytes, bytes]]:
    """Return names in lower case and values; raise for what is no header, or is one to some programs only."""
    fields: list[tuple[bytes, bytes]] = []
    for line in lines:
        if line.startswith((b" ", b"\t")):
            parser._fail(fields[-1][0] if fields else b"", "a header must be on one line")  # noqa: SLF001 - part of it
        name, colon, value = line.partition(b":")
        if not colon or not name:
            raise ParsingError("a header must have a name and a colon")
        if not _NAME.fullmatch(name):
            # WSGI gives `X_Y` and `X-Y` the same name; some programs ignore the blank in `X-Y :`.
            parser._fail(name.strip(), "the name must not contain blanks or underscores")  # noqa: SLF001
        if _CONTROL.search(value):
            parser._fail(name, "the value must not contain control characters")  # noqa: SLF001
        fields.append((name.lower(), value.strip(b" \t")))
    return fields
