"""The small udata and the small link-proxy answer as the contract says. Asked without our clients."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import requests

from datafab.sandbox.catalogue import Sandbox as Catalogue
from datafab.sandbox.catalogue import catalogue
from datafab.sandbox.catalogue_routes import app_of
from datafab.sandbox.control import Fault
from datafab.sandbox.linkproxy import linkproxy
from datafab.sandbox.links import Sandbox as LinkProxy
from datafab.sandbox.many import Many
from tests.servers import celery
from tests.servers.http import Answer, Site
from tests.servers.subscriber import Subscriber

TABLE = b"id;nom\n1;a\n"


def get(url: str, **given: Any) -> requests.Response:
    return requests.get(url, timeout=30, allow_redirects=False, **given)


def until(holds: Callable[[], object]) -> None:
    celery.until(holds, 60, every=0.01)


def sim(root: str, **operations: Any) -> requests.Response:
    return requests.post(f"{root}/_sim", json=operations, timeout=30)


#: What udata 17.18 serves of datasets and resources, without feeds and RDF. Source: ``app.url_map`` of the package
#: udata, made by ``udata.app.create_app`` and ``standalone``.
ROUTES = {
    (method, path)
    for methods, path in (
        ("GET POST", "/api/1/datasets/"),
        ("GET PUT DELETE", "/api/1/datasets/<>/"),
        ("POST PUT", "/api/1/datasets/<>/resources/"),
        ("GET PUT DELETE", "/api/1/datasets/<>/resources/<>/"),
        ("POST", "/api/1/datasets/<>/resources/<>/analysis/"),
        ("POST", "/api/1/datasets/<>/resources/<>/upload/"),
        ("GET", "/api/1/datasets/r/<>"),
        ("GET", "/api/1/site/datasets.csv"),
        ("GET", "/api/1/site/resources.csv"),
        ("GET", "/api/2/datasets/"),
        ("GET", "/api/2/datasets/<>/"),
        ("GET PUT DELETE", "/api/2/datasets/<>/extras/"),
        ("GET", "/api/2/datasets/<>/resources/"),
        ("GET PUT DELETE", "/api/2/datasets/<>/resources/<>/extras/"),
        ("GET", "/api/2/datasets/<>/schemas/"),
        ("GET", "/api/2/datasets/resources/<>/"),
        ("GET", "/api/2/datasets/search/"),
    )
    for method in methods.split()
}


def root_of(udata: Catalogue) -> str:
    return udata.url.removesuffix("/api/1")


@pytest.fixture
def udata() -> Iterator[Catalogue]:
    with catalogue() as sandbox:
        yield sandbox


@pytest.fixture
def proxy() -> Iterator[LinkProxy]:
    with linkproxy() as sandbox:
        yield sandbox


@pytest.fixture
def site() -> Iterator[Site]:
    with Site({"/a.csv": Answer(TABLE)}) as site:
        yield site


class TestCatalogue:
    def test_pages_with_the_last_updated_first(self, udata: Catalogue):
        names = [udata.add(f"https://example.org/{n}.csv") for n in range(5)]
        url = f"{udata.url}/datasets/?sort=-last_update&page=1&page_size=2"
        seen: list[str] = []
        while url:
            page = get(url).json()
            assert (page["total"], page["page_size"]) == (5, 2)
            seen += [dataset["id"] for dataset in page["data"]]
            url = page["next_page"]
        assert seen == names[::-1]
        assert get(f"{udata.url}/datasets/?page=3&page_size=2").json()["previous_page"].endswith("page=2&page_size=2")

    @pytest.mark.parametrize("sort", ["-last_modified", "last_modified", "x", "--title"])
    def test_an_unknown_sort_is_refused(self, udata: Catalogue, sort: str):
        answer = get(f"{udata.url}/datasets/", params={"sort": sort})
        assert answer.status_code == 400
        assert sort in answer.json()["errors"]["sort"]

    @pytest.mark.parametrize("sort", ["title", "-created", "last_update", "-reuses", "followers", "views"])
    def test_known_sorts_are_taken(self, udata: Catalogue, sort: str):
        first, second = (
            udata.add(title=title, metrics={"reuses": n, "followers": n, "views": n}) for n, title in enumerate("ab")
        )
        listed = [each["id"] for each in get(f"{udata.url}/datasets/", params={"sort": sort}).json()["data"]]
        assert listed == ([second, first] if sort.startswith("-") else [first, second])

    @pytest.mark.parametrize("query", ["page=0", "page_size=0", "page=-1", "page=x"])
    def test_an_odd_page_is_refused(self, udata: Catalogue, query: str):
        assert get(f"{udata.url}/datasets/?{query}").status_code == 400

    def test_rows_move(self, udata: Catalogue):
        old, new = udata.add("https://example.org/old.csv"), udata.add("https://example.org/new.csv")

        def order() -> list[str]:
            return [each["id"] for each in get(f"{udata.url}/datasets/?sort=-last_update").json()["data"]]

        assert order() == [new, old]
        udata.change(udata.resource_ids(old)[0], filesize=7)
        assert order() == [old, new]
        udata.touch(new, "2090-01-01T00:00:00+00:00")
        assert order() == [new, old]
        udata.remove(new)
        assert order() == [old]

    def test_something_happens_after_a_page(self, udata: Catalogue):
        udata.add()
        udata.meanwhile[1] = udata.add
        assert [get(f"{udata.url}/datasets/").json()["total"] for _ in range(3)] == [1, 2, 2]

    @pytest.mark.parametrize(
        ("mask", "expected"),
        [
            ("total", {"total": 1}),
            ("data{title},total", {"data": [{"title": "t"}], "total": 1}),
            ("data { title , organization { name } } ", {"data": [{"title": "t", "organization": {"name": "o"}}]}),
            ("data{harvest{modified_at}}", {"data": [{"harvest": None}]}),
            ("{data{title}}", {"data": [{"title": "t"}]}),
            ("data{resources{url,checksum}}", {"data": [{"resources": [{"url": "u", "checksum": None}]}]}),
            ("nothing,total", {"total": 1}),
        ],
    )
    def test_masks(self, udata: Catalogue, mask: str, expected: dict[str, Any]):
        udata.add("u", title="t", organization={"id": "1", "name": "o"})
        assert get(f"{udata.url}/datasets/", headers={"X-Fields": mask}).json() == expected

    @pytest.mark.parametrize(
        ("mask", "why"),
        [
            ("data{title", "Missing closing bracket"),
            ("data}", "Unexpected closing bracket"),
            ("{", "Missing closing bracket"),
            ("data{title}}", "Unexpected closing bracket"),
            ("data,,total", "Unexpected comma"),
            ("total,{data}", "Unexpected opening bracket"),
        ],
    )
    def test_a_broken_mask_is_refused(self, udata: Catalogue, mask: str, why: str):
        answer = get(f"{udata.url}/datasets/", headers={"X-Fields": mask})
        assert (answer.status_code, answer.json()) == (400, {"message": f"Mask parse error: {why}"})

    def test_the_next_page_repeats_the_query(self, udata: Catalogue):
        for _ in range(3):
            udata.add()
        page = get(f"{udata.url}/datasets/?page_size=1&x=1&sort=-last_update").json()
        assert page["next_page"] == f"{udata.url}/datasets/?page_size=1&x=1&sort=-last_update&page=2"
        assert page["previous_page"] is None

    def test_beyond_the_last_page_is_nothing(self, udata: Catalogue):
        assert get(f"{udata.url}/datasets/").json()["data"] == []
        udata.add()
        assert get(f"{udata.url}/datasets/?page=2").status_code == 404

    def test_what_is_hidden_is_not_listed(self, udata: Catalogue):
        shown = udata.add()
        archived, private = udata.add(archived="2026-01-01T00:00:00+00:00"), udata.add(private=True)
        assert [each["id"] for each in get(f"{udata.url}/datasets/").json()["data"]] == [shown]
        assert get(f"{udata.url}/datasets/{archived}/").status_code == 200
        assert get(f"{udata.url}/datasets/{private}/").status_code == 404

    def test_a_user_may_not_write_what_is_reserved(self, udata: Catalogue):
        udata.others = ("a-user",)
        dataset = udata.add("https://example.org/a.csv")
        url = f"{root_of(udata)}/api/2/datasets/{dataset}/resources/{udata.resource_ids(dataset)[0]}/extras/"

        def put(body: Any, key: str = udata.key) -> requests.Response:
            return requests.put(url, json=body, headers={"X-API-KEY": key}, timeout=30)

        assert put({"own": 1}, "a-user").json() == get(url).json() == {"own": 1}
        assert put({"check:status": 200}, "a-user").status_code == 400
        assert put({"check:status": 200, "own": None}).json() == get(url).json() == {"check:status": 200}
        refused = put({"check:status": "x", "check:available": "yes", "check:date": "hier"})
        assert refused.json()["errors"].keys() == {"check:status", "check:available", "check:date"}
        assert get(url).json() == {"check:status": 200}
        assert (put([]).status_code, put({}, "wrong").status_code) == (400, 401)
        assert requests.put(url, data="x", headers={"X-API-KEY": udata.key}, timeout=30).status_code == 415

    def test_the_extras_date_a_remote_file(self, udata: Catalogue):
        dataset = udata.add("https://example.org/a.csv")
        (name,) = udata.resource_ids(dataset)
        url = f"{root_of(udata)}/api/2/datasets/{dataset}/resources/{name}/extras/"
        told = {"analysis:last-modified-at": "2026-11-20T05:12:00+00:00"}
        requests.put(url, json=told, headers={"X-API-KEY": udata.key}, timeout=30)
        found = get(f"{udata.url}/datasets/{dataset}/").json()
        assert found["last_update"] == found["resources"][0]["last_modified"] == "2026-11-20T05:12:00+00:00"

    def test_every_route_is_udatas(self, udata: Catalogue):
        rules = [rule for rule in app_of(Catalogue()).url_map.iter_rules() if rule.rule != "/_sim"]
        ours = {(method, re.sub("<.*?>", "<>", rule.rule)) for rule in rules for method in rule.methods or ()}
        assert len({path for _, path in ours}) == 5
        assert {route for route in ours if route[0] not in {"HEAD", "OPTIONS"}} <= ROUTES
        # What there is in the other API only, and what there is in none.
        ids = (udata.add("https://example.org/a.csv"), udata.resource_ids(next(iter(udata.datasets)))[0])
        for path in ("/api/1/datasets/{}/resources/{}/extras/", "/api/2/datasets/{}/resources/{}/", "/api/1/"):
            url = root_of(udata) + path.format(*ids)
            assert requests.put(url, json={}, headers={"X-API-KEY": udata.key}, timeout=30).status_code == 404

    def test_a_dataset(self, udata: Catalogue):
        name = udata.add("https://example.org/a.csv", slug="un-jeu")
        assert get(f"{udata.url}/datasets/{name}/").json()["id"] == name
        assert get(f"{udata.url}/datasets/un-jeu/").json()["id"] == name
        file = get(f"{udata.url}/datasets/r/{udata.resource_ids(name)[0]}")
        assert (file.status_code, file.headers["Location"]) == (302, "https://example.org/a.csv")
        assert get(f"{udata.url}/datasets/nobody/").status_code == 404
        udata.remove(name)
        assert get(f"{udata.url}/datasets/{name}/").status_code == 410

    def test_dates_have_a_zone(self, udata: Catalogue):
        udata.control.clock.at = datetime(2026, 11, 20, tzinfo=UTC)
        udata.attach(udata.add(), "x", format=None)
        dataset = get(f"{udata.url}/datasets/").json()["data"][0]
        assert dataset["last_update"] == dataset["resources"][0]["last_modified"] == "2026-11-20T00:00:00+00:00"

    def test_moved_from_outside(self, udata: Catalogue):
        root = root_of(udata)
        made = sim(root, add={"urls": ["https://example.org/a.csv"], "title": "t"}).json()["add"]
        resource = sim(root, attach={"dataset": made, "url": None, "format": 7}).json()["attach"]
        sim(root, change={"resource": resource, "filesize": "x"}, touch={"dataset": made, "last_update": "2001-01-01"})
        assert get(f"{udata.url}/datasets/{made}/").json()["resources"][1]["filesize"] == "x"
        assert sim(root, remove=made).status_code == 200
        assert get(f"{udata.url}/datasets/{made}/").status_code == 410
        assert sim(root, what=1).status_code == 400
        assert sim(root, change={"resource": "nobody"}).status_code == 400


class TestControl:
    def test_faults_come_when_they_are_planned(self, udata: Catalogue):
        root = root_of(udata)
        udata.add()
        planned = {"path": "/api/1/datasets/", "skip": 1, "times": 2, "status": 503, "body": "later"}
        sim(root, faults=[planned | {"headers": {"Retry-After": "7"}}])
        answers = [get(f"{udata.url}/datasets/") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 503, 503, 200]
        assert (answers[1].text, answers[1].headers["Retry-After"]) == ("later", "7")
        journal = get(f"{root}/_sim").json()["journal"]
        assert [each["status"] for each in journal] == [200, 503, 503, 200]
        assert len(udata.control.asked("GET", "/api/1/")) == 4
        sim(root, forget=True)
        assert get(f"{root}/_sim").json()["journal"] == []

    def test_no_answer(self, udata: Catalogue):
        udata.control.faults.append(Fault(status=0))
        with pytest.raises(requests.ConnectionError):
            get(f"{udata.url}/datasets/")
        assert get(f"{udata.url}/datasets/").status_code == 200

    def test_done_without_saying_so(self, proxy: LinkProxy):
        proxy.control.faults.append(Fault(method="POST", status=502, after=True))
        proxy.hold("queued")
        assert requests.post(proxy.url, json={"location": "http://a.invalid/"}, timeout=30).status_code == 502
        assert proxy.find("http://a.invalid/") is not None

    def test_time_passes_when_told(self, udata: Catalogue):
        root = root_of(udata)
        udata.control.clock.at = datetime(2026, 11, 20, tzinfo=UTC)
        sim(root, advance=3600)
        assert get(f"{root}/_sim").json()["now"] == "2026-11-20T01:00:00+00:00"


def post(proxy: LinkProxy, url: str, **given: Any) -> str:
    answer = requests.post(proxy.url, json={"location": url} | given, timeout=30)
    assert answer.status_code == 200
    assert answer.json().keys() == {"_id", "createdAt", "updatedAt", "locations"}
    return str(answer.json()["_id"])


def states(proxy: LinkProxy, link: str) -> list[str]:
    return [check["state"] for check in get(f"{proxy.url}/{link}/checks").json()][::-1]


def checked(proxy: LinkProxy, url: str, **given: Any) -> str:
    """Have a URL checked, until that is over; returns the link."""
    before = proxy.find(url)
    count = len(before.checks) if before else 0
    link = post(proxy, url, **given)
    until(lambda: len(states(proxy, link)) > count and states(proxy, link)[-1] not in {"started", "analyzing"})
    return link


class TestLinkProxy:
    def test_a_file_is_fetched_and_kept(self, proxy: LinkProxy, site: Site):
        link = checked(proxy, site.url("/a.csv"))
        assert states(proxy, link) == ["finished"]
        (download,) = get(f"{proxy.url}/{link}").json()["downloads"]
        digest = "sha384-" + base64.b64encode(hashlib.sha384(TABLE).digest()).decode()
        assert download["files"] == [{"name": "a.csv", "size": len(TABLE), "digest": digest}]
        assert (download["type"], download["archive"], download["name"]) == ("csv", False, "a.csv")
        kept = get(download["url"])
        assert (kept.content, kept.headers["ETag"]) == (TABLE, download["etag"])
        assert get(download["url"], headers={"If-None-Match": kept.headers["ETag"]}).status_code == 304

    def test_checks_and_the_latest(self, proxy: LinkProxy, site: Site):
        assert get(f"{proxy.url}/nobody/checks/latest").status_code == 404
        proxy.hold("started")
        link = post(proxy, site.url("/a.csv"))
        until(lambda: states(proxy, link) == ["started"])
        assert get(f"{proxy.url}/{link}/checks/latest").status_code == 404
        proxy.hold("analyzing")
        proxy.release("started")
        until(lambda: states(proxy, link) == ["analyzing"])
        assert get(f"{proxy.url}/{link}/checks/latest").status_code == 404
        proxy.release()
        until(lambda: states(proxy, link) == ["finished"])
        latest = get(f"{proxy.url}/{link}/checks/latest")
        assert (latest.status_code, latest.headers["Location"]) == (302, f"/{link}/checks/1")
        check = get(proxy.url + latest.headers["Location"]).json()
        assert (check["number"], check["state"], check["statusCode"]) == (1, "finished", 200)
        assert (check["location"], check["options"]) == (site.url("/a.csv"), {"noCache": False})
        assert "error" not in check
        assert get(f"{proxy.url}/{link}/checks/2").status_code == 404

    def test_a_link_is_found_by_its_url(self, proxy: LinkProxy, site: Site):
        url = site.url("/a.csv?x=é&y=1")
        assert get(proxy.url, params={"location": url}).status_code == 404
        link = post(proxy, url)
        found = get(proxy.url, params={"location": url})
        assert (found.status_code, found.headers["Location"]) == (302, f"/{link}")
        assert post(proxy, url) == link

    @pytest.mark.parametrize("body", ["{}", '{"location": ""}', "[]"])
    def test_a_location_is_required(self, proxy: LinkProxy, body: str):
        for answer in (requests.post(proxy.url, body, timeout=30), get(proxy.url)):
            assert (answer.status_code, answer.json()) == (400, {"error": "location is required"})

    def test_what_is_no_json(self, proxy: LinkProxy):
        answer = requests.post(proxy.url, "{", timeout=30)
        assert (answer.status_code, answer.json()) == (400, {"error": "Invalid JSON"})
        assert requests.post(proxy.url, "null", timeout=30).status_code == 500

    def test_what_runs_is_merged_too(self, proxy: LinkProxy, site: Site):
        proxy.hold("started")
        link = post(proxy, site.url("/a.csv"))
        until(lambda: states(proxy, link) == ["started"])
        assert post(proxy, site.url("/a.csv"), noCache=True) == link
        proxy.release()
        until(lambda: states(proxy, link) == ["finished"])
        checked(proxy, site.url("/a.csv"))
        assert states(proxy, link) == ["finished", "skipped"]

    def test_a_check_that_failed_tells_no_status(self, proxy: LinkProxy, site: Site):
        link = checked(proxy, site.url("/absent.csv"))
        check = get(f"{proxy.url}/{link}/checks/1").json()
        assert check.keys() == {"number", "createdAt", "updatedAt", "state", "location", "options", "error"}
        assert "404" in check["error"]
        # The next one takes nothing for known.
        checked(proxy, site.url("/absent.csv"))
        assert get(f"{proxy.url}/{link}/checks/2").json()["options"] == {"noCache": True}

    def test_content_that_was_seen_before_is_no_change(self, proxy: LinkProxy, site: Site):
        site.answers["/a.csv"] = Answer(TABLE, headers={"Cache-Control": "max-age=1"})
        link = checked(proxy, site.url("/a.csv"))
        other = Answer(TABLE + b"2;b\n", headers={"Cache-Control": "max-age=1"})

        def digest(**given: Any) -> str:
            proxy.control.clock.advance(2)
            checked(proxy, site.url("/a.csv"), **given)
            (download,) = get(f"{proxy.url}/{link}").json()["downloads"]
            return str(download["files"][0]["digest"])

        first = digest()
        site.answers["/a.csv"] = other
        second = digest()
        assert second != first
        site.answers["/a.csv"] = Answer(TABLE, headers={"Cache-Control": "max-age=1"})
        assert digest() == second
        assert digest(noCache=True) == first

    def test_what_waits_is_merged(self, proxy: LinkProxy, site: Site):
        proxy.hold("queued")
        link = post(proxy, site.url("/a.csv"))
        assert post(proxy, site.url("/a.csv")) == link
        proxy.release()
        until(lambda: states(proxy, link) == ["finished"])
        checked(proxy, site.url("/a.csv"))
        assert states(proxy, link) == ["finished", "skipped"]

    @pytest.mark.parametrize(
        ("url", "state"),
        [
            ("{site}/absent.csv", "errored"),
            ("http://127.0.0.1:1/a.csv", "errored"),
            ("https://WWW.data.gouv.fr/a.csv", "blacklisted"),
            ("https://a.openstreetmap.fr/a.csv", "blacklisted"),
            ("{site}/a.7z.001", "unsupported"),
        ],
    )
    def test_other_ends(self, proxy: LinkProxy, site: Site, url: str, state: str):
        proxy.subscribe(site.url("/hook"))
        link = checked(proxy, url.format(site=site.url("")))
        assert states(proxy, link) == [state]
        assert get(f"{proxy.url}/{link}").json()["downloads"] == []
        assert proxy.deliveries == []

    def test_its_own_files_are_blacklisted(self, proxy: LinkProxy, site: Site):
        proxy.blacklist.append("localhost")
        assert states(proxy, checked(proxy, f"{proxy.url}/link-proxy-files/a.csv")) == ["blacklisted"]
        assert states(proxy, checked(proxy, site.url("/a.csv", host="localhost"))) == ["blacklisted"]

    def test_a_recent_check_is_enough(self, proxy: LinkProxy, site: Site):
        proxy.control.clock.at = datetime(2026, 11, 20, tzinfo=UTC)
        url = site.url("/a.csv")
        link = checked(proxy, url)
        proxy.control.clock.advance(timedelta(days=7).total_seconds() - 1)
        checked(proxy, url)
        proxy.control.clock.advance(1)
        checked(proxy, url)
        checked(proxy, url, noCache=True)
        assert states(proxy, link) == ["finished", "skipped", "finished", "finished"]
        assert site.hits["/a.csv"] == 3

    @pytest.mark.parametrize(
        ("caching", "seconds", "state"),
        [
            ("max-age=60", 59, "skipped"),
            ("max-age=60", 61, "finished"),
            ("max-age=0", 61, "skipped"),
            ("immutable", 10**8, "skipped"),
        ],
    )
    def test_how_recent_is_said_by_the_server(
        self, proxy: LinkProxy, site: Site, caching: str, seconds: int, state: str
    ):
        site.answers["/a.csv"] = Answer(TABLE, headers={"Cache-Control": caching})
        link = checked(proxy, site.url("/a.csv"))
        proxy.control.clock.advance(seconds)
        checked(proxy, site.url("/a.csv"))
        assert states(proxy, link) == ["finished", state]

    def test_after_an_error_it_looks_again(self, proxy: LinkProxy, site: Site):
        proxy.planned[site.url("/a.csv")] = "errored"
        link = checked(proxy, site.url("/a.csv"))
        proxy.planned.clear()
        checked(proxy, site.url("/a.csv"))
        assert states(proxy, link) == ["errored", "finished"]

    def test_an_archive_has_many_downloads(self, proxy: LinkProxy, site: Site):
        def packed(**files: bytes) -> Answer:
            data = io.BytesIO()
            with zipfile.ZipFile(data, "w") as archive:
                for name, content in files.items():
                    archive.writestr(name.replace("__", "/").replace("_", "."), content)
            return Answer(data.getvalue(), content_type="application/zip")

        shape = {"geo__b_shp": b"1", "geo__b_dbf": b"2", "geo__b_prj": b"3"}
        site.answers["/z.zip"] = packed(a_csv=TABLE, LISEZMOI_md=b"x", c_XLSX=b"4", **shape)
        link = checked(proxy, site.url("/z.zip"))
        first = {each["path"]: each for each in get(f"{proxy.url}/{link}").json()["downloads"]}
        assert {path: each["type"] for path, each in first.items()} == {
            "a.csv": "csv",
            "c.XLSX": "xls",
            "geo/b.shp": "shp",
        }
        assert (first["geo/b.shp"]["archive"], len(first["geo/b.shp"]["files"])) == (True, 3)
        assert zipfile.is_zipfile(io.BytesIO(get(first["geo/b.shp"]["url"]).content))
        proxy.control.clock.advance(timedelta(days=7).total_seconds())
        site.answers["/z.zip"] = packed(c_XLSX=b"5", **shape)
        checked(proxy, site.url("/z.zip"))
        second = {each["path"]: each for each in get(f"{proxy.url}/{link}").json()["downloads"]}
        # What has left the archive is kept.
        assert second.keys() == first.keys()
        assert {path for path in first if first[path] != second[path]} == {"c.XLSX"}

    def test_a_broken_archive_gives_nothing_and_stops_nothing(self, proxy: LinkProxy, site: Site):
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as archive:
            archive.writestr("a.csv", TABLE)
        site.answers["/z.zip"] = Answer(data.getvalue().replace(TABLE, TABLE[::-1]))
        assert get(f"{proxy.url}/{checked(proxy, site.url('/z.zip'))}").json()["downloads"] == []
        assert states(proxy, checked(proxy, site.url("/a.csv"))) == ["finished"]

    def test_a_link_shows_what_it_contains(self, proxy: LinkProxy, site: Site):
        child, parent = checked(proxy, site.url("/a.csv")), checked(proxy, site.url("/index.csv"))
        sim(proxy.url, contain={"parent": parent, "child": child})
        assert [each["name"] for each in get(f"{proxy.url}/{parent}").json()["downloads"]] == ["a.csv"]


class TestWebhooks:
    def test_a_change_is_told_to_everybody_with_his_token(self, proxy: LinkProxy, site: Site):
        with Subscriber() as first, Subscriber(status=500) as second:
            proxy.subscribe(first.url, "mot-de-passe")
            proxy.subscribe(second.url)
            link = checked(proxy, site.url("/a.csv"))
            until(lambda: len(proxy.deliveries) == 2)
            (message,) = first.got
            assert message.headers["Authorization"] == "Basic mot-de-passe"
            assert message.headers["Content-Type"] == "application/json"
            assert message.headers["User-Agent"].startswith("link-proxy/")
            check = message.body["check"]
            assert check.keys() == {
                "linkId",
                "number",
                "createdAt",
                "updatedAt",
                "state",
                "location",
                "options",
                "statusCode",
            }
            assert (check["linkId"], check["number"], check["state"]) == (link, 1, "finished")
            assert message.body["links"] == [link]
            assert "Authorization" not in second.got[0].headers
            assert [each["status"] for each in proxy.deliveries] == [200, 500]

    def test_nothing_new_is_not_told(self, proxy: LinkProxy, site: Site):
        with Subscriber() as subscriber:
            proxy.subscribe(subscriber.url)
            link = checked(proxy, site.url("/a.csv"))
            proxy.control.clock.advance(timedelta(days=7).total_seconds())
            checked(proxy, site.url("/a.csv"))
            assert states(proxy, link) == ["finished", "finished"]
            # Without a cache everything is new.
            checked(proxy, site.url("/a.csv"), noCache=True)
            until(lambda: len(proxy.deliveries) == 2)
            assert [each.body["check"]["number"] for each in subscriber.got] == [1, 3]

    def test_parents_are_named(self, proxy: LinkProxy, site: Site):
        with Subscriber() as subscriber:
            proxy.hold("started")
            child, parent = post(proxy, site.url("/a.csv")), post(proxy, site.url("/index.html"))
            proxy.contain(parent, child)
            proxy.subscribe(subscriber.url)
            proxy.release()
            until(lambda: subscriber.got)
            assert subscriber.got[0].body["links"] == [child, parent]

    def test_late_and_twice_and_never(self, proxy: LinkProxy, site: Site):
        with Subscriber() as subscriber:
            proxy.subscribe(subscriber.url)
            for path in ("/b.csv", "/c.csv"):
                site.answers[path] = Answer(TABLE)
            sim(proxy.url, webhooks="never")
            checked(proxy, site.url("/a.csv"))
            sim(proxy.url, webhooks="late")
            checked(proxy, site.url("/b.csv"))
            until(lambda: proxy.late)
            assert subscriber.got == []
            sim(proxy.url, deliver=True)
            assert [each.body["check"]["location"] for each in subscriber.got] == [site.url("/b.csv")]
            sim(proxy.url, webhooks="twice")
            checked(proxy, site.url("/c.csv"))
            until(lambda: len(subscriber.got) == 3)
            assert subscriber.got[1].body == subscriber.got[2].body
            assert len(sim(proxy.url, deliveries=True).json()["deliveries"]) == 3

    def test_before_the_answer(self, proxy: LinkProxy, site: Site):
        with Subscriber() as subscriber:
            sim(proxy.url, webhooks="early", subscribe={"url": subscriber.url, "token": "t"})
            link = post(proxy, site.url("/a.csv"))
            assert [each.body["check"]["linkId"] for each in subscriber.got] == [link]

    def test_a_subscriber_that_is_away_stops_nothing(self, proxy: LinkProxy, site: Site):
        proxy.subscribe("http://127.0.0.1:1/hook")
        checked(proxy, site.url("/a.csv"))
        until(lambda: proxy.deliveries)
        assert proxy.deliveries[0]["status"] is None
        assert states(proxy, checked(proxy, site.url("/absent.csv"))) == ["errored"]


def test_checks_are_numbered_and_the_last_twenty_are_listed(proxy: LinkProxy, site: Site):
    link = proxy.submit(site.url("/a.7z.001"))
    until(lambda: link.checks)
    for _ in range(24):
        proxy.check(link)
    numbers = [each["number"] for each in get(f"{proxy.url}/{link.id}/checks").json()]
    assert (len(numbers), numbers[0]) == (20, 25)
    assert all(one == following + 1 for one, following in pairwise(numbers))


def test_a_catalogue_of_any_size_makes_its_datasets_when_they_are_asked_for():
    with catalogue(sandbox=Many(count=100_000, each=2, changed=3)) as udata:
        got = requests.get(f"{udata.url}/datasets/?sort=-last_update&page=1000&page_size=100", timeout=20).json()
        again = requests.get(f"{udata.url}/datasets/?sort=-last_update&page=1000&page_size=100", timeout=20).json()
        first = requests.get(f"{udata.url}/datasets/?sort=-last_update&page=1&page_size=5", timeout=20).json()
        lines = requests.get(udata.export, stream=True, timeout=20).iter_lines()
        listed = [next(lines), next(lines)]
    assert got == again
    assert (got["total"], len(got["data"]), got["next_page"]) == (100_000, 100, None)
    assert len({each["id"] for dataset in got["data"] for each in dataset["resources"]}) == 200
    dates = [dataset["last_update"] for dataset in first["data"]]
    assert dates == sorted(dates, reverse=True)
    assert len(set(dates)) == 3  # the first three have changed at once
    assert first["data"][0]["resources"][0]["id"] in listed[1].decode()
