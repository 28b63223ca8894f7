"""docker-compose.yml, read as Compose reads it, and its services as plain processes: the tests have no engine."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from datafab.embedded.supervisor import lifeline
from tests.servers.celery import until

ROOT = Path(__file__).parents[2]
OURS = ("webhook", "worker-io", "worker-cpu", "worker-control", "beat", "listener", "flower")
THEIRS = ("redis", "mosquitto", "elasticsearch")
PORTS = ("6379", "1883", "9200", "8800", "5555")
#: Variables of .env without which nothing starts.
PASSWORDS = ("REDIS_PASSWORD", "MQTT_PASSWORD", "DATAFAB_INDEX_PASSWORD", "FLOWER_BASIC_AUTH")
_VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>[A-Z_a-z][A-Z_a-z0-9]*)(?::(?P<how>[-?])(?P<text>[^}]*))?\})")


class Unset(ValueError):
    """A variable has to be set."""


def interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    """Return a value of the file with ``${NAME}``, ``${NAME:-else}``, ``${NAME:?why}`` and ``$$`` replaced."""
    if isinstance(value, dict):
        return {name: interpolated(part, variables) for name, part in value.items()}
    if isinstance(value, list):
        return [interpolated(part, variables) for part in value]
    if not isinstance(value, str):
        return value
    # What is no variable is a mistake: Compose refuses the file.
    assert "$" not in _VARIABLE.sub("", value), value
    return _VARIABLE.sub(lambda found: _value(found, variables), value)


def _value(found: re.Match[str], variables: Mapping[str, str]) -> str:
    if found["dollar"]:
        return "$"
    if value := variables.get(found["name"]):
        return value
    if found["how"] == "-":
        return found["text"]
    raise Unset(f"{found['name']}: {found['text']}")


def compose(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the file with these variables."""
    document = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return interpolated({name: part for name, part in document.items() if not name.startswith("x-")}, variables)


def dotenv(file: Path) -> dict[str, str]:
    """Return the variables of a file of the form of .env."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def variables() -> dict[str, str]:
    """Return what the example of ``.env`` sets, with passwords where it leaves them empty."""
    passwords = {name: f"of.the-tests_{name.lower()}" for name in PASSWORDS}
    passwords["FLOWER_BASIC_AUTH"] = "operator:of the tests"
    return dotenv(ROOT / "deploy" / "env.example") | passwords | {"MQTT_READER_PASSWORD": "of.the-tests_reader"}


def reserve_port() -> socket.socket:
    """Return a socket that keeps a port of 127.0.0.1 for the server that is told to use it."""
    # Servers set SO_REUSEADDR too, and may then listen where another socket is bound, but does not listen.
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind(("127.0.0.1", 0))
    return taken


class Host:
    """Runs services of the file as plain processes: hosts become this one, ports free ones, folders ours."""

    def __init__(self, folder: Path, services: dict[str, Any]) -> None:
        self.folder, self._services = folder, services
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._reserved = {port: reserve_port() for port in PORTS}
        self.ports = {port: taken.getsockname()[1] for port, taken in self._reserved.items()}
        self._places = {name: self._mount(name, service) for name, service in services.items()}

    def _mount(self, name: str, service: dict[str, Any]) -> dict[str, Path]:
        """Return where the folders and files of a container are here; the files are written afterwards."""
        places = {}
        for volume in (*service["volumes"], *service.get("tmpfs", ())):
            source, _, rest = volume.rpartition(":/") if not volume.startswith("/") else ("", "", volume[1:])
            path = "/" + rest.split(":")[0]
            if source.startswith("./"):
                places[path] = self.folder / f"{name}.{Path(path).name}"
            else:
                places[path] = self.folder / (source or f"{name}{path.replace('/', '-')}")
                places[path].mkdir(exist_ok=True)
        return places

    def mounted(self, name: str) -> dict[str, Path]:
        """Return the files of this repository that a container has, by their paths in it."""
        volumes = [volume.split(":") for volume in self._services[name]["volumes"]]
        return {path: ROOT / source for source, path, *_ in (v for v in volumes if v[0].startswith("./"))}

    def here(self, name: str, text: str) -> str:
        """Return a text of a container as it has to be on this host."""
        for other in THEIRS:
            text = re.sub(rf"(//|@){other}:", r"\g<1>127.0.0.1:", text)
        for port, free in self.ports.items():
            text = re.sub(rf"(?<!\d){port}(?!\d)", str(free), text)
        text = text.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - what a container binds
        places = self._places[name]
        paths = "|".join(re.escape(path) for path in sorted(places, key=len, reverse=True))
        return re.sub(rf"(?:(?<=file://)|(?<![\w./-]))({paths})(?![\w-])", lambda found: str(places[found[1]]), text)

    def environment(self, name: str) -> dict[str, str]:
        """Return the environment of a service."""
        given = {key: self.here(name, value) for key, value in self._services[name].get("environment", {}).items()}
        bare = {key: value for key, value in os.environ.items() if not key.startswith("DATAFAB_")}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
        scratch = self._places[name].get("/scratch", self.folder)
        return bare | {"PATH": path, "TMPDIR": str(scratch)} | given

    def write_files(self, name: str) -> None:
        """Write the mounted files of a service, with the paths and ports of this host."""
        for path, source in self.mounted(name).items():
            text = self.here(name, source.read_text(encoding="utf-8"))
            text = re.sub(r"^bind \* -::\*$", "bind 127.0.0.1", text, flags=re.MULTILINE)
            text = re.sub(r"^(listener \d+)$", r"\1 127.0.0.1", text, flags=re.MULTILINE)
            if os.geteuid() == 0 and path.endswith("mosquitto.conf"):
                text += "user root\n"  # else it becomes one that may not write here
            self._places[name][path].write_text(text, encoding="utf-8")

    def start(self, name: str) -> None:
        """Start a service with its own command."""
        self.write_files(name)
        words = [self.here(name, word) for word in self._services[name]["command"]]
        environment = self.environment(name)
        program = shutil.which(words[0], path=environment["PATH"])
        assert program, words[0]
        with (self.folder / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                lifeline((program, *words[1:])),
                cwd=self._places[name].get("/data", self.folder),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def run(self, name: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a container, as ``docker compose exec`` does."""
        words = [self.here(name, word) for word in command]
        environment = self.environment(name)
        return subprocess.run(
            words, env=environment, capture_output=True, text=True, timeout=300, check=False, cwd=self.folder
        )

    def log(self, name: str) -> str:
        """Return what a service has printed."""
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def healthy(self, name: str) -> bool:
        """Return whether a service is healthy by its own check, which is judged by its exit code."""
        kind, *words = self._services[name]["healthcheck"]["test"]
        command = ["/bin/sh", "-c", *words] if kind == "CMD-SHELL" else words
        return self.run(name, *command).returncode == 0

    def becomes_healthy(self, name: str) -> None:
        """Wait until a service is healthy."""

        def healthy() -> bool:
            assert self._processes[name].poll() is None, f"{name} has ended:\n{self.log(name)[-3000:]}"
            return self.healthy(name)

        until(healthy, 60, every=1)

    def processes(self, name: str) -> list[Path]:
        """Return the folders in /proc of the processes of a service."""
        group = self._processes[name].pid
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            except OSError:
                continue  # it has ended
            if int(fields[2]) == group:
                found.append(stat.parent)
        return found

    def stop(self, *names: str) -> dict[str, int]:
        """Ask services to end as the engine does, and return their exit codes."""
        for name in names:
            self._processes[name].terminate()
        return {name: self._processes.pop(name).wait(60) for name in names}

    def close(self) -> None:
        """Stop all, the servers after what needs them."""
        self.stop(*(name for name in self._processes if name in OURS))
        self.stop(*(name for name in self._processes if name in THEIRS))
        for taken in self._reserved.values():
            taken.close()
