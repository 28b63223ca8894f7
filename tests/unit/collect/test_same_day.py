"""The second look at an endpoint: asked for changes only, or not at all yet."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from click.testing import CliRunner

from datafab.cli.main import main
from datafab.collect.csv_tables import save_csv
from datafab.collect.endpoint import endpoint_hash
from datafab.collect.stages import collect
from datafab.core.item import Status
from datafab.settings import load
from datafab.store.store import Store
from tests.servers.http import Answer, Site, redirect
from tests.unit.collect.test_stages import COLLECT, CSV, Collection, row, sha

START = datetime(2026, 11, 20, 3, tzinfo=UTC)


class Portal:
    """Answers with an ETag, and with nothing to whoever has it."""

    def __init__(self) -> None:
        self.body = CSV
        self.status = 200

    def __call__(self, path: str, headers: dict[str, str]) -> Answer:
        tag = f'"{len(self.body)}"'
        if path == "/moved":
            return redirect("/a.csv")
        if self.status != 200 or (headers.get("If-None-Match") == tag and path != "/untagged"):
            return Answer(status=self.status if self.status != 200 else 304, content_type=None, headers={"ETag": tag})
        return Answer(self.body, headers={} if path == "/untagged" else {"ETag": tag})


@pytest.fixture
def portal():
    return Portal()


@pytest.fixture
def site(portal):
    with Site(router=portal) as site:
        yield site


@pytest.fixture
def collection(tmp_path) -> Collection:
    return Collection(tmp_path)


def look(collection: Collection, url: str, hours: float = 0, **params):
    """Collect at a time."""
    at = START + timedelta(hours=hours)
    stage = replace(COLLECT, run_many=partial(collect, clock=lambda: at.replace(tzinfo=None)))
    return collection.one(row(url), stage=stage, created=at.timestamp(), **params)


def conditional(collection: Collection, url: str, hours: float = 0, **params):
    return look(collection, url, hours, conditional=True, **params)


def log_at(collection: Collection, url: str, hours: float) -> dict:
    return collection.log(url, f"{START + timedelta(hours=hours):%Y-%m-%d}")


@pytest.mark.parametrize("path", ["/a.csv", "/moved"])
def test_what_has_not_changed_is_not_sent_again(collection, portal, site, path):
    url = site.url(path)
    first = conditional(collection, url)
    second = conditional(collection, url, 24)
    assert (second.status, second.collect.status, second.collect.http_status) == (Status.UNCHANGED, "OK", 304)
    assert (second.sha256, second.media_type) == (sha(CSV), first.media_type) == (sha(CSV), "text/csv")
    log = log_at(collection, url, 24)
    assert (log["status"], log["resource"], "exception" in log) == ("304", sha(CSV), False)
    assert log["request-headers"]["If-None-Match"] == f'"{len(CSV)}"'
    portal.body = b"new\n"
    third = conditional(collection, url, 48)
    assert (third.status, third.sha256) == (Status.OK, sha(b"new\n"))
    assert log_at(collection, url, 48)["status"] == "200"


def test_nobody_is_asked_so_unless_somebody_wants_it(collection, site):
    url = site.url("/a.csv")
    for day in range(2):
        assert look(collection, url, 24 * day).status is Status.OK
    assert all("If-None-Match" not in headers for _, headers in site.requests)
    assert not (collection.folder / "history").exists()


def test_a_server_without_etags_is_asked_for_everything(collection, site):
    url = site.url("/untagged")
    for day in range(2):
        assert conditional(collection, url, 24 * day).collect.http_status == 200


def test_what_has_gone_from_the_store_is_asked_for_again(collection, site):
    url = site.url("/a.csv")
    conditional(collection, url)
    (collection.folder / "resource" / sha(CSV)).write_bytes(b"cut")  # a crash of the original
    (collection.folder / "resource" / sha(CSV)).unlink()
    assert conditional(collection, url, 24).status is Status.OK
    assert site.hits["/a.csv"] == 2


def test_another_plugin_is_another_resource(collection, site):
    url = site.url("/a.csv")
    conditional(collection, url)
    collection.write(row(url, plugin="wfs"))
    at = START + timedelta(days=1)
    stage = replace(COLLECT, run_many=partial(collect, clock=lambda: at.replace(tzinfo=None)))
    (item,) = collection.run(stage=stage, created=at.timestamp(), conditional=True)
    assert item.collect.http_status == 200


def test_an_attempt_that_died_before_it_told_says_the_same(collection, site):
    url = site.url("/a.csv")
    conditional(collection, url)
    told = conditional(collection, url, 24)
    created = (START + timedelta(hours=24)).timestamp() - 5
    stage = replace(COLLECT, run_many=partial(collect, clock=lambda: START.replace(tzinfo=None) + timedelta(hours=24)))
    (again,) = collection.run(row(url), stage=stage, created=created, conditional=True)
    assert again == told
    assert site.hits["/a.csv"] == 2


def test_a_304_that_nobody_asked_for_is_a_failure(collection, portal, site):
    portal.status = 304
    item = conditional(collection, site.url("/a.csv"))
    assert (item.status, item.error.type) == (Status.FAILED, "http_304")


def test_what_seldom_changes_is_looked_at_less_often(collection, portal, site):
    url = site.url("/a.csv")
    asked = []
    for hours in range(0, 24 * 40, 12):
        before = site.hits.total()
        item = look(collection, url, hours, adaptive=True)
        if site.hits.total() > before:
            asked.append(hours)
        else:
            assert (item.status, item.collect.status, item.sha256) == (Status.UNCHANGED, "ALREADY_FETCHED", sha(CSV))
    # 12 hours after the first, then a day, a week, a month
    assert asked == [0, 24, 48, 216, 936]
    assert len(collection.logs()) == len(asked)
    portal.body = b"new\n"
    assert look(collection, url, 936 + 720, adaptive=True).status is Status.OK
    assert look(collection, url, 936 + 720 + 24, adaptive=True).collect.status == "OK"  # a change: often again


def ends(collection: Collection, hours: float, **settings: float) -> list[str]:
    """Return the end dates of the resources at a time, in the order of their starts."""
    day = (START + timedelta(hours=hours)).date()
    copy = collection.folder.parent / f"copy-{settings}"  # keeps its tables from call to call
    shutil.copytree(collection.folder, copy, dirs_exist_ok=True)
    save_csv(Store(str(copy)), day, load({}, **settings), warn=lambda _: None)
    with (copy / "resource.csv").open(newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda found: found["start-date"])
    return [found["end-date"] for found in rows]


DAY, WEEK = 24, 168


def test_what_is_not_looked_at_on_purpose_has_not_ended(collection, portal, site):
    url = site.url("/a.csv")
    for hours in (0, DAY, 2 * DAY):
        look(collection, url, hours, adaptive=True)
        assert ends(collection, hours) == [""]
    for hours in (3 * DAY, 8 * DAY):  # the next look is due a week after the last
        look(collection, url, hours, adaptive=True)
        assert ends(collection, hours) == [""]
    assert ends(collection, 4 * DAY, adaptive_most=24) == ["2026-11-22"]
    assert ends(collection, 2 * DAY + WEEK + DAY) == ["2026-11-22"]  # nobody looked when it was due
    portal.body = b"new\n"
    look(collection, url, 2 * DAY + WEEK + DAY, adaptive=True)
    assert ends(collection, 2 * DAY + WEEK + DAY) == ["2026-11-22", ""]


@pytest.mark.parametrize("kind", ["failed", "expired", "plain", "conditional", "another"])
def test_what_was_looked_at_or_is_no_longer_collected_has_ended(collection, portal, site, kind):
    url = site.url("/a.csv")
    options = {} if kind == "plain" else {"conditional": True} if kind == "conditional" else {"adaptive": True}
    for hours in (0, DAY, 2 * DAY):
        look(collection, url, hours, **options)
    if kind == "failed":
        portal.status = 404
        look(collection, url, 2 * DAY + WEEK, adaptive=True)
    elif kind == "expired":
        at = START + timedelta(hours=3 * DAY)
        stage = replace(COLLECT, run_many=partial(collect, clock=lambda: at.replace(tzinfo=None)))
        ended = collection.one(row(url, end="2026-11-22"), stage=stage, created=at.timestamp(), adaptive=True)
        assert ended.status is Status.SKIPPED
    elif kind == "another":  # a collection that is not adaptive has found another resource since
        portal.body = b"new\n"
        look(collection, url, 3 * DAY)
        assert ends(collection, 4 * DAY) == ["2026-11-22", "2026-11-23"]
        return
    assert ends(collection, WEEK + 2 * DAY if kind == "failed" else 3 * DAY) == ["2026-11-22"]


def test_what_failed_is_looked_at_soon(collection, portal, site):
    url = site.url("/a.csv")
    for hours in (0, 24, 48):
        look(collection, url, hours, adaptive=True)
    portal.status = 404
    assert look(collection, url, 48 + 168, adaptive=True).status is Status.FAILED
    portal.status = 200
    resting = look(collection, url, 48 + 168 + 1, adaptive=True)
    assert (resting.status, resting.collect.status) == (Status.FAILED, "ALREADY_FETCHED")
    assert look(collection, url, 48 + 168 + 24, adaptive=True).collect.status == "OK"


def test_what_failed_before_midnight_stays_failed_while_it_rests(collection, portal, site):
    """Nothing was logged on the new day: what is known of the endpoint says that it failed."""
    url = site.url("/a.csv")
    portal.status = 404
    look(collection, url, 20, adaptive=True)
    portal.status = 200
    resting = look(collection, url, 22, adaptive=True)
    assert (resting.status, resting.error.type, site.hits["/a.csv"]) == (Status.FAILED, "failed", 1)
    assert "the last fetch failed (2026-" in resting.error.message
    assert look(collection, url, 23, adaptive=True, retry_failed=True).status is Status.OK


def test_refilling_wins_over_resting_and_resting_over_retrying(collection, site):
    url = site.url("/a.csv")
    look(collection, url, 0, adaptive=True)
    assert look(collection, url, 1, adaptive=True, refill_todays_logs=True).collect.status == "OK"
    assert look(collection, url, 2, adaptive=True, retry_failed=True).collect.status == "ALREADY_FETCHED"


def test_a_log_of_a_304_is_read_as_digital_land_reads_logs(collection, site):
    """Its readers go by the key ``resource`` alone: without it the resource would have ended that day."""
    url = site.url("/a.csv")
    conditional(collection, url)
    conditional(collection, url, 24)
    seen: dict[str, list[str]] = {}
    for path in sorted(collection.folder.glob("log/*/*.json")):
        log = json.loads(path.read_bytes())
        assert path.stem == endpoint_hash(log["endpoint-url"])
        assert datetime.fromisoformat(log["entry-date"]).tzinfo is None
        if "resource" in log:
            seen.setdefault(log["resource"], []).append(log["entry-date"][:10])
    assert seen == {sha(CSV): ["2026-11-20", "2026-11-21"]}


def test_the_command_line_asks_for_changes_and_looks_less_often(collection, site):
    """Both are parameters of the job: a second run of the day with ``refill`` finds what is unchanged."""
    url = site.url("/a.csv")
    collection.write(row(url))
    environment = {"DATAFAB_HOME": str(collection.settings.home), "DATAFAB_ALLOW_PRIVATE_HOSTS": "127.0.0.1"}
    command = ["collect", str(collection.csv), "--collection-dir", str(collection.folder), "--inline", "--then", "none"]
    said = []
    for options in (["--conditional"], ["--conditional", "--refill-todays-logs"], ["--adaptive"]):
        run = CliRunner().invoke(main, [*command, *options], env=environment, catch_exceptions=False)
        assert run.exit_code == 0, run.output
        said.append(run.output)
    assert ["1 endpoint: 1 collected" in said[0], "1 unchanged" in said[1], "1 unchanged" in said[2]] == [True] * 3
    assert site.hits["/a.csv"] == 2
