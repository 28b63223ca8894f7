"""The processes of the cluster: their commands, and how each is known to be ready."""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL
from urllib.parse import urlsplit

from redis.exceptions import RedisError

from datafab.embedded.address import Address
from datafab.embedded.broker import broker_command, find_mosquitto
from datafab.embedded.login import flower_login
from datafab.embedded.redis_server import find_redis, redis_answers, redis_command
from datafab.embedded.supervisor import Part
from datafab.redis_url import parse
from datafab.settings import Settings, child_environment

WORKERS = (sys.executable, "-m", "workers")


@dataclass(slots=True)
class WorkerPing:
    """Pings the workers of this host, all of them with one request."""

    settings: Settings
    nodes: list[str] = field(default_factory=list)
    _answered: set[str] = field(default_factory=set)
    _asked_at: float = 0.0

    def answered(self, node: str) -> bool:
        """Return whether this worker has answered yet."""
        missing = [name for name in self.nodes if name not in self._answered]
        if node in missing and time.monotonic() > self._asked_at + 0.3 and redis_answers(self.settings):
            self._ask(missing)
            self._asked_at = time.monotonic()
        return node in self._answered

    def _ask(self, nodes: list[str]) -> None:
        # Imported here because it takes a third of a second, and most commands only look for a running cluster.
        from celery import Celery  # noqa: PLC0415
        from kombu.exceptions import OperationalError  # noqa: PLC0415

        import celeryconfig  # noqa: PLC0415

        # A separate app, because that of `workers` may belong to another cluster, and keeps its connections.
        with Celery("ping", set_as_current=False) as app:
            app.conf.update(celeryconfig.configuration(self.settings))
            with contextlib.suppress(OperationalError, RedisError):
                for answer in app.control.ping(destination=nodes, timeout=0.5, limit=len(nodes)) or ():
                    self._answered.update(answer)


#: Longest DATAFAB_STOP_LIMIT of a worker here, because somebody waits for the cluster to stop.
MAX_STOP_SECONDS = 8.0


@dataclass(slots=True, kw_only=True)
class Blueprint:
    """Builds the parts of one cluster.

    Args:
        settings: the settings of the children, with ``redis_url``.
        home: the cluster's folder, absolute.
        lock: descriptor of the file whose lock marks the home as in use.
    """

    settings: Settings
    home: Path
    lock: int
    _environment: dict[str, str] = field(init=False)
    _ping: WorkerPing = field(init=False)

    def parts(self, names: Iterable[str]) -> list[Part]:
        """Return the parts of these names."""
        self._environment = child_environment(self.settings)
        self._ping = WorkerPing(self.settings)
        return [part for name in names for part in MAKERS[name](self)]

    def redis(self) -> Part:
        """Return Redis. It inherits the lock, so that the home is not taken while it still writes there."""
        ((_, port),) = parse(self.settings.redis_url or "").hosts
        return Part(
            name="redis",
            command=redis_command(find_redis(), port, self.home / "redis"),
            environment=self._environment,
            ready=lambda: redis_answers(self.settings),
            round=3,
            grace=10.0,
            inherits=(self.lock,),
        )

    def broker(self) -> Part:
        """Return the MQTT broker. It is stopped after the workers, which may be publishing."""
        port = urlsplit(self.settings.mqtt_url or "").port or 0
        address = Address(host="127.0.0.1", port=port)
        return Part(
            name="broker",
            command=broker_command(find_mosquitto(), port, self.home / "broker"),
            environment=self._environment,
            ready=address.listening,
            round=2,
        )

    def worker(self, queue: str, pool: str, size: int, number: int = 1) -> Part:
        """Return a Celery worker of one queue; ``number`` tells apart those of the same queue on this host."""
        name = f"{queue}{number}" if number > 1 else queue
        node = f"{name}@{socket.gethostname()}"
        self._ping.nodes.append(node)
        return Part(
            name=f"worker-{name}",
            command=(
                *(*WORKERS, "worker", "-Q", queue, "-P", pool, "-c", str(size), "-n", node),
                *("-E", "--without-gossip", "--without-mingle", "-l", "WARNING"),
            ),
            environment=self._environment
            | {"DATAFAB_STOP_LIMIT": str(min(self.settings.stop_limit, MAX_STOP_SECONDS))},
            ready=lambda: self._ping.answered(node),
            round=1,
            # A worker finishes its tasks first; those that take longer go back to the queue.
            grace=MAX_STOP_SECONDS + 2,
            # Without a supervisor there is no Redis either, so there is nothing to shut down gracefully.
            orphaned=SIGKILL,
        )

    def workers_io(self) -> list[Part]:
        """Return the workers of the queue ``io``: several, because the threads of one process share one core."""
        numbers = range(1, self.settings.io_processes + 1)
        return [self.worker("io", "threads", self.settings.io_threads, number) for number in numbers]

    def beat(self) -> Part:
        """Return Celery beat."""
        start = time.time()
        return Part(
            name="beat",
            command=(*WORKERS, "beat", "--pidfile=", "-l", "WARNING"),
            environment=self._environment,
            # Beat writes its schedule file, which `celeryconfig` names, when it starts.
            ready=lambda: any(file.stat().st_mtime >= start for file in self.home.glob("beat-schedule*")),
        )

    def webhook(self) -> Part:
        """Return the server of the HTTP API."""
        address = Address.of(self.settings.bind, "DATAFAB_BIND")
        return Part(
            name="webhook",
            command=(
                *(sys.executable, "-m", "gunicorn", "--config", "python:webhook.server"),
                *("--bind", self.settings.bind),
            ),
            environment=self._environment,
            ready=address.healthy,
            grace=8.0,
        )

    def listener(self) -> Part:
        """Return the listener, which turns events of an MQTT broker into jobs."""
        start = time.time()
        alive = self.home / "listener.alive"
        return Part(
            name="listener",
            command=(sys.executable, "-m", "workers.listener"),
            environment=self._environment,
            # The listener touches the file when it starts, before it has connected: a broker that is down must not
            # keep the cluster from starting.
            ready=lambda: alive.exists() and alive.stat().st_mtime >= start,
        )

    def flower(self) -> Part:
        """Return Flower, which shows the tasks to those who have the password of this home."""
        address = Address.of(self.settings.flower_bind, "DATAFAB_FLOWER_BIND")
        # Passed in the environment because other users can read a command line.
        login = {"FLOWER_BASIC_AUTH": flower_login(self.home), "FLOWER_UNAUTHENTICATED_API": "false"}
        return Part(
            name="flower",
            command=(sys.executable, "-m", "workers.flower", f"--address={address.host}", f"--port={address.port}"),
            environment=self._environment | login,
            ready=address.listening,
        )


def _one(make: Callable[[Blueprint], Part]) -> Callable[[Blueprint], list[Part]]:
    return lambda blueprint: [make(blueprint)]


#: Functions that build the parts, by name.
MAKERS: dict[str, Callable[[Blueprint], list[Part]]] = {
    "redis": _one(Blueprint.redis),
    "broker": _one(Blueprint.broker),
    "worker-io": Blueprint.workers_io,
    "worker-cpu": _one(lambda blueprint: blueprint.worker("cpu", "prefork", blueprint.settings.cpu_processes)),
    "worker-control": _one(lambda blueprint: blueprint.worker("control", "threads", 4)),
    "beat": _one(Blueprint.beat),
    "listener": _one(Blueprint.listener),
    "webhook": _one(Blueprint.webhook),
    "flower": _one(Blueprint.flower),
}
