"""Host names of others, and pages of others, are refused by every route of the webhook."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from datafab.core.hosts_allowed import PublicHosts, is_host_allowed
from datafab.errors import SettingError
from datafab.settings import load
from tests.servers.redis import RedisServer
from webhook import create_app
from webhook.openapi import described_routes

PUBLIC = "https://data.example.org:8443/datafab, webhook"
FOREIGN = [
    "evil.example", "evil.example:8800", "localhost.evil.example", "127.0.0.1.evil.example", "data.example.org.evil",
    "2130706433", "0x7f.1", "webhook.evil", "evil@127.0.0.1", "127.0.0.1, evil.example", "[::1", "a b", "", "x/y",
]  # fmt: skip
OWN = ["localhost", "localhost:8800", "LOCALHOST", "127.0.0.1:8800", "[::1]:8800", "192.0.2.7", "webhook:8800"]


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory, shared_redis: RedisServer) -> Iterator[FlaskClient]:
    home: Path = tmp_path_factory.mktemp("home")
    settings = load({}, home=home, redis_url=shared_redis.url, public_url=PUBLIC)
    app = create_app(settings, start=lambda *_, **__: pytest.fail("a job was enqueued"))
    yield app.test_client()
    app.extensions["datafab"].services.close()


def routes() -> list[tuple[str, str]]:
    app = create_app(load({}, redis_url="redis://127.0.0.1:1/0"), start=lambda *_, **__: None)
    return sorted((rule.rule, method) for rule, method in described_routes(app))


@pytest.mark.parametrize(("rule", "method"), routes())
def test_every_route_refuses_a_foreign_host(http: FlaskClient, rule: str, method: str):
    path = rule.replace("<", "").replace(">", "")
    for host in FOREIGN:
        answer = http.open(path, method=method, headers={"Host": host})
        assert answer.status_code == 403, host
        assert "DATAFAB_PUBLIC_URL" in answer.text


@pytest.mark.parametrize("host", [*OWN, "data.example.org", "data.example.org:8443"])
def test_its_own_names_are_answered(http: FlaskClient, host: str):
    assert http.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(("rule", "method"), [route for route in routes() if route[1] not in {"GET", "HEAD"}])
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Origin": "https://data.example.org"},
    ],
    ids=str,
)
def test_every_change_is_refused_to_a_page_of_others(
    http: FlaskClient, rule: str, method: str, headers: dict[str, str]
):
    path = rule.replace("<", "").replace(">", "")
    answer = http.open(path, method=method, headers={"Host": "localhost"} | headers)
    assert answer.status_code == 403
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:8800"},
        {"Origin": "http://localhost:8800"},
        {"Origin": "https://data.example.org:8443"},
    ],
    ids=str,
)
def test_programs_and_its_own_pages_are_let_in(http: FlaskClient, headers: dict[str, str]):
    answer = http.post("/api/jobs", json={}, headers={"Host": "localhost:8800"} | headers)
    assert answer.status_code == 400


def test_no_page_may_embed_an_answer(http: FlaskClient):
    headers = http.get("/health").headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("setting", "root", "names"),
    [
        (None, None, set()),
        ("", None, set()),
        ("webhook", None, {"webhook"}),
        ("webhook,", None, {"webhook"}),
        (PUBLIC, "https://data.example.org:8443/datafab", {"data.example.org", "webhook"}),
        ("http://a.example/, https://B.example", "http://a.example", {"a.example", "b.example"}),
    ],
)
def test_the_setting_names_hosts_and_the_root_for_callbacks(setting: str | None, root: str | None, names: set[str]):
    public = PublicHosts.of(load({}, public_url=setting).public_url)
    assert (public.root, public.names) == (root, names)


@pytest.mark.parametrize(
    "setting", ["ftp://x", "https://", "https://user:pw@x", "https://x?y", "a b", "*", "https://x#y"]
)
def test_a_setting_that_is_none_is_refused(setting: str):
    with pytest.raises(SettingError, match="DATAFAB_PUBLIC_URL"):
        load({}, public_url=setting)


@given(host=st.text(max_size=40) | st.from_regex(r"[a-z0-9.:\[\]-]{1,30}", fullmatch=True))
def test_only_addresses_localhost_and_the_given_names_are_answered(host: str):
    known: Any = is_host_allowed(host, {"webhook"})
    assert not known or host.lower().startswith(("localhost", "webhook", "[")) or host[0].isdigit()
