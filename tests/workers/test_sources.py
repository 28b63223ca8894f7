"""What is kept of sources, on a real Redis."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from datafab.catalogue.rate_limit import HostRateLimiter
from datafab.catalogue.source_state import MAX_LOOKS, Look, SourceState, url_digest
from datafab.catalogue.sources import SourceRegistry
from datafab.core.redis import connect
from datafab.settings import load
from tests.servers.redis import RedisServer

URL = "https://www.example.fr/api/1"


def look(at: float, status: str = "ok", error: str | None = None) -> Look:
    return Look(at, status, f"{at:032.0f}", error)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def sources(server: RedisServer) -> Iterator[SourceRegistry]:
    with server.client() as client:
        client.flushall()
    sources = SourceRegistry(load(redis_url=server.url), connect(load(redis_url=server.url)))
    yield sources
    sources.close()


def test_facts_are_kept_forgotten_and_counted(server: RedisServer, sources: SourceRegistry):
    name = f"datagouv:{uuid.uuid4()}"
    assert sources.state(name) == SourceState()
    facts = {"fingerprint": "f" * 32, "address": url_digest(URL), "sha256": "0" * 64, "media_type": "text/csv"}
    facts |= {"etag": '"33a64df551425fcc55e4d42a148795d9f25f89d4"', "modified": "Sat, 21 Nov 2026 05:12:00 GMT"}
    facts |= {"downloads": "d" * 32}
    assert sources.record_look(name, look(10.5), **facts)
    assert sources.state(name) == SourceState(**facts)
    with server.client() as client:
        (key,) = client.keys("*")
        assert client.memory_usage(key) < 800  # what the table of keys says, and its name
        assert client.ttl(key) > 300 * 24 * 3600
    assert sources.record_look(name, look(10.5), etag=None)
    assert sources.state(name) == SourceState(**facts | {"etag": None})
    assert sources.mark_seen(URL, [name, "datagouv:other"], 1) == {name: "f" * 32, "datagouv:other": None}
    assert sources.mark_seen(URL, [], 1) == {}


def test_the_job_that_was_made_later_knows_better(sources: SourceRegistry):
    assert sources.record_look("a", look(20.25), fingerprint="new")
    assert sources.record_look("a", look(20.0, "failed", "http_404"), fingerprint="old")
    assert sources.state("a").fingerprint == "new"
    assert sources.record_look("a", look(20.25), fingerprint="again")
    assert sources.state("a").fingerprint == "again"
    # Each look is told once, whoever knew better.
    assert sources.looks("a") == [look(20), look(20, "failed", "http_404")]
    for at in range(30, 40):
        sources.record_look("a", look(at))
    assert [each.at for each in sources.looks("a")] == [39, 38, 37, 36, 35][:MAX_LOOKS]


def test_what_pages_have_said_is_not_overruled_by_an_older_list(sources: SourceRegistry):
    names = ["page", "list", "new"]
    sources.mark_seen(URL, ["page"], 100)
    sources.mark_seen(URL, ["list"], 10)
    for name in names[:2]:
        sources.record_look(name, look(1), fingerprint="f")
    assert sources.mark_seen(URL, names, 200, unless_since=50) == {"list": "f", "new": None}
    assert sources.mark_seen(URL, names, 200, unless_since=50) == {
        "page": "f",
        "list": "f",
        "new": None,
    }  # the same pass, again
    assert sources.mark_seen(URL, names, 300, unless_since=250) == {"page": "f", "list": "f", "new": None}
    assert sources.mark_seen(URL, ["new"], 310, unless_since=250) == {"new": None}  # seen, and not yet looked at
    # What was withdrawn after the list was made is neither seen nor found.
    sources.forget("page", 320)
    sources.remove(URL, "page", 320)
    assert sources.mark_seen(URL, ["page", "new"], 330, unless_since=300) == {"new": None}
    assert sources.count_missing(URL, 1000) == 2
    assert sources.mark_seen(URL, ["page"], 330) == {"page": None}  # on a page
    assert sources.mark_seen(URL, ["page"], 330, unless_since=321) == {"page": None}


def test_a_job_made_before_its_source_was_withdrawn_knows_nothing(sources: SourceRegistry):
    sources.mark_seen(URL, ["a"], 5)
    assert sources.record_look("a", look(10), fingerprint="f", parts="one\ntwo")
    assert sources.state("a").parts == "one\ntwo"
    assert sources.forget("a", 20)
    sources.remove(URL, "a", 20)
    assert (sources.state("a"), sources.looks("a"), sources.count(URL)) == (SourceState(), [], 0)
    assert not sources.record_look("a", look(15), fingerprint="f")
    assert (sources.state("a"), sources.looks("a")) == (SourceState(), [])
    assert sources.record_look("a", look(21), fingerprint="g")  # it came back
    assert sources.state("a") == SourceState(fingerprint="g")


def test_who_withdraws_a_source_late_takes_nothing_from_a_later_job(sources: SourceRegistry):
    sources.mark_seen(URL, ["a"], 21.125)
    assert sources.record_look("a", look(21.125), fingerprint="f")
    sources.schedule_revisit("a", 99)
    assert not sources.forget("a", 20)
    sources.remove(URL, "a", 20)
    assert (sources.state("a").fingerprint, sources.count(URL), sources.next_revisit("a")) == ("f", 1, 99)
    assert sources.forget("a", 21.125)
    assert sources.forget("a", 20.5)  # of two, the later one counts
    assert not sources.record_look("a", look(21.0), fingerprint="g")
    sources.remove(URL, "a", 21.125)
    assert (sources.state("a"), sources.count(URL), sources.next_revisit("a")) == (SourceState(), 0, None)


def test_what_is_to_be_looked_at_anew_is_named_and_forgotten(sources: SourceRegistry):
    names = [f"datagouv:{number}" for number in range(1100)]
    sources.mark_seen(URL, names, 1)
    sources.mark_seen(f"{URL}/other", ["datagouv:x"], 1)
    assert set(sources.names()) == {*names, "datagouv:x"}
    assert not sources.forget_fingerprint("datagouv:1")
    sources.record_look("datagouv:1", look(1), fingerprint="f", sha256="a", downloads="d")
    assert sources.forget_fingerprint("datagouv:1")
    assert sources.state("datagouv:1") == SourceState(sha256="a")


def test_headers_too_long_to_keep_are_left_out(sources: SourceRegistry):
    assert sources.record_look("a", look(1), fingerprint="f", etag="x" * 201, modified="y" * 65)
    assert sources.state("a") == SourceState(fingerprint="f")


def test_of_too_many_parts_whole_names_are_kept(sources: SourceRegistry, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("datafab.catalogue.sources.MAX_PARTS_CHARS", 10)
    assert sources.record_look("a", look(1), parts="one\ntwo\nthree")
    assert sources.state("a").parts == "one\ntwo"


def test_many_and_very_long_sources(sources: SourceRegistry):
    names = [f"datagouv:{number}" for number in range(1201)] + ["file:" + "é" * 1000]
    for name in names[::100]:
        sources.record_look(name, look(1), fingerprint=name[-5:])
    found = sources.mark_seen(URL, names, 1)
    assert list(found) == names
    assert {name for name, value in found.items() if value} == set(names[::100])


def test_the_cursor_moves_only_forward(sources: SourceRegistry):
    assert sources.cursor(URL) is None
    assert sources.advance_cursor(URL, 20.0)
    assert not sources.advance_cursor(URL, 10.5)  # an earlier pass that ended later
    assert sources.cursor(URL) == 20.0
    assert sources.advance_cursor(URL, 20.5)
    assert (sources.cursor(URL), sources.cursor(URL + "/other")) == (20.5, None)


def test_what_was_not_seen_again_has_vanished(sources: SourceRegistry):
    names = [f"datagouv:{number}" for number in range(5)]
    sources.mark_seen(URL, names, 10.25)
    sources.mark_seen(URL, [], 11)
    sources.mark_seen(URL, names[:3], 20.5)
    sources.mark_seen(URL, names[:1], 15)  # by a pass that began earlier
    sources.mark_seen(URL + "/other", ["x"], 1)
    assert (sources.count(URL), sources.count_missing(URL, 10.25), sources.count_missing(URL, 20.5)) == (5, 0, 2)
    for name in names:
        sources.record_look(name, look(1), fingerprint="f")
    assert sources.missing(URL, 20.5, 1) == names[3:4]
    for name in sources.missing(URL, 20.5):
        sources.forget(name, 20.5)
        sources.remove(URL, name, 20.5)
    assert (sources.count(URL), sources.count_missing(URL, 20.5)) == (3, 0)
    assert [sources.state(name).fingerprint for name in names] == ["f", "f", "f", None, None]


def test_who_waits_for_links(server: RedisServer, sources: SourceRegistry):
    assert sources.waiting_jobs([]) == sources.waiting_jobs(["a", "b"]) == []
    for link, job in (("a", "one"), ("a", "two"), ("b", "two"), ("b", "two"), ("c", "three")):
        sources.add_waiting_job(link, job)
    assert sources.waiting_jobs(["a", "b"]) == ["one", "two"]
    sources.remove_waiting_job("a", "one")
    sources.remove_waiting_job("a", "two")
    sources.remove_waiting_job("x", "one")
    assert sources.waiting_jobs(["a"]) == []
    with server.client() as client:
        assert not client.exists("datafab:1:link:a")
        assert 0 < client.ttl("datafab:1:link:b") <= 24 * 3600


@pytest.fixture
def limiter(server: RedisServer) -> Iterator[HostRateLimiter]:
    with server.client() as client:
        client.flushall()
    mine = load(redis_url=server.url, catalogue_host_rate=6, catalogue_host_burst=3, catalogue_hosts_free="free.fr")
    limiter = HostRateLimiter(mine, connect(mine))
    yield limiter
    limiter.close()


def test_a_crowd_at_one_server_comes_one_after_another(limiter: HostRateLimiter):
    given = [limiter.reserve(f"https://a.fr/{number}") for number in range(6)]
    assert given[:3] == [0, 0, 0]
    assert given[3:] == [pytest.approx(seconds, abs=3) for seconds in (10, 20, 30)]
    assert given[3] < given[4] < given[5]
    assert limiter.reserve("http://A.fr./x") > 30  # the same server
    assert [limiter.reserve(url) for url in ("https://b.fr/", "https://free.fr/", "pas une adresse", "http://[x")] == [
        0.0
    ] * 4
    assert [limiter.reserve("https://free.fr/") for _ in range(9)] == [0.0] * 9
    assert limiter.reserve("https://a.fr/", urgent=True) == 0


def test_a_server_that_rests_is_left_alone_and_not_run_over_afterwards(server: RedisServer, limiter: HostRateLimiter):
    limiter.pause("https://a.fr/x", 100)
    limiter.pause("https://a.fr/y", 50)  # the longer rest counts
    assert limiter.reserve("https://a.fr/", urgent=True) == pytest.approx(100, abs=3)
    given = [limiter.reserve("https://a.fr/") for _ in range(3)]
    assert given == [pytest.approx(seconds, abs=3) for seconds in (100, 110, 120)]
    limiter.pause("https://free.fr/", 10**9)
    assert 0 < limiter.reserve("https://free.fr/") <= 24 * 3600
    with server.client() as client:
        assert all(0 < client.ttl(key) <= 26 * 3600 for key in client.keys("*"))
