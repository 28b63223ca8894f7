"""The listener as a process, on a real broker and Redis: no event is lost, none becomes two jobs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from datafab.core.redis import connect
from datafab.embedded import free_port
from datafab.errors import SettingError
from datafab.publish.cloudevent import with_data
from datafab.publish.deadletters import MAX_LETTERS, DeadLetters
from datafab.publish.mqtt import Broker, Mqtt
from datafab.settings import load
from tests.servers.celery import Process, until
from tests.servers.mosquitto import Mosquitto
from tests.servers.redis import RedisServer
from workers.listener import MAX_INLINE_EVENT_BYTES, Listener

TOPIC = "diffusion/files/coriolis/argo/netcdf"


def event(name: str = "Profile7901113_022A", **more: Any) -> dict[str, Any]:
    assets = {"a.nc": {"href": "https://data-argo.ifremer.fr/a.nc"}}
    return {"id": name, "source": "co050203", "specversion": "1.0", "data": {"assets": assets}} | more


class Ear:
    """A broker, a Redis, a listener that can be killed, and a sender of events."""

    def __init__(self, folder: Path, broker: Mosquitto, server: RedisServer) -> None:
        self.folder, self.broker, self.server = folder, broker, server
        self.redis = connect(load(redis_url=server.url), patience=10)
        self.letters = DeadLetters(self.redis)
        self.mqtt = Mqtt(Broker.of(broker.url))
        self.listener: Process | None = None

    def listen(self, redis_url: str = "", **env: str) -> Process:
        env = {
            "DATAFAB_HOME": str(self.folder),
            "DATAFAB_REDIS_URL": redis_url or self.server.url,
            "DATAFAB_MQTT_URL": self.broker.url,
            "DATAFAB_EVENT_TOPIC": "diffusion/files/#",
        } | env
        said = self.said().count('"listening"')
        self.listener = Process("listener", "workers.listener", env=env, log=self.folder)
        until(lambda: not self.listener.alive or self.said().count('"listening"') > said, 20)
        assert env.get("fails") or self.listener.alive, self.said()[-2000:]
        return self.listener

    def said(self) -> str:
        log = self.folder / "listener.log"
        return log.read_text(encoding="utf-8") if log.exists() else ""

    def send(self, *payloads: Any) -> None:
        for payload in payloads:
            self.mqtt.publish(TOPIC, payload if isinstance(payload, bytes) else json.dumps(payload).encode())

    def jobs(self) -> list[dict[str, str]]:
        return [self.redis.hgetall(f"datafab:1:job:{job}") for job in self.redis.zrange("datafab:1:jobs", 0, -1)]

    def until_jobs(self, count: int) -> list[dict[str, str]]:
        until(lambda: len(self.jobs()) >= count, 20)
        time.sleep(0.1)
        assert len(self.jobs()) == count
        return self.jobs()


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[Ear]:
    with Mosquitto(tmp_path / "broker") as broker, RedisServer(tmp_path / "redis") as server:
        mine = Ear(tmp_path, broker, server)
        yield mine
        mine.mqtt.close()
        mine.letters.close()
        if mine.listener and mine.listener.alive:
            mine.listener.kill()


def test_each_event_is_one_job_however_often_it_comes(ear: Ear):
    listener = ear.listen()
    large = event("large", note="é" * MAX_INLINE_EVENT_BYTES)
    ear.send(event(), event(), large, event(time="2025-03-28T14:31:00Z"))
    first, stored, later = ear.until_jobs(3)
    assert {job["flow"] for job in (first, stored, later)} == {"publish"}
    assert json.loads(first["params"])["event"] == event()
    assert json.loads(stored["params"])["event"].startswith("list:")
    assert first["key"].startswith("event:co050203:Profile7901113_022A:")
    # An event of the same id for another state of the file is no copy: `publish` decides.
    assert first["key"] != later["key"]
    assert listener.stop() == 0  # on SIGTERM
    ear.listen()
    ear.send(event("another"))
    ear.until_jobs(4)  # all else was acknowledged


def test_its_file_says_whether_it_can_take_events(ear: Ear):
    alive, lately = ear.folder / "listener.alive", 1_000_000_000.0

    def touched(within: float) -> bool:
        os.utime(alive, (0, 0))
        time.sleep(within)
        return alive.stat().st_mtime > lately

    ear.listen(DATAFAB_HEARTBEAT="0.1")
    until(lambda: touched(0.3), 20)
    ear.broker.kill()
    until(lambda: not touched(1), 20)
    ear.broker.start()
    until(lambda: touched(0.3), 20)
    ear.server.stop()
    ear.send(event())  # it holds an event that it cannot make a job of
    until(lambda: not touched(1), 20)
    ear.server.start()
    until(lambda: touched(0.3), 20)
    ear.until_jobs(1)


REFUSED = [
    (b"\xff{", "not JSON", None),
    (b"[" * 100_000, "not JSON", None),
    (b"[]", "the event is not a JSON object", None),
    (json.dumps(event()).replace('"1.0"', "NaN").encode(), "NaN is not a number in JSON", None),
    (json.dumps(event()).replace('"id"', '"id": "another", "id"', 1).encode(), "has the member 'id' twice", None),
    (json.dumps(event("\ud800")).encode(), "half of a surrogate pair", None),
    (json.dumps(event(id="")).encode(), "the event has no id", "id"),
    (json.dumps(event(specversion="0.3")).encode(), "specversion is '0.3'", "specversion"),
    (json.dumps(event(data=None)).encode(), "has no data", "data"),
]


def test_what_is_no_event_is_a_dead_letter_and_stops_nothing(ear: Ear):
    ear.listen()
    ear.send(*(payload for payload, *_ in REFUSED), event())
    ear.until_jobs(1)
    letters = ear.letters.newest()[::-1]
    for letter, (payload, reason, field) in zip(letters, REFUSED, strict=True):
        assert reason in letter["reason"]
        assert (letter["where"], letter["field"], letter["size"]) == (TOPIC, field, len(payload))
        assert payload.decode("utf-8", "replace").startswith(letter["payload"])


def test_dead_letters_are_bounded(ear: Ear):
    for number in range(MAX_LETTERS + 5):
        ear.letters.put("t", b"x" * 9000, f"reason {number}")
    kept = ear.letters.newest(MAX_LETTERS * 2)
    assert len(kept) == MAX_LETTERS
    assert (kept[0]["reason"], kept[0]["size"], len(kept[0]["payload"])) == (f"reason {MAX_LETTERS + 4}", 9000, 4096)


def test_what_comes_while_the_listener_is_away_waits_in_the_broker(ear: Ear):
    ear.listen().stop()
    ear.send(event("one"), event("two"))
    ear.listen()
    ear.until_jobs(2)


def test_a_listener_killed_before_it_acknowledged_gets_the_event_again(ear: Ear):
    # With Redis away it holds the event, and can neither write the job nor acknowledge.
    listener = ear.listen(redis_url=f"redis://127.0.0.1:{free_port()}/0")
    ear.send(event())
    until(lambda: "the event waits" in ear.said(), 20)
    listener.kill()
    assert ear.jobs() == []
    ear.listen()
    ear.until_jobs(1)


def test_an_event_waits_for_redis_to_come_back(ear: Ear):
    ear.listen()
    ear.send(event("before"))
    ear.until_jobs(1)
    ear.server.stop()
    ear.send(event("meanwhile"))
    until(lambda: "the event waits" in ear.said(), 20)
    ear.server.start()
    ear.until_jobs(2)


def test_a_listener_finds_its_broker_again(ear: Ear):
    ear.listen()
    ear.broker.stop()
    ear.broker.start()
    until(lambda: ear.said().count('"listening"') == 2, 20)
    ear.send(event())
    ear.until_jobs(1)


@pytest.mark.parametrize("name", ["mqtt_url", "event_topic", "redis_url"])
def test_what_is_not_set(tmp_path: Path, name: str):
    given = {"mqtt_url": "mqtt://127.0.0.1:9", "event_topic": ("a",), "redis_url": "redis://127.0.0.1:9"}
    with pytest.raises(SettingError, match=f"DATAFAB_{name.upper()} is not set"):
        Listener(load(home=tmp_path, **given | {name: () if name == "event_topic" else None}))


def test_an_event_in_binary_mode_is_the_event_of_its_properties(ear: Ear):
    ear.listen()
    attributes = {name: value for name, value in event().items() if name != "data"}
    client = ear.mqtt.broker.client("sender")
    client.loop_start()
    until(client.is_connected, 10)
    for more in ([], [], [("id", "twice")]):
        properties = Properties(PacketTypes.PUBLISH)
        properties.UserProperty = [*attributes.items(), *more]
        properties.ContentType = "application/geo+json"
        client.publish(TOPIC, json.dumps(event()["data"]), qos=1, properties=properties).wait_for_publish(10)
    until(ear.letters.newest, 20)
    client.disconnect()
    client.loop_stop()
    (job,) = ear.until_jobs(1)
    (letter,) = ear.letters.newest()
    assert with_data(json.loads(job["params"])["event"]) == event(datacontenttype="application/geo+json")
    assert job["key"].startswith("event:co050203:Profile7901113_022A:")
    assert "the attribute id twice" in letter["reason"]


def test_the_log_has_the_reason_of_a_failed_connection_once(ear: Ear):
    ear.listen()
    ear.broker.stop()
    refused = f"nothing listens on port {ear.broker.port} of 127.0.0.1"
    until(lambda: refused in ear.said(), 20)
    time.sleep(2)  # another attempt
    ear.broker.start()
    until(lambda: ear.said().count('"listening"') == 2, 40)
    assert ear.said().count(refused) == 1


def test_a_broker_that_lets_nobody_listen_ends_it(ear: Ear, tmp_path: Path):
    # amqtt, for mosquitto accepts every subscription and then sends nothing; its topic "prohibited" is so.
    plugin = "  amqtt.plugins.topic_checking.TopicTabooPlugin: {}\n"
    with Mosquitto(tmp_path / "strict", binary=None, more=plugin) as strict:
        listener = ear.listen(DATAFAB_MQTT_URL=strict.url, DATAFAB_EVENT_TOPIC="a/b,prohibited", fails="yes")
        assert listener.wait(20) == 1
    assert "does not let us listen to prohibited" in ear.said()


def test_the_broker_of_a_host_without_mosquitto_serves_too(ear: Ear, tmp_path: Path):
    with Mosquitto(tmp_path / "amqtt", binary=None) as plain:
        ear.mqtt = Mqtt(Broker.of(plain.url))
        listener = ear.listen(DATAFAB_MQTT_URL=plain.url)
        ear.send(event(), b"[]", event())
        until(ear.letters.newest, 20)  # the job is there before it
        ear.until_jobs(1)
        assert len(ear.letters.newest()) == 1
        assert listener.stop() == 0
        ear.mqtt.close()
