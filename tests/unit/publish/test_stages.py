"""The stages of `publish`, on a real broker and Redis, without workers."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from datafab.core.item import Batch, Item, Status
from datafab.core.lease import Lease
from datafab.core.memory_jobs import MemoryJobs
from datafab.core.redis import connect
from datafab.core.runner import Attempt, expand, load_items, run_stage
from datafab.core.services import Services
from datafab.errors import Fatal, FlowError, Retriable, Wait
from datafab.flows.chains import STAGES
from datafab.publish.data_id import address_digest, data_id, former
from datafab.publish.finding import errors
from datafab.publish.mqtt import Broker, Mqtt
from datafab.publish.notification import MessageIdentity, pubtime
from datafab.publish.notification_rules import check
from datafab.publish.publications import Publications
from datafab.publish.wis2_suite import Wis2Suite
from datafab.settings import Settings, load
from tests.records import METADATA, RECORD_ID, record
from tests.servers.celery import until
from tests.servers.http import Answer, Site
from tests.servers.mosquitto import Mosquitto, Subscriber
from tests.servers.redis import RedisServer

BUNDLE = Path(__file__).resolve().parents[3].parent / "shared" / "wis2-bundle"
TOPIC = "origin/a/wis2/fr-ifremer-argo/data/core/ocean/surface-based-observations/drifting-ocean-profilers"
DATA = b"CDF\x01 profil 7901113"
NAME = "/dac/coriolis/7901113/profiles/R7901113_022.nc"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def site() -> Iterator[Site]:
    with Site({NAME: Answer(DATA, content_type="application/octet-stream")}) as running:
        yield running


@pytest.fixture
def settings(broker: Mosquitto, redis_server: RedisServer, tmp_path: Path) -> Settings:
    return load(
        home=tmp_path,
        redis_url=redis_server.url,
        mqtt_url=broker.url,
        allow_private_hosts="127.0.0.1/32",
        connect_timeout=2,
        wis2_topic=TOPIC,
        wis2_metadata_id="urn:wmo:md:fr-ifremer-argo:cor:msg:argo",
    )


@pytest.fixture
def services(settings: Settings) -> Iterator[Services]:
    mine = Services(settings, jobs=MemoryJobs())
    yield mine
    mine.close()


def event(site: Site, *paths: str, data: bytes = DATA, **facts: Any) -> dict[str, Any]:
    """Return an event for these paths of a site."""
    digest = hashlib.sha3_256(data).hexdigest()
    known = {"type": "application/x-netcdf", "file:size": len(data), "file:checksum": f"1620{digest}"} | facts
    assets = {path: {"href": site.url(path)} | known for path in paths or (NAME,)}
    return {
        "id": "Profile7901113_022A",
        "source": "co050203",
        "specversion": "1.0",
        "data": {
            "geometry": {"type": "Point", "coordinates": [21.06, -36.3]},
            "properties": {"datetime": "2024-11-09T21:08:00Z"},
            "assets": assets,
        },
    }


def run(
    services: Services,
    document: Any,
    job: str = "j",
    *,
    stages: tuple[str, ...] = ("receive", "publish"),
    **params: Any,
) -> list[Item]:
    """Run the flow's stages on an event, without workers."""
    batch = Batch(job=job, flow="publish", params={"event": document} | params)
    (batch,) = expand(STAGES["event"], batch, services, Attempt())
    items = load_items(batch, services)
    for stage in stages:
        items = run_stage(STAGES[stage], batch.evolve(items=tuple(items)), services, Attempt(Lease(attempt=1)))
    return items


def test_a_file_is_announced_once(services: Services, broker: Mosquitto, site: Site):
    with Subscriber(broker.url) as subscriber:
        (item,) = run(services, event(site), "first")
        (again,) = run(services, event(site), "second")
        (document,) = subscriber.wait(1)
        services.get(Mqtt).publish("end", b"{}")
        subscriber.wait(2)
    assert subscriber.messages[0][0] == TOPIC
    assert subscriber.messages[0][2:] == (1, False)
    assert check(document, topic=TOPIC) == []
    assert document["links"][0]["href"] == site.url(NAME)
    assert document["properties"]["data_id"] == data_id(TOPIC, site.url(NAME))
    assert (item.status, again.status) == (Status.OK, Status.UNCHANGED)
    assert item.sha256 == hashlib.sha256(DATA).hexdigest()
    assert item.wis2
    assert again.wis2
    assert item.wis2.message == again.wis2.message == document["id"]
    assert item.wis2.rel == "canonical"


def test_the_time_of_a_message_is_that_of_redis(
    services: Services, broker: Mosquitto, site: Site, monkeypatch: pytest.MonkeyPatch
):
    right = time.time
    with Subscriber(broker.url, TOPIC) as subscriber:
        before = right()
        monkeypatch.setattr(time, "time", lambda: right() - 3 * 3600)
        run(services, event(site))
        (document,) = subscriber.wait(1)
    told = datetime.fromisoformat(document["properties"]["pubtime"]).timestamp()
    assert before - 1 < told < right() + 1


def test_a_corrected_file_is_an_update_with_a_new_id(services: Services, broker: Mosquitto, site: Site):
    with Subscriber(broker.url, TOPIC) as subscriber:
        run(services, event(site), "first")
        site.answers[NAME] = Answer(DATA + b"!", content_type="application/x-netcdf")
        (item,) = run(services, event(site, data=DATA + b"!"), "second")
        site.answers[NAME] = Answer(DATA, content_type="application/x-netcdf")
        run(services, event(site), "third")
        first, second, third = subscriber.wait(3)
    assert [document["links"][0]["rel"] for document in (first, second, third)] == ["canonical", "update", "update"]
    assert len({document["id"] for document in (first, second, third)}) == 3
    assert first["properties"]["data_id"] == second["properties"]["data_id"]
    assert first["properties"]["pubtime"] < second["properties"]["pubtime"] < third["properties"]["pubtime"]
    assert item.status is Status.OK
    assert check(second, topic=TOPIC) == []


def test_every_asset_is_announced_and_equal_bytes_are_no_reason_to_skip(
    services: Services, broker: Mosquitto, site: Site
):
    site.answers["/b/copie.nc"] = Answer(DATA, content_type="application/x-netcdf")
    site.answers["/gone.nc"] = Answer(status=410)
    with Subscriber(broker.url, TOPIC) as subscriber:
        items = run(services, event(site, NAME, "/b/copie.nc", "/gone.nc"), "assets")
        documents = subscriber.wait(2)
    assert [item.status for item in items] == [Status.OK, Status.OK, Status.FAILED]
    assert {document["links"][0]["href"] for document in documents} == {site.url(NAME), site.url("/b/copie.nc")}


def test_an_unknown_outcome_is_tried_again_with_the_same_message(
    services: Services, settings: Settings, broker: Mosquitto, site: Site
):
    services.get(Mqtt).ping()
    services.get(Mqtt)._acknowledge = 0.3
    with Subscriber(broker.url, TOPIC) as subscriber:
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            with pytest.raises(Wait, match="no acknowledgement") as caught:
                run(services, event(site), "hung")
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        services.get(Mqtt)._acknowledge = 5
        time.sleep(caught.value.delay)
        (item,) = run(services, event(site), "hung")
        documents = subscriber.wait(1)
    assert item.status is Status.OK
    assert item.wis2
    assert {document["id"] for document in documents} == {item.wis2.message}
    assert len({str(document) for document in documents}) == 1


def test_a_job_that_comes_after_a_later_state_keeps_still(services: Services, site: Site):
    (item,) = run(services, event(site), "late", stages=("receive",))
    name = data_id(TOPIC, site.url(NAME))
    mine = MessageIdentity(id="e686f5cf-bacf-4703-9f94-217e2b5d5ebb", pubtime="2025-01-01T00:00:00Z")
    services.get(Publications).claim(name, str(item.sha256), mine.id, mine.pubtime)
    services.get(Publications).claim(name, "0" * 64, "31e9d66a-cd83-4174-9429-b932f1abe1be", "2025-01-01T00:00:01Z")
    services.get(Publications).sent(name, mine.id)  # too late: not the last one any more
    last = services.get(Publications).last(name)
    assert last
    assert (last.identity.rel, last.sent) == ("update", False)
    services.jobs.save_notes("late", "publish", None, 0, {"frozen": mine.dump()})
    batch = Batch(job="late", flow="publish", params={}, items=(item,))
    (skipped,) = run_stage(STAGES["publish"], batch, services, Attempt(Lease(attempt=1)))
    assert (skipped.status, skipped.error and skipped.error.type) == (Status.SKIPPED, "superseded")


def test_an_attempt_that_died_after_its_message_was_taken_has_succeeded(
    services: Services, broker: Mosquitto, site: Site
):
    (item,) = run(services, event(site), "died")
    services.jobs._done.clear()  # as if the worker had died before it could tell
    with Subscriber(broker.url, TOPIC) as subscriber:
        (again,) = run(services, event(site), "died")
        services.get(Mqtt).publish(TOPIC, b'"end"')
        assert subscriber.wait(1) == ["end"]
    assert again == item


def test_small_files_are_inline_when_asked(services: Services, broker: Mosquitto, site: Site):
    with Subscriber(broker.url, TOPIC) as subscriber:
        run(services, event(site), "inline", inline=True)
        (document,) = subscriber.wait(1)
    assert document["properties"]["content"] == {"encoding": "utf-8", "value": DATA.decode(), "size": len(DATA)}


def test_an_event_may_lie_in_the_store(services: Services, settings: Settings, site: Site):

    store = services.store(settings.store)
    name = store.write_list(json.dumps(event(site)).encode())
    (item,) = run(services, f"list:{name}#event.json", "stored", stages=("receive",))
    assert item.filename == "R7901113_022.nc"
    with pytest.raises(FlowError, match="not JSON"):
        run(services, f"list:{store.write_list(b'id;nom')}", "table")


@pytest.mark.parametrize(
    ("facts", "kind", "says"),
    [
        ({"file:checksum": "1620" + "0" * 64}, "checksum", "its event says 0000"),
        ({"file:size": 7}, "size", "its event says 7"),
        ({"file:checksum": "00"}, "bad_checksum", "not a hex multihash"),
        ({"href": "http://127.0.0.1:9/a.nc"}, "connection_refused", "nothing listens"),
        ({"href": "file:///etc/passwd"}, "not_http", "http://"),
        ({"type": None, "href": "/page"}, "html", "web page"),
    ],
)
def test_a_file_that_is_not_the_one_announced(services: Services, site: Site, facts: Any, kind: str, says: str):
    site.answers["/page"] = Answer(b"<html>", content_type="text/html")
    facts = {name: site.url(value) if value == "/page" else value for name, value in facts.items()}
    if kind in {"checksum", "size", "connection_refused"}:  # it may be right the next time
        with pytest.raises(Wait, match=says) as caught:
            run(services, event(site, **facts), f"bad-{kind}", stages=("receive",))
        assert caught.value.code == kind
        return
    (item,) = run(services, event(site, **facts), f"bad-{kind}", stages=("receive",))
    assert item.error
    assert (item.error.type, says in item.error.message) == (kind, True)


@pytest.mark.parametrize(
    ("topic", "code", "says"),
    [
        (TOPIC.replace("data/core", "core/data"), "wis2_t1", "swap levels 5 and 6"),
        ("origin/a/wis2/fr-ifremer-argo/data/core/ocean", "wis2_t2", "at least 8"),
        ("origin/a/wis2/fr-ifremer-argo/metadata/core/ocean", "wis2_t3", "publish on"),
    ],
)
def test_a_wrong_topic_fails_the_job(services: Services, site: Site, topic: str, code: str, says: str):
    with pytest.raises(FlowError, match=says) as caught:
        run(services, event(site), code, topic=topic)
    assert (caught.value.code, caught.value.field) == (code, "topic")


def test_a_message_that_breaks_a_rule_is_not_sent_and_claims_nothing(services: Services, broker: Mosquitto, site: Site):
    wrong = event(site)
    wrong["data"]["geometry"]["coordinates"] = [400, 95]
    (item,) = run(services, wrong, "wrong")
    assert item.error
    assert (item.status, item.error.type, item.error.field) == (Status.FAILED, "wis2_w7", "geometry.coordinates")
    assert "write longitude" in item.error.message
    with Subscriber(broker.url, TOPIC) as subscriber:
        run(services, event(site), "right")
        (document,) = subscriber.wait(1)
    assert document["links"][0]["rel"] == "canonical"


def test_no_file_is_left_out_for_its_geometry(services: Services, broker: Mosquitto, site: Site):
    ring = [[number / 200, (number / 200) ** 2] for number in range(400)]
    line, large = event(site, "/line.nc"), event(site, "/large.nc")
    line["data"] |= {"geometry": {"type": "LineString", "coordinates": [[1, 2], [3, 4]]}, "bbox": [0, 1, 4, 5]}
    large["data"]["geometry"] = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    site.answers |= {name: Answer(DATA, content_type="application/x-netcdf") for name in ("/line.nc", "/large.nc")}
    with Subscriber(broker.url, TOPIC) as subscriber:
        items = [*run(services, line, "line"), *run(services, large, "large")]
        first, second = subscriber.wait(2)
    assert [item.status for item in items] == [Status.OK, Status.OK]
    assert first["geometry"]["coordinates"] == [[[0, 1], [4, 1], [4, 5], [0, 5], [0, 1]]]
    assert second["geometry"]["coordinates"][0][2] == ring[-1]
    assert check(first, topic=TOPIC) == check(second, topic=TOPIC) == []


def test_a_message_has_the_properties_of_its_event(services: Services, broker: Mosquitto, site: Site):
    given = event(site)
    known = {"cache": False, "producer": "fr-ifremer", "wigos_station_identifier": "0-22000-0-7901113"}
    secured = {"default": {"type": "http", "scheme": "basic"}}
    given["data"]["properties"] |= known | {"gts": {"ttaaii": "IOPX01", "cccc": "LFVX"}, "security": secured}
    recommended = TOPIC.replace("/core/", "/recommended/")
    with Subscriber(broker.url, recommended) as subscriber:
        (item,) = run(services, given, "properties", topic=recommended)
        (refused,) = run(services, given, "core")
        (document,) = subscriber.wait(1)
    assert item.status is Status.OK
    assert known.items() <= document["properties"].items()
    assert document["properties"]["gts"] == {"ttaaii": "IOPX01", "cccc": "LFVX"}
    assert document["links"][0]["security"] == secured
    assert check(document, topic=recommended) == []
    assert refused.error
    assert refused.error.type == "wis2_w20"  # core data are open to everybody


@pytest.mark.parametrize(("name", "field"), [("mqtt_url", "DATAFAB_MQTT_URL"), ("wis2_topic", "topic")])
def test_what_is_not_set_fails_the_job(settings: Settings, site: Site, name: str, field: str):
    services = Services(settings.model_copy(update={name: None}), jobs=MemoryJobs())
    with pytest.raises(FlowError) as caught:
        run(services, event(site), f"without-{name}")
    services.close()
    assert caught.value.field == field


def test_an_event_without_files_fails_the_job(services: Services):
    with pytest.raises(FlowError, match="announces no file"):
        run(services, {"id": "e", "source": "s", "specversion": "1.0", "data": {"assets": {}}})


def test_a_deletion_is_not_taken_for_something_else(services: Services, site: Site):
    with pytest.raises(FlowError, match="deletions is not supported yet") as caught:
        run(services, event(site) | {"type": "fr.ifremer.file.deletion"})
    assert (caught.value.code, caught.value.field) == ("not_supported", "type")


def metadata(services: Services, site: Site, body: Any, job: str, **params: Any) -> Item:
    """Publish a file on the centre's metadata topic."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    site.answers["/rec.json"] = Answer(data, content_type="application/json")
    (item,) = run(services, event(site, "/rec.json", data=data), job, **{"topic": METADATA} | params)
    return item


def test_a_metadata_record_is_announced_each_time_that_it_is_published(
    services: Services, broker: Mosquitto, site: Site
):
    with Subscriber(broker.url, METADATA) as subscriber:
        first = metadata(services, site, record(), "first")
        second = metadata(services, site, record(), "second")
        changed = metadata(services, site, record(title="Profiles"), "changed")
        documents = subscriber.wait(3)
    assert [item.status for item in (first, second, changed)] == [Status.OK] * 3
    assert [document["links"][0]["rel"] for document in documents] == ["canonical", "update", "update"]
    assert [document["properties"]["metadata_id"] for document in documents] == [RECORD_ID] * 3
    assert len({document["properties"]["data_id"] for document in documents}) == 1
    assert len({document["id"] for document in documents}) == 3
    times = [document["properties"]["pubtime"] for document in documents]
    assert times == sorted(times)
    assert documents[0]["properties"]["data_id"].startswith("wis2/fr-ifremer-argo/metadata/")
    assert errors(check(documents[0], topic=METADATA)) == []


def test_a_record_that_a_killed_attempt_has_announced_is_not_announced_again(
    services: Services, broker: Mosquitto, site: Site
):
    item = metadata(services, site, record(), "killed")
    services.jobs._done.clear()  # as if the worker had died before it could tell
    with Subscriber(broker.url, METADATA) as subscriber:
        again = metadata(services, site, record(), "killed")
        services.get(Mqtt).publish(METADATA, b'"end"')
        assert subscriber.wait(1) == ["end"]
    assert again == item


@pytest.mark.parametrize(
    ("body", "kind", "field"),
    [
        (b"id;nom\n1;Brest\n", "wis2_c3", ""),
        (b'{"id": "urn:wmo:md:fr-ifremer-argo:a", "id": "urn:wmo:md:fr-ifremer-argo:b"}', "wis2_c3", ""),
        (record(title=""), "wis2_c4", "properties.title"),
        (record(conformsTo=[]), "wis2_c2", "conformsTo"),
        (record(id="urn:wmo:md:de-dwd:floats", links=[{"rel": "items", "href": "https://e.org/"}]), "wis2_c1", "id"),
        (b"[" + b" " * 5_000_000 + b"]", "wis2_record_size", "file:size"),
    ],
)
def test_what_is_no_record_is_not_announced_as_metadata(
    services: Services, broker: Mosquitto, site: Site, *, body: Any, kind: str, field: str
):
    with Subscriber(broker.url, METADATA) as subscriber:
        item = metadata(services, site, body, "wrong")
        services.get(Mqtt).publish(METADATA, b'"end"')
        assert subscriber.wait(1) == ["end"]
    assert item.error
    assert (item.status, item.error.type, item.error.field or "") == (Status.FAILED, kind, field)
    assert site.url("/rec.json") in item.error.message


def test_a_record_is_announced_as_no_other_record(services: Services, site: Site):
    item = metadata(services, site, record(), "other", metadata_id="urn:wmo:md:fr-ifremer-argo:other")
    assert item.error
    assert (item.status, item.error.type, item.error.field) == (Status.FAILED, "wis2_w12", "metadata_id")


@pytest.mark.skipif(not BUNDLE.is_dir(), reason="the suites' data are not here")
@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")  # pywis-pubsub and pywcmp, when imported
def test_a_record_that_the_suite_refuses_is_not_announced(services: Services, settings: Settings, site: Site):
    for name in ("pywis-pubsub", "pywcmp", "pywis-topics"):
        (settings.home / f".{name}").symlink_to(BUNDLE / name)
    right = metadata(services, site, record(), "right")
    links = [{"rel": "no-such-relation", "href": "https://example.org/"}]
    wrong = metadata(services, site, record(links=links), "wrong")
    assert right.wis2
    assert (right.status, right.wis2.suites) == (Status.OK, "passed")
    assert wrong.error
    assert (wrong.status, wrong.error.type) == (Status.FAILED, "wis2_wcmp2_links")
    assert "invalid link relation no-such-relation" in wrong.error.message


def test_without_their_data_the_suites_say_that_they_did_not_run(services: Services, site: Site, tmp_path: Path):
    (item,) = run(services, event(site), "suites")
    assert item.wis2
    assert item.wis2.suites
    assert item.wis2.suites.startswith("not run: no .pywis-pubsub/")
    (line,) = [line for line in services.jobs.logs() if "own rules only" in line["event"]]
    assert str(tmp_path) in line["missing"]


@pytest.mark.skipif(not BUNDLE.is_dir(), reason="the suites' data are not here")
@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")  # pywis-pubsub and pywcmp, when imported
def test_with_their_data_the_suites_run(services: Services, settings: Settings, site: Site):
    for name in ("pywis-pubsub", "pywcmp", "pywis-topics"):
        (settings.home / f".{name}").symlink_to(BUNDLE / name)
    home = os.environ.get("HOME")
    (item,) = run(services, event(site), "suites")
    assert item.wis2
    assert item.wis2.suites == "passed"
    unknown = TOPIC.replace("drifting-ocean-profilers", "bouteilles")  # a topic that only the tables can refuse
    (item,) = run(services, event(site), "unknown", topic=unknown)
    assert item.error
    assert (item.error.type, item.error.field) == ("wis2_t2", "topic")
    suite = Wis2Suite(settings.home)
    schema = suite.notification({"id": "x", "type": "Feature"}).findings
    assert {finding.rule for finding in schema} == {"WNM schema"}
    assert os.environ.get("HOME") == home


def announced_by_an_earlier_version(
    server: RedisServer, url: str, data: bytes = DATA, *, told_by_job: bool = False, **changes: Any
) -> str:
    """Write the record that an earlier version kept of a file, and the item of its job; return the message's id."""
    named, message = former(TOPIC, url).data_id, "31e9d66a-cd83-4174-9429-b932f1abe1be"
    kept = {"hash": hashlib.sha256(data).hexdigest(), "id": message, "pubtime": "2025-03-28T14:31:00.250Z"}
    kept |= {"rel": "canonical", "sent": "1743172260.5"} | changes
    with server.client() as client:
        client.hset(f"datafab:1:wis2:{hashlib.sha256(named.encode()).hexdigest()}", mapping=kept)
        if told_by_job:
            facts = {"data_id": named, "message": message, "topic": TOPIC, "rel": "canonical"}
            item = {"v": 1, "source": f"file:{url}", "url": url, "status": "ok", "wis2": facts}
            memo = {"m:0": json.dumps({"frozen": {"id": message}}), "0": json.dumps(item)}
            client.hset("datafab:1:job:old:done:publish:-", mapping=memo)
    return message


def said(document: dict[str, Any]) -> tuple[str, str, str]:
    """Return path, rel and data_id of what a message announces."""
    link = document["links"][0]
    return link["href"].split("/", 3)[3], link["rel"], document["properties"]["data_id"]


NEIGHBOURS = [
    ("/dl/get?id=1", "/dl/get?id=2"),
    ("/2026-11-28/a/b/c/d.nc", "/2026-11-29/a/b/c/d.nc"),
    ("/a/b.nc", "/a%2Fb.nc"),
    ("/a/b.nc", "/a/b.nc?v=1"),
    (f"/{'p/' * 1500}1.nc", f"/{'p/' * 1501}1.nc"),
]


@pytest.mark.parametrize(("one", "other"), NEIGHBOURS)
@pytest.mark.parametrize("same", [True, False])
def test_two_addresses_are_two_files(
    services: Services, broker: Mosquitto, site: Site, *, one: str, other: str, same: bool
):
    bodies = {one: DATA, other: DATA if same else DATA + b"2"}
    for path, body in bodies.items():
        site.answers[path] = Answer(body, content_type="application/x-netcdf")
    with Subscriber(broker.url, TOPIC) as subscriber:
        items = [run(services, event(site, path, data=body), path)[0] for path, body in bodies.items()]
        first, second = map(said, subscriber.wait(2))
    assert [item.status for item in items] == [Status.OK, Status.OK]
    assert [first[:2], second[:2]] == [(one[1:], "canonical"), (other[1:], "canonical")]
    assert first[2] != second[2]


def test_equal_paths_of_two_hosts_are_two_files(services: Services, broker: Mosquitto, site: Site):
    other = Site({NAME: Answer(DATA + b"2", content_type="application/x-netcdf")})
    with other as mirror, Subscriber(broker.url, TOPIC) as subscriber:
        run(services, event(site), "one")
        run(services, event(mirror, data=DATA + b"2"), "other")
        first, second = map(said, subscriber.wait(2))
    assert (first[1], second[1]) == ("canonical", "canonical")
    assert first[2] != second[2]


def test_a_data_id_of_the_event_names_the_file(services: Services, broker: Mosquitto, site: Site):
    named = "wis2/fr-ifremer-argo/data/core/ocean/R7901113_022"
    with Subscriber(broker.url, TOPIC) as subscriber:
        run(services, event(site, data_id=named), "first")
        (again,) = run(services, event(site, data_id=named), "again")
        site.answers["/elsewhere.nc"] = Answer(DATA, content_type="application/x-netcdf")
        whole = event(site, "/elsewhere.nc")
        whole["data"]["properties"]["data_id"] = named
        (moved,) = run(services, whole, "moved")
        first, second = map(said, subscriber.wait(2))
    assert first == (NAME[1:], "canonical", named)
    assert again.status is Status.UNCHANGED
    assert (second, moved.status) == (("elsewhere.nc", "update", named), Status.OK)


@pytest.mark.parametrize("name", ["", "a b", "a\n", 7, "x" * 2000])
def test_a_data_id_that_is_none_fails_the_job(services: Services, site: Site, name: Any):
    with pytest.raises(FlowError, match="give a text of at most 1024 characters") as caught:
        run(services, event(site, data_id=name), "odd")
    assert caught.value.field == f"data.assets.{NAME}.data_id"


def test_two_assets_with_one_data_id_fail_the_job(services: Services, site: Site):
    with pytest.raises(FlowError, match="two assets have the data_id 'a/b'"):
        run(services, event(site, NAME, "/b.nc", data_id="a/b"), "twice")


def test_what_an_earlier_version_announced_keeps_its_name(
    services: Services, broker: Mosquitto, redis_server: RedisServer, site: Site
):
    message = announced_by_an_earlier_version(redis_server, site.url(NAME))
    with Subscriber(broker.url, TOPIC) as subscriber:
        (item,) = run(services, event(site), "upgraded")
        site.answers[NAME] = Answer(DATA + b"!", content_type="application/x-netcdf")
        (corrected,) = run(services, event(site, data=DATA + b"!"), "corrected")
        (again,) = run(services, event(site, data=DATA + b"!"), "again")
        (document,) = subscriber.wait(1)
    assert item.wis2
    assert (item.status, item.wis2.message) == (Status.UNCHANGED, message)
    assert said(document) == (NAME[1:], "update", former(TOPIC, site.url(NAME)).data_id)
    assert (corrected.status, again.status) == (Status.OK, Status.UNCHANGED)
    assert document["properties"]["pubtime"] > "2025-03-28T14:31:00.250Z"


@pytest.mark.parametrize(("path", "told_by_job"), [(NAME, True), ("/x/a.nc", False)])
def test_a_file_corrected_since_the_upgrade_is_an_update(
    services: Services, broker: Mosquitto, redis_server: RedisServer, site: Site, *, path: str, told_by_job: bool
):
    """Its address is known from the job, or the former name can only be this file's."""
    site.answers[path] = Answer(DATA, content_type="application/x-netcdf")
    announced_by_an_earlier_version(redis_server, site.url(path), b"before", told_by_job=told_by_job)
    with Subscriber(broker.url, TOPIC) as subscriber:
        run(services, event(site, path), "corrected")
        (document,) = subscriber.wait(1)
    assert said(document) == (path[1:], "update", former(TOPIC, site.url(path)).data_id)


@pytest.mark.parametrize("told_by_job", [True, False])
@pytest.mark.parametrize(("one", "other"), NEIGHBOURS[:2])
def test_a_name_that_an_earlier_version_gave_to_another_file_is_not_taken(
    services: Services,
    broker: Mosquitto,
    redis_server: RedisServer,
    site: Site,
    *,
    one: str,
    other: str,
    told_by_job: bool,
):
    assert former(TOPIC, site.url(one)).data_id == former(TOPIC, site.url(other)).data_id
    # Without the job's word, equal bytes would be taken for the same file.
    body = b"before" if not told_by_job else DATA
    announced_by_an_earlier_version(redis_server, site.url(one), body, told_by_job=told_by_job)
    for path in (one, other):
        site.answers[path] = Answer(DATA if path == other else body, content_type="application/x-netcdf")
    with Subscriber(broker.url, TOPIC) as subscriber:
        (item,) = run(services, event(site, other), "other")
        (known,) = run(services, event(site, one, data=body), "one")
        (document,) = subscriber.wait(1)
    assert item.status is Status.OK
    assert said(document) == (other[1:], "canonical", data_id(TOPIC, site.url(other)))
    assert known.status is Status.UNCHANGED


def test_a_message_that_an_earlier_version_tried_to_send_is_sent(
    services: Services, broker: Mosquitto, redis_server: RedisServer, site: Site
):
    """A job that waited for the broker while the version changed."""
    message = announced_by_an_earlier_version(redis_server, site.url(NAME), sent="")
    (item,) = run(services, event(site), "waiting", stages=("receive",))
    frozen = {"id": message, "pubtime": "2025-03-28T14:31:00.250Z", "rel": "canonical"}
    services.jobs.save_notes("waiting", "publish", None, 0, {"frozen": frozen})
    with Subscriber(broker.url, TOPIC) as subscriber:
        batch = Batch(job="waiting", flow="publish", params={}, items=(item,))
        (done,) = run_stage(STAGES["publish"], batch, services, Attempt(Lease(attempt=1)))
        (document,) = subscriber.wait(1)
    assert (done.status, document["id"]) == (Status.OK, message)
    assert said(document) == (NAME[1:], "canonical", former(TOPIC, site.url(NAME)).data_id)


class Rules:
    """A broker's access rules, which can be changed while it runs."""

    def __init__(self, broker: Mosquitto) -> None:
        self._broker, self._file = broker, broker.folder / "acl"
        self._probe = Mqtt(Broker.of(broker.url))

    def allow(self, topic: str) -> None:
        """Let nobody publish but on a topic."""
        self._file.write_text(f"topic read #\ntopic write probe/{topic}\ntopic write {topic}\n", encoding="utf-8")
        self._file.chmod(0o600)
        os.kill(self._broker.pid, signal.SIGHUP)
        until(lambda: self._may(f"probe/{topic}"), 20)

    def _may(self, topic: str) -> bool:
        try:
            self._probe.publish(topic, b"{}")
        except (Fatal, Retriable):
            return False
        return True

    def close(self) -> None:
        self._probe.close()


@pytest.fixture
def strict(tmp_path: Path, settings: Settings) -> Iterator[tuple[Mosquitto, Rules, Services]]:
    """A broker with access rules, which lets nobody publish at first, and services that use it."""
    folder = tmp_path / "strict"
    folder.mkdir()
    (folder / "acl").write_text("topic read #\n", encoding="utf-8")
    (folder / "acl").chmod(0o600)
    with Mosquitto(folder, more=f"acl_file {folder}/acl\n") as broker:
        rules = Rules(broker)
        services = Services(settings.model_copy(update={"mqtt_url": broker.url}), jobs=MemoryJobs())
        yield broker, rules, services
        services.close()
        rules.close()


def test_what_the_broker_refused_was_never_announced(strict: tuple[Mosquitto, Rules, Services], site: Site):
    broker, rules, services = strict
    (refused,) = run(services, event(site), "v1")
    assert refused.error
    assert (refused.status, refused.error.type) == (Status.FAILED, "mqtt_refused")
    site.answers[NAME] = Answer(DATA + b"2", content_type="application/x-netcdf")
    rules.allow(TOPIC)
    with Subscriber(broker.url, TOPIC) as subscriber:
        before = pubtime(time.time())
        (item,) = run(services, event(site, data=DATA + b"2"), "v2")
        (document,) = subscriber.wait(1)
    assert (item.status, document["links"][0]["rel"]) == (Status.OK, "canonical")
    assert document["properties"]["pubtime"] >= before


def test_a_refused_message_is_sent_later_with_a_new_time(strict: tuple[Mosquitto, Rules, Services], site: Site):
    broker, rules, services = strict
    (refused,) = run(services, event(site), "refused")
    rules.allow(TOPIC)
    with Subscriber(broker.url, TOPIC) as subscriber:
        before = pubtime(time.time())
        (item,) = run(services, event(site), "later")
        (document,) = subscriber.wait(1)
    assert refused.status is Status.FAILED
    assert item.status is Status.OK
    assert document["links"][0]["rel"] == "canonical"
    assert document["properties"]["pubtime"] >= before


def test_what_is_refused_leaves_what_was_announced_before(strict: tuple[Mosquitto, Rules, Services], site: Site):
    broker, rules, services = strict
    rules.allow(TOPIC)
    states = {name: DATA + name.encode() for name in ("v1", "v2", "v3")}

    def publish(name: str, job: str) -> Item:
        site.answers[NAME] = Answer(states[name], content_type="application/x-netcdf")
        return run(services, event(site, data=states[name]), job)[0]

    with Subscriber(broker.url, TOPIC) as subscriber:
        publish("v1", "1")
        rules.allow("other")
        assert publish("v2", "2").status is Status.FAILED
        assert publish("v1", "1 again").status is Status.UNCHANGED
        assert publish("v2", "2 again").status is Status.FAILED
        rules.allow(TOPIC)
        assert publish("v3", "3").status is Status.OK
        documents = subscriber.wait(2)
    assert [document["links"][0]["rel"] for document in documents] == ["canonical", "update"]
    assert len({document["properties"]["data_id"] for document in documents}) == 1


def test_a_message_that_found_no_broker_is_sent_with_a_new_time(
    services: Services, settings: Settings, broker: Mosquitto, site: Site
):
    absent = Services(settings.model_copy(update={"mqtt_url": "mqtt://127.0.0.1:9"}), jobs=MemoryJobs())
    absent.get(Mqtt)._timeout = 0.2
    with pytest.raises(Wait, match="the MQTT broker"):
        run(absent, event(site), "away")
    absent.close()
    site.answers[NAME] = Answer(DATA + b"2", content_type="application/x-netcdf")
    with Subscriber(broker.url, TOPIC) as subscriber:
        before = pubtime(time.time())
        run(services, event(site, data=DATA + b"2"), "back")
        (document,) = subscriber.wait(1)
    assert document["links"][0]["rel"] == "canonical"
    assert document["properties"]["pubtime"] >= before


def test_an_unknown_outcome_keeps_its_message_for_another_job(services: Services, broker: Mosquitto, site: Site):
    services.get(Mqtt).ping()
    services.get(Mqtt)._acknowledge = 0.3
    with Subscriber(broker.url, TOPIC) as subscriber:
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            with pytest.raises(Wait, match="no acknowledgement"):
                run(services, event(site), "hung")
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        services.get(Mqtt)._acknowledge = 5
        (item,) = run(services, event(site), "other job")
        first, *_ = documents = subscriber.wait(1)
    assert item.wis2
    assert (item.status, item.wis2.message) == (Status.OK, first["id"])
    assert len({str(document) for document in documents}) == 1


def test_a_job_whose_message_was_refused_to_another_begins_anew(services: Services, broker: Mosquitto, site: Site):
    (item,) = run(services, event(site), "begun", stages=("receive",))
    name, address = data_id(TOPIC, site.url(NAME)), address_digest(site.url(NAME))
    mine = MessageIdentity(id="e686f5cf-bacf-4703-9f94-217e2b5d5ebb", pubtime="2025-01-01T00:00:00Z")
    services.get(Publications).claim(name, str(item.sha256), mine.id, mine.pubtime, address=address)
    services.jobs.save_notes("begun", "publish", None, 0, {"frozen": mine.dump()})
    services.get(Publications).forget(name, mine.id)
    batch = Batch(job="begun", flow="publish", params={}, items=(item,))
    with Subscriber(broker.url, TOPIC) as subscriber:
        (done,) = run_stage(STAGES["publish"], batch, services, Attempt(Lease(attempt=1)))
        (document,) = subscriber.wait(1)
    assert done.status is Status.OK
    assert (document["id"] != mine.id, document["links"][0]["rel"]) == (True, "canonical")
    assert document["properties"]["pubtime"] > "2026"


def test_what_a_publication_costs(redis_server: RedisServer, settings: Settings):
    client = connect(load(redis_url=redis_server.url))
    publications = Publications(settings, client)
    publications.claim("a/b", "0" * 64, "31e9d66a-cd83-4174-9429-b932f1abe1be", "2025-03-28T14:31:00.250Z")
    publications.sent("a/b", "31e9d66a-cd83-4174-9429-b932f1abe1be")
    (key,) = [
        key for key in client.keys("datafab:1:wis2:*") if client.hget(key, "pubtime") == "2025-03-28T14:31:00.250Z"
    ]
    assert 0 < client.memory_usage(key) < 600
    assert 0 < client.ttl(key) <= settings.retention_days * 24 * 3600
    publications.close()


@pytest.fixture(autouse=True)
def _nothing_announced(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.flushdb()
