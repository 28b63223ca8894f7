"""Every route is called as every caller: those of a role that is too low are refused, and nothing happens."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from datafab.catalogue.sources import SourceRegistry
from datafab.core.job import Job
from datafab.core.roles import Role
from datafab.core.services import Services
from datafab.core.tokens import Tokens
from datafab.errors import SettingError
from datafab.settings import load
from tests.servers.redis import RedisServer
from webhook import create_app
from webhook.access import ACCESS, Door, check_table
from webhook.caller import COOKIE
from webhook.failed_logins import MAX_ADDRESSES, PER_ADDRESS, FailedLogins

#: A caller of another host, for whom the server listens on all addresses.
ABROAD = {"SERVER_NAME": "0.0.0.0", "REMOTE_ADDR": "192.0.2.7"}  # noqa: S104 - nothing is bound
KEYS = {"linkproxy_token": "lp", "catalogue_push_key": "hydra", "ckan_urls": ("http://127.0.0.1:1",)}
#: What these answer here: nothing listens where the CKAN should.
UNAVAILABLE = {"datapusher.admin": 501, "health.ready": 503}
REFUSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}


class Caller(FlaskClient):
    """A client whose requests arrive as those of a certain caller."""

    arriving: dict[str, str]

    def open(self, *args: Any, **kwargs: Any) -> Any:
        return super().open(*args, environ_overrides=self.arriving, **kwargs)


class Site:
    """An application over a real Redis; what it enqueues is noted."""

    def __init__(self, server: RedisServer, home: Path, **changes: Any) -> None:
        self.settings = load({}, home=home, redis_url=server.url, **(KEYS | changes))
        self.services = Services(self.settings, patience=1)
        self.changes: list[str] = []
        self.callers: list[Any] = []
        self.app = create_app(self.settings, self.services, self._start, self._wake, self._retry)
        self.tokens = self.services.get(Tokens)

    def _start(self, flow: str, params: dict[str, Any], key: str | None = None, **more: Any) -> tuple[Job, bool]:
        self.changes.append(flow)
        self.callers.append(more["caller"])
        return Job(id="j", flow=flow, params=params, key=key, created=1, deadline=2), True

    def _wake(self, job: str) -> int:
        self.changes.append(f"wake {job}")
        return 1

    def _retry(self, job: str, _caller: Any) -> Job:
        self.changes.append(f"retry {job}")
        return Job(id=job, flow="collect", created=1, deadline=2)

    def client(self, token: str | None = None, **environ: str) -> FlaskClient:
        client = Caller(self.app, self.app.response_class)
        client.arriving = ABROAD | environ
        if token is not None:
            client.arriving["HTTP_AUTHORIZATION"] = f"Bearer {token}"
        return client

    def token(self, role: Role | str, name: str = "", **options: Any) -> str:
        return self.tokens.create(name or f"a-{role}", Role(role), **options)[1]


@pytest.fixture
def site(empty_redis: RedisServer, tmp_path: Path) -> Iterator[Site]:
    site = Site(empty_redis, tmp_path / "home")
    yield site
    site.services.close()


@pytest.fixture
def callers(site: Site) -> dict[str, str | None]:
    """The tokens of each kind of caller."""
    site.services.get(SourceRegistry).add_waiting_job("aaa", "one")
    found: dict[str, str | None] = {"nobody": None, "malformed": "x", **{role: site.token(role) for role in Role}}
    found["expired"] = site.token(Role.ADMIN, "expired", seconds=-1)
    found["revoked"] = site.token(Role.ADMIN, "revoked")
    site.tokens.revoke("revoked")
    return found


def routes(site: Site) -> list[tuple[str, str, str]]:
    found = [
        (rule.endpoint, method, re.sub(r"<[^>]*>", "aaa", rule.rule))
        for rule in site.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    ]
    assert len(found) > 30
    return sorted(found)


def test_every_route_is_refused_to_every_caller_of_a_lower_role(site: Site, callers: dict[str, str | None]):
    for endpoint, method, path in routes(site):
        needed = ACCESS[endpoint]
        for name, token in callers.items():
            answer = site.client(token).open(path, method=method, json={"token": "x"} if path == "/login" else {})
            what = f"{method} {path} as {name}: {answer.status_code} {answer.text[:200]}"
            assert answer.status_code < 500 or answer.status_code == UNAVAILABLE.get(endpoint), what
            if not isinstance(needed, Role):
                continue
            role = Role(name) if name in set(Role) else None
            if role is None:
                assert answer.status_code == 401 or (answer.status_code == 429 and token), what
                assert answer.status_code == 429 or answer.headers["WWW-Authenticate"].startswith("Bearer "), what
            elif not role.includes(needed):
                assert answer.status_code == 403, what
                assert f"role {needed}" in answer.json["error"]["message"], what
            else:
                assert answer.status_code not in REFUSED, what
    assert site.changes == []


def test_own_keys_are_asked_for(site: Site, callers: dict[str, str | None]):
    """A token of ours opens no route that another service has the key of."""
    for endpoint, method, path in routes(site):
        if endpoint.startswith(("hooks.", "hydra.")):
            for token in callers.values():
                assert site.client(token).open(path, method=method, json={}).status_code == 401, (method, path)
    assert site.changes == []


def test_reads_are_open_to_all_without_a_token_if_the_operator_says_so(empty_redis: RedisServer, tmp_path: Path):
    site = Site(empty_redis, tmp_path, anonymous="viewer", bind="0.0.0.0:1")
    for endpoint, method, path in routes(site):
        answer = site.client().open(path, method=method, json={})
        if ACCESS[endpoint] is Role.VIEWER:
            assert answer.status_code not in REFUSED, path
        elif isinstance(ACCESS[endpoint], Role):
            assert answer.status_code == 401, path
            assert "datafab token create" in answer.json["error"]["message"]
    assert site.client("wrong").get("/api/me").status_code == 401
    assert site.client().get("/api/me").json == {
        "name": "anonymous",
        "role": "viewer",
        "limit": None,
        "csrf_token": None,
    }
    site.services.close()


@pytest.mark.parametrize(
    ("environ", "own"),
    [
        ({}, True),
        ({"SERVER_NAME": "::1", "REMOTE_ADDR": "::1", "HTTP_HOST": "[::1]:8800"}, True),
        ({"REMOTE_ADDR": "127.9.9.9"}, True),
        ({"SERVER_NAME": "0.0.0.0"}, False),  # noqa: S104 - nothing is bound
        ({"SERVER_NAME": "::"}, False),
        ({"SERVER_NAME": "192.0.2.1"}, False),
        ({"REMOTE_ADDR": "192.0.2.7"}, False),
        ({"REMOTE_ADDR": "::ffff:192.0.2.7"}, False),
        ({"REMOTE_ADDR": ""}, False),
        ({"HTTP_HOST": "192.0.2.1:8800"}, False),
        ({"SERVER_PROTOCOL": "HTTP/1.0"}, False),
        ({"HTTP_X_FORWARDED_FOR": "127.0.0.1"}, False),
        ({"HTTP_X_FORWARDED_FOR": ""}, False),
        ({"HTTP_X_FORWARDED_HOST": "localhost"}, False),
        ({"HTTP_X_FORWARDED_PROTO": "http"}, False),
        ({"HTTP_X_REAL_IP": "127.0.0.1"}, False),
        ({"HTTP_FORWARDED": "for=127.0.0.1"}, False),
        ({"HTTP_VIA": "1.1 proxy"}, False),
    ],
    ids=str,
)
def test_only_programs_of_this_host_are_operators_without_a_token(site: Site, environ: dict[str, str], own: bool):
    client = site.client(**{"SERVER_NAME": "127.0.0.1", "REMOTE_ADDR": "127.0.0.1"} | environ)
    assert client.post("/api/check-url", json={"url": "http://x"}).status_code == (202 if own else 401)
    assert client.get("/api/tokens").status_code == (403 if own else 401)
    assert client.get("/health").status_code == 200


def test_with_the_first_token_this_host_needs_one_too(site: Site):
    own = {"SERVER_NAME": "127.0.0.1", "REMOTE_ADDR": "127.0.0.1"}
    assert site.client(**own).get("/api/me").json["name"] == "localhost"
    site.token(Role.VIEWER, "ci", seconds=-1)
    assert site.client(**own).get("/api/me").status_code == 401
    site.tokens.revoke("ci")
    assert site.client(**own).get("/api/me").status_code == 200


def test_what_withdraws_needs_an_administrator(site: Site):
    operator, admin = site.client(site.token("operator")), site.client(site.token("admin"))
    withdraw = {"flow": "withdraw", "params": {"source": "datagouv:x"}}
    answer = operator.post("/api/jobs", json=withdraw)
    assert (answer.status_code, "role admin" in answer.text) == (403, True)
    assert operator.post("/api/jobs", json={"flow": "check_url", "params": {"url": "http://x"}}).status_code == 202
    assert admin.post("/api/jobs", json=withdraw).status_code == 202
    assert site.changes == ["check_url", "withdraw"]
    assert [(caller.name, caller.role) for caller in site.callers] == [
        ("a-operator", Role.OPERATOR),
        ("a-admin", Role.ADMIN),
    ]


@pytest.mark.parametrize(
    ("flow", "params"),
    [
        ("catalogue", {"withdraw": 1}),
        ("catalogue", {"export": "http://x/empty.csv"}),
        ("catalogue", {"url": "http://x"}),
        ("source", {"catalogue": "http://x"}),
    ],
    ids=str,
)
def test_who_chooses_what_is_withdrawn_needs_an_administrator(site: Site, flow: str, params: dict[str, Any]):
    operator, admin = site.client(site.token("operator")), site.client(site.token("admin"))
    needed = {"full": True} if flow == "catalogue" else {"source": "datagouv:x", "url": "http://x"}
    job = {"flow": flow, "params": needed | params}
    assert operator.post("/api/jobs", json=job).status_code == 403
    assert admin.post("/api/jobs", json=job).status_code == 202
    assert operator.post("/api/jobs", json={"flow": flow, "params": needed}).status_code == 202


@pytest.mark.parametrize("path", ["/api/me?token={}", "/api/me?access_token=x", "/api/search?q={}", "/api/jobs/{}"])
def test_a_token_in_a_url_is_refused(site: Site, path: str):
    token = site.token("viewer")
    for client in (site.client(token), site.client()):
        answer = client.get(path.format(token))
        assert (answer.status_code, "datafab token revoke" in answer.text) == (400, True)
        assert token not in answer.text


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("{}", 401),
        ("Basic {}", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        ("Bearer {},Bearer {}", 400),
        ("Bearer {}, Basic x", 400),
        ("Bearer {} {}", 401),
        ("Bearer {}\t", 401),
        ("Bearer \xe9", 401),
        ("Bearer dfb_" + "0" * 12 + "_" + "0" * 64, 401),
        ("Bearer " + "a" * 8000, 401),
        ("bearer {}", 200),
        ("BEARER  {}", 200),
    ],
    ids=range(13),
)
def test_headers_of_odd_forms(site: Site, header: str, status: int, caplog: pytest.LogCaptureFixture):
    token = site.token("viewer")
    answer = site.client(HTTP_AUTHORIZATION=header.replace("{}", token)).get("/api/me")
    assert answer.status_code == status
    assert token not in answer.text + caplog.text


def test_failures_are_logged_by_address_and_token_but_never_its_secret(site: Site, caplog: pytest.LogCaptureFixture):
    viewer, old = site.token("viewer"), site.token("admin", "old", seconds=-1)
    wrong = viewer[:-4] + "0000"
    with caplog.at_level(logging.WARNING):
        for token in (wrong, old, viewer):
            site.client(token, HTTP_X_FORWARDED_FOR="198.51.100.1\r\nforged").post("/api/jobs", json={})
        site.client(wrong).get("/api/jobs/a%0Alogin%20failed")
    *lines, forged = [record.getMessage() for record in caplog.records if "forwarded for" in record.getMessage()]
    assert "\n" not in forged
    expected = ("unknown_token", "expired_token", "role operator")
    assert all(word in line and "192.0.2.7" in line for word, line in zip(expected, lines, strict=True))
    assert wrong.split("_")[1] in lines[0]
    assert " old" in lines[1]
    assert "a-viewer" in lines[2]
    assert not any(token[17:] in caplog.text for token in (viewer, old, wrong))
    assert not any("\n" in line for line in lines)


def test_many_wrong_tokens_cost_little_and_lock_nobody_out(site: Site, caplog: pytest.LogCaptureFixture):
    token = site.token("viewer")
    right = site.client(token, REMOTE_ADDR="192.0.2.1")
    statuses = []
    for number in range(300):
        wrong = site.client(f"dfb_{token[4:16]}_{number:064x}", REMOTE_ADDR=f"192.0.2.{number % 3}")
        statuses.append(wrong.get("/api/me").status_code)
        if number % 30 == 0:
            assert right.get("/api/me").status_code == 200
    assert set(statuses) == {401, 429}
    logged = [record for record in caplog.records if "login failed" in record.getMessage()]
    assert len(logged) == statuses.count(401)
    # Nobody can fill the log.
    assert not any("429" in record.getMessage() for record in caplog.records)
    assert statuses[:10] == [401] * 10
    late = site.client("dfb_" + "0" * 12 + "_" + "0" * 64, REMOTE_ADDR="192.0.2.1").get("/api/me")
    assert late.status_code == 401 or int(late.headers["Retry-After"]) > 0


def test_the_budget_of_failed_logins_is_bounded_and_refills():
    now = 0.0
    logins = FailedLogins(lambda: now)
    assert [logins.count("192.0.2.7") > 0 for _ in range(PER_ADDRESS + 2)] == [False] * PER_ADDRESS + [True, True]
    assert logins.count("192.0.2.8") == 0
    now = 60.0
    assert logins.count("192.0.2.7") == 0
    assert [logins.count(f"2001:db8::{one:x}") > 0 for one in range(PER_ADDRESS + 1)][-1], "a /64 counts as one"
    for number in range(3 * MAX_ADDRESSES):
        logins.count(f"10.0.{number // 256}.{number % 256}")
    assert len(logins) == MAX_ADDRESSES
    assert logins.count("198.51.100.1") > 0, "the budget of all addresses is spent"


def log_in(site: Site, role: str = "operator", **options: Any) -> tuple[FlaskClient, Any, Any]:
    token, client = site.token(role), site.client()
    sent = options.pop("send", lambda token: {"json": {"token": token}})(token)
    answer = client.post("/login", **sent, **options)
    return client, answer, token


@pytest.mark.parametrize(
    "send", [lambda token: {"json": {"token": token}}, lambda token: {"data": {"token": token}}], ids=["json", "form"]
)
def test_a_session_does_what_its_token_may_and_changes_need_the_csrf_token(site: Site, send: Any):
    client, answer, token = log_in(site, send=send)
    assert (answer.status_code, answer.json["role"], answer.json["name"]) == (200, "operator", "a-operator")
    cookie = answer.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert token not in cookie + answer.text
    csrf = answer.json["csrf_token"]
    assert client.get("/api/me").json["csrf_token"] == csrf
    body = {"url": "http://x"}
    for wrong in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": csrf[:-1]}, {"X-CSRF-Token": "\xe9"}):
        assert client.post("/api/check-url", json=body, headers=wrong).status_code == 403
    assert site.changes == []
    assert client.post("/api/check-url", json=body, headers={"X-CSRF-Token": csrf}).status_code == 202
    assert client.get("/api/tokens").status_code == 403
    assert client.post("/logout", data={"csrf_token": "x"}).status_code == 403
    kept = client.get_cookie(COOKIE).value
    assert client.post("/logout", data={"csrf_token": csrf}).status_code == 200
    assert client.get_cookie(COOKIE) is None
    client.set_cookie(COOKIE, kept)
    assert client.get("/api/me").status_code == 401, "a session that was ended stays ended"


def test_a_session_ends_with_its_token(site: Site):
    client, _, _ = log_in(site)
    assert client.get("/api/jobs").status_code == 200
    site.tokens.revoke("a-operator")
    assert client.get("/api/jobs").status_code == 401
    client.set_cookie(COOKIE, "x" * 64)
    assert client.get("/api/jobs").status_code == 401


def test_a_cookie_is_for_https_where_the_public_url_is(empty_redis: RedisServer, tmp_path: Path):
    site = Site(empty_redis, tmp_path, public_url="https://data.example.org")
    _, answer, _ = log_in(site)
    assert "Secure" in answer.headers["Set-Cookie"].split("; ")
    site.services.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"json": {"token": "x"}}, 401),
        ({"json": {}}, 400),
        ({"json": {"token": 1}}, 400),
        ({"json": {"token": "x", "more": 1}}, 400),
        ({"data": {}}, 415),
        ({"data": {"token": ""}}, 400),
        ({"data": b"token", "content_type": "text/plain"}, 415),
        ({"json": {"token": "x"}, "query_string": {"token": "x"}}, 400),
        ({"json": {"token": "x" * 100_000}}, 400),
    ],
    ids=range(9),
)
def test_a_login_without_a_valid_token_opens_nothing(site: Site, sent: dict[str, Any], status: int):
    site.token("admin")
    answer = site.client().post("/login", **sent)
    assert (answer.status_code, "Set-Cookie" in answer.headers) == (status, False)


def test_administrators_manage_tokens(site: Site):
    admin = site.client(site.token("admin"))
    made = admin.post("/api/tokens", json={"name": "ci", "role": "operator", "expires": "90d", "limit": 2})
    assert made.status_code == 201
    assert made.json["expires"] == made.json["created"] + 90 * 86400
    assert site.client(made.json["token"]).get("/api/me").json | {"csrf_token": None} == {
        "name": "ci", "role": "operator", "limit": 2, "csrf_token": None
    }  # fmt: skip
    listed = admin.get("/api/tokens")
    assert [token["name"] for token in listed.json["tokens"]] == ["a-admin", "ci"]
    assert made.json["token"].rpartition("_")[2] not in listed.text
    for wrong in (
        {"name": "ci", "role": "viewer"}, {"name": "a b", "role": "viewer"}, {"name": "x", "role": "root"},
        {"name": "x"}, {"name": "x", "role": "viewer", "expires": "soon"}, {"name": "x", "role": "viewer", "limit": 0},
    ):  # fmt: skip
        assert admin.post("/api/tokens", json=wrong).status_code == 400, wrong
    assert admin.delete("/api/tokens/ci").status_code == 200
    assert admin.delete("/api/tokens/ci").status_code == 404
    assert site.client(made.json["token"]).get("/api/me").status_code == 401


def test_services_of_other_hosts_need_a_key_that_is_set(empty_redis: RedisServer, tmp_path: Path):
    site = Site(empty_redis, tmp_path, linkproxy_token=None, catalogue_push_key=None, ckan_urls=())
    here = site.client(SERVER_NAME="127.0.0.1", REMOTE_ADDR="127.0.0.1")
    for path, setting in (
        ("/hooks/link-proxy", "DATAFAB_LINKPROXY_TOKEN"),
        ("/linkproxypost", "DATAFAB_LINKPROXY_TOKEN"),
        ("/datapusher/job", "DATAFAB_CKAN_URLS"),
        ("/datapusher/job/", "DATAFAB_CKAN_URLS"),
        ("/hydra/api/resources", "DATAFAB_CATALOGUE_PUSH_KEY"),
    ):
        answer = site.client().post(path, json={})
        assert answer.status_code in REFUSED, path
        assert setting in answer.text, path
        if "hydra" not in path:
            assert here.post(path, json={}).status_code not in REFUSED, path
    assert site.client().get("/datapusher/status").status_code == 403
    site.services.close()


def test_a_route_without_a_stated_role_keeps_the_webhook_from_starting(site: Site):
    site.app.add_url_rule("/new", "api.new", lambda: "")
    with pytest.raises(SettingError, match=r"api\.new"):
        check_table(site.app)
    assert ACCESS.keys() == {rule.endpoint for rule in site.app.url_map.iter_rules()} - {"api.new"}
    assert {access for access in ACCESS.values() if not isinstance(access, Role)} == set(Door)


@pytest.mark.parametrize("bind", ["0.0.0.0:8800", "[::]:8800", "192.0.2.1:8800", "example.org:8800"])
def test_a_webhook_for_other_hosts_does_not_start_without_a_token(site: Site, bind: str):
    exposed = load({}, redis_url=site.settings.redis_url, home=site.settings.home, bind=bind)
    with pytest.raises(SettingError, match="datafab token create NAME --role admin"):
        create_app(exposed, start=site._start)
    site.token("viewer")
    create_app(exposed, start=site._start).extensions["datafab"].services.close()


def test_the_description_states_what_each_route_needs(site: Site):
    paths = site.client().get("/openapi.json").json["paths"]
    assert paths["/api/jobs"]["get"]["x-role"] == "viewer"
    assert paths["/api/jobs"]["post"]["x-role"] == "operator"
    assert paths["/api/tokens"]["get"]["x-role"] == "admin"
    assert paths["/api/jobs"]["get"]["security"] == [{"token": []}, {"session": []}]
    assert paths["/health"]["get"]["security"] == []
    assert paths["/hydra/api/resources"]["post"]["security"] == [{"hydra": []}]
    assert all("security" in told for path in paths.values() for told in path.values())
