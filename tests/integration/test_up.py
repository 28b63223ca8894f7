"""``datafab up`` alone is a WIS2 node: with a broker of its own, amqtt here as where the host has no mosquitto."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from datafab.embedded import free_port
from datafab.publish.mqtt import Broker, Mqtt
from datafab.publish.notification_rules import check
from datafab.settings import child_environment, load
from tests.servers.celery import until
from tests.servers.mosquitto import Subscriber

TOPIC = "origin/a/wis2/fr-ifremer-argo/data/core/ocean/surface-based-observations/drifting-ocean-profilers"
UP = """
from datafab.embedded import cluster, parts
cluster.find_mosquitto = parts.find_mosquitto = lambda: None
from datafab.cli.main import main
main(["up"])
"""


def test_an_event_sent_to_it_is_announced_there(tmp_path: Path, site: str):
    settings = load(
        {},
        home=tmp_path / "home",
        bind=f"127.0.0.1:{free_port()}",
        flower_bind=f"127.0.0.1:{free_port()}",
        allow_private_hosts="127.0.0.1/32",
        cpu_processes=1,
        io_processes=1,
        event_topic="diffusion/#",
        wis2_topic=TOPIC,
    )
    with subprocess.Popen(
        [sys.executable, "-c", UP],
        env=child_environment(settings) | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as up:
        assert up.stdout is not None
        try:
            said = dict(up.stdout.readline().split() for _ in range(4))
            assert said["mqtt"].endswith("?version=3")
            log = tmp_path / "home" / "logs" / "listener.log"
            until(lambda: '"listening"' in log.read_text(encoding="utf-8"), 60)
            assets = {"file": {"href": f"{site}/communes.csv"}}
            event = {"id": "e", "source": "portal", "specversion": "1.0", "data": {"assets": assets}}
            client = Mqtt(Broker.of(said["mqtt"]))
            with Subscriber(said["mqtt"], "origin/#") as subscriber:
                client.publish("diffusion/files", json.dumps(event).encode())
                (message,) = subscriber.wait(1, 60)
            client.close()
            assert message["links"][0]["href"] == f"{site}/communes.csv"
            assert [finding for finding in check(message, topic=TOPIC) if finding.level == "error"] == []
            up.send_signal(signal.SIGTERM)
            assert up.wait(60) == 0
        finally:
            up.kill()
    assert working_below(tmp_path) == []


def working_below(home: Path) -> list[str]:
    """Return the processes that work below a folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cwd").readlink().is_relative_to(home):
                found.append(folder.name)
        except OSError:
            continue
    return found
