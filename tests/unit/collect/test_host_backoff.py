"""A server that does not answer costs a few timeouts, not one for each of its endpoints."""

from __future__ import annotations

import json
import time

import pytest

from datafab.collect.host_backoff import MAX_SILENCES, HostBackoff
from datafab.core.item import Status
from datafab.errors import Wait
from tests.servers.http import Answer, Site
from tests.unit.collect.test_stages import CSV, Collection, row


def noted(*codes: str | None, url: str = "http://host:80/x", notes: dict | None = None) -> HostBackoff:
    hosts = HostBackoff({} if notes is None else notes, 30)
    for code in codes:
        hosts.note(url, code, 100)
    return hosts


@pytest.mark.parametrize(
    ("codes", "rests"),
    [
        ((), False),
        (("timeout",) * (MAX_SILENCES - 1), False),
        (("timeout", "dns", "connection_refused"), True),
        (("timeout", "timeout", None, "timeout"), False),
        (("timeout", "timeout", "http_500", "timeout"), False),
        (("http_500",) * 9, False),
        (("tls",) * 9, False),
    ],
)
def test_a_server_rests_after_silences_in_a_row(codes, rests):
    assert noted(*codes).pause("http://host:80/other", 110) == ((20, False) if rests else None)


def test_servers_are_told_apart_and_users_are_not():
    hosts = noted(*("timeout",) * MAX_SILENCES, url="http://a@host:80/x")
    assert hosts.pause("http://b:c@HOST:80/y", 100)
    assert not hosts.pause("http://host:81/x", 100)


def test_the_next_attempt_knows_who_rests_and_all_are_tried_again_together():
    notes: dict = {}
    noted(*("timeout",) * MAX_SILENCES, notes=notes)

    def later() -> HostBackoff:
        return HostBackoff(notes, 30)

    assert later().pause("http://host:80/x", 129) == (1, False)
    for _ in range(MAX_SILENCES):  # it takes as many again, in however many attempts
        assert later().pause("http://host:80/x", 130) is None
        later().note("http://host:80/x", "timeout", 130)
    notes = json.loads(json.dumps(notes))
    assert later().pause("http://host:80/x", 130) == (30, False)
    later().note("http://host:80/x", None, 160)
    assert notes == {"hosts": {}}


@pytest.fixture
def collection(tmp_path) -> Collection:
    collection = Collection(tmp_path)
    collection.settings = collection.settings.model_copy(update={"per_host": 1})
    return collection


def test_a_dead_server_is_asked_for_a_few_only(collection):
    """It rests for longer than any machine takes for the others of its batch."""
    collection.settings = collection.settings.model_copy(update={"retry_delay": 100})
    with Site(router=lambda *_: Answer(fault="hang-up")) as dead:
        urls = [dead.url(f"/{n}") for n in range(40)]
        with pytest.raises(Wait) as caught:
            collection.run(*map(row, urls))
        assert dead.hits.total() == MAX_SILENCES
    assert caught.value.delay > 60
    reasons = [collection.log(url)["reason"] for url in urls]
    assert reasons == ["disconnected"] * MAX_SILENCES + ["host_rests"] * (len(urls) - MAX_SILENCES)


def test_a_dead_server_fails_each_of_its_endpoints_with_a_log_and_no_other(collection):
    with (
        Site(router=lambda *_: Answer(fault="hang-up")) as dead,
        Site({"/a.csv": Answer(CSV)}) as alive,
    ):
        urls = [dead.url(f"/{n}") for n in range(40)]
        *failed, good = collection.run(*map(row, urls), row(alive.url("/a.csv")))
    assert good.status is Status.OK
    assert {item.status for item in failed} == {Status.FAILED}
    for url, item in zip(urls, failed, strict=True):
        assert collection.log(url)["exception"] == "ConnectionError"
        assert item.error.type in {"host_rests", "disconnected"}


def test_a_server_that_comes_back_gives_all(collection):
    asked: list[str] = []

    def route(path: str, _: dict[str, str]) -> Answer:
        asked.append(path)
        return Answer(fault="hang-up") if len(asked) <= MAX_SILENCES else Answer(CSV + path.encode())

    with Site(router=route) as site:
        items = collection.run(*(row(site.url(f"/{n}")) for n in range(20)))
    assert {item.status for item in items} == {Status.OK}
    assert len(asked) == 20 + MAX_SILENCES


def test_a_server_that_wants_a_break_gets_it_from_all_of_the_batch(collection):
    """A rate limit costs nothing but time: whatever its endpoint, nobody asks before the break is over."""
    asked: list[float] = []

    def route(path: str, _: dict[str, str]) -> Answer:
        asked.append(time.monotonic())
        if len(asked) % 5 == 0:
            return Answer(status=429, headers={"Retry-After": "1"})
        return Answer(CSV + path.encode())

    with Site(router=route) as site:
        items = collection.run(*(row(site.url(f"/{n}")) for n in range(12)))
    assert {item.status for item in items} == {Status.OK}
    assert len(asked) == 14
    assert min(asked[n + 1] - asked[n] for n in (4, 9)) > 0.8


def test_a_break_that_is_too_long_is_a_failure_of_all_with_a_log_each(collection):
    with Site(router=lambda *_: Answer(status=503, headers={"Retry-After": "86400"})) as site:
        urls = [site.url(f"/{n}") for n in range(8)]
        items = collection.run(*map(row, urls))
        hits = site.hits.total()
    assert {item.status for item in items} == {Status.FAILED}
    assert hits == 1
    assert "its server asked for a pause" in items[-1].error.message
    assert [collection.log(url).get("status") for url in urls] == ["503", *[None] * 7]
