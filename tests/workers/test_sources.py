"""What is kept of sources, on a real Redis."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from datafab.catalogue.rate_limit import Turns
from datafab.catalogue.sources import LOOKS, Facts, Look, Sources, address
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
def sources(server: RedisServer) -> Iterator[Sources]:
    with server.client() as client:
        client.flushall()
    sources = Sources(load(redis_url=server.url), connect(server.url))
    yield sources
    sources.close()


def test_facts_are_kept_forgotten_and_counted(server: RedisServer, sources: Sources):
    name = f"datagouv:{uuid.uuid4()}"
    assert sources.facts(name) == Facts()
    facts = {"fingerprint": "f" * 32, "address": address(URL), "sha256": "0" * 64, "media_type": "text/csv"}
    facts |= {"etag": '"33a64df551425fcc55e4d42a148795d9f25f89d4"', "modified": "Sat, 21 Nov 2026 05:12:00 GMT"}
    facts |= {"downloads": "d" * 32}
    assert sources.remember(name, look(10.5), **facts)
    assert sources.facts(name) == Facts(**facts)
    with server.client() as client:
        (key,) = client.keys("*")
        assert client.memory_usage(key) < 800  # what the table of keys says, and its name
        assert client.ttl(key) > 300 * 24 * 3600
    assert sources.remember(name, look(10.5), etag=None)
    assert sources.facts(name) == Facts(**facts | {"etag": None})
    assert sources.saw(URL, [name, "datagouv:other"], 1) == {name: "f" * 32, "datagouv:other": None}
    assert sources.saw(URL, [], 1) == {}


def test_the_job_that_was_made_later_knows_better(sources: Sources):
    assert sources.remember("a", look(20.25), fingerprint="new")
    assert sources.remember("a", look(20.0, "failed", "http_404"), fingerprint="old")
    assert sources.facts("a").fingerprint == "new"
    assert sources.remember("a", look(20.25), fingerprint="again")
    assert sources.facts("a").fingerprint == "again"
    # Each look is told once, whoever knew better.
    assert sources.looks("a") == [look(20), look(20, "failed", "http_404")]
    for at in range(30, 40):
        sources.remember("a", look(at))
    assert [each.at for each in sources.looks("a")] == [39, 38, 37, 36, 35][:LOOKS]


def test_what_pages_have_said_is_not_overruled_by_an_older_list(sources: Sources):
    names = ["page", "list", "new"]
    sources.saw(URL, ["page"], 100)
    sources.saw(URL, ["list"], 10)
    for name in names[:2]:
        sources.remember(name, look(1), fingerprint="f")
    assert sources.saw(URL, names, 200, but=50) == {"list": "f", "new": None}
    assert sources.saw(URL, names, 200, but=50) == {"page": "f", "list": "f", "new": None}  # the same pass, again
    assert sources.saw(URL, names, 300, but=250) == {"page": "f", "list": "f", "new": None}
    assert sources.saw(URL, ["new"], 310, but=250) == {"new": None}  # seen, and not yet looked at
    # What was withdrawn after the list was made is neither seen nor found.
    sources.forget("page", 320)
    sources.unsee(URL, "page", 320)
    assert sources.saw(URL, ["page", "new"], 330, but=300) == {"new": None}
    assert sources.vanished(URL, 1000) == 2
    assert sources.saw(URL, ["page"], 330) == {"page": None}  # on a page
    assert sources.saw(URL, ["page"], 330, but=321) == {"page": None}


def test_a_job_made_before_its_source_was_withdrawn_knows_nothing(sources: Sources):
    sources.saw(URL, ["a"], 5)
    assert sources.remember("a", look(10), fingerprint="f", parts="one\ntwo")
    assert sources.facts("a").parts == "one\ntwo"
    assert sources.forget("a", 20)
    sources.unsee(URL, "a", 20)
    assert (sources.facts("a"), sources.looks("a"), sources.seen(URL)) == (Facts(), [], 0)
    assert not sources.remember("a", look(15), fingerprint="f")
    assert (sources.facts("a"), sources.looks("a")) == (Facts(), [])
    assert sources.remember("a", look(21), fingerprint="g")  # it came back
    assert sources.facts("a") == Facts(fingerprint="g")


def test_who_withdraws_a_source_late_takes_nothing_from_a_later_job(sources: Sources):
    sources.saw(URL, ["a"], 21.125)
    assert sources.remember("a", look(21.125), fingerprint="f")
    sources.look_at("a", 99)
    assert not sources.forget("a", 20)
    sources.unsee(URL, "a", 20)
    assert (sources.facts("a").fingerprint, sources.seen(URL), sources.due_at("a")) == ("f", 1, 99)
    assert sources.forget("a", 21.125)
    assert sources.forget("a", 20.5)  # of two, the later one counts
    assert not sources.remember("a", look(21.0), fingerprint="g")
    sources.unsee(URL, "a", 21.125)
    assert (sources.facts("a"), sources.seen(URL), sources.due_at("a")) == (Facts(), 0, None)


def test_what_is_to_be_looked_at_anew_is_named_and_forgotten(sources: Sources):
    names = [f"datagouv:{number}" for number in range(1100)]
    sources.saw(URL, names, 1)
    sources.saw(f"{URL}/other", ["datagouv:x"], 1)
    assert set(sources.names()) == {*names, "datagouv:x"}
    assert not sources.look_anew("datagouv:1")
    sources.remember("datagouv:1", look(1), fingerprint="f", sha256="a", downloads="d")
    assert sources.look_anew("datagouv:1")
    assert sources.facts("datagouv:1") == Facts(sha256="a")


def test_headers_too_long_to_keep_are_left_out(sources: Sources):
    assert sources.remember("a", look(1), fingerprint="f", etag="x" * 201, modified="y" * 65)
    assert sources.facts("a") == Facts(fingerprint="f")


def test_of_too_many_parts_whole_names_are_kept(sources: Sources, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("datafab.catalogue.sources.MAX_PARTS", 10)
    assert sources.remember("a", look(1), parts="one\ntwo\nthree")
    assert sources.facts("a").parts == "one\ntwo"


def test_many_and_very_long_sources(sources: Sources):
    names = [f"datagouv:{number}" for number in range(1201)] + ["file:" + "é" * 1000]
    for name in names[::100]:
        sources.remember(name, look(1), fingerprint=name[-5:])
    found = sources.saw(URL, names, 1)
    assert list(found) == names
    assert {name for name, value in found.items() if value} == set(names[::100])


def test_the_cursor_moves_only_forward(sources: Sources):
    assert sources.cursor(URL) is None
    assert sources.move(URL, 20.0)
    assert not sources.move(URL, 10.5)  # an earlier pass that ended later
    assert sources.cursor(URL) == 20.0
    assert sources.move(URL, 20.5)
    assert (sources.cursor(URL), sources.cursor(URL + "/other")) == (20.5, None)


def test_what_was_not_seen_again_has_vanished(sources: Sources):
    names = [f"datagouv:{number}" for number in range(5)]
    sources.saw(URL, names, 10.25)
    sources.saw(URL, [], 11)
    sources.saw(URL, names[:3], 20.5)
    sources.saw(URL, names[:1], 15)  # by a pass that began earlier
    sources.saw(URL + "/other", ["x"], 1)
    assert (sources.seen(URL), sources.vanished(URL, 10.25), sources.vanished(URL, 20.5)) == (5, 0, 2)
    for name in names:
        sources.remember(name, look(1), fingerprint="f")
    assert sources.some_vanished(URL, 20.5, 1) == names[3:4]
    for name in sources.some_vanished(URL, 20.5):
        sources.forget(name, 20.5)
        sources.unsee(URL, name, 20.5)
    assert (sources.seen(URL), sources.vanished(URL, 20.5)) == (3, 0)
    assert [sources.facts(name).fingerprint for name in names] == ["f", "f", "f", None, None]


def test_who_waits_for_links(server: RedisServer, sources: Sources):
    assert sources.waiting([]) == sources.waiting(["a", "b"]) == []
    for link, job in (("a", "one"), ("a", "two"), ("b", "two"), ("b", "two"), ("c", "three")):
        sources.await_link(link, job)
    assert sources.waiting(["a", "b"]) == ["one", "two"]
    sources.leave_link("a", "one")
    sources.leave_link("a", "two")
    sources.leave_link("x", "one")
    assert sources.waiting(["a"]) == []
    with server.client() as client:
        assert not client.exists("datafab:1:link:a")
        assert 0 < client.ttl("datafab:1:link:b") <= 24 * 3600


@pytest.fixture
def turns(server: RedisServer) -> Iterator[Turns]:
    with server.client() as client:
        client.flushall()
    mine = load(redis_url=server.url, catalogue_host_rate=6, catalogue_host_burst=3, catalogue_hosts_free="free.fr")
    turns = Turns(mine, connect(server.url))
    yield turns
    turns.close()


def test_a_crowd_at_one_server_comes_one_after_another(turns: Turns):
    given = [turns.take(f"https://a.fr/{number}") for number in range(6)]
    assert given[:3] == [0, 0, 0]
    assert given[3:] == [pytest.approx(seconds, abs=3) for seconds in (10, 20, 30)]
    assert given[3] < given[4] < given[5]
    assert turns.take("http://A.fr./x") > 30  # the same server
    assert [turns.take(url) for url in ("https://b.fr/", "https://free.fr/", "pas une adresse", "http://[x")] == [
        0.0
    ] * 4
    assert [turns.take("https://free.fr/") for _ in range(9)] == [0.0] * 9
    assert turns.take("https://a.fr/", urgent=True) == 0


def test_a_server_that_rests_is_left_alone_and_not_run_over_afterwards(server: RedisServer, turns: Turns):
    turns.rest("https://a.fr/x", 100)
    turns.rest("https://a.fr/y", 50)  # the longer rest counts
    assert turns.take("https://a.fr/", urgent=True) == pytest.approx(100, abs=3)
    given = [turns.take("https://a.fr/") for _ in range(3)]
    assert given == [pytest.approx(seconds, abs=3) for seconds in (100, 110, 120)]
    turns.rest("https://free.fr/", 10**9)
    assert 0 < turns.take("https://free.fr/") <= 24 * 3600
    with server.client() as client:
        assert all(0 < client.ttl(key) <= 26 * 3600 for key in client.keys("*"))
