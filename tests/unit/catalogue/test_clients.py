"""What our clients of a catalogue and of a link-proxy make of answers, good and odd ones."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from typing import Any

import pytest
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from datafab.catalogue.datagouv import Datagouv
from datafab.catalogue.dataset import Resource, parse_moment, usable_resources
from datafab.catalogue.linkproxy import LinkProxy
from datafab.catalogue.linkproxy_checks import Check, Outcome, parse_downloads
from datafab.catalogue.pagination import CataloguePager
from datafab.core.backoff import retry_after
from datafab.core.memory_jobs import MemoryJobs
from datafab.core.services import Services
from datafab.errors import DatafabError, Fatal, Retriable, SettingError
from datafab.fetch import json_api as rest
from datafab.ops.pings import pings as ping_all
from datafab.sandbox.catalogue import Sandbox as Catalogue
from datafab.sandbox.catalogue import catalogue
from datafab.sandbox.catalogue_routes import app_of
from datafab.sandbox.control import Fault, serving
from datafab.sandbox.linkproxy import linkproxy
from datafab.sandbox.links import Sandbox as Proxy
from datafab.settings import load
from tests.servers import celery
from tests.servers.http import Answer, Site, redirect

TOKEN = "planted-token"  # noqa: S105 - it opens nothing
JSON = "application/json"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def of(document: Any, **given: Any) -> Answer:
    return Answer(json.dumps(document).encode(), content_type=JSON, **given)


def raised(call: Callable[[], object]) -> DatafabError:
    with pytest.raises(DatafabError) as error:
        call()
    assert TOKEN not in error.value.message + str(error.value.field)
    return error.value


@pytest.fixture
def udata() -> Iterator[Catalogue]:
    with catalogue() as sandbox:
        yield sandbox


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with linkproxy() as sandbox:
        yield sandbox


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


def datagouv(root: str, **settings: Any) -> Datagouv:
    return Datagouv(load({}, catalogue_url=root, **settings))


def client(root: str, **settings: Any) -> LinkProxy:
    return LinkProxy(load({}, linkproxy_url=root, linkproxy_token=TOKEN, **settings))


@contextmanager
def behind(prefix: str, udata: Catalogue) -> Iterator[str]:
    """Serve a catalogue below a path, as a reverse proxy does; gives the root of its API."""
    app = Flask("front")
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {prefix: app_of(udata)})  # type: ignore[method-assign]
    with serving(app) as url:
        yield f"{url}{prefix}/api/1"


#: One call of each kind, on a server that answers all the same.
CALLS: dict[str, Callable[[str], object]] = {
    "page": lambda root: datagouv(root).page(),
    "dataset": lambda root: datagouv(root).dataset("d"),
    "submit": lambda root: client(root).submit("http://a.fr/"),
    "find": lambda root: client(root).find("http://a.fr/"),
    "link": lambda root: client(root).link("a1"),
    "latest": lambda root: client(root).latest("a1"),
}


@pytest.mark.parametrize("call", CALLS)
class TestAnyAnswer:
    def ask(self, call: str, answer: Answer) -> DatafabError:
        with Site(router=lambda *_: answer) as site:
            root = site.url("").replace("://", f"://user:{TOKEN}@")
            error = raised(lambda: CALLS[call](root))
            assert site.url("") in (error.field or "")
            assert site.url("") in error.message
            return error

    @pytest.mark.parametrize(
        ("status", "headers", "delay"),
        [
            (429, {"Retry-After": "17"}, 17),
            (429, {}, None),
            (503, {"Retry-After": "0"}, 0),
            (503, {"Retry-After": "soon"}, None),
            (503, {"Retry-After": "Fri, 20 Nov 2020 00:00:00 GMT"}, 0),
            (500, {}, None),
            (408, {}, None),
        ],
    )
    def test_later(self, call: str, status: int, headers: dict[str, str], delay: float | None):
        error = self.ask(call, Answer(b"<html>busy</html>", status, headers=headers))
        assert isinstance(error, Retriable)
        assert error.delay == delay
        assert error.code in {f"catalogue_{status}", f"linkproxy_{status}"}
        assert "busy" in error.message

    @pytest.mark.parametrize("status", [400, 401, 403, 418])
    def test_never(self, call: str, status: int):
        error = self.ask(call, of({"message": "Non, merci"}, status=status))
        assert isinstance(error, Fatal)
        assert f"answered {status}: Non, merci; is DATAFAB_" in error.message

    @pytest.mark.parametrize("status", [301, 307])
    def test_elsewhere(self, call: str, status: int):
        error = self.ask(call, redirect(f"https://user:{TOKEN}@elsewhere.example/", status))
        assert isinstance(error, Fatal)
        assert "sent elsewhere, to https://elsewhere.example/" in error.message

    @pytest.mark.parametrize("fault", ["hang-up", "short", "garbage"])
    def test_no_answer(self, call: str, fault: Any):
        assert isinstance(self.ask(call, Answer(b"{}", fault=fault)), Retriable)

    def test_nobody_there(self, call: str):
        assert isinstance(raised(lambda: CALLS[call]("http://127.0.0.1:1")), Retriable)


@pytest.mark.parametrize(
    ("call", "answer", "says"),
    [
        ("page", Answer(b"<html>maintenance</html>"), "<html>maintenance"),
        ("page", Answer(b""), "no JSON object"),
        ("page", Answer(b"[" * 100_000), "no JSON object"),
        ("page", of([]), "no JSON object"),
        ("page", of({"data": None}), "no list of datasets"),
        ("dataset", Answer(b"\xff\xfe"), "no JSON object"),
        ("submit", of({}), "_id is None"),
        ("submit", of({"_id": "../admin"}), "_id is '../admin'"),
        ("find", redirect("/"), "redirects to '/'"),
        ("find", redirect("/a b"), "redirects to"),
        ("link", of([1]), "no JSON object"),
        ("latest", redirect("/b2/checks/1"), "redirects to '/b2/checks/1'"),
        ("latest", redirect("https://elsewhere.example/a1/checks/"), "redirects to"),
    ],
)
def test_an_answer_without_sense_may_be_better_later(site: Site, call: str, answer: Answer, says: str):
    site.route = lambda *_: answer
    error = raised(lambda: CALLS[call](site.url("")))
    assert isinstance(error, Retriable)
    assert error.code.endswith("_answer")
    assert says in error.message


@pytest.mark.parametrize("fault", ["drip", "slow-head"])
def test_an_answer_that_drips_is_cut_off(site: Site, fault: Any):
    site.route = lambda *_: of({"data": [1] * 1000}, fault=fault)
    error = raised(datagouv(site.url(""), total_timeout=0.3).page)
    assert (type(error), error.code) == (Retriable, "timeout")


@pytest.mark.parametrize("packed", [True, False])
def test_an_answer_has_a_largest_size(site: Site, monkeypatch: pytest.MonkeyPatch, packed: bool):
    monkeypatch.setattr(rest, "MAX_ANSWER_BYTES", 1024**2)
    body = b" " * 8 * 1024**2
    headers = {"Content-Encoding": "gzip"} if packed else {}
    site.route = lambda *_: Answer(gzip.compress(body) if packed else body, headers=headers)
    error = raised(datagouv(site.url("")).page)
    assert (type(error), error.code) == (Fatal, "too_large")
    assert "more than 1048576 bytes" in error.message


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120),
        (" 5 ", 5),
        ("Fri, 20 Nov 2026 12:01:00 GMT", 60),
        ("Fri, 20 Nov 2026 11:00:00 GMT", 0),
        ("Fri, 20 Nov 2026 12:01:00 -0000", 60),
        ("-1", None),
        ("²", None),
        ("", None),
        ("Fri, 99 Nov 2026 12:01:00 GMT", None),
    ],
)
def test_how_long_to_stay_away(text: str, seconds: float | None):
    assert retry_after(text, format_datetime(NOON, usegmt=True)) == seconds


class TestDatagouv:
    def test_one_page_after_the_other(self, udata: Catalogue):
        names = [udata.add(f"https://example.org/{n}.csv") for n in range(230)]
        found = datagouv(udata.url)
        first = found.page()
        second = found.page(first.next_page)
        third = found.page(second.next_page)
        assert [page.total for page in (first, second, third)] == [230] * 3
        assert [each["id"] for page in (first, second, third) for each in page.datasets] == names[::-1]
        assert third.next_page is None
        asked = udata.control.asked("GET")
        assert [each["query"]["sort"] for each in asked] == ["-last_update"] * 3
        assert [each["query"]["page_size"] for each in asked] == ["100"] * 3

    def test_only_what_is_read_is_asked_for(self, udata: Catalogue):
        udata.control.clock.at = NOON
        udata.add("https://example.org/a.csv", description="long " * 1000)
        (dataset,) = datagouv(udata.url).page().datasets
        assert dataset.keys() == {"id", "title", "last_update", "organization", "resources"}
        (resource,) = (Resource.parse(*raw) for raw in usable_resources(dataset))
        assert (resource.url, resource.dataset.organisation) == ("https://example.org/a.csv", "Producteur")
        assert resource.last_modified == parse_moment(dataset["last_update"]) == NOON

    def test_a_name_of_its_own_leads_nowhere_else(self, udata: Catalogue):
        for _ in range(101):
            udata.add()
        udata.public = "http://udata.invalid:7000/api/1"
        found = datagouv(udata.url + "/")
        following = found.page().next_page
        assert following == f"{udata.url}/datasets/?sort=-last_update&page=2&page_size=100"
        assert len(found.page(following).datasets) == 1

    def test_the_list_may_end_before_the_next_page(self, udata: Catalogue):
        names = [udata.add() for _ in range(101)]
        found = datagouv(udata.url)
        following = found.page().next_page
        udata.remove(names[0])
        page = found.page(following)
        assert (page.datasets, page.next_page, page.total) == ([], None, None)
        with pytest.raises(Fatal, match="404"):
            datagouv(f"{udata.url}/nowhere").page()

    @pytest.mark.parametrize("path", ["", "/", "//"])
    @pytest.mark.parametrize("prefix", ["", "/portail/api/1"])
    def test_extras_go_to_api_2(self, udata: Catalogue, prefix: str, path: str):
        dataset = udata.add("https://example.org/a.csv")
        (name,) = udata.resource_ids(dataset)
        with behind(prefix, udata) as root:
            found = datagouv(root + path, catalogue_key=udata.key)
            assert found.page().total == 1
            found.write_extras(dataset, name, {"check:status": 200, "check:error": "x", "own": [1]})
            found.write_extras(dataset, name, {"check:error": None, "check:available": True})
        extras = udata.datasets[dataset]["resources"][0]["extras"]
        assert extras == {"check:status": 200, "own": [1], "check:available": True}
        assert {each["path"] for each in udata.control.asked("PUT")} == {
            f"/api/2/datasets/{dataset}/resources/{name}/extras/"
        }

    def test_extras_that_are_not_taken(self, udata: Catalogue, site: Site):
        dataset = udata.add("https://example.org/a.csv")
        (name,) = udata.resource_ids(dataset)
        found = datagouv(udata.url, catalogue_key=udata.key)
        for code, given in (
            ("catalogue_404", (dataset, "0651fb76-bcf3-4f6a-a38d-bc04fa708576", {})),
            ("catalogue_404", (dataset, "nobody", {})),
            ("catalogue_404", ("nobody", name, {})),
            ("catalogue_400", (dataset, name, {"check:status": "many"})),
        ):
            error = raised(partial(found.write_extras, *given))
            assert (type(error), error.code) == (Fatal, code)
            assert "DATAFAB_CATALOGUE_URL or DATAFAB_CATALOGUE_KEY" in error.message
        error = raised(lambda: datagouv(udata.url, catalogue_key=TOKEN).write_extras(dataset, name, {}))
        assert error.code == "catalogue_401"
        udata.remove(dataset)
        assert raised(lambda: found.write_extras(dataset, name, {})).code == "catalogue_410"
        assert raised(lambda: datagouv(udata.url).write_extras(dataset, name, {})).field == "DATAFAB_CATALOGUE_KEY"
        elsewhere = raised(lambda: datagouv(site.url("/root"), catalogue_key=TOKEN).write_extras(dataset, name, {}))
        assert (elsewhere.code, elsewhere.field) == ("catalogue_root", site.url("/root"))

    @pytest.mark.parametrize("answer", [Answer(b"<html>Bonjour</html>"), of({}), of([]), of({"check:status": 200})])
    def test_an_answer_without_the_extras_is_none(self, site: Site, answer: Answer):
        site.route = lambda *_: answer
        found = datagouv(site.url("/api/1"), catalogue_key=TOKEN)
        error = raised(lambda: found.write_extras("d", "r", {"check:status": 200, "check:available": True, "x": None}))
        assert (type(error), error.code) == (Retriable, "catalogue_answer")

    def test_half_a_character_is_replaced(self, site: Site):
        page = rb'{"data": [{"id": "a", "e": "\ud800y", "b": "\udc00"}, {"id": "c", "title": "\ud83d\ude00\u00e9"}]}'
        site.route = lambda *_: Answer(page)
        (half, whole) = datagouv(site.url("")).page().datasets
        assert half == {"id": "a", "e": "\ufffd\ufffd\ufffdy", "b": "\ufffd\ufffd\ufffd"}
        assert whole["title"] == "\U0001f600é"

    @pytest.mark.parametrize("following", [7, "", "http://[x", "/api/1/datasets/", {}])
    def test_a_next_page_that_is_none(self, site: Site, following: Any):
        site.route = lambda *_: of({"data": [], "next_page": following, "total": "many"})
        page = datagouv(site.url("")).page()
        assert (page.next_page, page.total) == (None, None)

    @pytest.mark.parametrize(
        "url", ["http://evil.example/datasets/?page=2", "{root}.evil/datasets/?page=2", "{root}/x"]
    )
    def test_a_page_of_another_is_refused(self, site: Site, url: str):
        error = raised(lambda: datagouv(site.url("")).page(url.format(root=site.url(""))))
        assert (type(error), error.code) == (Fatal, "catalogue_elsewhere")
        assert not site.requests

    def test_a_dataset_and_a_resource(self, udata: Catalogue):
        name = udata.add("https://example.org/a.csv", "https://example.org/b.csv")
        found, (_, second) = datagouv(udata.url), udata.resource_ids(name)
        assert (found.dataset(name) or {})["id"] == name
        assert (found.resource(name, second) or {})["url"] == "https://example.org/b.csv"
        assert found.resource(name, "nobody") is None
        assert found.resource("nobody/../x", second) is None
        assert found.file_url(second) == "https://example.org/b.csv"
        assert found.file_url("nobody") is found.file_url("../x") is None
        udata.remove(name)
        assert found.resource(name, second) is None

    def test_a_catalogue_that_a_job_names_is_not_among_private_addresses(self, udata: Catalogue):
        udata.add()
        datagouv(udata.url).page()
        error = raised(Datagouv(load({}), udata.url).page)
        assert (type(error), error.code) == (Fatal, "private_address")
        assert Datagouv(load({}, allow_private_hosts="127.0.0.1"), udata.url).page().total == 1

    def test_it_stands_beyond_the_proxy(self, site: Site):
        site.route = lambda *_: of({"data": []})
        datagouv("http://udata.invalid/api/1", proxy=site.url("")).page()
        assert site.requests[0][0].startswith("http://udata.invalid/api/1/datasets/?")

    def test_an_address_that_is_none(self):
        assert type(raised(Datagouv(load({}), "ftp://a.fr").page)) is Fatal

    def test_threads_share_it(self, udata: Catalogue):
        name, found = udata.add(), datagouv(udata.url)
        with ThreadPoolExecutor(8) as pool:
            assert all(each and each["id"] == name for each in pool.map(lambda _: found.dataset(name), range(40)))

    def test_a_whole_pass_over_rows_that_move(self, udata: Catalogue):
        names = [udata.add(f"https://example.org/{n}.csv") for n in range(250)]
        udata.meanwhile[1] = lambda: udata.remove(names[-1])
        udata.meanwhile[2] = lambda: udata.change(udata.resource_ids(names[0])[0])
        found, pager, told = datagouv(udata.url), CataloguePager(None), list[str]()
        while not pager.finished:
            told += [dataset["id"] for dataset in pager.accept(found.page(pager.url))]
        assert sorted(told) == sorted(names)

    def test_a_pass_goes_no_further_than_it_must(self, udata: Catalogue):
        for hour in range(250):
            udata.add(last_update=(NOON - timedelta(hours=hour)).isoformat())
        found, pager, told = datagouv(udata.url), CataloguePager(NOON - timedelta(hours=99)), 0
        while not pager.finished:
            told += len(pager.accept(found.page(pager.url)))
        assert told == 100
        assert {each["query"]["page"] for each in udata.control.asked("GET")} == {"1", "2"}

    def test_a_page_that_failed_is_asked_again(self, udata: Catalogue):
        for _ in range(101):
            udata.add()
        found = datagouv(udata.url)
        following = found.page().next_page
        udata.control.faults.append(Fault(status=429, headers={"Retry-After": "3"}))
        error = raised(lambda: found.page(following))
        assert (type(error), error.delay) == (Retriable, 3)  # type: ignore[attr-defined]
        assert len(found.page(following).datasets) == 1


class TestLinkProxy:
    def test_from_a_url_to_its_download(self, proxy: Proxy, site: Site):
        site.answers["/a.csv"] = Answer(b"id;nom\n1;a\n")
        url, found = site.url("/a.csv"), client(proxy.url)
        assert found.find(url) is None
        link = found.submit(url)
        assert found.find(url) == link
        latest = celery.until(lambda: found.latest(link), 60, every=0.01)
        check = Check.parse(latest)
        assert check is not None
        assert (check.number, check.state, check.outcome) == (1, "finished", Outcome.DOWNLOADS)
        (download,) = parse_downloads(found.link(link) or {})
        assert (download.type, download.version[:7]) == ("csv", "sha384-")
        assert download.url.startswith(f"{proxy.url}/link-proxy-files/127.0.0.1/")
        found.submit(url)
        later = celery.until(lambda: self.later(found, link, check), 60, every=0.01)
        assert (later.number, later.outcome) == (2, Outcome.FRESH)
        found.submit(url, no_cache=True)
        last = celery.until(lambda: self.later(found, link, later), 60, every=0.01)
        assert (last.number, last.outcome, site.hits["/a.csv"]) == (3, Outcome.DOWNLOADS, 2)
        # It keeps the same once more.
        (again,) = parse_downloads(found.link(link) or {})
        assert (again.version, again.name) == (download.version, download.name)
        assert again.id != download.id

    def later(self, found: LinkProxy, link: str, before: Check) -> Check | None:
        check = Check.parse(found.latest(link) or {})
        return check if check is not None and check.is_later_than(before) else None

    def test_nothing_there_yet(self, proxy: Proxy):
        found = client(proxy.url)
        assert (found.link("a1"), found.latest("a1"), found.find("http://a.fr/é?a=1&b=2")) == (None, None, None)
        proxy.hold("queued")
        assert found.latest(found.submit("http://a.invalid/")) is None

    def test_how_other_checks_end(self, proxy: Proxy):
        found = client(proxy.url)
        for url, state in {"https://www.data.gouv.fr/a": "blacklisted", "http://127.0.0.1:1/a": "errored"}.items():
            latest = partial(found.latest, found.submit(url))
            check = Check.parse(celery.until(latest, 60, every=0.01))
            assert check is not None
            assert (check.state, check.outcome) == (state, Outcome.DIRECT)

    def test_it_may_stand_behind_a_path(self, site: Site):
        site.answers = {
            "/lp/a1/checks/latest": redirect("/a1/checks/12"),
            "/lp/a1/checks/12": of({"number": 12}),
            "/lp/?location=http%3A%2F%2Fa.fr%2F": redirect("http://elsewhere.example/a1"),
        }
        found = client(site.url("/lp/"))
        assert found.latest("a1") == {"number": 12}
        assert found.find("http://a.fr/") == "a1"

    @pytest.mark.parametrize("link", ["", "../x", "a/b", "a?b", "a b", "é"])
    def test_what_is_no_id_becomes_no_url(self, site: Site, link: str):
        for call in (client(site.url("")).link, client(site.url("")).latest):
            assert type(raised(lambda call=call: call(link))) is Fatal
        assert not site.requests

    def test_it_is_a_neighbour(self, proxy: Proxy):
        client(proxy.url, proxy="http://127.0.0.1:1").ping()

    def test_the_token_is_for_its_webhooks_only(self, site: Site):
        site.route = lambda *_: of({"_id": "a1"})
        settings = load({}, linkproxy_url=site.url(""), linkproxy_token=TOKEN)
        LinkProxy(settings).submit("http://a.fr/")
        assert TOKEN not in str(site.requests) + repr(settings)


class TestServices:
    def test_what_is_configured_is_pinged(self, udata: Catalogue, proxy: Proxy, tmp_path):
        def pings(**settings: Any) -> dict[str, str | None]:
            services = Services(load({}, home=tmp_path, **settings), jobs=MemoryJobs())
            try:
                answers = ping_all(services)
            finally:
                services.close()
            return {name: answers[name] for name in answers if name in {"catalogue", "link-proxy"}}

        assert pings() == {}
        assert pings(catalogue_url=udata.url, linkproxy_url=proxy.url) == {"catalogue": None, "link-proxy": None}
        away = pings(catalogue_url="http://127.0.0.1:1", linkproxy_url="http://127.0.0.1:1")
        assert all(answer and "nothing listens" in answer for answer in away.values()), away
        assert len(away) == 2

    def test_clients_are_made_once(self):
        services = Services(load({}, linkproxy_url="http://127.0.0.1:1"))
        assert services.get(LinkProxy) is services.get(LinkProxy)
        assert Datagouv.at(services, None) is services.get(Datagouv)
        assert Datagouv.at(services, "https://a.fr/api/1").url == "https://a.fr/api/1"

    def test_no_link_proxy(self):
        error = raised(lambda: Services(load({})).get(LinkProxy))
        assert (type(error), error.field) == (SettingError, "DATAFAB_LINKPROXY_URL")
