"""What the processes of the cluster are: their commands, and how each shows that it does its work."""

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
from datafab.settings import Settings, child_environment

WORKERS = (sys.executable, "-m", "workers")


@dataclass(slots=True)
class WorkerPing:
    """Asks the workers of this host whether they take tasks; one question serves all of them."""

    settings: Settings
    nodes: list[str] = field(default_factory=list)
    _answered: set[str] = field(default_factory=set)
    _asked: float = 0.0

    def answered(self, node: str) -> bool:
        """Whether this worker has answered by now."""
        missing = [name for name in self.nodes if name not in self._answered]
        if node in missing and time.monotonic() > self._asked + 0.3 and redis_answers(self.settings.redis_url or ""):
            self._ask(missing)
            self._asked = time.monotonic()
        return node in self._answered

    def _ask(self, nodes: list[str]) -> None:
        # Here, for it takes a third of a second that commands which only look for a cluster need not pay.
        from celery import Celery  # noqa: PLC0415
        from kombu.exceptions import OperationalError  # noqa: PLC0415

        import celeryconfig  # noqa: PLC0415

        # An app of its own: that of `workers` may point at another cluster, and keeps its connections.
        with Celery("ping", set_as_current=False) as app:
            app.conf.update(celeryconfig.configuration(self.settings))
            with contextlib.suppress(OperationalError, RedisError):
                for answer in app.control.ping(destination=nodes, timeout=0.5, limit=len(nodes)) or ():
                    self._answered.update(answer)


#: Seconds that a worker has to finish what it does, while somebody waits for the cluster to stop.
STOP_LIMIT = 8.0


@dataclass(slots=True, kw_only=True)
class Blueprint:
    """Makes the parts of one cluster.

    Args:
        settings: those of the children, with ``redis_url``.
        home: the cluster's folder, absolute.
        lock: descriptor of the locked file that says that the home is in use.
    """

    settings: Settings
    home: Path
    lock: int
    _environment: dict[str, str] = field(init=False)
    _ping: WorkerPing = field(init=False)

    def parts(self, names: Iterable[str]) -> list[Part]:
        """Return these parts."""
        self._environment = child_environment(self.settings)
        self._ping = WorkerPing(self.settings)
        return [part for name in names for part in MAKERS[name](self)]

    def redis(self) -> Part:
        """Redis. It shares the lock, so that nobody takes the home while one still writes there."""
        url = self.settings.redis_url or ""
        return Part(
            name="redis",
            command=redis_command(find_redis(), int(url.rpartition(":")[2].partition("/")[0]), self.home / "redis"),
            environment=self._environment,
            ready=lambda: redis_answers(url),
            round=3,
            grace=10.0,
            inherits=(self.lock,),
        )

    def broker(self) -> Part:
        """The MQTT broker, where the settings name none. It ends after the workers, which may be publishing."""
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
        """A Celery worker on one queue, the so many-th of this host."""
        name = f"{queue}{number}" if number > 1 else queue
        node = f"{name}@{socket.gethostname()}"
        self._ping.nodes.append(node)
        return Part(
            name=f"worker-{name}",
            command=(
                *(*WORKERS, "worker", "-Q", queue, "-P", pool, "-c", str(size), "-n", node),
                *("-E", "--without-gossip", "--without-mingle", "-l", "WARNING"),
            ),
            environment=self._environment | {"DATAFAB_STOP_LIMIT": str(min(self.settings.stop_limit, STOP_LIMIT))},
            ready=lambda: self._ping.answered(node),
            round=1,
            # It ends its tasks; those that take longer are given back, and taken up again.
            grace=STOP_LIMIT + 2,
            # Without a supervisor there is no Redis either: nothing to end in peace for.
            orphaned=SIGKILL,
        )

    def workers_io(self) -> list[Part]:
        """Threads of one process share one core."""
        numbers = range(1, self.settings.io_processes + 1)
        return [self.worker("io", "threads", self.settings.io_threads, number) for number in numbers]

    def beat(self) -> Part:
        """The clock."""
        began = time.time()
        return Part(
            name="beat",
            command=(*WORKERS, "beat", "--pidfile=", "-l", "WARNING"),
            environment=self._environment,
            # It writes the file that `celeryconfig` names when it begins.
            ready=lambda: any(file.stat().st_mtime >= began for file in self.home.glob("beat-schedule*")),
        )

    def webhook(self) -> Part:
        """The HTTP API."""
        address = Address.of(self.settings.bind, "DATAFAB_BIND")
        return Part(
            name="webhook",
            command=(
                *(sys.executable, "-m", "gunicorn", "webhook.wsgi:app", "--bind", self.settings.bind),
                *("--workers", "2", "--threads", "4", "--graceful-timeout", "5", "--no-control-socket"),
            ),
            environment=self._environment,
            ready=address.healthy,
            grace=8.0,
        )

    def listener(self) -> Part:
        """What turns events of the MQTT broker into jobs."""
        began = time.time()
        alive = self.home / "listener.alive"
        return Part(
            name="listener",
            command=(sys.executable, "-m", "workers.listener"),
            environment=self._environment,
            # It touches the file when it begins; a broker that is away is waited for, and keeps nobody from starting.
            ready=lambda: alive.exists() and alive.stat().st_mtime >= began,
        )

    def flower(self) -> Part:
        """The tasks, to look at, for whoever has the password of this home."""
        address = Address.of(self.settings.flower_bind, "DATAFAB_FLOWER_BIND")
        # In the environment, which other users cannot read as they can a command.
        login = {"FLOWER_BASIC_AUTH": flower_login(self.home), "FLOWER_UNAUTHENTICATED_API": "false"}
        return Part(
            name="flower",
            command=(sys.executable, "-m", "workers.flower", f"--address={address.host}", f"--port={address.port}"),
            environment=self._environment | login,
            ready=address.listening,
        )


def _one(make: Callable[[Blueprint], Part]) -> Callable[[Blueprint], list[Part]]:
    return lambda blueprint: [make(blueprint)]


#: name -> how it is made
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
