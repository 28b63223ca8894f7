"""docker-compose.yml and the Dockerfile without an engine: the rules of their formats, and what they name is run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from datafab.core.hosts_allowed import PublicHosts, is_host_allowed
from datafab.embedded import free_port
from datafab.embedded.broker import find_mosquitto
from datafab.embedded.supervisor import lifeline
from datafab.settings import Settings, load
from datafab.version import __version__
from tests.servers.celery import PATIENCE, until
from tests.servers.compose import ROOT, Unset, compose, variables
from tests.servers.elasticsearch import VERSION as ELASTICSEARCH

OURS = ("webhook", "worker-io", "worker-cpu", "worker-control", "beat", "listener", "flower")
THEIRS = ("redis", "mosquitto", "elasticsearch")
#: Where the containers have what they keep.
DATA, SCRATCH = "/data", "/scratch"

# --- the file ---

_SECONDS = r"\d+s"
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


@pytest.mark.parametrize("missing", ["FLOWER_BASIC_AUTH", "DATAFAB_INDEX_PASSWORD"])
def test_nothing_starts_without_the_passwords(missing: str):
    with pytest.raises(Unset, match=missing):
        compose(variables() | {missing: ""})


def test_no_password_has_a_default():
    text = (ROOT / "deploy" / "env.example").read_text(encoding="utf-8")
    given = dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))
    assert given == {"FLOWER_BASIC_AUTH": "", "DATAFAB_INDEX_PASSWORD": ""}


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
    # Elasticsearch's image writes beside its data; its user is no root by itself.
    assert service.get("read_only", False) is (name != "elasticsearch")
    if name in THEIRS:
        assert service["networks"] == ["inside"]
        assert "ports" not in service
        assert name == "elasticsearch" or not service["user"].startswith("0:")


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
        if found := re.match(r"(?:redis|mqtt|http)://([\w-]+)[:/]", value):
            assert found[1] in THEIRS, variable


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
    # What is mounted there belongs to the user.
    (made,) = (rest for word, rest in lines if word == "RUN" and "useradd" in rest)
    assert re.search(rf"--owner datafab .*{DATA} {SCRATCH}", made)
    assert "uv==" in text


# --- the processes ---


class Host:
    """Runs services of the file as plain processes: hosts become this one, ports free ones, folders ours."""

    def __init__(self, folder: Path, services: dict[str, Any]) -> None:
        self.folder, self._services = folder, services
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.ports = {port: free_port() for port in ("6379", "1883", "9200", "8800", "5555")}
        for name in (DATA, SCRATCH):
            (folder / name.strip("/")).mkdir()

    def here(self, text: str) -> str:
        """Return a text of the file as it has to be on this host."""
        for name in THEIRS:
            text = text.replace(f"//{name}:", "//127.0.0.1:")
        for port, free in self.ports.items():
            text = re.sub(rf"(?<!\d){port}(?!\d)", str(free), text)
        text = text.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - what a container binds
        text = re.sub(r"(?<![\w./-])/(data|scratch)\b", rf"{self.folder}/\1", text)
        return text.replace("file:///data", f"file://{self.folder}/data")

    def environment(self, name: str) -> dict[str, str]:
        given = {key: self.here(value) for key, value in self._services[name].get("environment", {}).items()}
        bare = {key: value for key, value in os.environ.items() if not key.startswith("DATAFAB_")}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
        return bare | {"PATH": path, "TMPDIR": str(self.folder / "scratch")} | given

    def start(self, name: str, *command: str) -> None:
        """Start a service, with its own command unless another is given."""
        words = command or tuple(self.here(word) for word in self._services[name]["command"])
        environment = self.environment(name)
        program = shutil.which(words[0], path=environment["PATH"])
        assert program, words[0]
        with (self.folder / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                lifeline((program, *words[1:])),
                cwd=self.folder / "data",
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def healthy(self, name: str) -> bool:
        """Whether the health check of a service says so, by its exit code as the engine sees it."""
        kind, *words = (self.here(word) for word in self._services[name]["healthcheck"]["test"])
        command = ["/bin/sh", "-c", *words] if kind == "CMD-SHELL" else words
        done = subprocess.run(command, env=self.environment(name), capture_output=True, timeout=300, check=False)
        return done.returncode == 0

    def becomes_healthy(self, name: str) -> None:
        def healthy() -> bool:
            assert self._processes[name].poll() is None, f"{name} has ended:\n{self.log(name)[-3000:]}"
            return self.healthy(name)

        until(healthy, 60, every=2)  # most checks start a Python, which the services need the processors for

    def stop(self, *names: str) -> dict[str, int]:
        """Ask services to end as the engine does, and return their exit codes."""
        for name in names:
            self._processes[name].terminate()
        return {name: self._processes.pop(name).wait(60 * PATIENCE) for name in names}

    def close(self) -> None:
        """Stop all, the last first."""
        for name in reversed(list(self._processes)):
            self.stop(name)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, services: dict[str, Any]) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("compose")
    host = Host(folder, services)
    with ExitStack() as stack:
        stack.callback(host.close)
        for name, file in (("redis", "/etc/redis.conf"), ("mosquitto", "/mosquitto/config/mosquitto.conf")):
            assert file in services[name]["command"]
            (mounted,) = (volume.split(":")[0] for volume in services[name]["volumes"] if f":{file}:" in volume)
            text = host.here((ROOT / mounted).read_text(encoding="utf-8"))
            text = text.replace("/mosquitto/data/", f"{folder}/").replace("bind * -::*", "bind 127.0.0.1")
            if os.geteuid() == 0 and name == "mosquitto":
                text += "user root\n"  # else it becomes one that may not write here
            (folder / f"{name}.conf").write_text(text, encoding="utf-8")
            if name == "redis" or find_mosquitto():  # the listener waits for a broker
                words = (str(folder / f"{name}.conf") if word == file else word for word in services[name]["command"])
                host.start(name, *words)
        host.becomes_healthy("redis")
        for name in OURS:
            host.start(name)
        yield host


def test_the_services_become_healthy_by_their_own_checks(host: Host):
    """One test: with its fixture on one process of xdist, they are started once."""
    for name in OURS:
        if name != "listener" or find_mosquitto():
            host.becomes_healthy(name)
    flower_asks_who_it_is(host)
    what_is_asked_to_end_does_and_is_not_healthy_then(host)


def flower_asks_who_it_is(host: Host) -> None:
    root = f"http://127.0.0.1:{host.ports['5555']}"
    name, _, password = variables()["FLOWER_BASIC_AUTH"].partition(":")
    shown = {None: 401, (name, password): 200, (name, "wrong"): 401}
    for path in ("/workers", "/metrics", "/api/workers"):
        assert {auth: requests.get(root + path, auth=auth, timeout=20).status_code for auth in shown} == shown


def what_is_asked_to_end_does_and_is_not_healthy_then(host: Host) -> None:
    names = ("webhook", "flower", "worker-io", "beat")
    assert host.stop(*names) == dict.fromkeys(names, 0)
    for file in (host.folder / "data").glob("beat-schedule*"):
        os.utime(file, (0, 0))  # as if some time had passed
    assert not any(host.healthy(name) for name in names)
    assert host.healthy("redis")
