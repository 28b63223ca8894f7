"""`publish` on real workers: from an event over MQTT to a notification at a subscriber, over kills too."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from datafab.core.job import JobStatus
from datafab.embedded.broker import find_mosquitto
from datafab.publish.event import announcement
from datafab.publish.mqtt import Broker, Mqtt
from datafab.publish.notification_rules import check
from datafab.publish.wis2_suite import Wis2Suite
from tests.records import METADATA, record
from tests.servers import nursery
from tests.servers.celery import Cluster, Process, until
from tests.servers.http import Answer, Site
from tests.servers.mosquitto import Mosquitto, Subscriber
from tests.servers.redis import RedisServer
from tests.workers.conftest import Bench

BUNDLE = Path(__file__).resolve().parents[2].parent / "shared" / "wis2-bundle"
TOPIC = "origin/a/wis2/fr-ifremer-argo/data/core/ocean/surface-based-observations/drifting-ocean-profilers"
REFUSED = "origin/a/wis2/fr-ifremer-argo/data/core/ocean/experimental/refused"
EVENTS = "diffusion/files/coriolis/argo/netcdf"

pytestmark = pytest.mark.skipif(find_mosquitto() is None, reason="no mosquitto: run tests/servers/install")


class Node:
    """A WIS2 node: broker, cluster, listener, and the site where its files are."""

    def __init__(self, bench: Bench, broker: Mosquitto, site: Site) -> None:
        self.bench, self.broker, self.site = bench, broker, site
        self.mqtt = Mqtt(Broker.of(broker.url))

    def event(self, *names: str) -> dict[str, object]:
        """Put files on the site, and return the event that announces them."""
        assets = {}
        for name in names:
            data = f"CDF {name}".encode()
            self.site.answers[f"/7901113/profiles/{name}"] = Answer(data, content_type="application/x-netcdf")
            digest = f"1620{hashlib.sha3_256(data).hexdigest()}"
            href = self.site.url(f"/7901113/profiles/{name}")
            assets[name] = {"href": href, "file:size": len(data), "file:checksum": digest}
        data = {"assets": assets, "properties": {"datetime": "2024-11-09T21:08:00Z"}}
        return {"id": names[0], "source": "co050203", "specversion": "1.0", "data": data}

    def subscriber(self) -> Subscriber:
        return Subscriber(self.broker.url, "origin/#")

    def jobs(self) -> list[str]:
        return self.bench.redis.zrange("datafab:1:jobs", 0, -1)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("node")
    if BUNDLE.is_dir():
        for name in ("pywis-pubsub", "pywcmp", "pywis-topics"):
            (folder / f".{name}").symlink_to(BUNDLE / name)
    (folder / "acl").write_text(f"topic readwrite #\ntopic deny {REFUSED}\n", encoding="utf-8")
    (folder / "acl").chmod(0o600)
    node = Mosquitto(folder / "broker", more=f"acl_file {folder}/acl\n")
    with node as broker, RedisServer(folder / "redis") as server, Site() as site:
        cluster = Cluster(
            server.url,
            folder,
            DATAFAB_MQTT_URL=broker.url,
            DATAFAB_EVENT_TOPIC="diffusion/files/#",
            DATAFAB_WIS2_TOPIC=TOPIC,
            DATAFAB_WIS2_METADATA_ID="urn:wmo:md:fr-ifremer-argo:cor:msg:argo",
            DATAFAB_ALLOW_PRIVATE_HOSTS="127.0.0.1/32",
            DATAFAB_CONNECT_TIMEOUT="1",
        )
        mine = Node(Bench(cluster, server), broker, site)
        mine.bench.mend()
        yield mine
        mine.mqtt.close()
        cluster.stop()


@pytest.fixture
def listener(node: Node) -> Iterator[Process]:
    process = Process("listener", "workers.listener", env=node.bench.cluster.env, log=node.bench.cluster.folder)
    until(lambda: '"listening"' in process.log.read_text(encoding="utf-8"), 20)
    yield process
    process.stop()


def test_from_an_event_to_its_notifications(node: Node, listener: Process):
    with node.subscriber() as subscriber:
        node.mqtt.publish(EVENTS, json.dumps(node.event("R1_001.nc", "R1_002.nc")).encode())
        documents = subscriber.wait(2)
    (job,) = node.jobs()
    assert node.bench.end(job).counts.ok == 2
    assert {topic for topic, *_ in subscriber.messages} == {TOPIC}
    assert {(qos, retained) for *_, qos, retained in subscriber.messages} == {(1, False)}
    assert len({document["id"] for document in documents}) == 2
    assert all(check(document, topic=TOPIC) == [] for document in documents)


@pytest.mark.skipif(not BUNDLE.is_dir(), reason="the suites' data are not here")
@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")  # pywis-pubsub, when imported
def test_the_libraries_find_nothing_in_a_notification(node: Node):
    with node.subscriber() as subscriber:
        job = node.bench.run("publish", event=node.event("R2_001.nc"))
        (document,) = subscriber.wait(1)
    suite = Wis2Suite(node.bench.settings.home)
    assert suite.notification(document) == suite.topic(TOPIC) == ([], "")
    assert job.status == JobStatus.SUCCEEDED


def test_a_worker_killed_before_the_acknowledgement_sends_the_same_message(node: Node):
    with node.subscriber() as subscriber:
        node.bench.run("publish", event=node.event("R3_001.nc"))  # the worker is connected now
        subscriber.wait(1)
        os.kill(node.broker.pid, signal.SIGSTOP)
        try:
            job = node.bench.start("publish", event=node.event("R3_002.nc"))
            notes = f"datafab:1:job:{job}:done:publish:-"
            until(lambda: "frozen" in (node.bench.redis.hget(notes, "m:0") or ""), 20)
            frozen = json.loads(node.bench.redis.hget(notes, "m:0"))["frozen"]
            time.sleep(0.3)  # it is sent, and waits for the broker
            node.bench.cluster.parts["io"].kill()
        finally:
            os.kill(node.broker.pid, signal.SIGCONT)
        node.bench.mend()
        ended = node.bench.end(job, 60)
        documents = subscriber.wait(2)[1:]
    assert ended.status == JobStatus.SUCCEEDED
    assert ended.counts
    assert (ended.counts.ok, ended.counts.unchanged) == (1, 0)
    assert {document["id"] for document in documents} == {frozen["id"]}
    assert {document["properties"]["pubtime"] for document in documents} == {frozen["pubtime"]}


def test_an_announcement_outlives_its_broker(node: Node):
    node.broker.kill()
    job = node.bench.start("publish", event=node.event("R4_001.nc"))
    until(lambda: node.bench.job(job).status == JobStatus.WAITING, 40)
    node.broker.start()
    assert node.bench.end(job, 60).counts.ok == 1  # which it is by the broker's acknowledgement only


@pytest.mark.parametrize(
    ("params", "field", "says"),
    [
        ({"event": {"id": "e", "source": "s", "specversion": "1.0", "data": {}}}, "data.assets", "announces no file"),
        ({"event": 3}, None, "not a JSON object"),
        ({"topic": TOPIC.replace("data/core", "core/data")}, "topic", "swap levels 5 and 6"),
    ],
)
def test_a_job_that_cannot_be_run_says_why(node: Node, params: dict[str, object], field: str | None, says: str):
    job = node.bench.run("publish", **{"event": node.event("R5_001.nc")} | params)
    assert job.status == JobStatus.FAILED
    assert job.error
    assert job.error.field == field
    assert says in job.error.message


def cli(node: Node, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = node.bench.cluster.env | {"COLUMNS": "200"}
    return nursery.run("datafab", *arguments, env=environment)


def test_a_job_whose_only_file_was_refused_has_failed(node: Node):
    with node.subscriber() as subscriber:
        job = node.bench.run("publish", event=node.event("R6_001.nc"), topic=REFUSED)
        again = node.bench.run("publish", event=node.event("R6_001.nc") | {"id": "again"})
        (document,) = subscriber.wait(1)
    assert (job.status, job.failed_in) == (JobStatus.FAILED, "publish")
    assert job.error
    assert (job.error.type, job.error.field) == ("mqtt_refused", "DATAFAB_MQTT_URL")
    listed = cli(node, "jobs", "list", "--status", "failed").stdout
    assert job.id in listed
    assert "publish: mqtt://127.0.0.1" in listed
    assert f"refuses a message on {REFUSED}: Not authorized" in listed
    assert (again.status, document["links"][0]["rel"]) == (JobStatus.SUCCEEDED, "canonical")


def test_a_job_of_which_one_file_was_announced_has_succeeded(node: Node):
    event = node.event("R7_001.nc", "R7_002.nc")
    node.site.answers["/7901113/profiles/R7_002.nc"] = Answer(status=410)
    job = node.bench.run("publish", event=event)
    assert (job.status, job.error) == (JobStatus.SUCCEEDED, None)
    assert job.counts
    assert (job.counts.ok, job.counts.failed) == (1, 1)


def test_a_command_whose_files_were_all_refused_exits_with_3(node: Node):
    url = node.site.url("/gone.nc")
    node.site.answers["/gone.nc"] = Answer(status=410)
    done = cli(node, "publish", url)
    assert (done.returncode, "1 failed" in done.stdout) == (3, True), done.stderr
    listed = cli(node, "jobs", "list", "--limit", "1").stdout
    assert f"receive: {url}" in listed


def test_a_record_is_announced_daily_and_what_is_none_never(node: Node):
    name = "/rec.json"
    node.site.answers[name] = Answer(json.dumps(record()).encode(), content_type="application/json")
    node.site.answers["/rec.csv"] = Answer(b"id;nom\n1;Brest\n", content_type="text/csv")
    with node.subscriber() as subscriber:
        jobs = [
            node.bench.run("publish", event=announcement(node.site.url(path)), topic=METADATA)
            for path in (name, "/rec.csv", name)
        ]
        first, second = subscriber.wait(2)
    assert [job.status for job in jobs] == [JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.SUCCEEDED]
    assert [job.counts.ok for job in jobs if job.counts] == [1, 0, 1]
    assert first["id"] != second["id"]
    assert [one["links"][0]["rel"] for one in (first, second)] == ["canonical", "update"]
    assert jobs[1].error
    assert "it is not JSON" in jobs[1].error.message


def test_two_addresses_are_two_files(node: Node):
    bodies = {"/dl/get?id=1": b"CDF one", "/dl/get?id=2": b"CDF two"}
    for path, body in bodies.items():
        node.site.answers[path] = Answer(body, content_type="application/x-netcdf")
    with node.subscriber() as subscriber:
        jobs = [node.bench.run("publish", event=announcement(node.site.url(path))) for path in bodies]
        documents = subscriber.wait(2)
    assert [job.counts.ok for job in jobs if job.counts] == [1, 1]
    assert [one["links"][0]["rel"] for one in documents] == ["canonical", "canonical"]
    assert len({one["properties"]["data_id"] for one in documents}) == 2
