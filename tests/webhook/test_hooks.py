"""What other services tell over HTTP, over a real Redis; which jobs are to look now is recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from datafab.catalogue.sources import SourceRegistry
from datafab.core.jobs import RedisJobs
from datafab.core.redis import connect
from datafab.core.services import Services
from datafab.settings import load
from tests.servers.redis import PREFIX, RedisServer
from webhook import create_app
from webhook.limits import MAX_BODY_BYTES

TOKEN = "planted-token-7d1e"  # noqa: S105
BASIC = {"Authorization": f"Basic {TOKEN}"}
PATHS = ("/hooks/link-proxy", "/linkproxypost")


def message(link: str = "aaa", number: int = 1, links: list[str] | None = None) -> dict:
    """What link-proxy sends."""
    check = {"linkId": link, "number": number, "createdAt": "2026-11-20T05:12:00.104Z", "state": "finished"}
    check |= {"updatedAt": "2026-11-20T05:13:00.104Z", "location": "http://x/", "options": {}, "statusCode": 200}
    return {"check": check, "links": [link] if links is None else links}


class Hooks:
    """An application, the jobs that it had look, and the Redis behind it."""

    def __init__(self, server: RedisServer, token: str | None) -> None:
        self.settings = load(redis_url=server.url, linkproxy_token=token)
        self.services = Services(self.settings, jobs=RedisJobs(self.settings, connect(self.settings, patience=1)))
        self.hastened: list[str] = []
        app = create_app(self.settings, self.services, lambda *_, **__: None, self._hasten)
        self.http: FlaskClient = app.test_client()

    def _hasten(self, job: str) -> int:
        self.hastened.append(job)
        return 1

    def post(self, body: object, path: str = PATHS[0], **headers: str):
        return self.http.post(path, json=body, headers=headers or BASIC)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def hooks(server: RedisServer) -> Iterator[Hooks]:
    with server.client() as client:
        client.flushall()
    hooks = Hooks(server, TOKEN)
    yield hooks
    hooks.services.close()


@pytest.mark.parametrize("path", PATHS)
def test_the_jobs_that_wait_for_any_of_its_links_look_now(hooks: Hooks, path: str):
    waiting = {"aaa": ["one"], "bbb": ["two", "three"], "other": ["four"]}
    for link, jobs in waiting.items():
        for job in jobs:
            hooks.services.get(SourceRegistry).add_waiting_job(link, job)
    answer = hooks.post(message(links=["aaa", "bbb", "unknown"]), path)
    assert (answer.status_code, answer.json["jobs"]) == (202, 3)
    assert sorted(hooks.hastened) == ["one", "three", "two"]


def test_one_that_nobody_waits_for_is_taken_and_does_nothing(hooks: Hooks):
    hooks.services.get(SourceRegistry).add_waiting_job("aaa", "one")
    hooks.services.get(SourceRegistry).remove_waiting_job("aaa", "one")
    for _ in range(2):
        answer = hooks.post(message())
        assert (answer.status_code, answer.json["jobs"]) == (202, 0)
    assert hooks.hastened == []


@pytest.mark.parametrize(
    "sent", [None, "", "Basic wrong", TOKEN, f"Basic {TOKEN}x", f"Bearer {TOKEN}", f"basic {TOKEN}", "Basic é"]
)
def test_without_the_token_nothing_is_read(hooks: Hooks, sent: str | None):
    hooks.services.get(SourceRegistry).add_waiting_job("aaa", "one")
    answer = hooks.post(message(), **({"X": ""} if sent is None else {"Authorization": sent}))
    assert (answer.status_code, answer.json["error"]["type"]) == (401, "unauthorized")
    assert TOKEN not in answer.text
    assert hooks.hastened == []


def test_where_no_token_is_set_anybody_may_send(server: RedisServer, hooks: Hooks):
    hooks.services.get(SourceRegistry).add_waiting_job("aaa", "one")
    open_ = Hooks(server, None)
    assert open_.post(message(), X="").status_code == 202
    assert open_.hastened == ["one"]
    open_.services.close()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b"\xff", None),
        (b"{}", "check"),
        (json.dumps(message(link="../x")).encode(), "check.linkId"),
        (json.dumps(message(links=["a b"])).encode(), "links.0"),
        (json.dumps(message(links=["a"] * 10_001)).encode(), "links"),
        (json.dumps(message() | {"links": "aaa"}).encode(), "links"),
        (json.dumps({"check": {"linkId": "aaa"}}).encode(), "check.number"),
    ],
)
def test_a_malformed_one_is_refused_with_its_field(hooks: Hooks, body: bytes, field: str | None):
    answer = hooks.http.post(PATHS[0], data=body, content_type="application/json", headers=BASIC)
    assert (answer.status_code, answer.json["error"]["type"]) == (400, "bad_request")
    assert answer.json["error"]["field"] == field


def test_an_oversized_one_and_one_of_another_type_are_refused(hooks: Hooks):
    large = hooks.http.post(PATHS[0], data=b" " * (MAX_BODY_BYTES + 1), content_type="application/json", headers=BASIC)
    assert (large.status_code, large.json["error"]["type"]) == (413, "request_entity_too_large")
    form = hooks.http.post(PATHS[0], data=json.dumps(message()), content_type="text/plain", headers=BASIC)
    assert form.status_code == 415


def test_what_is_new_in_a_later_link_proxy_does_no_harm(hooks: Hooks):
    hooks.services.get(SourceRegistry).add_waiting_job("aaa", "one")
    told = message() | {"new": 1}
    told["check"] |= {"state": "something", "new": {}}
    assert hooks.post(told).status_code == 202
    assert hooks.hastened == ["one"]


def test_an_entrepot_shows_the_key_that_its_job_gave_it(hooks: Hooks):
    hooks.services.secrets.put("one", {"hook_key": "planted-key-c4"})
    for job, sent in (("one", "wrong"), ("one", ""), ("one", "é"), ("other", "planted-key-c4")):
        answer = hooks.http.post(f"/hooks/entrepot/{job}", json={}, headers={"X-Datafab-Key": sent})
        assert (answer.status_code, answer.json["error"]["type"]) == (401, "unauthorized")
        assert "planted-key-c4" not in answer.text
    assert hooks.hastened == []
    for body in (b"", b"{", json.dumps({"status": "FAILURE"}).encode()):  # nothing of it is read
        answer = hooks.http.post("/hooks/entrepot/one", data=body, headers={"X-Datafab-Key": "planted-key-c4"})
        assert answer.status_code == 202
    assert hooks.hastened == ["one"] * 3


def test_without_redis_an_entrepot_is_refused_for_the_moment(tmp_path):
    with RedisServer(tmp_path) as server:
        hooks = Hooks(server, TOKEN)
        hooks.services.secrets.put("one", {"hook_key": "planted-key-c4"})
    answer = hooks.http.post("/hooks/entrepot/one", json={}, headers={"X-Datafab-Key": "planted-key-c4"})
    assert (answer.status_code, answer.json["error"]["type"]) == (503, "redis_away")
    assert answer.headers["Retry-After"]
    hooks.services.close()


def test_without_redis_it_is_refused_for_the_moment(tmp_path):
    with RedisServer(tmp_path) as server:
        hooks = Hooks(server, TOKEN)
        assert hooks.post(message()).status_code == 202
        with server.client() as client:
            assert not client.keys(f"{PREFIX}*")  # a message leaves nothing behind
    answer = hooks.post(message())
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert answer.json["error"]["type"] == "redis_away"
    hooks.services.close()
