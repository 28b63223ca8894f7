"""`publish` on real workers: from an event over MQTT to a notification at a subscriber, over kills too."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from datafab.clients.mqtt import Broker, Mqtt
from datafab.clients.wis2suite import Wis2Suite
from datafab.domain.job import JobStatus
from datafab.domain.notification_rules import check
from datafab.embedded.broker import find_mosquitto
from tests.servers.celery import Cluster, Process, until
from tests.servers.http import Answer, Site
from tests.servers.mosquitto import Mosquitto, Subscriber
from tests.servers.redis import RedisServer
from tests.workers.conftest import Bench

BUNDLE = Path(__file__).resolve().parents[2].parent / "shared" / "wis2-bundle"
TOPIC = "origin/a/wis2/fr-ifremer-argo/data/core/ocean/surface-based-observations/drifting-ocean-profilers"
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
    with Mosquitto(folder / "broker") as broker, RedisServer(folder / "redis") as server, Site() as site:
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
        ({"event": 3}, None, "no JSON object"),
        ({"topic": TOPIC.replace("data/core", "core/data")}, "topic", "swap levels 5 and 6"),
    ],
)
def test_a_job_that_cannot_be_run_says_why(node: Node, params: dict[str, object], field: str | None, says: str):
    job = node.bench.run("publish", **{"event": node.event("R5_001.nc")} | params)
    assert job.status == JobStatus.FAILED
    assert job.error
    assert job.error.field == field
    assert says in job.error.message
