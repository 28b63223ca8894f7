"""What udata pushes, and how files are looked at without a link-proxy, on real workers and a real Redis."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterator

import pytest
import requests

from datafab.catalogue.dataset import parse_moment
from datafab.catalogue.sources import SourceRegistry
from datafab.core.job import Job, JobStatus
from datafab.core.jobs import RedisJobs
from datafab.core.redis import connect
from datafab.core.services import Services
from datafab.index.access import IndexAccess
from datafab.sandbox.catalogue import Sandbox as Catalogue
from datafab.sandbox.catalogue import catalogue
from datafab.sandbox.control import Fault, serving
from tests.servers.celery import Cluster, until
from tests.servers.http import Answer, Site
from tests.servers.redis import RedisServer
from tests.workers.conftest import Bench
from webhook import create_app
from workers.app import jobs, services
from workers.canvas import start

KEY = "planted-key-51c0"
WRITE_KEY = "planted-key-8d20"
LARGE = "9a1f7a5e-large"
TABLE = b"siren;nom\n732829320;Un\n552100554;Deux\n"


@pytest.fixture(scope="module")
def told() -> Iterator[Catalogue]:
    """The catalogue that is told how its files are."""
    with catalogue(sandbox=Catalogue(key=WRITE_KEY)) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def standing(told: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        env = {"DATAFAB_ALLOW_PRIVATE_HOSTS": "127.0.0.1/32", "DATAFAB_CATALOGUE_PUSH_KEY": KEY}
        env |= {"DATAFAB_CATALOGUE_SIZES": "xlsx=100,csv=1000", "DATAFAB_CATALOGUE_LARGE": LARGE}
        env |= {"DATAFAB_CATALOGUE_HOSTS_FREE": "127.0.0.1"}
        env |= {"DATAFAB_CATALOGUE_URL": told.url, "DATAFAB_CATALOGUE_KEY": WRITE_KEY}
        cluster = Cluster(server.url, tmp_path_factory.mktemp("cluster"), app="workers", **env)
        yield Bench(cluster, server)
        cluster.stop()


@pytest.fixture
def bench(standing: Bench) -> Bench:
    standing.mend()
    return standing


class Udata:
    """udata as it pushes."""

    def __init__(self, url: str) -> None:
        self.url = url

    def push(
        self, method: str, resource: str = "", key: str = KEY, of: str = "d1", **document: object
    ) -> requests.Response:
        url = f"{self.url}/hydra/api/resources" + (f"/{resource}" if method != "POST" else "")
        told = {"id": resource, "title": "a.csv", "extras": {}, "filesize": None, "checksum_type": None} | document
        body = {"resource_id": resource, "dataset_id": of, "document": told}
        sent = {} if method == "DELETE" else {"json": body}
        return requests.request(method, url, headers={"Authorization": f"Bearer {key}"}, timeout=20, **sent)


@pytest.fixture
def udata(bench: Bench) -> Iterator[Udata]:
    own = Services(bench.settings, jobs=RedisJobs(bench.settings, connect(bench.settings)))
    with serving(create_app(bench.settings, own, start)) as url:
        yield Udata(url)
    own.close()


@pytest.fixture
def portal() -> Iterator[Site]:
    with Site({"/a.csv": Answer(TABLE)}) as site:
        yield site


@pytest.fixture
def pushed(told: Catalogue, portal: Site) -> dict[str, str]:
    """A resource that the catalogue has, and its dataset, as ``push`` takes them."""
    dataset = told.add(portal.url("/a.csv"))
    return {"resource": told.resource_ids(dataset)[0], "of": dataset, "url": portal.url("/a.csv")}


def test_a_pushed_resource_is_looked_at_and_withdrawn(bench: Bench, udata: Udata, portal: Site, pushed: dict[str, str]):
    name = pushed["resource"]
    answer = udata.push("POST", **pushed, last_modified="2026-11-20T05:12:00")
    assert (answer.status_code, answer.json()["message"]) == (201, "created")
    bench.end(answer.json()["job"])
    assert services().get(IndexAccess).reading.get(f"datagouv:{name}").sha256 == hashlib.sha256(TABLE).hexdigest()
    # The same again is looked at again, for whoever tells has a reason.
    again = udata.push("PUT", **pushed, last_modified="2026-11-20T05:12:00")
    assert (again.status_code, again.json()["message"]) == (200, "updated")
    assert bench.end(again.json()["job"]).counts.unchanged == 1
    assert portal.hits["/a.csv"] == 2
    assert services().get(SourceRegistry).count(bench.settings.catalogue_url) == 1
    told = requests.get(f"{udata.url}/api/sources", {"id": f"datagouv:{name}"}, timeout=20).json()
    assert [look["status"] for look in told["looks"]] == ["unchanged", "ok"]
    assert [look["job"] for look in told["looks"]] == [again.json()["job"], answer.json()["job"]]
    assert told["facts"]["sha256"] == told["document"]["sha256"]
    gone = udata.push("DELETE", name)
    assert gone.status_code == 200
    bench.end(gone.json()["job"])
    assert services().get(IndexAccess).reading.get(f"datagouv:{name}") is None
    assert requests.get(f"{udata.url}/api/sources", {"id": f"datagouv:{name}"}, timeout=20).status_code == 404
    back = udata.push("POST", **pushed)
    bench.end(back.json()["job"])
    assert services().get(IndexAccess).reading.get(f"datagouv:{name}")


def test_a_push_takes_no_name_from_a_document(bench: Bench, udata: Udata, portal: Site, told: Catalogue):
    dataset = told.add(portal.url("/a.csv"), title="Entreprises")
    (name,) = told.resource_ids(dataset)

    def push(size: int) -> tuple[str, str, str]:
        pushed = udata.push("PUT", name, of=dataset, url=portal.url("/a.csv"), title="Liste", filesize=size)
        bench.end(pushed.json()["job"])
        hit = services().get(IndexAccess).reading.get(f"datagouv:{name}")
        return hit.title, hit.dataset_title, hit.organisation

    # It tells the dataset's id only; the catalogue is asked for the rest.
    assert push(1) == ("Liste", "Entreprises", "Producteur")
    assert (
        services().get(IndexAccess).reading.search("title:liste organisation:producteur dataset:entreprises").total == 1
    )
    told.control.faults.append(Fault(method="GET", path=f"/api/1/datasets/{dataset}", status=500, times=1))
    assert push(2) == ("Liste", "Entreprises", "Producteur")
    told.control.faults.clear()
    told.remove(dataset)
    assert push(3) == ("Liste", None, None)


def test_a_pushed_resource_is_not_looked_at_twice(bench: Bench, udata: Udata, portal: Site, pushed: dict[str, str]):
    name = pushed["resource"]
    bench.cluster.parts["io"].kill()
    job = udata.push("PUT", **pushed, last_modified="2026-11-20T05:12:00").json()["job"]
    again = udata.push("PUT", **pushed, last_modified="2026-11-20T05:12:00").json()["job"]
    assert again == job  # it is still on its way
    bench.mend()
    assert bench.end(job, 60).counts.ok == 1
    # What a pass had enqueued of it before finds that it was looked at meanwhile.
    seen = jobs().get(job).params["fingerprint"]
    crawled = bench.run("source", source=f"datagouv:{name}", url=pushed["url"], fingerprint=seen, priority=9)
    assert crawled.counts.unchanged == 1
    assert portal.hits["/a.csv"] == 1


def test_a_job_that_ends_after_its_source_was_withdrawn_leaves_nothing(bench: Bench, udata: Udata, portal: Site):
    name = str(uuid.uuid4())
    bench.cluster.parts["cpu"].kill()  # so that it stops before its analysis
    late = udata.push("POST", name, url=portal.url("/a.csv")).json()["job"]
    until(lambda: portal.hits["/a.csv"], 20)
    bench.end(udata.push("DELETE", name).json()["job"])
    bench.mend()
    bench.end(late, 60)
    assert services().get(IndexAccess).reading.get(f"datagouv:{name}") is None
    assert services().get(SourceRegistry).state(f"datagouv:{name}").fingerprint is None
    assert any("withdrawn meanwhile" in line["event"] for line in jobs().logs(late))


def test_a_withdrawal_that_comes_late_takes_nothing_from_a_later_push(
    bench: Bench, udata: Udata, pushed: dict[str, str]
):
    name = pushed["resource"]
    bench.cluster.parts["io"].kill()
    gone = udata.push("DELETE", name).json()["job"]
    (row,) = bench.ledger.row_states(gone)
    bench.redis.delete("datafab:1:io")  # its message is lost, and for long not missed
    bench.redis.zadd("datafab:1:due", {row: time.time() + 3600}, xx=True)
    back = udata.push("POST", **pushed).json()["job"]
    seen = services().get(SourceRegistry).count(bench.settings.catalogue_url)
    bench.mend()
    assert bench.end(back, 60).counts.ok == 1
    assert bench.job(gone).status == "queued"
    bench.redis.zadd("datafab:1:due", {row: time.time()}, xx=True)
    bench.end(gone, 60)
    assert services().get(IndexAccess).reading.get(f"datagouv:{name}")
    assert services().get(SourceRegistry).state(f"datagouv:{name}").fingerprint
    assert services().get(SourceRegistry).count(bench.settings.catalogue_url) == seen


@pytest.mark.parametrize("key", ["", "wrong", KEY[:-1], KEY + "é".encode().decode("latin-1")])
def test_without_the_key_nothing_is_taken(bench: Bench, udata: Udata, key: str):
    before = len(jobs().newest(limit=500))
    answers = [udata.push(method, "r1", key=key, url="http://x/") for method in ("POST", "PUT", "DELETE")]
    assert {answer.status_code for answer in answers} == {401}
    assert len(jobs().newest(limit=500)) == before
    assert not any(KEY in answer.text for answer in answers)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "resource_id"),
        ({"resource_id": "../x", "dataset_id": "d", "document": {"url": "http://x/"}}, "resource_id"),
        ({"resource_id": "r", "dataset_id": "d"}, "document"),
        ({"resource_id": "r", "dataset_id": "d", "document": None}, "document"),
        ({"resource_id": "r", "dataset_id": "d", "document": {"url": "ftp://x/"}}, "document.url"),
        ({"resource_id": "r", "dataset_id": "d", "document": {"url": "x" * 3000}}, "document.url"),
        ({"resource_id": "other", "dataset_id": "d", "document": {"url": "http://x/"}}, "resource_id"),
    ],
)
def test_a_push_that_is_no_good_is_refused_by_field(udata: Udata, body: dict, field: str):
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = requests.put(f"{udata.url}/hydra/api/resources/r", json=body, headers=headers, timeout=20)
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)


def look(bench: Bench, url: str, source: str | None = None, **params: object) -> tuple[Job, str]:
    """Look at a file; return the job, and what it said of it."""
    job = bench.run("source", 60, source=source or f"datagouv:{uuid.uuid4()}", url=url, force=True, **params)
    assert job.counts
    failures = jobs().failures(job.id)
    said = next((error.type for error in failures.values()), None)
    return job, said or next(name for name in ("ok", "unchanged", "skipped", "failed") if getattr(job.counts, name))


@pytest.mark.parametrize(
    ("headers", "later", "expected"),
    [
        # These servers answer 200 with the whole body, whatever the conditions of the request.
        ({"ETag": '"a"'}, {"ETag": '"a"'}, "unchanged"),
        ({"ETag": '"a"'}, {"ETag": 'W/"a"'}, "unchanged"),
        ({"ETag": '"a"'}, {"ETag": '"b"'}, "ok"),
        ({"Last-Modified": "Fri, 20 Nov 2026 05:12:00 GMT"}, {"Last-Modified": "Fri, 20 Nov 2026 05:12:00 GMT"}, "ok"),
        ({"Last-Modified": "Fri, 20 Nov 2026 05:12:00 GMT"}, {"Last-Modified": "Fri, 20 Nov 2026 05:13:00 GMT"}, "ok"),
        ({}, {}, "ok"),
    ],
)
def test_what_is_known_by_its_head_is_not_read(
    bench: Bench, portal: Site, headers: dict[str, str], later: dict[str, str], expected: str
):
    name = f"datagouv:{uuid.uuid4()}"
    portal.answers["/a.csv"] = Answer(TABLE, headers=headers)
    assert look(bench, portal.url("/a.csv"), name)[1] == "ok"
    # The body is another in any case, and of another length, so that only who reads it can tell.
    portal.answers["/a.csv"] = Answer(TABLE + b"1;x\n", headers=later)
    assert look(bench, portal.url("/a.csv"), name)[1] == expected
    assert portal.hits["/a.csv"] == 2
    # How the file is, not what the last job found new of it.
    assert services().get(IndexAccess).reading.get(name).status == "ok"


def test_a_file_that_moved_is_found_where_the_catalogue_has_it_now(bench: Bench, portal: Site):
    with catalogue() as udata:
        (name,) = udata.resource_ids(udata.add(portal.url("/a.csv")))
        given = {"catalogue": udata.url, "source": f"datagouv:{name}"}
        job, said = look(bench, portal.url("/old.csv"), **given)
        assert said == "ok"
        assert services().get(IndexAccess).reading.get(f"datagouv:{name}").resource_url == portal.url("/a.csv")
        assert any(line["event"] == "it has moved" for line in jobs().logs(job.id))
        # Gone, and the catalogue says so too.
        udata.datasets.clear()
        portal.answers.clear()
        assert look(bench, portal.url("/a.csv"), **given)[0].counts.skipped == 1
        assert services().get(IndexAccess).reading.get(f"datagouv:{name}") is None
        # Gone, and the catalogue still has it there.
        (lost,) = udata.resource_ids(udata.add(portal.url("/lost.csv")))
        assert look(bench, portal.url("/lost.csv"), f"datagouv:{lost}", catalogue=udata.url)[1] == "http_404"
        assert services().get(IndexAccess).reading.get(f"datagouv:{lost}").error.type == "http_404"
        away = f"{udata.url}/nowhere"
        assert look(bench, portal.url("/lost.csv"), f"datagouv:{lost}", catalogue=away)[1] in {"http_404", "skipped"}


def test_a_file_that_moved_to_a_busy_server_has_one_turn_there(bench: Bench, portal: Site):
    with catalogue() as udata:
        (name,) = udata.resource_ids(udata.add(portal.url("/a.csv").replace("127.0.0.1", "localhost")))
        burst = 60 / bench.settings.catalogue_host_rate * (bench.settings.catalogue_host_burst - 1)
        bench.redis.hset("datafab:1:host:localhost", "t", time.time() + burst + 1)
        given = {"catalogue": udata.url, "source": f"datagouv:{name}", "priority": 9}
        job, said = look(bench, portal.url("/old.csv"), **given)
        assert said == "ok"
        assert any(line["event"] == "it has moved" for line in jobs().logs(job.id))
        assert portal.hits == {"/old.csv": 1, "/a.csv": 1}
        assert services().get(IndexAccess).reading.get(f"datagouv:{name}").resource_url.startswith("http://localhost:")


def test_a_firewalls_page_is_no_verdict(bench: Bench, portal: Site):
    page = b"<html><head><title>Request Rejected</title></head><body>Support ID: 1</body></html>"
    portal.answers["/a.csv"] = Answer(page, content_type="text/html; charset=utf-8")
    name = f"datagouv:{uuid.uuid4()}"
    assert look(bench, portal.url("/a.csv"), name, fingerprint="f" * 32)[1] == "firewall"
    assert services().get(SourceRegistry).state(name).fingerprint is None  # so that the next pass tries again
    portal.answers["/a.csv"] = Answer(b"<html>Bonjour</html>", content_type="text/html")
    assert look(bench, portal.url("/a.csv"), name, fingerprint="f" * 32)[1] == "html"
    assert services().get(SourceRegistry).state(name).fingerprint == "f" * 32


def test_a_file_whose_turn_never_comes_is_for_the_next_pass(bench: Bench, portal: Site):
    name = f"datagouv:{uuid.uuid4()}"
    bench.redis.hset("datafab:1:host:localhost", "t", time.time() + 48 * 3600)  # longer than a stage has patience
    url = portal.url("/a.csv").replace("127.0.0.1", "localhost")
    assert look(bench, url, name, fingerprint="f" * 32, priority=9)[1] == "turn"
    assert services().get(SourceRegistry).state(name).fingerprint is None
    bench.redis.delete("datafab:1:host:localhost")
    assert look(bench, url, name, fingerprint="f" * 32, priority=9)[1] == "ok"
    assert services().get(SourceRegistry).state(name).fingerprint == "f" * 32


def test_a_file_may_be_too_large_for_its_format(bench: Bench, portal: Site):
    portal.route = lambda path, _: Answer(b"a;b\n" + b"1;2\n" * 400, chunked="chunked" in path)
    assert look(bench, portal.url("/a.csv"))[1] == "too_large"
    assert look(bench, portal.url("/chunked.csv"))[1] == "too_large"
    assert look(bench, portal.url("/a"), format="CSV")[1] == "too_large"
    assert look(bench, portal.url("/a.txt"))[1] == "ok"
    assert look(bench, portal.url("/a.csv"), f"datagouv:{LARGE}")[1] == "ok"


def test_a_server_that_asks_for_a_pause_is_left_alone_by_all(bench: Bench, portal: Site):
    asked: list[str] = []

    def answer(path: str, _: dict[str, str]) -> Answer:
        asked.append(path)
        return Answer(b"", 429, headers={"Retry-After": "3600"}) if len(asked) == 1 else Answer(TABLE)

    portal.route = answer
    first = bench.start("source", source=f"datagouv:{uuid.uuid4()}", url=portal.url("/0.csv"), priority=9)
    until(lambda: asked, 20)
    until(lambda: bench.job(first).status == "waiting", 20)
    others = [
        bench.start("source", source=f"datagouv:{uuid.uuid4()}", url=portal.url(f"/{number}.csv"), priority=priority)
        for number, priority in ((1, 9), (2, 0))
    ]
    for job in others:
        until(lambda job=job: bench.job(job).status == "waiting" and bench.job(job).stage == "fetch", 20)
    assert asked == ["/0.csv"]
    for job in others:
        assert jobs().end(job, JobStatus.CANCELLED)
    # When the pause is over, it is asked again.
    bench.redis.delete("datafab:1:host:127.0.0.1")
    bench.ledger.wake(first)
    assert bench.end(first).counts.ok == 1
    assert asked == ["/0.csv", "/0.csv"]


@pytest.fixture
def other() -> Iterator[Catalogue]:
    """A catalogue that is not that of the settings."""
    with catalogue() as sandbox:
        yield sandbox


def test_a_file_is_looked_at_again_although_nobody_says_that_it_has_changed(
    bench: Bench, portal: Site, other: Catalogue
):
    lost = other.add(portal.url("/absent.csv"))
    moved = other.add(portal.url("/moved.csv"))
    names = [f"datagouv:{other.resource_ids(one)[0]}" for one in (moved, other.add(portal.url("/b.csv")), lost)]
    portal.answers["/b.csv"] = Answer(TABLE)
    started = time.time()
    for name, path in zip(names, ("/moved.csv", "/b.csv", "/absent.csv"), strict=True):
        portal.answers["/moved.csv"] = Answer(TABLE)
        given = {"dataset": {"id": "d1", "title": "Jeu"}, "dated": "2026-01-31T00:00:00Z"}
        look(bench, portal.url(path), name, catalogue=other.url, **given)
    other.change(names[0].removeprefix("datagouv:"), url=portal.url("/a.csv"))
    other.datasets.pop(lost)
    del portal.answers["/moved.csv"]
    sources = services().get(SourceRegistry)
    assert all(12 * 3600 <= sources.next_revisit(name) - started < 12 * 3600 + 900 for name in names)
    assert not bench.run("again").total
    sources.schedule_revisit("datagouv:unknown", time.time() - 9)
    for name in names:
        sources.schedule_revisit(name, time.time() - 5)
    portal.answers["/a.csv"] = Answer(TABLE + b"1;x\n", headers={"Last-Modified": "Fri, 20 Nov 2026 05:12:00 GMT"})
    before = portal.hits.copy()
    both = [bench.start("again") for _ in range(2)]  # as two beats would
    assert any(counts.skipped for job in both if (counts := bench.end(job).counts))
    made = [bench.end(job.id, 60) for job in jobs().created_after(started, "source") if job.params.get("again")]
    assert sorted(job.params["source"] for job in made) == sorted(names)
    assert portal.hits - before == {"/moved.csv": 1, "/a.csv": 1, "/b.csv": 1, "/absent.csv": 1}
    hit = services().get(IndexAccess).reading.get(names[0])
    assert (hit.sha256, hit.dataset_title) == (hashlib.sha256(TABLE + b"1;x\n").hexdigest(), "Jeu")
    modified = [services().get(IndexAccess).reading.get(name).modified.isoformat()[:10] for name in names[:2]]
    assert modified == ["2026-11-20", "2026-01-31"]  # as its server says, where that knows better
    assert sources.next_revisit("datagouv:unknown") is None
    # The next looks, but at what is gone, for the catalogue does not have it either.
    assert all(sources.next_revisit(name) > time.time() + 11 * 3600 for name in names[:2])
    assert (sources.next_revisit(names[2]), services().get(IndexAccess).reading.get(names[2])) == (None, None)
    assert not bench.run("again").total


def test_what_has_long_been_the_same_is_looked_at_seldom(bench: Bench, portal: Site):
    name = f"datagouv:{uuid.uuid4()}"
    look(bench, portal.url("/a.csv"), name)
    key = f"datafab:1:source:{name}"
    for days, hours in ((0.4, 12), (0.9, 24), (3, 168), (20, 720), (900, 720)):
        bench.redis.hset(key, "c", time.time() - days * 24 * 3600)
        job, _ = look(bench, portal.url("/a.csv"), name)
        assert services().get(SourceRegistry).next_revisit(name) == pytest.approx(job.created + hours * 3600, abs=2)


def written(udata: Catalogue) -> list[dict[str, object]]:
    return [each["body"] for each in udata.control.asked("PUT")]


def test_the_catalogue_is_told_how_its_file_is_when_that_has_changed(bench: Bench, portal: Site, told: Catalogue):
    told.control.forget()
    portal.answers["/a.csv"] = Answer(TABLE, headers={"Last-Modified": "Fri, 20 Nov 2026 05:12:00 GMT"})
    dataset = told.add(portal.url("/a.csv"))
    (name,) = told.resource_ids(dataset)
    given = {"source": f"datagouv:{name}", "dataset": {"id": dataset}}
    assert look(bench, portal.url("/a.csv"), **given)[1] == "ok"
    extras = told.datasets[dataset]["resources"][0]["extras"]
    assert (extras["check:available"], extras["check:status"], extras["check:timeout"]) == (True, 200, False)
    assert extras["analysis:checksum"] == hashlib.sha1(TABLE, usedforsecurity=False).hexdigest()
    assert (extras["analysis:content-length"], extras["analysis:mime-type"]) == (len(TABLE), "text/csv")
    assert extras["analysis:last-modified-at"] == "2026-11-20T05:12:00+00:00"
    assert extras["analysis:last-modified-detection"] == "last-modified-header"
    assert len(written(told)) == 1
    assert look(bench, portal.url("/a.csv"), **given)[1] == "unchanged"
    assert len(written(told)) == 1  # nothing new
    good = portal.answers.pop("/a.csv")
    assert look(bench, portal.url("/a.csv"), **given)[1] == "http_404"
    extras = told.datasets[dataset]["resources"][0]["extras"]
    assert (extras["check:available"], extras["check:status"]) == (False, 404)
    assert "404" in extras["check:error"]
    portal.answers["/a.csv"] = good
    assert look(bench, portal.url("/a.csv"), **given)[1] == "unchanged"  # but it is there again
    extras = told.datasets[dataset]["resources"][0]["extras"]
    assert (extras["check:available"], extras.get("check:error")) == (True, None)
    assert len(written(told)) == 3
    # By the API that has them, and nothing of what was told is lost on the way.
    path = f"/api/2/datasets/{dataset}/resources/{name}/extras/"
    assert {(each["path"], each["status"]) for each in told.control.asked("PUT")} == {(path, 200)}
    assert requests.get(told.url.replace("/api/1", path), timeout=20).json() == extras


def test_extras_are_those_of_hydra(bench: Bench, portal: Site, told: Catalogue):
    portal.preflight = Answer(status=204, headers={"Access-Control-Allow-Origin": "*"})
    started = time.time()
    portal.answers["/bad.csv"] = Answer(b"a,b\n1,2,3,4\n1\n" * 5)
    dataset = told.add(portal.url("/a.csv"), portal.url("/bad.csv"))
    for name, path in zip(told.resource_ids(dataset), ("/a.csv", "/bad.csv"), strict=True):
        look(bench, portal.url(path), f"datagouv:{name}", dataset={"id": dataset})
    good, bad = (each["extras"] for each in told.datasets[dataset]["resources"])
    began, ended = (
        parse_moment(good[f"analysis:parsing:{name}"]).timestamp() for name in ("started_at", "finished_at")
    )
    assert started - 1 < began <= ended < time.time() + 1
    assert "analysis:parsing:error" not in good
    assert (good["check:cors:status"], good["check:cors:allow-origin"]) == (204, "*")
    origin = told.url.removesuffix("/api/1")
    assert [headers["Origin"] for _, headers in portal.preflights] == [origin, origin]
    # What could not be read came nevertheless.
    assert (bad["check:available"], bad["analysis:content-length"]) == (True, len(portal.answers["/bad.csv"].body))
    (failure,) = [error for job in jobs().newest(flow="source", limit=1) for error in jobs().failures(job.id).values()]
    assert bad["analysis:parsing:error"] == f"{failure.type}:{failure.message}"
    assert bad["analysis:parsing:finished_at"]
    assert "check:error" not in bad


def test_a_job_that_comes_after_a_look_says_nothing_of_its_own(bench: Bench, portal: Site, told: Catalogue):
    portal.answers["/ill.csv"] = Answer(b"\0\1\2" * 99)
    dataset = told.add(portal.url("/ill.csv"))
    source = f"datagouv:{told.resource_ids(dataset)[0]}"
    given = {"source": source, "dataset": {"id": dataset, "title": "Jeu"}, "fingerprint": "f" * 32}
    assert look(bench, portal.url("/ill.csv"), **given)[0].counts.failed
    extras = told.datasets[dataset]["resources"][0]["extras"].copy()
    assert extras["check:available"]
    told.control.forget()
    before = services().get(SourceRegistry).looks(source)
    assert bench.run("source", url=portal.url("/ill.csv"), **given).counts.unchanged == 1
    assert written(told) == []
    assert told.datasets[dataset]["resources"][0]["extras"] == extras
    assert services().get(SourceRegistry).looks(source) == before


def untold(job: Job) -> str:
    """Return what a job says of a catalogue that was not told: its file has failed with it."""
    (error,) = jobs().failures(job.id).values()
    assert (job.counts.failed, error.type) == (1, "catalogue_untold")
    assert (job.status, job.error) == ("failed", error)
    assert any(line["level"] == "warning" and line["event"] == error.message for line in jobs().logs(job.id))
    return error.message


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (400, "answered 400"),
        (401, "DATAFAB_CATALOGUE_KEY"),
        (403, "DATAFAB_CATALOGUE_KEY"),
        (404, "answered 404"),
        (405, "answered 405"),
        (410, "answered 410"),
        (308, "sent elsewhere, to http://x/"),
    ],
)
def test_a_catalogue_that_takes_no_extras_is_a_failure_that_shows(
    bench: Bench, portal: Site, told: Catalogue, status: int, why: str
):
    told.control.forget()
    told.control.faults.append(Fault(method="PUT", status=status, headers={"Location": "http://x/"}, body="{}"))
    dataset = told.add(portal.url("/a.csv"))
    (name,) = told.resource_ids(dataset)
    source = f"datagouv:{name}"
    job, _ = look(bench, portal.url("/a.csv"), source, dataset={"id": dataset}, fingerprint="f" * 32)
    assert why in untold(job)
    assert [each["status"] for each in told.control.asked("PUT")] == [status]  # once
    # What was found of the file is good nevertheless.
    assert (
        services().get(IndexAccess).reading.get(source).status,
        services().get(IndexAccess).reading.get(source).total_lines,
    ) == ("ok", 2)
    assert services().get(SourceRegistry).looks(source)[0].status == "ok"
    # It is not settled, so whoever looks next tells, although nothing is new by then; and nobody after that.
    assert services().get(SourceRegistry).state(source).fingerprint is None
    for _ in range(2):
        job = bench.run(
            "source", url=portal.url("/a.csv"), source=source, dataset={"id": dataset}, fingerprint="f" * 32
        )
        assert job.counts.unchanged == 1
    assert [each["status"] for each in told.control.asked("PUT")] == [status, 200]
    assert told.datasets[dataset]["resources"][0]["extras"]["check:available"]
    assert services().get(SourceRegistry).state(source).fingerprint == "f" * 32
    assert portal.hits["/a.csv"] == 2


def test_a_catalogue_that_is_down_is_told_later(bench: Bench, portal: Site, told: Catalogue):
    told.control.forget()
    dataset = told.add(portal.url("/a.csv"))
    (name,) = told.resource_ids(dataset)
    given = {"source": f"datagouv:{name}", "dataset": {"id": dataset}}
    for fault in ({"status": 503}, {"status": 0}, {"status": 429}, {"status": 200}):
        told.control.faults.append(Fault(method="PUT", headers={"Retry-After": "0"}, **fault))
    first = bench.start("source", url=portal.url("/a.csv"), force=True, **given)
    # Between two tries it waits; what waits long is told to look now.
    until(lambda: bench.ledger.wake(first) is not None and bench.job(first).final, 60)
    assert bench.job(first).counts.ok == 1
    assert [each["status"] for each in told.control.asked("PUT")] == [503, 500, 429, 200, 200]
    told.control.forget()
    told.control.faults.append(Fault(method="PUT", status=503, times=99, headers={"Retry-After": "0"}))
    portal.answers["/a.csv"] = Answer(TABLE + b"1;x\n")
    job, _ = look(bench, portal.url("/a.csv"), **given)
    assert "(10 tries)" in untold(job)
    assert services().get(IndexAccess).reading.get(f"datagouv:{name}").total_lines == 3
    told.control.faults.clear()


def test_a_file_that_failed_keeps_its_own_reason_when_the_catalogue_takes_no_extras(
    bench: Bench, portal: Site, told: Catalogue
):
    told.control.faults.append(Fault(method="PUT", status=403))
    dataset = told.add(portal.url("/absent.csv"))
    (name,) = told.resource_ids(dataset)
    job, said = look(bench, portal.url("/absent.csv"), f"datagouv:{name}", dataset={"id": dataset})
    assert said == "http_404"
    (error,) = jobs().failures(job.id).values()
    assert "the report to the catalogue failed" in error.message


def test_what_failed_here_is_not_told_as_the_files_failure(bench: Bench, portal: Site, told: Catalogue):
    told.control.forget()
    dataset = told.add(portal.url("/a.csv").replace("127.0.0.1", "localhost"))
    (name,) = told.resource_ids(dataset)
    bench.redis.hset("datafab:1:host:localhost", "t", time.time() + 48 * 3600)  # longer than a stage has patience
    url = portal.url("/a.csv").replace("127.0.0.1", "localhost")
    assert look(bench, url, f"datagouv:{name}", dataset={"id": dataset}, priority=9)[1] == "turn"
    bench.redis.delete("datafab:1:host:localhost")
    assert told.control.asked("PUT") == []


def test_an_older_look_overwrites_nothing(bench: Bench, portal: Site, told: Catalogue):
    told.control.forget()
    dataset = told.add(portal.url("/a.csv"))
    (name,) = told.resource_ids(dataset)
    bench.redis.hset(f"datafab:1:source:datagouv:{name}", "a", time.time() + 1000)  # of a job that was made later
    assert look(bench, portal.url("/a.csv"), f"datagouv:{name}", dataset={"id": dataset})[1] == "ok"
    assert told.control.asked("PUT") == []


def test_a_key_that_may_not_write_is_named(bench: Bench, portal: Site, told: Catalogue):
    dataset = told.add(portal.url("/a.csv"))
    (name,) = told.resource_ids(dataset)
    told.key, told.others = "another", (WRITE_KEY,)  # a user's, who is no administrator
    try:
        job, _ = look(bench, portal.url("/a.csv"), f"datagouv:{name}", dataset={"id": dataset})
    finally:
        told.key, told.others = WRITE_KEY, ()
    assert "reserved to platform services" in untold(job)


def test_the_key_of_a_catalogue_goes_nowhere_else(bench: Bench, portal: Site, told: Catalogue):
    told.control.faults.append(Fault(method="PUT", status=403))
    dataset = told.add(portal.url("/a.csv"))
    (name,) = told.resource_ids(dataset)
    job, _ = look(bench, portal.url("/a.csv"), f"datagouv:{name}", dataset={"id": dataset})
    with catalogue() as other:
        elsewhere = other.add(portal.url("/a.csv"))
        (name,) = other.resource_ids(elsewhere)
        look(bench, portal.url("/a.csv"), f"datagouv:{name}", dataset={"id": elsewhere}, catalogue=other.url)
        assert other.control.asked("PUT") == []
    logs = "".join(part.log.read_text() for part in bench.cluster.parts.values())
    assert job.id in logs
    assert WRITE_KEY not in logs + bench.everything()
