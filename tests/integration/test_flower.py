"""Flower as ``python -m workers.flower`` runs it, on a real Redis: every route asks for the login, and its own name."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
import requests
from flower.urls import handlers

from datafab.embedded import flower_login, free_port
from datafab.errors import SettingError
from datafab.settings import child_environment, load
from tests.servers.celery import until
from tests.servers.redis import RedisServer
from workers.flower import PAGE_HEADERS

LOGIN = ("operator", "of these tests")
#: Paths that a browser may have without the login: they show nothing of the cluster.
OPEN = {r"/healthcheck", r"/static/(.*)", r"/login/?", r"/logout"}


@pytest.fixture(scope="module")
def flower(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Flower; gives its root."""
    home, port = tmp_path_factory.mktemp("flower"), free_port()
    command = (sys.executable, "-m", "workers.flower", "--address=127.0.0.1", f"--port={port}", "--inspect_timeout=100")
    with RedisServer(home) as server:
        settings = load({}, home=home, redis_url=server.url, public_url="https://flower.example.org,monitor")
        # Somebody's own environment does not open the API.
        access = {"FLOWER_BASIC_AUTH": ":".join(LOGIN), "FLOWER_UNAUTHENTICATED_API": "true"}
        with subprocess.Popen(command, env=child_environment(settings) | access) as process:
            try:
                root = f"http://127.0.0.1:{port}"
                until(lambda: answers(root), 60)
                yield root
            finally:
                process.terminate()


def answers(root: str) -> bool:
    try:
        return requests.get(root + "/healthcheck", timeout=20).status_code == 200
    except requests.ConnectionError:
        return False


def routes() -> list[str]:
    """Return Flower's own list of routes as patterns."""
    found = [rule.regex.pattern.rstrip("$") if hasattr(rule, "regex") else rule[0] for rule in handlers]
    return sorted(set(found) - {".*"})


@pytest.mark.parametrize("route", sorted(set(routes()) - OPEN))
def test_every_route_of_flower_asks_for_the_login(flower: str, route: str):
    path = route.replace("(.+)", "cpu@host").replace("(.*)", "id")
    for method in ("GET", "POST"):
        for auth in (None, ("operator", "another")):
            answer = requests.request(method, flower + path, auth=auth, timeout=20)
            # 405: this route has no such method, for anybody.
            assert answer.status_code in {401, 405}, (method, path)
            assert "Access-Control-Allow-Origin" not in answer.headers
    assert 401 in {requests.request(method, flower + path, timeout=20).status_code for method in ("GET", "POST")}


@pytest.mark.parametrize("route", routes())
@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:5555", "monitor.evil.example", "localhost.x", ""]
)
def test_no_route_answers_to_a_foreign_name(flower: str, route: str, host: str):
    path = route.replace("(.+)", "cpu@host").replace("(.*)", "js/flower.js").replace("/?", "")
    for method in ("GET", "POST", "OPTIONS"):
        answer = requests.request(method, flower + path, auth=LOGIN, headers={"Host": host}, timeout=20)
        assert answer.status_code in {400, 403}, (method, path)
        assert "celery" not in answer.text.lower()


@pytest.mark.parametrize("host", ["localhost:5555", "127.0.0.1:5555", "[::1]:5555", "flower.example.org", "MONITOR:80"])
def test_its_own_names_are_answered(flower: str, host: str):
    assert requests.get(flower + "/workers", auth=LOGIN, headers={"Host": host}, timeout=20).status_code == 200


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://evil.example"}]
)
def test_a_browser_that_knows_the_login_does_not_lend_it_to_another_site(flower: str, headers: dict[str, str]):
    shrink = f"{flower}/api/worker/pool/shrink/cpu@host"
    assert requests.post(shrink, auth=LOGIN, headers=headers, timeout=20).status_code == 403
    # There is no such worker; but this request was let in.
    assert requests.post(shrink, auth=LOGIN, timeout=20).status_code == 404


@pytest.mark.parametrize(
    ("path", "login"),
    [
        ("/workers", LOGIN),
        ("/workers", None),
        ("/healthcheck", None),
        ("/metrics", LOGIN),
        ("/static/js/flower.js", None),
        ("/nothing", LOGIN),
        ("/api/workers", None),
    ],
)
def test_no_page_may_embed_it_and_no_answer_says_its_version(flower: str, path: str, login: tuple[str, str] | None):
    headers = requests.get(flower + path, auth=login, timeout=20).headers
    assert headers.items() >= PAGE_HEADERS.items()
    assert "Server" not in headers
    assert ("no-store" in headers.get("Cache-Control", "")) == (not path.startswith("/static"))
    foreign = requests.get(flower + path, headers={"Host": "evil.example"}, timeout=20)
    assert foreign.status_code == 403
    assert foreign.headers["X-Frame-Options"] == "DENY"


def test_the_scripts_within_its_pages_are_those_that_may_run(flower: str):
    policy = PAGE_HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy.partition("script-src")[2].partition(";")[0]
    for path in ("/workers", "/tasks", "/broker", "/worker/cpu@host"):
        page = requests.get(flower + path, auth=LOGIN, timeout=20).text
        for script in re.findall(r"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", page, re.DOTALL):
            assert f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" in policy, (path, script)
        assert not re.findall(r"<[^>]+\son\w+=|javascript:", page), path


@pytest.mark.parametrize("line", ["TRACE /workers", "CONNECT x:1", "GET http://evil/healthcheck", "PUT /workers"])
@pytest.mark.parametrize("more", ["", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "Content-Length: -1\r\n"])
def test_odd_requests_end_without_an_effect(flower: str, line: str, more: str):
    hidden = "GET /healthcheck HTTP/1.1\r\nHost: localhost\r\n\r\n"
    port = int(flower.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(f"{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n{hidden}".encode())
        answer = b""
        while data := client.recv(65536):
            answer += data
    status = int(answer.split()[1]) if answer else 400
    assert 400 <= status < 500 or (status == 200 and line.endswith("/healthcheck") and not more)
    assert answer.count(b"HTTP/1.1 ") <= 1


@pytest.mark.parametrize("path", ["/workers", "/api/jobs", "/api/task/events/task-sent/", "/update-workers"])
def test_a_page_of_others_gets_no_socket(flower: str, path: str):
    socket_key = {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "YWJjZGVmZ2hpamtsbW5vcA=="}
    asked = {"Connection": "Upgrade", "Upgrade": "websocket", "Origin": "http://evil.example"} | socket_key
    assert requests.get(flower + path, auth=LOGIN, headers=asked, timeout=20).status_code != 101


def test_without_a_login_it_does_not_start(tmp_path: Path):
    environment = child_environment(load({}, home=tmp_path, redis_url="redis://127.0.0.1:1"))
    command = (sys.executable, "-m", "workers.flower", f"--port={free_port()}")
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert "set FLOWER_BASIC_AUTH=user:password" in ended.stderr


def test_the_password_of_a_home_is_made_once_for_its_owner_alone(tmp_path: Path):
    login, file = flower_login(tmp_path), tmp_path / "flower.password"
    assert flower_login(tmp_path) == login
    assert file.stat().st_mode & 0o777 == 0o600
    assert login == f"datafab:{file.read_text().strip()}"
    assert len(login) > 32
    file.chmod(0o640)  # others may have read it
    assert flower_login(tmp_path) != login
    assert file.stat().st_mode & 0o777 == 0o600
    file.unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("known")
    file.symlink_to(elsewhere)
    with pytest.raises(SettingError, match=r"flower\.password"):
        flower_login(tmp_path)
