"""Passes over a catalogue on real workers and a real Redis, with a udata, a link-proxy and a portal over HTTP."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from threading import Event
from zipfile import ZipFile

import pytest
import requests

from datafab.catalogue.dataset import parse_moment
from datafab.catalogue.sources import SourceRegistry
from datafab.core.job import Job, JobStatus
from datafab.core.jobs import RedisJobs
from datafab.core.redis import connect
from datafab.core.services import Services
from datafab.index.access import IndexAccess
from datafab.ops import rebuild
from datafab.sandbox.catalogue import Sandbox, catalogue
from datafab.sandbox.control import Fault, serving
from datafab.sandbox.linkproxy import linkproxy
from datafab.sandbox.links import Sandbox as LinkProxy
from tests.servers.celery import Cluster, until
from tests.servers.http import Answer, Site
from tests.servers.redis import RedisServer
from tests.workers.conftest import Bench
from webhook import create_app
from workers.app import jobs, services
from workers.canvas import start

TOKEN = "planted-token-93ab"  # noqa: S105
TABLE = b"siren;nom\n732829320;Un\n552100554;Deux\n"
OTHER = b"siren;nom\n732829320;Un\n552100554;Trois\n"


@pytest.fixture(scope="module")
def proxy() -> Iterator[LinkProxy]:
    with linkproxy() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def standing(proxy: LinkProxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        env = {"DATAFAB_ALLOW_PRIVATE_HOSTS": "127.0.0.1/32"}
        env |= {"DATAFAB_LINKPROXY_URL": proxy.url, "DATAFAB_LINKPROXY_TOKEN": TOKEN}
        cluster = Cluster(server.url, Path(tmp_path_factory.mktemp("cluster")), app="workers", **env)
        yield Bench(cluster, server)
        cluster.stop()


@pytest.fixture
def bench(standing: Bench) -> Bench:
    standing.mend()
    return standing


@pytest.fixture
def hooks(bench: Bench, proxy: LinkProxy) -> Iterator[str]:
    """The webhook, to which link-proxy's messages go."""
    own = Services(bench.settings, jobs=RedisJobs(bench.settings, connect(bench.settings)))
    with serving(create_app(bench.settings, own, start)) as url:
        proxy.subscribe(f"{url}/hooks/link-proxy", TOKEN)
        yield url
        proxy.subscribers.clear()
    own.close()


@pytest.fixture(autouse=True)
def _calm(proxy: LinkProxy) -> Iterator[None]:
    yield
    proxy.release()
    proxy.planned.clear()
    proxy.late.clear()
    proxy.webhooks = "send"
    proxy.control.faults.clear()
    proxy.control.forget()
    proxy.deliveries.clear()


@pytest.fixture
def portal() -> Iterator[Site]:
    with Site({"/a.csv": Answer(TABLE)}) as site:
        yield site


@pytest.fixture
def udata() -> Iterator[Sandbox]:
    with catalogue() as sandbox:
        yield sandbox


class Pass:
    """What a pass did."""

    def __init__(self, bench: Bench, udata: Sandbox, *, timeout: float = 60, **params: object) -> None:
        self.bench = bench
        self.job = bench.end(bench.start("catalogue", url=udata.url, **params), timeout)

    @property
    def enqueued(self) -> list[Job]:
        """The jobs of sources that were made since it began."""
        return [job for job in jobs().newest(flow="source", limit=500) if job.created > self.job.created]

    def sources(self, timeout: float = 60) -> list[Job]:
        """Wait until all sources' jobs have ended."""
        return [self.bench.end(job.id, timeout) for job in self.enqueued]


def found(udata: Sandbox, dataset: str, number: int = 0):
    return services().get(IndexAccess).reading.get(f"datagouv:{udata.resource_ids(dataset)[number]}")


def cursor(udata: Sandbox) -> float | None:
    return services().get(SourceRegistry).cursor(udata.url)


def statuses(ended: list[Job]) -> list[str]:
    for job in ended:
        assert job.status is (JobStatus.FAILED if job.counts.failed else JobStatus.SUCCEEDED), job.error
    return sorted(next(name for name in ("ok", "unchanged", "failed") if getattr(job.counts, name)) for job in ended)


def ago(**past: float) -> str:
    return (datetime.now(UTC) - timedelta(**past)).isoformat()


def many(udata: Sandbox, portal: Site) -> None:
    """Two pages of datasets; two files, the older one on the second page."""
    portal.answers["/b.csv"] = Answer(OTHER)
    udata.add(portal.url("/b.csv"), last_update=ago(hours=2))
    for _ in range(100):
        udata.add()
    udata.add(portal.url("/a.csv"))


def asleep(bench: Bench, job: str) -> None:
    """Wait until a job waits, and let it wait for ever unless somebody tells it."""

    def sleeps() -> bool:
        for rid, state in bench.ledger.row_states(job).items():
            if state == "wait" and bench.job(job).stage == "check":
                bench.redis.zadd("datafab:1:due", {rid: time.time() + 3600}, xx=True)
                return bench.ledger.row_states(job).get(rid) == "wait"
        return False

    until(sleeps, 30)


def away(proxy: LinkProxy) -> None:
    """Let link-proxy be away: no connection comes to an answer."""
    proxy.control.faults.append(Fault(times=10_000, status=0))


def downloads(proxy: LinkProxy) -> int:
    return len(proxy.control.asked("GET", "/link-proxy-files"))


def test_a_changed_file_is_found_fetched_analysed_and_indexed(
    bench: Bench, udata: Sandbox, portal: Site, proxy: LinkProxy, hooks: str
):
    dataset = udata.add(portal.url("/a.csv"), title="Entreprises")
    (resource,) = udata.datasets[dataset]["resources"]
    proxy.hold("analyzing")
    this = Pass(bench, udata)
    (job,) = this.enqueued
    asleep(bench, job.id)
    proxy.release()  # and its message wakes the job
    assert statuses(this.sources()) == ["ok"]
    assert [sent["status"] for sent in proxy.deliveries] == [202]
    hit = found(udata, dataset)
    assert (hit.title, hit.dataset_title, hit.dataset_id) == ("a.csv", "Entreprises", dataset)
    assert hit.total_lines == 2
    assert (hit.organisation, hit.modified) == ("Producteur", parse_moment(resource["last_modified"]))
    assert "siren" in hit.formats
    assert hit.sha256 == hashlib.sha256(TABLE).hexdigest()
    assert hit.resource_url == portal.url("/a.csv")
    assert portal.hits["/a.csv"] == 1  # by link-proxy
    assert cursor(udata) == pytest.approx(this.job.created, abs=0.01)
    assert not bench.redis.keys("datafab:1:link:*")


def test_all_files_of_one_address_are_woken_by_its_message(
    bench: Bench, udata: Sandbox, portal: Site, proxy: LinkProxy, hooks: str
):
    datasets = [udata.add(portal.url("/a.csv")) for _ in range(3)]
    proxy.hold("analyzing")
    this = Pass(bench, udata)
    for job in this.enqueued:
        asleep(bench, job.id)
    proxy.webhooks = "twice"
    proxy.release()
    assert len(statuses(this.sources())) == 3
    assert {found(udata, dataset).total_lines for dataset in datasets} == {2}
    assert {sent["status"] for sent in until(lambda: len(proxy.deliveries) > 1 and proxy.deliveries, 10)} == {202}


@pytest.mark.parametrize("mode", ["never", "late", "early"])
@pytest.mark.usefixtures("hooks")
def test_a_message_that_comes_never_or_at_the_wrong_time_costs_only_time(
    bench: Bench, udata: Sandbox, portal: Site, proxy: LinkProxy, mode: str
):
    # early: before link-proxy's answer, so that nobody is known to wait yet.
    proxy.webhooks = mode
    dataset = udata.add(portal.url("/a.csv"))
    this = Pass(bench, udata)
    assert statuses(this.sources()) == ["ok"]
    proxy.deliver()
    assert found(udata, dataset).total_lines == 2
    assert len(proxy.deliveries) == (mode != "never")
    assert (len(proxy.control.asked("POST")), downloads(proxy)) == (1, 1)


@pytest.mark.parametrize("state", ["errored", "blacklisted", "unsupported", "something new"])
def test_what_link_proxy_does_not_give_is_fetched_directly(
    bench: Bench, udata: Sandbox, portal: Site, proxy: LinkProxy, state: str
):
    proxy.planned[portal.url("/a.csv")] = state
    dataset = udata.add(portal.url("/a.csv"))
    assert statuses(Pass(bench, udata).sources()) == ["ok"]
    assert found(udata, dataset).total_lines == 2
    assert (portal.hits["/a.csv"], downloads(proxy)) == (2, 0)


def test_a_copy_that_link_proxy_has_lost_is_fetched_directly(
    bench: Bench, udata: Sandbox, portal: Site, proxy: LinkProxy
):
    proxy.control.faults.append(Fault(path="/link-proxy-files", times=10, status=403))
    dataset = udata.add(portal.url("/a.csv"))
    assert statuses(Pass(bench, udata).sources()) == ["ok"]
    assert found(udata, dataset).total_lines == 2
    assert (portal.hits["/a.csv"], downloads(proxy)) == (2, 1)


def test_a_link_proxy_that_goes_away_meanwhile_is_done_without(
    bench: Bench, udata: Sandbox, portal: Site, proxy: LinkProxy
):
    dataset = udata.add(portal.url("/a.csv"))
    proxy.hold("analyzing")
    this = Pass(bench, udata)
    (job,) = this.enqueued
    until(lambda: bench.job(job.id).status is JobStatus.WAITING, 20)
    away(proxy)
    assert statuses(this.sources()) == ["ok"]
    assert found(udata, dataset).total_lines == 2
    assert any("fetched without link-proxy" in line["event"] for line in jobs().logs(job.id))


def test_what_link_proxy_finds_unchanged_is_not_fetched_again(
    bench: Bench, udata: Sandbox, portal: Site, proxy: LinkProxy
):
    dataset = udata.add(portal.url("/a.csv"))
    (resource,) = udata.resource_ids(dataset)
    assert statuses(Pass(bench, udata).sources()) == ["ok"]
    udata.change(resource)
    assert statuses(Pass(bench, udata).sources()) == ["unchanged"]
    assert (len(proxy.control.asked("POST")), downloads(proxy)) == (2, 1)
    portal.answers["/a.csv"] = Answer(OTHER)
    udata.change(resource)
    assert statuses(Pass(bench, udata).sources()) == ["ok"]
    assert found(udata, dataset).sha256 == hashlib.sha256(OTHER).hexdigest()


def test_each_file_of_an_archive_is_a_source_of_its_own(bench: Bench, udata: Sandbox, portal: Site, proxy: LinkProxy):
    packed = BytesIO()
    with ZipFile(packed, "w") as archive:
        archive.writestr("un.csv", TABLE)
        archive.writestr("deux.csv", OTHER)
    portal.answers["/both.zip"] = Answer(packed.getvalue(), content_type="application/zip")
    dataset = udata.add(portal.url("/both.zip"))
    this = Pass(bench, udata)
    until(lambda: len(this.enqueued) == 2, 30)
    assert statuses(this.sources()) == ["ok", "ok"]
    (part,) = [job.params["source"] for job in this.enqueued if job.params.get("part")]
    assert part.startswith(f"datagouv:{udata.resource_ids(dataset)[0]}/")
    both = {found(udata, dataset).sha256, services().get(IndexAccess).reading.get(part).sha256}
    assert both == {hashlib.sha256(table).hexdigest() for table in (TABLE, OTHER)}


def packed(**files: bytes) -> Answer:
    into = BytesIO()
    with ZipFile(into, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"{name}.csv", content)
    return Answer(into.getvalue(), content_type="application/zip")


def test_a_file_stays_what_it_is_when_another_of_its_archive_changes(
    bench: Bench, udata: Sandbox, portal: Site, proxy: LinkProxy
):
    portal.answers["/two.zip"] = packed(un=TABLE, deux=OTHER)
    dataset = udata.add(portal.url("/two.zip"))
    this = Pass(bench, udata)
    until(lambda: len(this.enqueued) == 2, 30)
    assert statuses(this.sources()) == ["ok", "ok"]
    own = found(udata, dataset).sha256
    (part,) = services().get(SourceRegistry).state(f"datagouv:{udata.resource_ids(dataset)[0]}").parts.splitlines()
    portal.answers["/two.zip"] = packed(**{"deux": OTHER, "un": TABLE, part: b"a;b\n1;2\n"})
    udata.change(udata.resource_ids(dataset)[0])
    this = Pass(bench, udata)
    until(lambda: len(this.enqueued) == 2, 30)
    assert statuses(this.sources()) == ["ok", "unchanged"]
    assert found(udata, dataset).sha256 == own
    assert portal.hits["/two.zip"] == 2  # by link-proxy


def test_all_files_of_a_large_archive_are_withdrawn(bench: Bench, udata: Sandbox, portal: Site, proxy: LinkProxy):
    portal.answers["/large.zip"] = packed(**{f"{n:02}{'é' * 180}": TABLE for n in range(25)})
    dataset = udata.add(portal.url("/large.zip"))
    this = Pass(bench, udata)
    until(lambda: len(this.enqueued) == 25, 60)
    assert statuses(this.sources()) == ["ok"] * 25
    names = [job.params["source"] for job in this.enqueued]
    assert all(map(services().get(IndexAccess).reading.get, names))
    udata.remove(dataset)
    Pass(bench, udata, full=True)
    assert not any(map(services().get(IndexAccess).reading.get, names))


def test_a_file_that_leaves_its_archive_is_withdrawn(bench: Bench, udata: Sandbox, portal: Site, proxy: LinkProxy):
    portal.answers["/many.zip"] = packed(un=TABLE, deux=OTHER, trois=TABLE + OTHER)
    (resource,) = udata.resource_ids(udata.add(portal.url("/many.zip")))
    this = Pass(bench, udata)
    until(lambda: len(this.enqueued) == 3, 30)
    assert statuses(this.sources()) == ["ok"] * 3
    parts = services().get(SourceRegistry).state(f"datagouv:{resource}").parts.splitlines()
    assert len(parts) == 2
    assert all(services().get(IndexAccess).reading.get(f"datagouv:{resource}/{part}") for part in parts)
    # link-proxy itself never lets go of a file: somebody has cleaned up there.
    link = proxy.find(portal.url("/many.zip"))
    assert link
    link.downloads.clear()
    portal.answers["/many.zip"] = packed(deux=TABLE)
    udata.change(resource)
    Pass(bench, udata).sources()
    assert services().get(SourceRegistry).state(f"datagouv:{resource}").parts is None
    assert not any(services().get(IndexAccess).reading.get(f"datagouv:{resource}/{part}") for part in parts)


def test_without_link_proxy_a_file_is_asked_for_only_if_it_has_changed(
    bench: Bench, udata: Sandbox, portal: Site, proxy: LinkProxy
):
    away(proxy)
    sent: list[dict[str, str]] = []
    body, etag = TABLE, '"one"'

    def answer(_path: str, headers: dict[str, str]) -> Answer:
        sent.append(headers)
        if etag and headers.get("If-None-Match") == etag:
            return Answer(status=304, headers={"ETag": etag})
        return Answer(body, headers={"ETag": etag} if etag else {})

    portal.route = answer
    dataset = udata.add(portal.url("/a.csv"))
    (resource,) = udata.resource_ids(dataset)
    assert statuses(Pass(bench, udata).sources()) == ["ok"]
    assert Pass(bench, udata).enqueued == []  # nothing has changed, so nobody is asked
    assert len(sent) == 1
    udata.change(resource)
    assert statuses(Pass(bench, udata).sources()) == ["unchanged"]
    assert sent[-1]["If-None-Match"] == '"one"'
    etag = ""
    udata.change(resource)
    assert statuses(Pass(bench, udata).sources()) == ["unchanged"]  # by its digest
    body = OTHER
    udata.change(resource)
    assert statuses(Pass(bench, udata).sources()) == ["ok"]
    assert "If-None-Match" not in sent[-1]
    assert found(udata, dataset).sha256 == hashlib.sha256(OTHER).hexdigest()
    # Another address: what is known of the old one is no condition.
    etag = '"one"'
    udata.change(resource, url=portal.url("/b.csv"))
    assert statuses(Pass(bench, udata).sources()) == ["unchanged"]
    assert "If-None-Match" not in sent[-1]


def test_a_file_that_fails_is_indexed_with_its_reason_and_tried_again_only_if_that_may_help(
    bench: Bench, udata: Sandbox, portal: Site, proxy: LinkProxy
):
    away(proxy)
    portal.answers["/page.csv"] = Answer(b"<!DOCTYPE html><html>Connexion</html>")
    portal.answers["/ill.csv"] = Answer(b"", 503, headers={"Retry-After": "0"})
    dataset = udata.add(*(portal.url(f"/{name}.csv") for name in ("gone", "page", "ill")))
    assert statuses(Pass(bench, udata).sources()) == ["failed"] * 3
    hits = [found(udata, dataset, number) for number in range(3)]
    assert [hit.status for hit in hits] == ["failed"] * 3
    assert [hit.error.type for hit in hits][::2] == ["http_404", "http_503"]
    assert "a web page, not a table" in hits[1].error.message
    portal.answers["/ill.csv"] = Answer(TABLE)
    again = Pass(bench, udata)
    assert [job.params["source"] for job in again.enqueued] == [f"datagouv:{udata.resource_ids(dataset)[2]}"]
    assert statuses(again.sources()) == ["ok"]
    assert found(udata, dataset, 2).status == "ok"


def test_a_pass_reads_all_pages_and_leaves_out_what_cannot_or_must_not_be_fetched(
    bench: Bench, udata: Sandbox, portal: Site, proxy: LinkProxy
):
    away(proxy)
    wanted = udata.add(portal.url("/a.csv"), last_update=ago(hours=2))
    udata.add(portal.url("/old.csv"), last_update=ago(days=30))
    excluded = "http://files.data.gouv.fr/lcsqa/concentrations-de-polluants-atmospheriques-reglementes/x.csv"
    for url in (None, "ftp://x/a.csv", "pas une adresse", excluded):
        udata.attach(udata.add(), url)
    for _ in range(100):
        udata.add()
    # Rows move while they are read: the last of the first page comes again on the second.
    udata.meanwhile[1] = lambda: udata.add(portal.url("/new.csv"))
    this = Pass(bench, udata)
    assert sorted(job.params["url"] for job in this.enqueued) == [portal.url("/a.csv"), portal.url("/new.csv")]
    (line,) = [line for line in jobs().logs(this.job.id) if line["event"] == "read"]
    # Begun again after the second page, and the first one once more at the end.
    assert (line["pages"], line["changed"], line["left_out"]) == (5, 2, "1 excluded, 3 not http")
    this.sources()
    assert found(udata, wanted).total_lines == 2


def test_since_and_limit_say_how_much_is_read(bench: Bench, udata: Sandbox, portal: Site, proxy: LinkProxy):
    away(proxy)
    for days in (1, 10, 20, 30):
        udata.add(portal.url(f"/{days}.csv"), last_update=ago(days=days, hours=-1))

    def urls(this: Pass) -> list[str]:
        this.sources()
        return sorted(job.params["url"] for job in this.enqueued)

    assert urls(Pass(bench, udata, limit=2, since=ago(days=25))) == [portal.url("/1.csv"), portal.url("/10.csv")]
    assert cursor(udata) is None  # it stopped early
    assert urls(Pass(bench, udata, limit=2, since=ago(days=25))) == [portal.url("/20.csv")]
    assert cursor(udata) is not None
    moved = cursor(udata)
    Pass(bench, udata, since=ago(days=-1))
    assert cursor(udata) == moved  # it did not go back as far as the last one


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 429, "headers": {"Retry-After": "1"}},
        {"status": 200, "body": "<html>maintenance</html>"},
        {"status": 0},
    ],
    ids=lambda fault: f"{fault['status']}",
)
def test_a_catalogue_that_fails_meanwhile_is_read_on_from_there(
    bench: Bench, udata: Sandbox, portal: Site, proxy: LinkProxy, fault: dict
):
    away(proxy)
    many(udata, portal)
    udata.control.faults.append(Fault(skip=1, **fault))
    this = Pass(bench, udata)
    assert len(statuses(this.sources())) == 2
    # The first page is read once more at the end: has anything moved meanwhile?
    assert [each["query"]["page"] for each in udata.control.asked("GET")] == ["1", "2", "2", "1"]
    assert cursor(udata)


def test_a_pass_that_fails_leaves_the_cursor_where_it_was(bench: Bench, udata: Sandbox, portal: Site, proxy: LinkProxy):
    away(proxy)
    many(udata, portal)
    udata.control.faults.append(Fault(skip=1, status=400))
    failed = Pass(bench, udata)
    assert failed.job.status is JobStatus.FAILED
    # What it had read is enqueued.
    assert (cursor(udata), len(failed.enqueued)) == (None, 1)
    Pass(bench, udata)
    assert len(statuses(failed.sources())) == 2
    moved = cursor(udata)
    udata.control.faults.append(Fault(status=400))
    Pass(bench, udata)
    assert cursor(udata) == moved


def test_a_killed_worker_in_the_middle_of_a_pass_forgets_no_source_and_doubles_none(
    bench: Bench, udata: Sandbox, portal: Site, proxy: LinkProxy
):
    away(proxy)
    many(udata, portal)
    reached, go_on = Event(), Event()
    udata.meanwhile[2] = lambda: reached.set() or go_on.wait(60)
    job = bench.start("catalogue", url=udata.url)
    assert reached.wait(30)
    bench.cluster.parts["io"].kill()
    go_on.set()
    bench.cluster.start("io")
    ended = bench.end(job, 90)
    assert ended.status is JobStatus.SUCCEEDED
    made = [one for one in jobs().newest(flow="source") if one.created > ended.created]
    assert len(made) == 2
    assert statuses([bench.end(one.id, 60) for one in made]) == ["ok", "ok"]
    assert (portal.hits["/a.csv"], portal.hits["/b.csv"]) == (1, 1)
    until(lambda: cursor(udata), 30)
    # What was read before the death was not read again.
    assert [each["query"]["page"] for each in udata.control.asked("GET")] == ["1", "2", "2", "1"]


def test_a_killed_worker_while_sources_are_enqueued_forgets_none_and_doubles_none(
    bench: Bench, udata: Sandbox, portal: Site, proxy: LinkProxy
):
    away(proxy)
    urls = [portal.url(f"/{number}.csv") for number in range(25)]
    portal.route = lambda *_: Answer(TABLE)
    udata.add(*urls)
    before = time.time()
    job = bench.start("catalogue", url=udata.url)

    def made() -> list[Job]:
        return [one for one in jobs().newest(flow="source", limit=500) if one.created >= before]

    until(lambda: len(made()) >= 3, 40, 0.005)
    bench.cluster.parts["io"].kill()
    bench.cluster.start("io")
    assert bench.end(job, 120).status is JobStatus.SUCCEEDED
    assert sorted(one.params["url"] for one in made()) == sorted(urls)
    assert statuses([bench.end(one.id, 120) for one in made()]) == ["ok"] * 25
    (dataset,) = udata.datasets
    assert {found(udata, dataset, number).status for number in range(25)} == {"ok"}
    assert Pass(bench, udata).enqueued == []


def test_a_pass_that_was_cancelled_is_made_up_for_by_the_next(
    bench: Bench, udata: Sandbox, portal: Site, proxy: LinkProxy
):
    away(proxy)
    many(udata, portal)
    reached, go_on = Event(), Event()
    udata.meanwhile[2] = lambda: reached.set() or go_on.wait(60)
    job = bench.start("catalogue", url=udata.url)
    assert reached.wait(30)
    assert jobs().end(job, JobStatus.CANCELLED)
    go_on.set()
    # The job that it has enqueued goes on, and the next pass does not double it.
    assert cursor(udata) is None
    again = Pass(bench, udata)
    made = [bench.end(one.id, 60) for one in jobs().created_after(bench.job(job).created, "source")]
    assert statuses(made) == ["ok", "ok"]
    assert (portal.hits["/a.csv"], portal.hits["/b.csv"]) == (1, 1)
    assert cursor(udata) == pytest.approx(again.job.created, abs=0.01)


@pytest.mark.parametrize("listed", [False, True], ids=["pages", "list"])
def test_a_full_pass_reads_everything_and_withdraws_what_has_vanished(
    bench: Bench, udata: Sandbox, portal: Site, proxy: LinkProxy, listed: bool
):
    away(proxy)
    portal.route = lambda *_: Answer(TABLE)
    old = udata.add(portal.url("/old.csv"), last_update=ago(days=900), title="Vieux; jeu\nde données")
    new = udata.add(portal.url("/a.csv"), portal.url("/b.csv"))
    removed = udata.add(portal.url("/c.csv"))
    udata.attach(new, portal.url("/facts.csv"), filesize=12, checksum={"type": "sha1", "value": "AB"}, format="CSV")
    private = udata.add(portal.url("/private.csv"), private=True)
    full = {"full": True} | ({"export": udata.export} if listed else {})
    assert len(statuses(Pass(bench, udata).sources())) == 4
    assert statuses(Pass(bench, udata, **full).sources()) == ["ok"]
    assert (found(udata, old).dataset_title, found(udata, private)) == ("Vieux; jeu\nde données", None)
    # From the pages or the list, what the catalogue says of a file is the same.
    assert Pass(bench, udata, since=ago(days=999)).enqueued == []
    assert Pass(bench, udata, full=True, export=udata.export).enqueued == []
    udata.remove(removed)
    udata.datasets[new]["resources"].pop(0)
    Pass(bench, udata)
    assert found(udata, removed)  # no full pass
    moved = cursor(udata)
    if listed:
        # The list may be a day old: what was seen since is not taken for vanished.
        Pass(bench, udata, **full)
        assert found(udata, removed)
        key = f"datafab:1:catalogue:{hashlib.sha256(udata.url.encode()).hexdigest()[:32]}:seen"
        for source, at in bench.redis.zrange(key, 0, -1, withscores=True):
            bench.redis.zadd(key, {source: at - 49 * 3600})
    this = Pass(bench, udata, **full)
    assert found(udata, removed) is None
    assert [found(udata, new, number).resource_url for number in range(2)] == [
        portal.url(path) for path in ("/b.csv", "/facts.csv")
    ]
    assert [line["sources"] for line in jobs().logs(this.job.id) if line["event"] == "withdrawn"] == [2]
    # So what has changed since it was made is left for the pages, as far as the cursor is concerned.
    assert cursor(udata) == moved if listed else cursor(udata) > moved
    assert services().get(SourceRegistry).count(udata.url) == 3
    if listed:
        bench.redis.hdel(f"datafab:1:catalogue:{hashlib.sha256(udata.url.encode()).hexdigest()[:32]}", "cursor")
        this = Pass(bench, udata, **full)
        assert cursor(udata) == pytest.approx(this.job.created - 48 * 3600, abs=0.01)


def test_what_the_index_has_lost_is_looked_at_by_the_next_full_pass(
    bench: Bench, udata: Sandbox, portal: Site, proxy: LinkProxy
):
    portal.answers["/lost.zip"] = packed(un=TABLE, deux=OTHER)
    udata.add(portal.url("/lost.zip"), portal.url("/a.csv"))
    this = Pass(bench, udata)
    until(lambda: len(this.enqueued) == 3, 30)
    assert statuses(this.sources()) == ["ok", "ok", "ok"]
    names = [job.params["source"] for job in this.enqueued]
    kept = [(found.source, found.sha256) for found in map(services().get(IndexAccess).reading.get, names)]
    for lost in names:
        # Its jobs are past their retention.
        assert services().get(IndexAccess).reading.delete(lost)
        before = Pass(bench, udata, full=True)
        assert not before.enqueued
        assert rebuild.schedule_missing(services()) == 1
        this = Pass(bench, udata, full=True)
        until(lambda lost=lost: services().get(IndexAccess).reading.get(lost), 30)
        assert set(statuses(this.sources())) == {"unchanged"}
    assert [(found.source, found.sha256) for found in map(services().get(IndexAccess).reading.get, names)] == kept
    assert rebuild.schedule_missing(services()) == 0


def test_a_look_that_began_during_a_pass_brings_nothing_back_that_it_withdraws(
    bench: Bench, udata: Sandbox, portal: Site, proxy: LinkProxy
):
    away(proxy)
    dataset = udata.add(portal.url("/a.csv"))
    assert statuses(Pass(bench, udata, full=True).sources()) == ["ok"]
    name = f"datagouv:{udata.resource_ids(dataset)[0]}"
    udata.remove(dataset)
    bench.cluster.parts["cpu"].kill()  # so that the look stops before its analysis
    looks: list[str] = []

    def look() -> None:
        portal.answers["/a.csv"] = Answer(OTHER)
        looks.append(bench.start("source", source=name, url=portal.url("/a.csv"), force=True, again=True))
        until(lambda: portal.hits["/a.csv"] == 2, 30)

    udata.meanwhile[1] = look
    Pass(bench, udata, full=True)
    bench.mend()
    assert bench.end(looks[0], 60).counts.ok == 1
    assert services().get(IndexAccess).reading.get(name) is None
    assert services().get(SourceRegistry).next_revisit(name) is None


def test_a_catalogue_that_has_lost_too_much_is_not_believed(
    bench: Bench, udata: Sandbox, portal: Site, proxy: LinkProxy
):
    sources = services().get(SourceRegistry)
    sources.mark_seen(udata.url, [f"datagouv:{number}" for number in range(501)], time.time() - 60)
    this = Pass(bench, udata, full=True)
    assert this.job.status is JobStatus.FAILED
    assert this.job.error
    assert (this.job.error.type, this.job.error.field) == ("many_vanished", "withdraw")
    assert (sources.count(udata.url), cursor(udata)) == (501, None)
    assert Pass(bench, udata, full=True, withdraw=1).job.status is JobStatus.SUCCEEDED
    assert (sources.count(udata.url), cursor(udata) is None) == (0, False)


def test_a_pass_waits_while_too_many_jobs_have_not_ended(bench: Bench, udata: Sandbox, portal: Site, proxy: LinkProxy):
    away(proxy)
    udata.add(portal.url("/a.csv"))
    crowd = {f"crowd:{number}": time.time() + 3600 for number in range(bench.settings.catalogue_backlog)}
    bench.redis.zadd("datafab:1:deadlines", crowd)
    job = bench.start("catalogue", url=udata.url)
    until(lambda: bench.job(job).status is JobStatus.WAITING, 20)
    assert udata.control.asked("GET") == []
    bench.redis.zrem("datafab:1:deadlines", *crowd)
    bench.ledger.wake(job)
    assert bench.end(job).status is JobStatus.SUCCEEDED
    (made,) = jobs().created_after(bench.job(job).created, "source")
    assert made.params["priority"] == 6  # never seen
    assert statuses([bench.end(made.id)]) == ["ok"]
    udata.change(udata.resource_ids(next(iter(udata.datasets)))[0])
    (again,) = Pass(bench, udata).sources()
    assert again.params["priority"] == 9


def test_a_list_that_is_none_fails_the_pass(bench: Bench, udata: Sandbox, portal: Site, proxy: LinkProxy):
    for path in ("/a.csv", "/absent.csv"):
        job = Pass(bench, udata, full=True, export=portal.url(path)).job
        assert job.error
        assert (job.status, job.error.field) == (JobStatus.FAILED, "export")
    assert cursor(udata) is None


def test_two_passes_at_once_double_nothing(bench: Bench, udata: Sandbox, portal: Site, proxy: LinkProxy):
    away(proxy)
    portal.route = lambda *_: Answer(TABLE)
    udata.add(*(portal.url(f"/{number}.csv") for number in range(8)))
    before = time.time()
    passes = [bench.start("catalogue", url=udata.url) for _ in range(2)]
    assert [bench.end(job, 60).status for job in passes] == [JobStatus.SUCCEEDED] * 2
    made = [bench.end(job.id, 60) for job in jobs().created_after(before - 1, "source") if job.created >= before]
    assert statuses(made) == ["ok"] * 8
    assert set(portal.hits.values()) == {1}


@pytest.mark.parametrize(
    ("flow", "params", "code", "field"),
    [
        ("catalogue", {"limit": 0}, "bad_request", "limit"),
        ("catalogue", {"since": "hier"}, "bad_request", "since"),
        ("source", {"source": "x", "url": "ftp://x/a.csv"}, "not_http", "url"),
        ("source", {"source": "", "url": "http://x/"}, "bad_request", "source"),
        ("source", {"source": "x", "url": "http://x/", "dataset": {"titre": "x"}}, "bad_request", "dataset.titre"),
    ],
)
def test_parameters_that_are_no_good_fail_the_job_and_are_named(
    bench: Bench, flow: str, params: dict, code: str, field: str
):
    job = bench.end(bench.start(flow, **params))
    assert job.error
    assert (job.status, job.error.type, job.error.field) == (JobStatus.FAILED, code, field)


def test_the_token_is_found_nowhere(bench: Bench, udata: Sandbox, portal: Site, proxy: LinkProxy, hooks: str):
    udata.add(portal.url("/a.csv"))
    this = Pass(bench, udata)
    assert statuses(this.sources()) == ["ok"]
    until(lambda: proxy.deliveries, 10)
    wrong = requests.post(f"{hooks}/linkproxypost", json=proxy.deliveries[0]["body"], timeout=10)
    assert wrong.status_code == 401
    assert TOKEN not in wrong.text
    assert TOKEN not in bench.everything()
    logs = "".join(part.log.read_text() for part in bench.cluster.parts.values())
    assert this.enqueued[0].id in logs
    assert TOKEN not in logs


def test_on_a_day_when_everything_goes_wrong_no_file_is_forgotten_and_none_is_fetched_twice(
    bench: Bench, udata: Sandbox, portal: Site, proxy: LinkProxy, hooks: str
):
    version = b"1"
    portal.route = lambda path, _: Answer(b"a;b\n" + path.encode() + b";" + version + b"\n")
    paths = [f"/{number}.csv" for number in range(12)]
    late = [udata.add(portal.url(path), last_update=ago(hours=2)) for path in paths[:6]]
    for _ in range(100):
        udata.add()
    early = [udata.add(portal.url(path)) for path in paths[6:]]
    # The catalogue limps, link-proxy is away for some, and its messages come twice.
    udata.control.faults += [
        Fault(skip=1, status=429, headers={"Retry-After": "0"}),
        Fault(skip=1, status=500),
        Fault(skip=1, status=200, body="<html>maintenance</html>"),
    ]
    proxy.control.faults.append(Fault(method="POST", skip=3, times=4, status=503))
    proxy.webhooks = "twice"
    reached, go_on = Event(), Event()
    udata.meanwhile[2] = lambda: reached.set() or go_on.wait(60)
    job = bench.start("catalogue", url=udata.url)
    assert reached.wait(30)
    for name in ("beat", "control"):
        bench.cluster.parts[name].kill()
    for body in (b"{", b"[]", b'{"check": {"linkId": "../x", "number": 1}}', b"x" * 2_000_000, b"{}"):
        sent = {"Content-Type": "application/json", "Authorization": f"Basic {TOKEN}"}
        assert requests.post(f"{hooks}/hooks/link-proxy", body, headers=sent, timeout=20).status_code in {400, 413}
    go_on.set()
    bench.mend()
    bench.cluster.start("beat2")
    assert bench.end(job, 90).status is JobStatus.SUCCEEDED

    def through(since: float) -> list[Job]:
        return [bench.end(one.id, 90) for one in jobs().created_after(since, "source")]

    assert statuses(through(bench.job(job).created)) == ["ok"] * 12
    assert dict(portal.hits) == dict.fromkeys(paths, 1)
    # All have changed; the messages come in the wrong order, when nobody waits any more, or never.
    version, proxy.webhooks = b"2", "late"
    for dataset in late + early:
        udata.change(udata.resource_ids(dataset)[0])
    again = Pass(bench, udata)
    assert statuses(again.sources(90)) == ["ok"] * 12
    proxy.late.reverse()
    proxy.deliver()
    assert dict(portal.hits) == dict.fromkeys(paths, 2)
    for path, dataset in zip(paths, late + early, strict=True):
        assert found(udata, dataset).sha256 == hashlib.sha256(b"a;b\n" + path.encode() + b";2\n").hexdigest()
    # link-proxy's own journal: each file was asked for once in each round, but for those that it had no answer for.
    asked = [each["body"]["location"] for each in proxy.control.asked("POST", "/") if each["status"] == 200]
    assert len(asked) == 2 * 12 - 4
    assert max(asked.count(location) for location in asked) == 2
    assert Pass(bench, udata).enqueued == []
