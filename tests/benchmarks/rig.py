"""A Redis and workers with the settings of production, as child processes; some are started for one measurement."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import redis
from workers.app import use

from datafab.clients.jobs import connect
from datafab.settings import Settings, child_environment, load
from tests.benchmarks.app import app
from tests.benchmarks.processes import cpu
from tests.servers.celery import Process, beat, until, worker
from tests.servers.redis import RedisServer

APP = "tests.benchmarks.app"


class Rig:
    """One cluster in a temporary folder.

    Attributes:
        folder: for collections, logs and all else.
        settings: those of the workers and of this process.
        redis: a client of the cluster's Redis.
    """

    folder: Path
    settings: Settings
    redis: redis.Redis

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self.folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="datafab-bench-")))
        self.server = self._stack.enter_context(RedisServer(self.folder / "redis"))
        self.settings = self._use()
        self.redis = connect(self.server.url, patience=5)
        self._stack.callback(self.redis.close)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _use(self, **changes: object) -> Settings:
        facts = {"redis_url": self.server.url, "home": self.folder / "home", "allow_private_hosts": "127.0.0.1"}
        (self.folder / "home").mkdir(exist_ok=True)
        settings = load({}, **facts, **changes)
        use(settings)
        return settings

    @contextmanager
    def workers(self, *names: str, pool: str = "", size: int = 0, **changes: object) -> Iterator[dict[str, Process]]:
        """Run these of ``io``, ``cpu``, ``control`` and ``beat``.

        Args:
            names: which.
            pool: another pool for ``io``.
            size: another size of it.
            changes: to the settings.
        """
        settings = self._use(**changes)
        kinds = {
            "io": ("threads", settings.io_threads),
            "cpu": ("prefork", settings.cpu_processes),
            "control": ("threads", 4),
        }
        if pool:
            kinds["io"] = (pool, size)
        common = {"app": APP, "env": child_environment(settings), "log": self.folder}
        parts = {
            name: beat(name, **common) if name == "beat" else worker(name, name, *kinds[name], **common)
            for name in names
        }
        try:
            self._await([name for name in names if name != "beat"], parts)
            yield parts
        finally:
            for part in parts.values():
                os.killpg(part.pid, signal.SIGTERM)
            for part in parts.values():
                part.stop()
            self._use()

    def _await(self, names: list[str], parts: dict[str, Process]) -> None:
        nodes = {f"{name}@test" for name in names}

        def answer() -> bool:
            for name in names:
                assert parts[name].alive, parts[name].log.read_text()[-2000:]
            replies = app.control.ping(destination=sorted(nodes), timeout=0.5, limit=len(nodes))
            return nodes <= {node for reply in replies for node in reply}

        until(answer, 60)

    def cpu(self, part: Process | None = None) -> float:
        """Return the CPU seconds so far of a part, or of Redis."""
        return cpu([part.pid if part else self.server.pid])

    def wipe(self) -> None:
        """Forget all jobs and messages."""
        self.redis.flushall()
