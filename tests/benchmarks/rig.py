"""A Redis and workers with the settings of production, as child processes; some are started for one measurement."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from string import digits
from tempfile import TemporaryDirectory
from typing import Self

import redis

from datafab.core.redis import connect
from datafab.settings import Settings, child_environment, load
from tests.benchmarks.app import app
from tests.benchmarks.processes import cpu
from tests.servers.celery import Process, beat, until, worker
from tests.servers.redis import RedisServer
from workers.app import use

#: A folder in memory. For minutes after many files were deleted, by the run before or by tests, ext4 takes a quarter
#: of a millisecond for each new one: that would be measured instead.
MEMORY = Path("/dev/shm")  # noqa: S108 - the folders below are of our own making


class Rig:
    """One cluster in a temporary folder.

    Attributes:
        folder: for Redis, logs and all else.
        memory: a folder for collections, in memory where there is such a thing.
        settings: those of the workers and of this process.
        redis: a client of the cluster's Redis.
    """

    folder: Path
    memory: Path
    settings: Settings
    redis: redis.Redis

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self.folder = self._temporary(None)
        self.memory = self._temporary(MEMORY if MEMORY.is_dir() else None)
        self.server = self._stack.enter_context(RedisServer(self.folder / "redis"))
        self.settings = self._use()
        self.redis = connect(load(redis_url=self.server.url), patience=5)
        self._stack.callback(self.redis.close)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _temporary(self, place: Path | None) -> Path:
        return Path(self._stack.enter_context(TemporaryDirectory(prefix="datafab-bench-", dir=place)))

    def _use(self, **changes: object) -> Settings:
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        settings = load({}, redis_url=self.server.url, home=home, allow_private_hosts="127.0.0.1", **changes)
        use(settings)
        return settings

    @contextmanager
    def workers(self, *names: str, pool: str = "", size: int = 0, **changes: object) -> Iterator[dict[str, Process]]:
        """Run these of ``io``, ``cpu``, ``control`` and ``beat``.

        Args:
            names: which; ``io2`` is another one of ``io``.
            pool: another pool for ``io``.
            size: another size of it.
            changes: to the settings.
        """
        settings = self._use(**changes)
        kinds = {
            "io": (pool or "threads", size or settings.io_threads),
            "cpu": ("prefork", settings.cpu_processes),
            "control": ("threads", 4),
        }
        common = {"app": "tests.benchmarks.app", "env": child_environment(settings), "log": self.folder}
        parts = {
            name: beat(name, **common) if name == "beat" else worker(name, kind, *kinds[kind], **common)
            for name, kind in ((name, name.rstrip(digits)) for name in names)
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

    def cpu(self, *parts: Process) -> float:
        """Return the CPU seconds so far of parts, or of Redis if none is given."""
        return cpu([part.pid for part in parts] or [self.server.pid])

    def used(self) -> int:
        """Return the bytes that Redis uses."""
        return int(self.redis.info("memory")["used_memory"])
