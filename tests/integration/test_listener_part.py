"""The listener as a part of the cluster on this host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datafab.core.redis import connect
from datafab.embedded import ALL, CORE, Cluster, running
from datafab.embedded import cluster as cluster_module
from datafab.embedded import parts as parts_module
from datafab.embedded.broker import find_mosquitto
from datafab.publish.mqtt import Broker, Mqtt
from datafab.settings import load
from tests.servers.celery import until
from tests.servers.mosquitto import Mosquitto, Subscriber

EVENT = {"id": "e", "source": "s", "specversion": "1.0", "data": {"assets": {}}}


@pytest.mark.parametrize(
    ("parts", "settings", "listens"),
    [
        (ALL, {"mqtt_url": "mqtt://h", "event_topic": ("a",)}, True),
        (ALL, {"mqtt_url": "mqtt://h"}, False),
        (ALL, {"event_topic": ("a",)}, True),
        (["redis"], {"mqtt_url": "mqtt://h", "event_topic": ("a",)}, False),
        (["redis", "listener"], {"mqtt_url": "mqtt://h", "event_topic": ("a",)}, True),
    ],
)
def test_the_listener_runs_where_it_has_something_to_hear(tmp_path: Path, parts, settings, listens: bool):
    assert ("listener" in Cluster(load({}, home=tmp_path, **settings), parts)._names) is listens


@pytest.mark.parametrize(
    ("parts", "url", "serves"),
    [(ALL, None, True), (ALL, "mqtt://h", False), (CORE, None, False), (["broker"], None, True)],
)
def test_a_broker_runs_where_none_is_named(tmp_path: Path, parts, url: str | None, serves: bool):
    assert ("broker" in Cluster(load({}, home=tmp_path, mqtt_url=url), parts)._names) is serves


def announce(url: str) -> None:
    client = Mqtt(Broker.of(url))
    client.publish("diffusion/files", json.dumps(EVENT).encode())
    client.close()


def listens(home: Path) -> bool:
    return '"listening"' in (home / "logs" / "listener.log").read_text(encoding="utf-8")


def taken(cluster: Cluster) -> bool:
    with connect(cluster.settings) as redis:
        return redis.zcard("datafab:1:jobs") == 1


def test_an_event_of_a_broker_elsewhere_becomes_a_job(tmp_path: Path):
    with Mosquitto(tmp_path / "broker") as broker:
        settings = load({}, home=tmp_path / "home", mqtt_url=broker.url, event_topic="diffusion/#")
        with Cluster(settings, ["redis", "listener"]) as cluster:
            assert set(cluster.pids) == {"redis", "listener"}
            until(lambda: listens(tmp_path / "home"), 60)
            announce(broker.url)
            until(lambda: taken(cluster), 60)


@pytest.mark.parametrize("kind", ["mosquitto", "amqtt"])
def test_the_clusters_own_broker_carries_events_and_messages(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
):
    if kind == "amqtt":  # as where the host has no mosquitto
        for module in (cluster_module, parts_module):
            monkeypatch.setattr(module, "find_mosquitto", lambda: None)
    elif find_mosquitto() is None:
        pytest.skip("no mosquitto: run tests/servers/install")
    settings = load({}, home=tmp_path, event_topic="diffusion/#")
    with Cluster(settings, ["redis", "broker", "listener"]) as cluster:
        found = running(settings)
        assert found is not None
        assert found.mqtt == cluster.settings.mqtt_url
        assert (
            Path(f"/proc/{cluster.pids['broker']}/cmdline")
            .read_text()
            .split("\0")[-2]
            .endswith("mosquitto.conf" if kind == "mosquitto" else "amqtt.yaml")
        )
        until(lambda: listens(tmp_path), 60)
        with Subscriber(str(found.mqtt)) as subscriber:
            announce(str(found.mqtt))
            assert subscriber.wait(1, 60) == [EVENT]
        until(lambda: taken(cluster), 60)
        broker = cluster.pids["broker"]
    assert not Path(f"/proc/{broker}").exists()
