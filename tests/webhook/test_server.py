"""The webhook's own server on raw sockets: requests that are not what they seem, and clients that take their time."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.servers.celery import until
from tests.servers.redis import PREFIX, RedisServer
from tests.servers.webhook import Server, read_all, statuses, webhook
from webhook.headers import ANSWER_HEADERS
from webhook.limits import MAX_BODY_BYTES, MAX_HEAD_BYTES, MAX_UPLOADS
from webhook.server import THREADS

#: Seconds for a request to arrive at this server.
REQUEST_TIMEOUT = 5
#: What a caller sends that nobody else may see.
SECRET = "geheim-4711"  # noqa: S105 - of no system
#: Jobs with large parameters, and their number: an answer that no buffer of the kernel holds.
LARGE_JOBS, LARGE = 60, 200_000


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as redis:
        with redis.client() as client, client.pipeline() as pipe:
            for number in range(LARGE_JOBS):
                facts = {"flow": "collect", "status": "running", "created": number, "deadline": number + 60}
                pipe.hset(f"{PREFIX}job:large{number}", mapping=facts | {"params": json.dumps({"a": "x" * LARGE})})
                pipe.zadd(PREFIX + "jobs", {f"large{number}": number})
            pipe.execute()
        yield redis


@pytest.fixture(scope="module")
def server(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("webhook")
    with webhook(home, redis.url, DATAFAB_REQUEST_TIMEOUT=str(REQUEST_TIMEOUT)) as server:
        yield server


def request(*fields: str, line: str = "POST /api/jobs HTTP/1.1", body: bytes = b"", host: str = "Host: localhost\r\n"):
    head = "".join(f"{field}\r\n" for field in ("Content-Type: application/json", *fields))
    return f"{line}\r\n{host}{head}\r\n".encode("latin-1") + body


#: What a smuggled request would be: it would be answered with 200.
HIDDEN = b"GET /api/flows HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKS = b"1\r\n{\r\n0\r\n\r\n"
LENGTH, CODING, HOST = "Content-Length", "Transfer-Encoding", "Host"
CHUNKED = "Transfer-Encoding: chunked"

REFUSED: dict[str, tuple[bytes, int, str | None]] = {
    "length and chunks": (request("Content-Length: 5", CHUNKED, body=CHUNKS), 400, CODING),
    "chunks and length": (request(CHUNKED, "Content-Length: 11", body=CHUNKS), 400, CODING),
    "two lengths": (request("Content-Length: 0", "Content-Length: 44"), 400, LENGTH),
    "the same length twice": (request("Content-Length: 0", "Content-Length: 0"), 400, LENGTH),
    "a list of lengths": (request("Content-Length: 0, 0"), 400, LENGTH),
    "a negative length": (request("Content-Length: -1"), 400, LENGTH),
    "a signed length": (request("Content-Length: +5", body=b"12345"), 400, LENGTH),
    "a length with an underscore": (request("Content-Length: 1_0"), 400, LENGTH),
    "a hexadecimal length": (request("Content-Length: 0x5"), 400, LENGTH),
    "a length in other digits": (request("Content-Length: \xb2"), 400, LENGTH),
    "no length": (request("Content-Length:"), 400, LENGTH),
    "a length of 30 digits": (request("Content-Length: " + "9" * 30), 400, LENGTH),
    "two codings": (request("Transfer-Encoding: gzip, chunked", body=CHUNKS), 400, CODING),
    "chunked twice": (request(CHUNKED, CHUNKED, body=CHUNKS), 400, CODING),
    "chunked in one list twice": (request("Transfer-Encoding: chunked, chunked", body=CHUNKS), 400, CODING),
    "chunked is not last": (request("Transfer-Encoding: chunked, identity", body=CHUNKS), 400, CODING),
    "identity": (request("Transfer-Encoding: identity", "Content-Length: 5"), 400, CODING),
    "an unknown coding": (request("Transfer-Encoding: xchunked", body=CHUNKS), 400, CODING),
    "a coding with parameters": (request("Transfer-Encoding: chunked;q=1", body=CHUNKS), 400, CODING),
    "a coding in quotes": (request('Transfer-Encoding: "chunked"', body=CHUNKS), 400, CODING),
    "a coding after a control character": (request("Transfer-Encoding: \x0bchunked", body=CHUNKS), 400, CODING),
    "an empty coding": (request("Transfer-Encoding:", body=CHUNKS), 400, CODING),
    "chunks in HTTP/1.0": (request(CHUNKED, line="POST /api/jobs HTTP/1.0", body=CHUNKS), 400, CODING),
    "a space before the colon": (request("Transfer-Encoding : chunked", body=CHUNKS), 400, CODING),
    "a length before a space": (request("Content-Length : 5", body=b"12345"), 400, LENGTH),
    "an underscore in the name": (request("Transfer_Encoding: chunked", body=CHUNKS), 400, "Transfer_Encoding"),
    "a name of CGI": (request("Script_Name: /x"), 400, "Script_Name"),
    "a folded header": (request("X-A: b", " Transfer-Encoding: chunked", body=CHUNKS), 400, "X-A"),
    "a header without colon": (request(f"Authorization Bearer {SECRET}"), 400, None),
    "a header without name": (request(": a"), 400, None),
    "NUL in a header": (request("X-A: a\0b"), 400, "X-A"),
    "a bare CR": (request("X-A: a\rContent-Length: 5"), 400, "X-A"),
    "bare newlines": (b"GET /health HTTP/1.1\nHost: localhost\n\n", 400, None),
    "a bare newline among others": (b"GET /health HTTP/1.1\r\nHost: localhost\nX-A: b\r\n\r\n", 400, HOST),
    "chunk with a size that is too large": (request(CHUNKED, body=b"ffffffff\r\n{"), 413, None),
    "chunk with a size of 20 digits": (request(CHUNKED, body=b"f" * 20 + b"\r\n{"), 413, None),
    "chunk with a negative size": (request(CHUNKED, body=b"-1\r\n{\r\n"), 400, CODING),
    "chunk with a prefix": (request(CHUNKED, body=b"0x1\r\n{\r\n"), 400, CODING),
    "chunk without size": (request(CHUNKED, body=b"\r\n{\r\n"), 400, CODING),
    "chunk that is longer than its size": (request(CHUNKED, body=b"1\r\n{}\r\n0\r\n\r\n"), 400, CODING),
    "chunk that ends with a newline": (request(CHUNKED, body=b"1\r\n{\n0\r\n\r\n"), 400, CODING),
    "100,000 chunks of one byte": (request(CHUNKED, body=b"1\r\n \r\n" * 300_000 + b"0\r\n\r\n"), 413, None),
    "a body of 2 MB": (request(f"Content-Length: {2 * 1024**2}", body=b" " * 2 * 1024**2), 413, LENGTH),
    "a chunked body of 2 MB": (request(CHUNKED, body=b"200000\r\n" + b" " * 2 * 1024**2 + b"\r\n0\r\n\r\n"), 413, None),
    "a chunk whose size has no end": (request(CHUNKED, body=b"1;a=" + b"f" * 100_000), 400, CODING),
    "a trailer without end": (request(CHUNKED, body=b"0\r\nX-A: " + b"f" * 100_000), 400, CODING),
    "a compressed body": (request("Content-Encoding: gzip", "Content-Length: 2", "Connection: close", body=b"{}"), 400,
                          "Content-Encoding"),
    "another expectation": (request("Expect: coffee"), 417, None),
    "HTTP/0.9": (b"GET /health\r\n", 400, None),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, None),
    "HTTP/3.0": (b"GET /health HTTP/3.0\r\nHost: localhost\r\n\r\n", 400, None),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400, None),
    "a method in lower case": (request(line="get /health HTTP/1.1"), 400, None),
    "two spaces": (request(line="GET  /health HTTP/1.1"), 400, None),
    "a target of other letters": (request(line="GET /caf\xe9 HTTP/1.1"), 400, None),
    "a target of another host": (request(line="GET http://evil.example/health HTTP/1.1"), 400, HOST),
    "a target with a user": (request(line="GET http://localhost@evil.example/health HTTP/1.1"), 400, HOST),
    "a target that is a host": (request(line="GET evil.example:80 HTTP/1.1"), 400, None),
    "a target with half a bracket": (request(line="GET http://[ HTTP/1.1"), 400, None),
    "a target with a bad address": (request(line="GET http://[x]/health HTTP/1.1"), 400, None),
    "no Host": (request(line="GET /health HTTP/1.1", host=""), 400, HOST),
    "two Hosts": (request("Host: evil.example", line="GET /health HTTP/1.1"), 400, HOST),
    "a long target": (request(line=f"GET /{'a' * 5000} HTTP/1.1"), 414, None),
    "101 headers": (request(*(f"X-{number}: a" for number in range(101))), 431, None),
    "10,000 headers": (request(*(f"X-{number}: a" for number in range(10_000))), 431, None),
    "headers without end": (request("X-A: " + "a" * MAX_HEAD_BYTES)[:-4], 431, None),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_doubtful_request_is_refused_and_ends_its_connection(server: Server, name: str):
    data, status, field = REFUSED[name]
    answers = server.talk(data + HIDDEN)
    assert statuses(answers) == [status], answers
    head, _, body = answers.partition("\r\n\r\n")
    for header, value in ANSWER_HEADERS.items():
        assert f"\r\n{header}: {value}\r\n" in head + "\r\n"
    error = json.loads(body)["error"]
    assert (error["field"] or "").lower() == (field or "").lower()
    assert error["type"]
    assert error["message"]
    assert SECRET not in answers


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (request(line="GET /health HTTP/1.1") * 3, [200] * 3),
        (request(CHUNKED, body=b"1;a=b\r\n{\r\n0\r\n\r\n") + HIDDEN, [400, 200]),
        (request(CHUNKED, body=b"1\r\n{\r\n0\r\nContent-Length: 5\r\n\r\n") + HIDDEN, [400, 200]),
        (request(CHUNKED, body=b'09\r\n{"a": "b"\r\n1\r\n}\r\n0\r\n\r\n') + HIDDEN, [400, 200]),
        (request("Transfer-Encoding:\tCHUNKED", body=b"2\r\n{}\r\n0\r\n\r\n") + HIDDEN, [400, 200]),
        (request("Content-Length: 002", body=b"{}") + HIDDEN, [400, 200]),
        (request("Content-Length: 2", "Expect: 100-continue", body=b"{}") + HIDDEN, [100, 400, 200]),
        (request("Expect: 100-continue", line="GET /health HTTP/1.1") + HIDDEN, [200, 200]),
        (request("Content-Length: 0", "Expect: 100-continue") + HIDDEN, [400, 200]),
        (request("Content-Length: 2", line="GET /api/flows HTTP/1.1", body=b"{}") + HIDDEN, [200, 200]),
        (request("Content-Length: 2", line="DELETE /nothing HTTP/1.1", body=b"{}") + HIDDEN, [404, 200]),
        (request(line="GET http://LOCALHOST/health HTTP/1.1") + HIDDEN, [200, 200]),
        (request("Upgrade: websocket", "Connection: Upgrade", line="GET /health HTTP/1.1") + HIDDEN, [400, 200]),
        (request(line="TRACE /health HTTP/1.1") + HIDDEN, [405, 200]),
        (request(line="BREW /health HTTP/1.1") + HIDDEN, [405, 200]),
        (request(line="OPTIONS * HTTP/1.1") + HIDDEN, [404, 200]),
        (request(line="CONNECT localhost:80 HTTP/1.1") + HIDDEN, [400]),
        (request(line="GET /health HTTP/1.0", host="") + HIDDEN, [200]),
        (b"\r\n" + request(line="GET /health HTTP/1.1") + HIDDEN, [200, 200]),
    ],
    ids=lambda value: value[:40].decode("latin-1") if isinstance(value, bytes) else None,
)  # fmt: skip
def test_requests_that_are_in_order_are_answered_one_by_one(server: Server, data: bytes, expected: list[int]):
    answers = server.talk(data + request("Connection: close", line="GET /health HTTP/1.1"))
    kept = expected[-1:] == [200] and len(expected) > 1
    assert statuses(answers) == expected + [200] * kept


def test_a_request_may_arrive_byte_by_byte(server: Server):
    data = request(CHUNKED, "Connection: close", body=b'5\r\n{"flo\r\n00b\r\nw": "nay"  \r\n1\r\n}\r\n0\r\n\r\n')
    with server.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in data:
            client.sendall(bytes([byte]))
        answers = read_all(client)
    assert statuses(answers) == [404]
    assert "nay" in answers


def test_a_client_that_asks_first_is_told_to_send(server: Server):
    with server.connect() as client:
        client.sendall(request("Content-Length: 2", "Expect: 100-continue", "Connection: close"))
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"{}")
        assert statuses(read_all(client)) == [400]
    # One that will be refused is told at once.
    refused = request("Content-Length: 2000000", "Expect: 100-continue")
    assert statuses(server.talk(refused)) == [413]


def test_a_large_upload_is_taken(server: Server):
    def form(size: int) -> bytes:
        parts = [b'--b\r\nContent-Disposition: form-data; name="job"\r\n\r\n{"flow": "nay"}\r\n']
        parts.append(b'--b\r\nContent-Disposition: form-data; name="endpoints"; filename="e.csv"\r\n\r\n')
        return b"".join([*parts, b"x" * size, b"\r\n--b--\r\n"])

    def send(body: bytes, path: str) -> list[int]:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        head += f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        return statuses(server.talk(head.encode() + body))

    assert send(form(3 * MAX_BODY_BYTES), "/api/jobs") == [404]
    assert send(form(65 * MAX_BODY_BYTES), "/api/jobs") == [413]
    assert send(form(3 * MAX_BODY_BYTES), "/api/check-url") == [413]


# --- slow clients ---

SLOW: dict[str, bytes] = {
    "a head": b"GET /api/flows HTTP/1.1\r\nHost: localhost\r\nX-A: a",
    "a request line": b"GET /",
    "a body": request("Content-Length: 500000", f"Authorization: Bearer {SECRET}", body=b"{"),
    "a chunk": request(CHUNKED, body=b"fffff\r\n{"),
    "the size of a chunk": request(CHUNKED, body=b"f"),
    "a form": b"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    b"Content-Length: 60000000\r\n\r\n--b\r\n",
}
#: More than the server has threads, for each kind.
EACH = 20


def test_slow_clients_keep_nobody_else_waiting_and_are_told_to_leave(server: Server):
    with ExitStack() as stack:
        slow = [stack.enter_context(server.connect()) for _ in range(EACH * len(SLOW))]
        began = time.monotonic()
        for number, client in enumerate(slow):
            client.sendall(list(SLOW.values())[number % len(SLOW)])
        # Others are answered while none of these is, which a thread for each of them would make impossible.
        for path in ("/health", "/api/flows", "/api/jobs?limit=1", "/health"):
            assert statuses(server.get(path)) == [200]
        if time.monotonic() - began < REQUEST_TIMEOUT:
            assert not any(_readable(client) for client in slow)
        for client in slow:
            answers = read_all(client)
            assert statuses(answers) == [408]
            assert "DATAFAB_REQUEST_TIMEOUT" in answers
    log = server.log.read_text()
    assert "refused POST /api/jobs of 127.0.0.1: 408" in log
    assert "refused a request of 127.0.0.1: 408" in log
    assert SECRET not in log


def test_the_oldest_of_too_many_uploads_makes_room_for_another(server: Server):
    with ExitStack() as stack:
        slow = [stack.enter_context(server.connect()) for _ in range(MAX_UPLOADS + 1)]
        for client in slow:
            client.sendall(SLOW["a form"])
        answers = read_all(slow[0])
        assert statuses(answers) == [503]
        assert json.loads(answers.partition("\r\n\r\n")[2])["error"]["type"] == "service_unavailable"
        assert statuses(server.get()) == [200]


def test_new_connections_take_the_place_of_those_that_have_been_silent_for_longest(tmp_path: Path, redis: RedisServer):
    with webhook(tmp_path, redis.url, files=300) as server, ExitStack() as stack:
        silent = [stack.enter_context(server.connect()) for _ in range(40)]
        for number in range(200):
            silent.append(stack.enter_context(server.connect()))
            if number % 40 == 0:
                assert statuses(server.get()) == [200]
        assert statuses(server.get()) == [200]
        assert all(until(lambda client=client: _closed(client), 5) for client in silent[:100])
        assert not any(_closed(client) for client in silent[-5:])
    assert "at most 50 connections at a time" in server.log.read_text()
    assert "Too many open files" not in server.log.read_text()


def test_requests_that_have_arrived_are_answered_before_it_ends(tmp_path: Path, redis: RedisServer):
    with webhook(tmp_path, redis.url) as server, ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(3 * THREADS)]
        idle = stack.enter_context(server.connect())
        with redis.client() as client:
            client.execute_command("CLIENT", "PAUSE", 2000)
        for client in clients:
            client.sendall(b"GET /api/flows HTTP/1.1\r\nHost: localhost\r\n\r\n")
        # By the time that this is answered, all of those have arrived, and most wait for a thread.
        assert statuses(server.get()) == [200]
        os.kill(server.process.pid, signal.SIGTERM)
        for client in clients:
            assert statuses(read_all(client)) in ([200], [503])
        assert read_all(idle) == ""
        assert server.process.wait(60) == 0


def _readable(client: socket.socket) -> bool:
    return bool(select.select([client], [], [], 0)[0])


def test_clients_that_neither_read_nor_leave_keep_nobody_waiting(server: Server):
    with ExitStack() as stack:
        for number in range(24):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(60)
            client.connect(("127.0.0.1", server.port))
            close = "Connection: close\r\n" * (number % 2)
            path = "/health" if number % 2 else "/api/jobs?limit=500"
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{close}\r\n".encode())
        for path in ("/health", "/api/flows", "/health"):
            assert statuses(server.get(path)) == [200]


def test_an_answer_that_is_read_in_parts_arrives_as_a_whole(server: Server):
    with server.connect() as client:
        client.sendall(request("Connection: close", line="GET /api/jobs?limit=500 HTTP/1.1"))
        found = read_all(client)
    assert len(json.loads(found.partition("\r\n\r\n")[2])["jobs"]) == LARGE_JOBS
    assert len(found) > LARGE_JOBS * LARGE


def test_more_connections_than_there_may_be_close_the_one_that_waited_longest(server: Server):
    with ExitStack() as stack:
        waiting = [stack.enter_context(server.connect()) for _ in range(1100)]
        assert statuses(server.get()) == [200]
        until(lambda: any(_closed(client) for client in waiting[:200]), REQUEST_TIMEOUT)
        assert statuses(server.get("/api/flows")) == [200]


def _closed(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    "field",
    ["X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: localhost", "X-Forwarded-Proto: http", "Forwarded: for=_a"],
)
def test_a_request_that_a_proxy_has_passed_on_is_not_one_of_this_host(server: Server, field: str):
    def ask(*fields: str) -> list[int]:
        return statuses(server.talk(request(*fields, "Connection: close", line="GET /api/flows HTTP/1.1")))

    assert ask() == [200]
    assert ask(field) == [401]


def test_the_log_names_caller_route_and_reason_and_nothing_that_was_sent(server: Server):
    server.talk(request(f"X-A: {SECRET}\0", f"Authorization: {SECRET}"))
    body = json.dumps({"flow": SECRET, SECRET: 1, "params": {SECRET: SECRET}}).encode()
    server.talk(request(f"Content-Length: {len(body)}", f"Authorization: {SECRET}", "Connection: close", body=body))
    server.talk(request("Connection: close", line=f"GET /api/jobs?token={SECRET} HTTP/1.1"))
    server.talk(request("Connection: close", line=f"GET /api/{SECRET}?token={SECRET} HTTP/1.1"))
    lines = until(lambda: re.findall(r"refused .*", server.log.read_text()), 5)
    assert "refused a request of 127.0.0.1: 400 bad_request" in lines
    assert "refused POST /api/jobs of 127.0.0.1: 400 bad_request" in lines
    assert "refused GET /api/jobs of 127.0.0.1: 400 bad_request" in lines
    assert SECRET not in server.log.read_text()
    assert "Traceback" not in server.log.read_text()
