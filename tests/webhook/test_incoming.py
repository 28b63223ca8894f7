"""Where a request ends: the same however it arrives, and where gunicorn's parser says it ends."""

from __future__ import annotations

from gunicorn import http
from gunicorn.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st

from webhook.connection import Exchange
from webhook.incoming import Head, Incoming
from webhook.limits import MAX_BODY_BYTES, MAX_UPLOAD_BYTES, body_limit

CONFIG = Config()
CONFIG.set("http_parser", "python")
CONFIG.set("header_map", "refuse")
LIMIT = 40
#: Lines of a head, of which some contradict each other.
LINES = [
    *("Host: a", "Host: b", "X-A: b", "X_A: b", "Expect: 100-continue", "Connection: close", " folded"),
    *("no colon", ": a", "Content-Length: 3", "Content-Length: 0", "Content-Length: 3 "),
    *("Content-Length : 3", "Content-Length: 0x3"),
    *("content-length: 03", "Content-Length: -3", "Content-Length: 99", "Transfer-Encoding: chunked"),
    *("Transfer-Encoding: gzip, chunked", "transfer-encoding:CHUNKED", "Transfer-Encoding : chunked", "X: \0", "X: \r"),
]  # fmt: skip
STARTS = [
    "GET / HTTP/1.1",
    "POST /a?b HTTP/1.1",
    "POST / HTTP/1.0",
    "GET http://a/ HTTP/1.1",
    "GET / HTTP/3.0",
    "GET /",
]
BODIES = ["", "abc", "3\r\nabc\r\n0\r\n\r\n", "03\r\nabc\r\n1\r\nd\r\n0\r\n\r\n", "0\r\n\r\n",
          "3;a\r\nabc\r\n0\r\n\r\n", "0\r\nX: b\r\n\r\n", "3\r\nabcd\r\n0\r\n\r\n", "g\r\n",
          "99\r\n", "3\nabc\n0\n\n"]  # fmt: skip
NEXT = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    lines = [draw(st.sampled_from(STARTS)), *draw(st.lists(st.sampled_from(["Host: a", *LINES]), max_size=4))]
    ends = st.sampled_from(["\r\n"] * 12 + ["\n", "\r"])
    head = "".join(line + draw(ends) for line in lines)
    return (head + draw(ends) + draw(st.sampled_from(BODIES)) + NEXT).encode("latin-1")


def fed(pieces: list[bytes]) -> Incoming:
    """Return a request to which pieces were fed until it was settled."""
    incoming = Incoming(lambda _: LIMIT)
    for piece in pieces:
        if not incoming.settled:
            incoming.feed(piece)
    return incoming


@settings(max_examples=400, deadline=None)
@given(data=requests(), cut=st.integers(1, 200))
def test_it_ends_where_gunicorn_says_so_however_it_arrives(data: bytes, cut: int):
    whole, parts = fed([data]), fed([data[:cut], data[cut:]])
    single = fed([data[place : place + 1] for place in range(len(data))])
    assert bool(whole.refusal) == bool(parts.refusal) == bool(single.refusal)
    assert whole.doubtful == parts.doubtful == single.doubtful
    if whole.length is None or whole.doubtful:
        return
    assert whole.length == parts.length == single.length
    request, following = whole.take()
    assert request + following == data.removeprefix(b"\r\n")
    parser = http.get_parser(CONFIG, Exchange(request), ("127.0.0.1", 1))
    try:
        found = next(parser)
        found.body.read()
    except (http.errors.ParseException, http.errors.NoMoreData):
        return  # the server answers 400, and closes the connection
    # All of it was read as this request, and the next one begins behind it.
    assert not parser.unreader.take_buffered()
    assert not parser.unreader.sock.recv(1)


def test_a_request_that_is_in_order_is_not_refused():
    for body, fields in (
        ("abc", "Content-Length: 3\r\n"),
        ("3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n"),
        ("", ""),
    ):
        data = f"POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}".encode()
        incoming = fed([data + NEXT.encode()])
        assert (incoming.refusal, incoming.doubtful) == (None, False)
        assert incoming.take() == (data, NEXT.encode())


def test_only_uploads_may_be_large():
    form = ((b"content-type", b"multipart/form-data; boundary=b"),)
    for method, target, fields, limit in (
        (b"POST", b"/api/jobs", form, MAX_UPLOAD_BYTES),
        (b"POST", b"/api/jobs?a", form, MAX_UPLOAD_BYTES),
        (b"POST", b"/api/jobs", (), MAX_BODY_BYTES),
        (b"PUT", b"/api/jobs", form, MAX_BODY_BYTES),
        (b"POST", b"/hooks/link-proxy", form, MAX_BODY_BYTES),
    ):
        assert body_limit(Head(method, target, fields, modern=True)) == limit
