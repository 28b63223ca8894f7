"""docker-compose.yml and the Dockerfile without an engine: the rules of their formats, and what they name is run."""

from __future__ import annotations

import os
import re
import shutil
import socket
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import redis
import requests

from datafab.core.hosts_allowed import PublicHosts, is_host_allowed
from datafab.embedded.broker import find_mosquitto
from datafab.errors import Fatal
from datafab.ops import diagnosis
from datafab.publish.mqtt import Broker, Mqtt
from datafab.settings import Settings, load
from datafab.version import __version__
from tests.servers.compose import OURS, PASSWORDS, ROOT, THEIRS, Host, Unset, compose, dotenv, variables
from tests.servers.elasticsearch import VERSION as ELASTICSEARCH
from tests.servers.mosquitto import Subscriber

#: Where the containers have what they keep.
DATA, SCRATCH = "/data", "/scratch"

# --- the file ---

_SECONDS = r"\d+s"
_SIZE = r"\d+[kmg]"
_MEMORY = r"/\w+(:(size=\d+[km]|mode=\d+)(,(size=\d+[km]|mode=\d+))*)?"
#: The keys of a service that are used here, and what the Compose specification takes for each.
KEYS: dict[str, Any] = {
    "image": str,
    "build": str,
    "command": [str],
    "user": r"\d+:\d+",
    "init": bool,
    "restart": r"no|always|on-failure|unless-stopped",
    "read_only": bool,
    "cap_drop": [r"ALL|[A-Z_]+"],
    "security_opt": [r"no-new-privileges:true"],
    "mem_limit": _SIZE,
    "pids_limit": int,
    "logging": {"driver": r"json-file", "options": {"max-size": _SIZE, "max-file": r"\d"}},
    "tmpfs": [_MEMORY],
    "volumes": [r"(?:(?:[a-z]\w*|\./[\w./-]+):)?/[\w./-]+(?::ro)?"],
    "networks": [str],
    "ports": [r"127\.0\.0\.1:\d+:\d+"],
    "env_file": [{"path": str, "required": bool}],
    "environment": {None: r"(?s).+"},
    "depends_on": {None: {"condition": r"service_(started|healthy|completed_successfully)"}},
    "stop_grace_period": _SECONDS,
    "healthcheck": {
        "test": [str],
        "interval": _SECONDS,
        "timeout": _SECONDS,
        "retries": int,
        "start_period": _SECONDS,
    },
}


def check(value: Any, rule: Any, where: str) -> None:
    """Fail where a value is not what its key takes. None is the name of any key."""
    if isinstance(rule, dict):
        assert isinstance(value, dict), where
        for name, part in value.items():
            assert name in rule or None in rule, f"{where}: {name}"
            check(part, rule.get(name, rule.get(None)), f"{where}.{name}")
    elif isinstance(rule, list):
        assert isinstance(value, list), where
        assert value, where
        for number, part in enumerate(value):
            check(part, rule[0], f"{where}[{number}]")
    elif isinstance(rule, str):
        assert isinstance(value, str), where
        assert re.fullmatch(rule, value), f"{where}: {value!r}"
    else:
        assert type(value) is rule, f"{where}: {value!r}"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return compose(variables())


@pytest.fixture(scope="module")
def services(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return document["services"]


def test_the_file_is_one_that_compose_takes(document: dict[str, Any], services: dict[str, Any]):
    assert set(document) == {"name", "services", "networks", "volumes"}
    assert set(services) == {*OURS, *THEIRS}
    for name, service in services.items():
        check(service, KEYS, name)
        assert set(service.get("depends_on", ())) <= set(services), name
        assert set(service["networks"]) <= set(document["networks"]), name
        for volume in service["volumes"]:
            source, _, _ = volume.rpartition(":/") if not volume.endswith(":ro") else volume.partition(":")
            if source.startswith("./"):
                assert (ROOT / source).is_file(), volume
            elif source:
                assert source in document["volumes"], volume
        for needed in service.get("depends_on", ()):
            assert "healthcheck" in services[needed], needed
    kept = {volume.split(":")[0] for service in services.values() for volume in service["volumes"]}
    assert set(document["volumes"]) <= kept
    published = [port.rpartition(":")[0] for service in services.values() for port in service.get("ports", ())]
    assert len(published) == len(set(published))


def test_no_service_waits_for_itself(services: dict[str, Any]):
    started: set[str] = set()
    while len(started) < len(services):
        ready = {name for name, its in services.items() if set(its.get("depends_on", ())) <= started} - started
        assert ready, set(services) - started
        started |= ready


@pytest.mark.parametrize("missing", PASSWORDS)
def test_nothing_starts_without_the_passwords(missing: str):
    with pytest.raises(Unset, match=f"^{missing}: run deploy/make-env$"):
        compose(variables() | {missing: ""})


def test_no_password_has_a_default():
    assert dotenv(ROOT / "deploy" / "env.example") == dict.fromkeys(PASSWORDS, "")
    named = re.compile(r"PASSWORD|SECRET|TOKEN|KEY|AUTH")
    raw = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    for line in raw.splitlines():
        name, _, value = line.strip().partition(": ")
        if named.search(name) and re.fullmatch(r"[A-Z_]+", name):
            assert re.fullmatch(r"\$\{[A-Z_]+(:\?run deploy/make-env|:-)\}", value), line
    for login in re.findall(r"://\w+:(.*?)@", raw):
        assert re.fullmatch(r"\$\{[A-Z_]+:\?run deploy/make-env\}", login)


def test_passwords_are_in_environments_only(services: dict[str, Any]):
    """Command lines can be read by every user of the host; labels, checks and mounts are shown by `docker inspect`."""
    passwords = [value for name, value in variables().items() if name in {*PASSWORDS, "MQTT_READER_PASSWORD"}]
    assert len(passwords) == len(set(passwords)) == 5
    for name, service in services.items():
        rest = str({key: value for key, value in service.items() if key != "environment"})
        assert not [password for password in passwords if password in rest], name
    # Each container has those that it needs.
    for name, wanted in {"redis": 1, "mosquitto": 2, "elasticsearch": 1, "worker-io": 3, "flower": 4}.items():
        given = str(services[name]["environment"])
        assert sum(password in given for password in passwords) == wanted, name


def test_the_webhook_is_called_by_its_name_and_by_those_of_the_setting():
    named = compose(variables() | {"DATAFAB_PUBLIC_URL": "https://data.example.org"})["services"]
    for services, root in ((compose(variables())["services"], None), (named, "https://data.example.org")):
        public = PublicHosts.of(load(services["webhook"]["environment"]).public_url)
        assert "webhook" in public.names
        assert public.root == root
        assert is_host_allowed("webhook:8800", public.names)


@pytest.mark.parametrize("name", [*OURS, *THEIRS])
def test_a_service_may_do_no_more_than_it_must(services: dict[str, Any], name: str):
    service = services[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    # Elasticsearch's image writes beside its data.
    assert service["read_only"] is (name != "elasticsearch")
    assert int(service["user"].split(":")[0]) > 0
    assert service["restart"] == "unless-stopped"
    assert 256 <= service["pids_limit"] <= 4096
    assert 2**29 <= size(service["mem_limit"]) <= 2**32
    kept = service["logging"]["options"]
    assert size(kept["max-size"]) * int(kept["max-file"]) <= 50 * 2**20
    if name in THEIRS:
        assert service["networks"] == ["inside"]
        assert "ports" not in service


def size(text: str) -> int:
    """Return the bytes of a size such as 512m or 1gb."""
    number, unit = re.fullmatch(r"(\d+)([kmg])b?", text).groups()  # type: ignore[union-attr] - an error fails the test
    return int(number) << {"k": 10, "m": 20, "g": 30}[unit]


def test_a_full_redis_refuses_writes_before_it_is_killed(services: dict[str, Any]):
    text = (ROOT / "deploy" / "redis.conf").read_text(encoding="utf-8")
    (most,) = re.findall(r"^maxmemory (\w+)$", text, re.MULTILINE)
    # While the append-only file is rewritten, pages that change are held twice.
    assert 2 * size(most) <= size(services["redis"]["mem_limit"])
    (heap,) = re.findall(r"-Xmx(\w+)", services["elasticsearch"]["environment"]["ES_JAVA_OPTS"])
    assert 2 * size(heap) <= size(services["elasticsearch"]["mem_limit"])


def test_what_lies_inside_is_not_reached_from_outside(document: dict[str, Any]):
    assert document["networks"]["inside"] == {"internal": True}


def test_images_are_pinned(services: dict[str, Any]):
    for name in OURS:
        assert services[name]["image"] == f"datafab:{__version__}"
    for name in THEIRS:
        assert re.search(r":\d+\.\d+\.\d+(-\w+)?(@sha256:[0-9a-f]{64})?$", services[name]["image"]), name
    assert services["elasticsearch"]["image"].endswith(f":{ELASTICSEARCH}")


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_one_that_somebody_reads(services: dict[str, Any], name: str):
    known = {f"DATAFAB_{field.upper()}" for field in Settings.model_fields} | {"FLOWER_BASIC_AUTH"}
    assert set(services[name]["environment"]) <= known
    assert services[name]["environment"]["DATAFAB_HOME"] == DATA
    # Hosts of URLs are services that it can reach.
    for variable, value in services[name]["environment"].items():
        if found := re.match(r"(redis|mqtt|http)://(datafab:[^@]+@)?([\w-]+)[:/]", value):
            assert found[3] in THEIRS, variable
            assert bool(found[2]) is (found[1] != "http"), variable


def test_the_examples_name_what_is_read():
    text = (ROOT / "deploy" / "env.example").read_text(encoding="utf-8")
    named = set(re.findall(r"^#?([A-Z_]+)=", text, re.MULTILINE))
    read = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text(encoding="utf-8")))
    assert named == read


# --- the Dockerfile ---


def test_the_image_is_made_of_what_is_there():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.split(None, 1) for line in text.splitlines() if line and not line.startswith("#")]
    assert {word for word, _ in lines} <= {"FROM", "RUN", "COPY", "ENV", "WORKDIR", "USER", "EXPOSE", "CMD"}
    stages, taken = set(), set()
    for word, rest in lines:
        if word == "FROM":
            image, _, stage = rest.partition(" AS ")
            assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", image)
            stages.add(stage)
        elif word == "COPY" and rest.startswith("--from="):
            assert rest.removeprefix("--from=").split()[0] in stages
        elif word == "COPY":
            taken |= set(rest.split()[:-1])
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored
    for name in taken:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in ignored, name
    users = [rest for word, rest in lines if word == "USER"]
    assert users[-1].split(":")[0] not in {"0", "root"}
    (settings,) = (rest for word, rest in lines if word == "ENV" and "DATAFAB_HOME" in rest)
    assert f"DATAFAB_HOME={DATA}" in settings
    assert f"TMPDIR={SCRATCH}" in settings
    assert users[-1] == compose(variables())["services"]["webhook"]["user"]
    # What is mounted there belongs to the user.
    (made,) = (rest for word, rest in lines if word == "RUN" and "useradd" in rest)
    assert re.search(rf"--owner datafab .*{DATA} {SCRATCH}", made)
    assert "uv==" in text


# --- the processes ---


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, services: dict[str, Any]) -> Iterator[Host]:
    """Redis and mosquitto, as the file starts them."""
    with closing(Host(tmp_path_factory.mktemp("compose"), services)) as host:
        host.start("redis")
        if find_mosquitto():
            host.start("mosquitto")
        host.becomes_healthy("redis")
        yield host


def test_redis_refuses_strangers_and_its_user_has_few_rights(host: Host):
    url, password = host.environment("webhook")["DATAFAB_REDIS_URL"], variables()["REDIS_PASSWORD"]
    with socket.create_connection(("127.0.0.1", host.ports["6379"]), 20) as stranger, stranger.makefile("rwb") as lines:
        for words, refusal in {
            **dict.fromkeys(("PING", "INFO", "KEYS *", "GET x", "SUBSCRIBE x", "CONFIG GET *", "SYNC"), b"-NOAUTH"),
            **dict.fromkeys(("AUTH wrong", f"AUTH {password}", f"AUTH default {password}"), b"-WRONGPASS"),
            **dict.fromkeys(("AUTH datafab wrong", f"AUTH other {password}", 'AUTH datafab ""'), b"-WRONGPASS"),
        }.items():
            lines.write(words.encode() + b"\r\n")
            lines.flush()
            assert lines.readline().startswith(refusal), words
    with redis.Redis.from_url(url, decode_responses=True) as ours:
        assert {check.level for check in diagnosis.redis(ours.info())} == {"ok"}
        # Its backup, as docs/operate.md tells to make it in a container.
        page = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
        (script,) = re.findall(r"exec -T redis sh -c '(.*)' > redis.rdb$", page, re.MULTILINE)
        ours.set("kept", "x" * 20)
        assert "REDIS" in host.run("redis", "sh", "-c", f"{script} -p 6379 | head -c 5").stdout
        # Whoever has the password may not run programs, write files or lock others out.
        for words in (
            *("CONFIG SET dir /tmp", "CONFIG REWRITE", "MODULE LOAD /tmp/x.so", "DEBUG SLEEP 0", "SHUTDOWN NOSAVE"),
            *("ACL SETUSER datafab +@all", "ACL LIST", "FLUSHALL", "FLUSHDB", "REPLICAOF 127.0.0.1 1", "MONITOR"),
            *("SAVE", "MIGRATE 127.0.0.1 1 x 0 1", "FAILOVER", "CLIENT KILL TYPE normal", "SLOWLOG GET"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                ours.execute_command(*words.split(" "))


@pytest.mark.skipif(not find_mosquitto(), reason="no mosquitto on this host")
def test_mosquitto_refuses_strangers_and_the_reader_only_reads(host: Host):
    if shutil.which("mosquitto_sub"):
        host.becomes_healthy("mosquitto")
    url = host.environment("worker-io")["DATAFAB_MQTT_URL"]
    address = url.rpartition("@")[2]
    password, readers = (variables()[name] for name in ("MQTT_PASSWORD", "MQTT_READER_PASSWORD"))
    for login in ("", "datafab@", "datafab:wrong@", f"other:{password}@", f"reader:{password}@"):
        assert answer_to(f"mqtt://{login}{address}") == "Not authorized", login
    reader = f"mqtt://reader:{readers}@{address}"
    with Subscriber(reader, "a/#") as subscriber, closing(Mqtt(Broker.of(url))) as ours:
        with closing(Mqtt(Broker.of(reader))) as writing, pytest.raises(Fatal, match="Not authorized"):
            writing.publish("a/b", b'"of the reader"')
        ours.publish("a/b", b'"of datafab"')
        assert subscriber.wait(1) == ["of datafab"]


def answer_to(url: str) -> str:
    """Connect to a broker, and return its first answer."""
    answers: Queue[str] = Queue()
    client = Broker.of(url).client("somebody")
    client.on_connect = lambda _client, _data, _flags, reason, _properties: answers.put(str(reason))
    client.loop_start()
    try:
        return answers.get(timeout=60)
    finally:
        client.disconnect()
        client.loop_stop()


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl on this host")
def test_the_check_of_elasticsearch_logs_in(host: Host):
    """No Elasticsearch with passwords runs here: this server only asks who it is."""
    login = b64encode(f"elastic:{variables()['DATAFAB_INDEX_PASSWORD']}".encode()).decode()
    asked = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200 if self.headers["Authorization"] == f"Basic {login}" else 401)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", host.ports["9200"]), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert host.healthy("elasticsearch")
        assert asked == ["/_cluster/health?wait_for_status=yellow&timeout=3s"]
        login = "another"
        assert not host.healthy("elasticsearch")
        server.shutdown()


def test_the_services_become_healthy_by_their_own_checks(host: Host):
    """One test, so that they are started once."""
    for name in OURS:
        host.start(name)
    # The checks of workers cost most: they come last, when the workers are up.
    for name in sorted(OURS, key=lambda name: name.startswith("worker-")):
        if name != "listener" or find_mosquitto():  # it waits for a broker
            host.becomes_healthy(name)
    flower_asks_who_it_is(host)
    a_job_passes_through_the_workers(host)
    limits_leave_room_and_no_password_is_shown(host)
    what_is_asked_to_end_does_and_is_not_healthy_then(host)


def flower_asks_who_it_is(host: Host) -> None:
    root = f"http://127.0.0.1:{host.ports['5555']}"
    name, _, password = variables()["FLOWER_BASIC_AUTH"].partition(":")
    shown = {None: 401, (name, password): 200, (name, "wrong"): 401}
    for path in ("/workers", "/metrics", "/api/workers"):
        assert {auth: requests.get(root + path, auth=auth, timeout=20).status_code for auth in shown} == shown


def a_job_passes_through_the_workers(host: Host) -> None:
    """As its user, Redis takes every command of a job."""
    table = "endpoint,endpoint-url\n,http://127.0.0.1:1/x.csv\n"
    (host.folder / "data" / "endpoint.csv").write_text(table, encoding="utf-8")
    options = ("--collection-dir", "/data/collection", "--then", "analyse")  # there is no Elasticsearch to index in
    done = host.run("webhook", "datafab", "collect", "/data/endpoint.csv", *options)
    assert done.returncode == 3, done  # 127.0.0.1 is a private address
    assert "1 endpoint: 1 failed" in done.stdout, done


def limits_leave_room_and_no_password_is_shown(host: Host) -> None:
    services = compose(variables())["services"]
    running = [name for name in services if name != "elasticsearch" and (name != "mosquitto" or find_mosquitto())]
    passwords = [value.rpartition(":")[2] for value in variables().values()]
    for name in running:
        folders = host.processes(name)
        assert folders, name
        texts = [(folder / "cmdline").read_text(errors="replace") for folder in folders]
        assert not [one for one in passwords if one in host.log(name) or one in "".join(texts)], name
        memory = sum(resident(folder) for folder in folders)
        threads = sum(len(list((folder / "task").iterdir())) for folder in folders)
        assert 2 * memory < size(services[name]["mem_limit"]), name
        assert 2 * threads < services[name]["pids_limit"], name


def resident(folder: Path) -> int:
    """Return the bytes of memory of a process; shared pages count by their share."""
    (kib,) = re.findall(r"^Pss: +(\d+) kB", (folder / "smaps_rollup").read_text(encoding="utf-8"), re.MULTILINE)
    return int(kib) * 1024


def what_is_asked_to_end_does_and_is_not_healthy_then(host: Host) -> None:
    names = ("webhook", "flower", "worker-io", "beat")
    assert host.stop(*names) == dict.fromkeys(names, 0)
    for file in (host.folder / "data").glob("beat-schedule*"):
        os.utime(file, (0, 0))  # as if some time had passed
    assert not any(host.healthy(name) for name in names)
    assert host.healthy("redis")
