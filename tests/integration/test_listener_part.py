"""The listener as a part of the cluster on this host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datafab.clients.jobs import connect
from datafab.clients.mqtt import Broker, Mqtt
from datafab.embedded import ALL, Cluster, free_port
from datafab.settings import load
from tests.servers.celery import until
from tests.servers.mosquitto import Mosquitto


@pytest.mark.parametrize(
    ("parts", "settings", "listens"),
    [
        (ALL, {"mqtt_url": "mqtt://h", "event_topic": ("a",)}, True),
        (ALL, {"mqtt_url": "mqtt://h"}, False),
        (ALL, {"event_topic": ("a",)}, False),
        (["redis"], {"mqtt_url": "mqtt://h", "event_topic": ("a",)}, False),
        (["redis", "listener"], {"mqtt_url": "mqtt://h", "event_topic": ("a",)}, True),
    ],
)
def test_the_listener_runs_where_it_has_something_to_hear(tmp_path: Path, parts, settings, listens: bool):
    assert ("listener" in Cluster(load({}, home=tmp_path, **settings), parts)._names) is listens


def test_an_event_becomes_a_job_of_the_embedded_cluster(tmp_path: Path):
    with Mosquitto(tmp_path / "broker") as broker:
        settings = load(
            {}, home=tmp_path / "home", mqtt_url=broker.url, event_topic="diffusion/#", bind=f"127.0.0.1:{free_port()}"
        )
        with Cluster(settings, ["redis", "listener"]) as cluster:
            assert set(cluster.pids) == {"redis", "listener"}
            log = tmp_path / "home" / "logs" / "listener.log"
            until(lambda: '"listening"' in log.read_text(encoding="utf-8"), 20)
            client = Mqtt(Broker.of(broker.url))
            event = {"id": "e", "source": "s", "specversion": "1.0", "data": {"assets": {}}}
            client.publish("diffusion/files", json.dumps(event).encode())
            client.close()
            with connect(str(cluster.settings.redis_url)) as redis:
                until(lambda: redis.zcard("datafab:1:jobs") == 1, 20)
