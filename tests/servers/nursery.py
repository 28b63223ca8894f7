"""A process that has imported the libraries, and forks into ``python -m MODULE``: most of a start is their import.

So is most of what is ours: it reads no environment while it is imported. What does (``celeryconfig``, and with it
``workers`` and the command line) is imported by each child anew, with its own environment. The tests of `datafab up`,
of the demo and of the embedded cluster begin from nothing.
"""

from __future__ import annotations

import array
import atexit
import gc
import itertools
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

ROOT = Path(__file__).parents[2]
#: what most processes import; one that is missing here costs time only
LIBRARIES = (
    *("celery.bin.worker", "celery.bin.beat", "celery.apps.worker", "celery.apps.beat", "celery.events.state"),
    *("celery.concurrency.prefork", "celery.concurrency.thread", "celery.worker.consumer", "celery.backends.redis"),
    *("kombu.transport.redis", "redis", "requests", "pydantic", "pydantic_settings", "structlog", "rich.progress"),
    *("rich.table", "click", "paho.mqtt.client", "flask", "csv_detective", "csv_detective.explore_csv", "openpyxl"),
    *("celery.fixups.django", "sqlite3", "tomllib", "coverage.control", "coverage.sqldata", "coverage.inorout"),
)
#: ours that most processes import, and that read the environment only when they are called
OURS = (
    *("datafab.flows.registry", "datafab.analysis.detective", "datafab.index", "datafab.core.ledger"),
    *("datafab.core.runner", "datafab.embedded", "datafab.sandbox"),
)
#: How many processes of a kind coverage looks at in each file of tests: their start takes twice the time then.
MEASURED = 2


def unmeasured(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process that coverage does not look at."""
    return {name: value for name, value in env.items() if not name.startswith("COVERAGE_")}


@contextmanager
def unmeasured_children() -> Iterator[None]:
    """Let coverage look at none of the processes that are started meanwhile from this one's environment."""
    before = dict(os.environ)
    for name in before.keys() - unmeasured(before).keys():
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(before)


class Forked:
    """A child of the nursery; what `subprocess.Popen` offers of a process."""

    def __init__(self, pid: int, nursery: Nursery) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._nursery = nursery

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        if self.returncode is None:
            self.returncode = self._nursery.ask({"ended": self.pid})["code"]
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""
        end, pause = time.monotonic() + (timeout or 3600), 0.01
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 3600)
            time.sleep(pause)
            pause = min(0.1, pause * 1.2)  # asking costs the nursery as much as this process
        return code

    def terminate(self) -> None:
        """Ask it to end."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)


class Nursery:
    """The parent; one for a process of pytest, whose end is its own."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.nursery", str(theirs.fileno())],
            cwd=ROOT,
            # Its children are measured, each by itself; and there is to be one thread when it forks.
            env=unmeasured(os.environ) | {"OPENBLAS_NUM_THREADS": "1"},
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        self._socket = ours
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._begun: Counter[tuple[str, ...]] = Counter()
        atexit.register(self._close)

    def start(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        stdout: IO,
        stderr: IO,
        stdin: IO | None = None,
    ) -> Forked:
        """Start ``python -m arguments…`` in a session of its own, with nothing to read."""
        given = env if self._tells_something(arguments) else unmeasured(env)
        request = {"arguments": list(arguments), "env": dict(given), "cwd": str(cwd)}
        with Path(os.devnull).open() as nothing:
            files = [file.fileno() for file in (stdin or nothing, stdout, stderr)]
            return Forked(self.ask(request, files)["pid"], self)

    def _tells_something(self, arguments: Sequence[str]) -> bool:
        """Whether few of this kind (a command without what is a name, a path or a number) have begun in this file."""
        file = os.environ.get("PYTEST_CURRENT_TEST", "").partition("::")[0]
        kind = (file, *(argument for argument in arguments if argument.isalpha()))
        self._begun[kind] += 1
        return self._begun[kind] <= MEASURED

    def _close(self) -> None:
        self._socket.close()
        self._process.wait(30)

    def ask(self, request: dict[str, Any], files: Sequence[int] = ()) -> dict[str, Any]:
        """Send a request, and return the answer."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
        with self._lock:
            number = next(self._numbers)
            self._socket.sendmsg([json.dumps(request | {"number": number}).encode()], rights)
            while True:  # the answer to whoever was interrupted, by the time limit of a test, may lie there yet
                answer = self._socket.recv(4096)
                assert answer, "the nursery has died"
                if (told := json.loads(answer))["number"] == number:
                    return told


def run(
    *arguments: str, env: Mapping[str, str], cwd: Path | None = None, stdin: str = "", timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    """Do what ``subprocess.run`` does, by ``python -m arguments…``."""
    with ExitStack() as stack:
        given, said, told = (stack.enter_context(TemporaryFile("w+", encoding="utf-8")) for _ in range(3))
        given.write(stdin)
        given.seek(0)
        child = nursery().start(arguments, env=env, cwd=cwd or Path.cwd(), stdin=given, stdout=said, stderr=told)
        try:
            code = child.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            raise
        said.seek(0)
        told.seek(0)
        return subprocess.CompletedProcess(arguments, code, said.read(), told.read())


def start_anew(
    arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, stdout: IO, stderr: IO
) -> subprocess.Popen:
    """Start ``python -m arguments…`` as the nursery does, from nothing."""
    command = [sys.executable, "-m", *arguments]
    return subprocess.Popen(
        command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True
    )


@lru_cache(maxsize=1)
def nursery() -> Nursery:
    """Return the nursery of this process."""
    return Nursery()


def serve(asked: socket.socket) -> dict[str, Any] | None:
    """Fork at each request, and say who has ended; return the request in the child, and None at the end."""
    children: set[int] = set()
    while True:
        message, files, _, _ = socket.recv_fds(asked, 1 << 20, 3)
        if not message:
            for pid in children:
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            return None
        request = json.loads(message)
        if pid := request.get("ended"):
            found, status = os.waitpid(pid, os.WNOHANG) if pid in children else (pid, 0)
            if found:
                children.discard(pid)
            answer = {"code": os.waitstatus_to_exitcode(status) if found else None}
        else:
            waits, begun = os.pipe()
            if (pid := os.fork()) == 0:
                os.setsid()
                os.close(begun)
                os.close(waits)
                for number, file in enumerate(files):
                    os.dup2(file, number)
                    os.close(file)
                asked.close()
                return request
            os.close(begun)
            os.read(waits, 1)  # until it is in its own session: whoever has its number may kill that
            for file in (waits, *files):
                os.close(file)
            children.add(pid)
            answer = {"pid": pid}
        asked.sendall(json.dumps(answer | {"number": request["number"]}).encode())


def become(request: dict[str, Any]) -> None:
    """Be the process that was asked for."""
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.path[0] = request["cwd"]
    if "COVERAGE_PROCESS_CONFIG" in os.environ:
        import_module("coverage").process_startup()
    module, *sys.argv[1:] = request["arguments"]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def main() -> None:
    """Import, then serve."""
    for module in (*LIBRARIES, *OURS):
        import_module(module)
    assert "celeryconfig" not in sys.modules, "it would hold the settings of this process"
    gc.collect()
    gc.freeze()
    if request := serve(socket.socket(fileno=int(sys.argv[1]))):
        become(request)


if __name__ == "__main__":
    main()
