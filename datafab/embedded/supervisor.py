"""Child processes kept alive: started together, started again when they die, stopped in order, never left over.

Every child is the head of a session of its own, so that Ctrl-C reaches this process only, which then stops them in
order. The kernel ends a child when the *thread* that started it ends, however that comes about: so one thread
starts them all, and it lives until the last of them is gone. A supervisor killed with -9 leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from io import FileIO
from itertools import groupby
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals

from datafab.errors import FlowError

MAX_LOG = 10 * 1024**2
#: a part that dies this often before it is ready will not get better by itself
MAX_EARLY_DEATHS = 3
LOOK_SECONDS = 0.1
FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
#: seconds of life after which earlier deaths are forgotten
FORGIVEN_AFTER = 60.0

# A `preexec_fn` runs Python between fork and exec, which can deadlock beside other threads: hence a tiny program that
# ties its life to its parent's (PR_SET_PDEATHSIG = 1) and becomes the child. The parent may have died before that.
_LIFELINE = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, ctypes.c_ulong(int(sys.argv[1])))
if os.getppid() != int(sys.argv[2]): sys.exit("its supervisor is gone")
os.execv(sys.argv[3], sys.argv[3:])
"""


class State(StrEnum):
    """What is told of a part."""

    STARTING = "starting"
    READY = "ready"
    DIED = "died"
    STOPPED = "stopped"


#: told(name, state); ``starting`` and ``died`` come from the supervisor's thread
Told = Callable[[str, State], None]


def say_nothing(name: str, state: State) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One child process."""

    name: str
    #: the program, by its full path, and its arguments; no secrets, for everybody on the host can read them
    command: tuple[str, ...]
    environment: Mapping[str, str]
    #: whether it does its work; raises nothing
    ready: Callable[[], bool]
    #: parts of the lowest round are stopped first, those of one round together
    round: int = 0
    #: seconds between SIGTERM and SIGKILL
    grace: float = 5.0
    #: what it gets when the supervisor dies without stopping it
    orphaned: Signals = SIGTERM
    #: file descriptors of this process that it inherits
    inherits: tuple[int, ...] = ()


def lifeline(command: Sequence[str], orphaned: Signals = SIGTERM) -> list[str]:
    """Return a command that runs this one and gets the signal when the thread that started it ends (on Linux).

    The process id is the program's own: nothing stays in between.
    """
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _LIFELINE, str(int(orphaned)), str(os.getpid()), *command]


def restart_delay(deaths: int) -> float:
    """Return the seconds to wait before the next start after this many deaths in a row (1 or more)."""
    return float(min(FIRST_DELAY * 2 ** min(deaths - 1, 16), LONGEST_DELAY))


class Supervisor:
    """Parts, kept alive from ``start`` to ``stop``.

    Args:
        parts: what to run.
        logs: folder of ``<name>.log``, also the children's working folder; made when missing.
        told: hears of every change of a part.
        changed: hears the process ids, name -> pid, of what runs after each start (from the supervisor's thread).
        limit: seconds within which every part must be ready.
    """

    def __init__(
        self,
        parts: Iterable[Part],
        logs: Path,
        *,
        told: Told = say_nothing,
        changed: Callable[[dict[str, int]], None] = lambda _: None,
        limit: float = 60.0,
    ) -> None:
        self._children = [_Child(part, logs / f"{part.name}.log") for part in parts]
        self._logs = logs
        self._told = told
        self._changed = changed
        self._limit = limit
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._gone = threading.Event()
        self._thread = threading.Thread(target=self._keep_alive, name="supervisor", daemon=True)

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of what runs, name -> pid."""
        return {child.part.name: child.process.pid for child in self._children if child.process}

    def start(self) -> None:
        """Start all parts and wait until every one is ready.

        Raises:
            FlowError: a part was not ready in time or kept dying; names it, its log and the log's last lines. All
                others are stopped again.
        """
        self._logs.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all parts, round by round; returns when none is left."""
        self._stopping.set()
        if not self._thread.is_alive():
            return
        with self._lock:
            try:
                ordered = sorted(self._children, key=lambda child: child.part.round)
                for _, children in groupby(ordered, key=lambda child: child.part.round):
                    self._stop_round(list(children))
            finally:
                for child in self._children:
                    child.kill()
                self._gone.set()
        self._thread.join()

    def _stop_round(self, children: list[_Child]) -> None:
        for child in children:
            child.terminate()
        began = time.monotonic()
        for child in children:
            child.wait(began + child.part.grace)
            child.kill()
            self._told(child.part.name, State.STOPPED)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._limit
        waiting = list(self._children)
        while waiting:
            for child in list(waiting):
                if child.early_deaths >= MAX_EARLY_DEATHS:
                    raise child.failure(f"ended {child.early_deaths} times before it was ready")
                if child.process is not None and child.part.ready():
                    child.ready = True
                    self._told(child.part.name, State.READY)
                    waiting.remove(child)
            if waiting and time.monotonic() > deadline:
                raise waiting[0].failure(f"was not ready within {self._limit:.0f} s")
            time.sleep(LOOK_SECONDS if waiting else 0)

    def _keep_alive(self) -> None:
        """Start what is due and bury what died. Ends after the last child: the lives of all hang on this thread."""
        while not self._stopping.is_set():
            with self._lock:
                if not self._stopping.is_set():
                    self._look()
            self._stopping.wait(LOOK_SECONDS)
        self._gone.wait()

    def _look(self) -> None:
        started = False
        for child in self._children:
            if child.died():
                self._told(child.part.name, State.DIED)
            if child.process is None and time.monotonic() >= child.due:
                self._told(child.part.name, State.STARTING)
                child.start()
                started = True
        if started:
            self._changed(self.pids)


class _Child:
    """One part's process, if it has one just now."""

    def __init__(self, part: Part, log: Path) -> None:
        self.part = part
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self.ready = False
        self.early_deaths = 0
        self.due = 0.0
        self._deaths = 0
        self._born = 0.0

    def start(self) -> None:
        """Start it; a start that fails counts as a death."""
        self._born = time.monotonic()
        try:
            with self._open_log() as log:
                self.process = subprocess.Popen(  # noqa: S603 - our own commands
                    lifeline(self.part.command, self.part.orphaned),
                    cwd=self.log.parent,
                    env=dict(self.part.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=self.part.inherits,
                )
        except OSError:
            self._count_death()

    def died(self) -> bool:
        """Bury it if it ended by itself since the last look."""
        if self.process is None or self.process.poll() is None:
            return False
        self.kill()
        self._count_death()
        return True

    def terminate(self) -> None:
        """Ask it to end."""
        if self.process:
            self.process.send_signal(SIGTERM)

    def wait(self, deadline: float) -> None:
        """Wait for its end, until then at most (monotonic seconds)."""
        if self.process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(max(0.0, deadline - time.monotonic()))

    def kill(self) -> None:
        """End it and what is left of its group."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, SIGKILL)
            self.process.wait()
            self.process = None

    def failure(self, what: str) -> FlowError:
        """Return the error for a part that does not come up."""
        msg = f"{self.part.name} {what}; its log {self.log} ends with:\n{tail(self.log)}"
        return FlowError(msg, code="start", field=self.part.name)

    def _count_death(self) -> None:
        lived = time.monotonic() - self._born
        self._deaths = 1 if lived > FORGIVEN_AFTER else self._deaths + 1
        self.early_deaths += not self.ready
        self.due = time.monotonic() + restart_delay(self._deaths)

    def _open_log(self) -> FileIO:
        if self.log.exists() and self.log.stat().st_size > MAX_LOG:
            self.log.replace(self.log.with_suffix(".log.1"))
        at = datetime.now(UTC).isoformat(timespec="seconds")
        log = self.log.open("ab", buffering=0)
        log.write(f"--- {at} {shlex.join(self.part.command)}\n".encode())
        return log


def tail(log: Path, lines: int = 10) -> str:
    """Return the last lines of a log, at most 4 KB of them; a sentence when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return f"(it cannot be read: {error})"
    return "\n".join(text.splitlines()[-lines:])
