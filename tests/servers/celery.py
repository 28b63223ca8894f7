"""Real Celery processes, each in a group of its own, so that a test can kill one like a host that loses power."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Process:
    """One child process and its children."""

    def __init__(self, name: str, *arguments: str, env: dict[str, str], log: Path) -> None:
        self.name = name
        self.log = log / f"{name}.log"
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env={**os.environ, **env},
                cwd=ROOT,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

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
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()

    def stop(self, timeout: float = 20) -> int:
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
        name, "celery", "-A", app, "worker", "-n", f"{name}@test", "-Q", queues, "-P", pool, "-c", str(concurrency),
        "--without-gossip", "--without-mingle", "-l", "INFO", env=env, log=log,
    )  # fmt: skip


def beat(name: str, *, app: str, env: dict[str, str], log: Path) -> Process:
    return Process(
        name, "celery", "-A", app, "beat", "-s", str(log / f"{name}-schedule"), "--pidfile", "", "-l", "WARNING",
        env=env, log=log,
    )  # fmt: skip


def until(condition, timeout: float, every: float = 0.05):  # noqa: ANN001, ANN201 - any condition
    """Return what the condition gives as soon as it is true; fail after ``timeout`` seconds."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(every)
    raise AssertionError(f"not within {timeout} s")
