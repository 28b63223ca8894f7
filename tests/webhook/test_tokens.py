"""Tokens and sessions in a real Redis, whose clock decides."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from datafab.core.redis import connect
from datafab.core.roles import Role
from datafab.core.sessions import Sessions, csrf_token
from datafab.core.tokens import BadToken, Tokens, duration_seconds
from datafab.errors import FlowError, NotFound
from datafab.settings import load
from tests.servers.celery import until
from tests.servers.redis import RedisServer


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with (
        RedisServer(tmp_path_factory.mktemp("redis")) as server,
        connect(load({}, redis_url=server.url), patience=5) as client,
    ):
        yield client


@pytest.fixture
def tokens(client: Any) -> Tokens:
    client.flushall()
    return Tokens(client)


def code_of(tokens: Tokens, text: str) -> str:
    with pytest.raises(BadToken) as refused:
        tokens.verify(text)
    return refused.value.code


def test_a_role_may_do_what_the_one_before_it_may():
    assert all(more.includes(less) and not less.includes(more) for less, more in pairwise(Role))
    assert all(role.includes(role) for role in Role)


def test_a_token_is_known_by_its_text_and_its_text_is_kept_nowhere(tokens: Tokens, client: Any):
    assert not tokens.exist()
    token, text = tokens.create("ci", Role.OPERATOR, seconds=3600, limit=3)
    assert re.fullmatch(r"dfb_[0-9a-f]{12}_[0-9a-f]{64}", text)
    found = tokens.verify(text)
    assert (found.caller.name, found.caller.role, found.caller.limit) == ("ci", Role.OPERATOR, 3)
    assert found.expires == token.created + 3600
    assert tokens.exist()
    kept = [client.hgetall(key) for key in client.keys("*")]
    assert text.rpartition("_")[2] not in str(kept)
    assert token.id in str(kept)


def test_what_is_not_a_whole_token_is_malformed(tokens: Tokens):
    _, text = tokens.create("ci", Role.ADMIN)
    wrong = ["", text[4:], text.upper(), text + "0", text[:-1], f"{text}\n", f" {text}", text.replace("_", "-")]
    wrong += [f"{text},Bearer {text}", "dfb_" + "\xe9" * 12 + text[16:], text[:17] + "\u0661" * 64]
    assert {code_of(tokens, one) for one in wrong} == {"malformed_token"}


def test_wrong_secrets_and_unknown_ids_are_refused_alike(tokens: Tokens):
    token, text = tokens.create("ci", Role.ADMIN)
    _, other = tokens.create("other", Role.ADMIN)
    wrong = [
        text[:-1] + ("0" if text[-1] != "0" else "1"),
        f"dfb_{token.id}_{other[17:]}",
        f"dfb_{'0' * 12}_{text[17:]}",
    ]
    refusals = []
    for one in wrong:
        with pytest.raises(BadToken) as refused:
            tokens.verify(one)
        refusals.append((refused.value.code, refused.value.message))
        assert one.rpartition("_")[2] not in refused.value.message
    assert set(refusals) == {refusals[0]}
    assert refusals[0][0] == "unknown_token"


def test_a_revoked_token_is_unknown_and_its_name_is_free(tokens: Tokens, client: Any):
    first, text = tokens.create("ci", Role.VIEWER)
    tokens.verify(text)
    assert tokens.revoke("ci").id == first.id
    assert code_of(tokens, text) == "unknown_token"
    assert client.keys("*") == []
    second, _ = tokens.create("ci", Role.ADMIN)
    assert tokens.revoke(second.id) == second
    with pytest.raises(NotFound, match="datafab token list"):
        tokens.revoke("ci")


def test_expiry_is_by_the_clock_of_redis(tokens: Tokens, monkeypatch: pytest.MonkeyPatch):
    _, text = tokens.create("ci", Role.VIEWER, seconds=1)
    _, valid = tokens.create("year", Role.VIEWER, seconds=3600)
    until(lambda: time.time() >= tokens.all()[0].expires, 5)
    until(lambda: code_of(tokens, text) == "expired_token", 5)
    now = time.time()
    # A host whose clock is a day off in either direction decides the same.
    for clock in (now - 86400, now + 86400):
        monkeypatch.setattr(time, "time", lambda clock=clock: clock)
        assert code_of(tokens, text) == "expired_token"
        assert tokens.verify(valid).name == "year"
    assert tokens.exist(), "an expired token still counts: otherwise the doors would open by themselves"
    tokens.revoke("year")
    assert [token.name for token in tokens.all()] == ["ci"]


def test_the_last_use_is_kept_coarsely(tokens: Tokens, client: Any):
    token, text = tokens.create("ci", Role.VIEWER)
    assert tokens.all()[0].last_used is None
    first = tokens.verify(text).last_used
    assert first is not None
    assert tokens.verify(text).last_used == tokens.all()[0].last_used == pytest.approx(first)
    client.hset(client.prefix + "token_used", token.id, first - 3600)
    assert tokens.verify(text).last_used > first - 3600


@pytest.mark.parametrize(
    "name", ["", "a" * 65, "-a", "a b", "é", "a\n", "0123456789ab", "localhost", "anonymous", "a/b", "a,b"]
)
def test_names_that_cannot_be_told_apart_are_refused(tokens: Tokens, name: str):
    with pytest.raises(FlowError) as refused:
        tokens.create(name, Role.VIEWER)
    assert refused.value.field == "name"
    assert tokens.all() == []


def test_a_name_is_taken_once_and_a_limit_is_positive(tokens: Tokens):
    tokens.create("a.b_c@d-e", Role.VIEWER)
    with pytest.raises(FlowError, match=r"datafab token revoke a\.b_c@d-e"):
        tokens.create("a.b_c@d-e", Role.ADMIN)
    with pytest.raises(FlowError, match="limit"):
        tokens.create("b", Role.VIEWER, limit=0)
    assert [token.role for token in tokens.all()] == [Role.VIEWER]


@pytest.mark.parametrize(("text", "seconds"), [("12h", 43200), ("90d", 7776000), ("52w", 31449600)])
def test_durations(text: str, seconds: int):
    assert duration_seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0d", "-1d", "90", "d", "1.5d", "90D", " 90d", "1y", "999999d", "\u0661d", "90d\n"]
)
def test_other_durations_are_refused(text: str):
    with pytest.raises(FlowError) as refused:
        duration_seconds(text)
    assert refused.value.field == "expires"


def test_a_session_stands_for_its_token_and_ends_with_it(tokens: Tokens, client: Any):
    sessions = Sessions(client, tokens)
    token, _ = tokens.create("ci", Role.OPERATOR, seconds=3600)
    cookie, seconds = sessions.open(token)
    assert 0 < seconds <= 3600
    assert sessions.verify(cookie).id == token.id
    keys = client.keys("*session*")
    assert 0 < client.ttl(keys[0]) <= 3600
    assert cookie not in str(keys)
    other, _ = sessions.open(token)
    assert csrf_token(cookie) != csrf_token(other)
    sessions.end(cookie)
    with pytest.raises(BadToken, match="log in again"):
        sessions.verify(cookie)
    tokens.revoke("ci")
    with pytest.raises(BadToken, match="revoked"):
        sessions.verify(other)
