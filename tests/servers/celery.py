"""Real Celery processes, each in a group of its own, so that a test can kill one like a host that loses power."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from redis.exceptions import RedisError

from tests.servers.nursery import ROOT, nursery, start_anew

if TYPE_CHECKING:
    from celery import Celery

T = TypeVar("T")


class Process:
    """One child process and its children.

    Attributes:
        forks: whether it is forked by a process that has imported the libraries, and shares their pages.
    """

    forks: ClassVar[bool] = True

    def __init__(self, name: str, *arguments: str, env: dict[str, str], log: Path) -> None:
        self.name = name
        self.log = log / f"{name}.log"
        with self.log.open("ab") as out:
            skewed = "CLOCK_AHEAD" in env
            start = nursery().start if self.forks and not skewed else start_anew
            arguments = ("tests.servers.clocks", *arguments) if skewed else arguments
            self._process = start(arguments, env={**os.environ, **env}, cwd=ROOT, stdout=out, stderr=out)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def children(self) -> list[int]:
        path = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(pid) for pid in path.read_text().split()] if path.exists() else []

    def kill(self) -> None:
        """Kill the process and its children at once, as when the host goes."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self, timeout: float = 60) -> int:
        """Ask it to end, and wait."""
        if self.alive:
            self._process.terminate()
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def wait(self, timeout: float) -> int:
        return self._process.wait(timeout)


def worker(name: str, queues: str, pool: str, concurrency: int, *, app: str, env: dict[str, str], log: Path) -> Process:
    """Start a worker; its node name is ``name@test``."""
    return Process(
        name, "workers", "-A", app, "worker", "-n", f"{name}@test", "-Q", queues, "-P", pool, "-c", str(concurrency),
        "--without-gossip", "--without-mingle", "-l", "INFO", env=env, log=log,
    )  # fmt: skip


def beat(name: str, *, app: str, env: dict[str, str], log: Path) -> Process:
    return Process(
        name, "workers", "-A", app, "beat", "-s", str(log / f"{name}-schedule"), "--pidfile", "", "-l", "WARNING",
        env=env, log=log,
    )  # fmt: skip


#: How much longer than on an idle machine may take what a test waits for: the tests share it with each other.
PATIENCE = 10


def until(condition: Callable[[], T], timeout: float, every: float = 0.05) -> T:
    """Return what the condition gives as soon as it is true; fail after ``timeout`` seconds of an idle machine."""
    end = time.monotonic() + timeout * PATIENCE
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(every)
    raise AssertionError(f"not within {timeout} s")


#: The timings of a cluster under test: as in production, divided.
SHORT = {
    "DATAFAB_LEASE": "2",
    "DATAFAB_HEARTBEAT": "0.5",
    "DATAFAB_TICK": "0.4",
    "DATAFAB_VISIBILITY_TIMEOUT": "5",
    "DATAFAB_RETRY_DELAY": "0.3",
    "DATAFAB_BATCH_SIZE": "1",
}


class Cluster:
    """Worker hosts and beat on one Redis; every part can be killed and started again by its name."""

    def __init__(self, redis_url: str, folder: Path, *, app: str = "tests.workers.toys", **env: str) -> None:
        self.env = SHORT | {"DATAFAB_REDIS_URL": redis_url, "DATAFAB_HOME": str(folder)} | env
        self.folder = folder
        self._app = app
        self.parts: dict[str, Process] = {}

    def start(self, name: str, **env: str) -> Process:
        """Start ``io``, ``cpu``, ``control`` or ``beat``; a digit at the end makes it another host of that kind.

        Args:
            name: which.
            env: variables of this one; with ``CLOCK_AHEAD`` its clock is wrong by so many seconds.
        """
        assert name not in self.parts or not self.parts[name].alive, f"{name} runs"
        kind = name.rstrip("0123456789")
        common = {"app": self._app, "env": self.env | env, "log": self.folder}
        if kind == "beat":
            process = beat(name, **common)
        else:
            pool, concurrency = {"io": ("threads", 8), "cpu": ("prefork", 2), "control": ("threads", 4)}[kind]
            process = worker(name, kind, pool, concurrency, **common)
        self.parts[name] = process
        return process

    def ready(self, app: Celery, *names: str, timeout: float = 40) -> None:
        """Wait until these workers answer."""
        nodes = {f"{name}@test" for name in names}

        def answer() -> bool:
            for name in names:
                assert self.parts[name].alive, self.parts[name].log.read_text()[-2000:]
            try:
                replies = app.control.ping(destination=sorted(nodes), timeout=0.5, limit=len(nodes))
            except (ConnectionError, RedisError):  # a pooled connection to a Redis that a test has killed
                return False
            return nodes <= {node for reply in replies for node in reply}

        until(answer, timeout)

    def stop(self) -> None:
        for process in self.parts.values():
            if process.alive:
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.parts.values():
            process.stop()
