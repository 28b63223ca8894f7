"""``datafab push`` and ``datafab publish`` as a user has them, and the sandbox's CKAN beside them."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from datafab.core.redis import connect
from datafab.embedded import Cluster, running
from datafab.publish.notification_rules import check
from datafab.sandbox.ckan import TOKEN, Sandbox, ckan
from datafab.sandbox.portal import FILES
from datafab.settings import Settings, child_environment, load
from tests.integration.conftest import Run, printed
from tests.servers import nursery
from tests.servers.mosquitto import Mosquitto, Subscriber

TOPIC = "origin/a/wis2/fr-ifremer-argo/data/core/ocean/surface-based-observations/drifting-ocean-profilers"
RECORD = "urn:wmo:md:fr-ifremer-argo:cor:msg:argo"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture(scope="module")
def settings(settings: Settings, broker: Mosquitto) -> Settings:
    """With a broker, which the workers publish to."""
    return load(**settings.model_dump(exclude_unset=True) | {"mqtt_url": broker.url})


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with ckan() as sandbox:
        yield sandbox


def push(
    settings: Settings, *arguments: str, code: int = 0, stdin: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    given = child_environment(settings) | {"COLUMNS": "200"} | environment
    done = nursery.run("datafab", "push", *arguments, env=given, stdin=stdin)
    assert done.returncode == code, f"{done.returncode}: {done.stdout}\n{done.stderr}"
    assert TOKEN not in done.stdout + done.stderr
    return done


@pytest.mark.parametrize("how", ["cluster", "inline"])
def test_a_push(settings: Settings, cluster: Cluster, sandbox: Sandbox, site: str, how: str):
    resource = sandbox.add(f"{site}/communes.csv")
    where = ["--ckan-url", sandbox.url, *(["--inline"] if how == "inline" else [])]
    said = push(settings, resource, *where, DATAFAB_CKAN_API_KEY=TOKEN).stdout
    assert f'Successfully pushed 5 entries to "{resource}".' in said
    assert "1 ok" in said
    assert len(sandbox.tables[resource].rows) == 5
    (job,) = printed(push(settings, resource, *where, "--json", DATAFAB_CKAN_API_KEY=TOKEN))
    assert job["counts"]["unchanged"] == 1
    (job,) = printed(push(settings, resource, *where, "--json", "--ignore-hash", DATAFAB_CKAN_API_KEY=TOKEN))
    assert job["counts"]["ok"] == 1
    assert sandbox.resources[resource]["url_type"] is None
    push(settings, resource, *where, "--ignore-hash", "--set-url-type", DATAFAB_CKAN_API_KEY=TOKEN)
    assert sandbox.resources[resource]["url_type"] == "datapusher"


def test_a_push_with_the_key_from_elsewhere(settings: Settings, cluster: Cluster, sandbox: Sandbox, site: str):
    """From standard input, from a prompt that does not echo; the CKAN is the one of the settings."""
    resource = sandbox.add(f"{site}/communes.csv")
    push(settings, resource, stdin=f"{TOKEN}\n", DATAFAB_CKAN_URLS=sandbox.url)
    assert len(sandbox.tables[resource].rows) == 5
    told, mine = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "datafab", "push", resource, "--ckan-url", sandbox.url],
        env=child_environment(settings), stdin=mine, stdout=mine, stderr=mine, start_new_session=True,
    )  # fmt: skip
    os.close(mine)
    said = read_until(told, b"CKAN API key: ")
    os.write(told, TOKEN.encode() + b"\n")
    said += read_until(told, b"1 unchanged")
    assert child.wait(60) == 0
    os.close(told)
    assert TOKEN.encode() not in said


def read_until(terminal: int, end: bytes) -> bytes:
    said = b""
    with suppress(OSError):  # the other side has ended
        while end not in said:
            said += os.read(terminal, 1000)
    assert end in said, said
    return said


@pytest.mark.parametrize(
    ("key", "arguments", "code", "says"),
    [
        ("", ["--ckan-url", "http://h"], 1, "no CKAN API key: set DATAFAB_CKAN_API_KEY"),
        (TOKEN, [], 2, "which CKAN? give --ckan-url"),
    ],
)
def test_a_push_that_lacks_something(settings: Settings, key: str, arguments: list[str], code: int, says: str):
    assert says in push(settings, "r", *arguments, code=code, DATAFAB_CKAN_API_KEY=key).stderr


def test_a_push_that_fails_says_why(settings: Settings, cluster: Cluster, sandbox: Sandbox, site: str):
    resource = sandbox.add(f"{site}/communes.csv")
    where = ["--ckan-url", sandbox.url]
    said = push(settings, resource, *where, code=3, DATAFAB_CKAN_API_KEY="wrong").stdout
    assert "not authorized to edit resource" in said.replace("\n", " ")
    assert "1 failed" in said


def test_a_cluster_of_its_own_leaves_no_key(tmp_path: Path, sandbox: Sandbox, site: str):
    """What erases it follows the push, and is waited for."""
    settings = load({}, home=tmp_path, allow_private_hosts="127.0.0.1/32", cpu_processes=1, tick=0.2)
    resource = sandbox.add(f"{site}/communes.csv")
    push(settings, resource, "--ckan-url", sandbox.url, DATAFAB_CKAN_API_KEY=TOKEN)
    assert len(sandbox.tables[resource].rows) == 5
    assert running(settings) is None
    with Cluster(settings, ["redis"]) as again, connect(again.settings) as redis:
        assert {redis.hget(f"datafab:1:job:{job}", "flow") for job in redis.zrange("datafab:1:jobs", 0, -1)} == {
            "push",
            "callback",
        }
        assert redis.keys("datafab:1:secret:*") == []


def test_a_url_is_announced_once(datafab: Run, cluster: Cluster, broker: Mosquitto, site: str):
    command = ("publish", f"{site}/communes.csv", "--topic", TOPIC, "--metadata-id", RECORD)
    with Subscriber(broker.url, "origin/#") as subscriber:
        said = datafab(*command).stdout
        (message,) = subscriber.wait(1, 60)
        assert f"Announcing: {site}/communes.csv on {TOPIC}, canonical {message['id']}" in said
        assert [finding.rule for finding in check(message, topic=TOPIC) if finding.level == "error"] == []
        assert message["links"][0]["href"] == f"{site}/communes.csv"
        assert message["links"][0]["length"] == len(FILES["/communes.csv"]().body)
        again = datafab(*command).stdout
        assert f"Announced before: {site}/communes.csv" in again
        assert "1 unchanged" in again
        assert len(subscriber.messages) == 1


def test_the_files_of_an_event_are_announced(
    datafab: Run, cluster: Cluster, broker: Mosquitto, site: str, tmp_path: Path
):
    bodies = {name: FILES[f"/{name}"]().body for name in ("communes.csv", "entreprises.csv")}
    files = {
        name: {
            "href": f"{site}/{name}",
            "file:size": len(body),
            "file:checksum": f"1220{hashlib.sha256(body).hexdigest()}",
        }
        for name, body in bodies.items()
    }
    files["lost"] = {"href": f"{site}/communes.csv?x", "file:checksum": "99"}
    event = {"id": "e1", "source": "portal", "specversion": "1.0", "data": {"assets": files}}
    (tmp_path / "event.json").write_text(json.dumps(event), encoding="utf-8")
    topic = f"{TOPIC}-test"
    with Subscriber(broker.url, topic) as subscriber:
        (job,) = printed(
            datafab("publish", str(tmp_path / "event.json"), "--topic", topic, "--content", "--json", code=3)
        )
        assert (job["counts"]["ok"], job["counts"]["failed"]) == (2, 1)
        found = {message["links"][0]["href"]: message for message in subscriber.wait(2, 60)}
    assert found.keys() == {f"{site}/{name}" for name in bodies}
    assert "content" in found[f"{site}/communes.csv"]["properties"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "No such file or directory; name the file of an event, or the URL"),
        ("siren;nom", "not valid JSON"),
        ('{"id": "e"}', "the event has no source"),
        ('{"id": "e", "source": "s", "specversion": "1.0", "data": {"assets": {}}}', "announces no file"),
    ],
)
def test_what_is_no_event_is_refused_before_anything_starts(
    datafab: Run, settings: Settings, tmp_path: Path, text: str | None, says: str
):
    if text is not None:
        (tmp_path / "event.json").write_text(text, encoding="utf-8")
    assert says in datafab("publish", str(tmp_path / "event.json"), "--topic", TOPIC, code=1).stderr.replace("\n", " ")


def test_the_sandbox_says_how_it_is_pushed_to(settings: Settings, cluster: Cluster, site: str):
    process = subprocess.Popen(
        [sys.executable, "-m", "datafab", "sandbox", "ckan", f"{site}/communes.csv"],
        env=child_environment(settings) | {"PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline().strip() for _ in range(4)]
        assert lines[-1] == "Ctrl-C stops it"
        environment = dict(line.split("=", 1) for line in lines[:2])
        command = lines[2].split()
        assert command[:2] == ["datafab", "push"]
        push(settings, *command[2:], **environment)
        url = environment["DATAFAB_CKAN_URLS"] + "/api/3/action/datastore_search"
        found = requests.get(url, params={"resource_id": command[2]}, timeout=30).json()
        assert found["result"]["total"] == 5
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
