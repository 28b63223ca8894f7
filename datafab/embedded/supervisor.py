"""Supervision of child processes: started together, restarted when they die, stopped in order, none left behind.

Every child leads a session of its own, so that Ctrl-C reaches only this process, which then stops the children in
order. The kernel ends a child when the *thread* that started it ends, for whatever reason. Therefore one thread
starts them all and lives until the last of them is gone: a supervisor killed with -9 leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals

from datafab.embedded.logs import limit_log, open_log, tail
from datafab.errors import FlowError

#: deaths before a part was first ready, after which starting it is given up
MAX_EARLY_DEATHS = 3
POLL_SECONDS = 0.1
#: seconds between two looks at the size of the logs
LOG_SECONDS = 1.0
FIRST_DELAY_SECONDS = 0.5
MAX_DELAY_SECONDS = 30.0
#: uptime after which earlier deaths no longer count
STABLE_AFTER_SECONDS = 60.0

# A `preexec_fn` runs Python between fork and exec, which can deadlock if there are other threads. This tiny program
# asks for a signal when its parent dies (PR_SET_PDEATHSIG = 1), then becomes the child by exec. It checks its parent
# afterwards, because that may have died before the request.
_LIFELINE = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, ctypes.c_ulong(int(sys.argv[1])))
if os.getppid() != int(sys.argv[2]): sys.exit("its supervisor is gone")
os.execv(sys.argv[3], sys.argv[3:])
"""


class State(StrEnum):
    """The states of a part."""

    STARTING = "starting"
    READY = "ready"
    DIED = "died"
    STOPPED = "stopped"


#: Called with a part's name and its new state; for ``starting`` and ``died`` from the supervisor's thread.
OnState = Callable[[str, State], None]


def ignore_state(name: str, state: State) -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One child process."""

    name: str
    #: full path of the program, and its arguments; never secrets, because every user of the host can read them
    command: tuple[str, ...]
    environment: Mapping[str, str]
    #: returns whether the part is ready; raises nothing
    ready: Callable[[], bool]
    #: parts of the lowest round are stopped first, all parts of one round together
    round: int = 0
    #: seconds between SIGTERM and SIGKILL
    grace: float = 5.0
    #: the signal that it receives when the supervisor dies without stopping it
    orphaned: Signals = SIGTERM
    #: file descriptors of this process that it inherits
    inherits: tuple[int, ...] = ()


def lifeline(command: Sequence[str], orphaned: Signals = SIGTERM) -> list[str]:
    """Return a command that runs ``command`` and is sent the signal when the thread that started it ends (on Linux).

    The process id is that of the program itself: there is no process in between.
    """
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _LIFELINE, str(int(orphaned)), str(os.getpid()), *command]


def restart_delay(deaths: int) -> float:
    """Return the seconds to wait before the next start, after this number of deaths in a row (1 or more)."""
    return float(min(FIRST_DELAY_SECONDS * 2 ** min(deaths - 1, 16), MAX_DELAY_SECONDS))


class Supervisor:
    """A supervisor that keeps its parts alive from ``start`` to ``stop``.

    Args:
        parts: the parts to run.
        logs: folder of the logs ``<name>.log``, also the children's working folder; created if it does not exist.
        on_state: called with every change of a part's state.
        on_pids: called after each start with the process ids by name, from the supervisor's thread.
        limit: seconds within which every part must be ready.
    """

    def __init__(
        self,
        parts: Iterable[Part],
        logs: Path,
        *,
        on_state: OnState = ignore_state,
        on_pids: Callable[[dict[str, int]], None] = lambda _: None,
        limit: float = 60.0,
    ) -> None:
        self._children = [_Child(part, logs / f"{part.name}.log") for part in parts]
        self._logs = logs
        self._on_state = on_state
        self._on_pids = on_pids
        self._limit = limit
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._gone = threading.Event()
        self._thread = threading.Thread(target=self._keep_alive, name="supervisor", daemon=True)

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of the running parts, by name."""
        return {child.part.name: child.process.pid for child in self._children if child.process}

    def start(self) -> None:
        """Start all parts and wait until every one is ready.

        Raises:
            FlowError: a part was not ready in time or kept dying; the message has its name, its log and the last
                lines of that. All other parts are stopped again.
        """
        self._logs.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all parts, round by round, and return when none is left."""
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
        start = time.monotonic()
        for child in children:
            child.wait(start + child.part.grace)
            child.kill()
            self._on_state(child.part.name, State.STOPPED)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._limit
        waiting = list(self._children)
        while waiting:
            for child in list(waiting):
                if child.early_deaths >= MAX_EARLY_DEATHS:
                    raise child.failure(f"ended {child.early_deaths} times before it was ready")
                if child.process is not None and child.part.ready():
                    child.ready = True
                    self._on_state(child.part.name, State.READY)
                    waiting.remove(child)
            if waiting and time.monotonic() > deadline:
                raise waiting[0].failure(f"was not ready within {self._limit:.0f} s")
            time.sleep(POLL_SECONDS if waiting else 0)

    def _keep_alive(self) -> None:
        """Start the parts that are due and reap those that died; return only when all are gone (see above)."""
        next_look = 0.0
        while not self._stopping.is_set():
            with self._lock:
                if not self._stopping.is_set():
                    self._check_children()
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + LOG_SECONDS
                for child in self._children:
                    limit_log(child.log)
            self._stopping.wait(POLL_SECONDS)
        self._gone.wait()

    def _check_children(self) -> None:
        started = False
        for child in self._children:
            if child.reap():
                self._on_state(child.part.name, State.DIED)
            if child.process is None and time.monotonic() >= child.due:
                self._on_state(child.part.name, State.STARTING)
                child.start()
                started = True
        if started:
            self._on_pids(self.pids)


class _Child:
    """A part with its process, which is None while it does not run."""

    def __init__(self, part: Part, log: Path) -> None:
        self.part = part
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self.ready = False
        self.early_deaths = 0
        self.due = 0.0
        self._deaths = 0
        self._started_at = 0.0

    def start(self) -> None:
        """Start the process; a start that fails counts as a death."""
        self._started_at = time.monotonic()
        try:
            with open_log(self.log, self.part.command) as log:
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

    def reap(self) -> bool:
        """Clean up if the process ended by itself, and return whether it did."""
        if self.process is None or self.process.poll() is None:
            return False
        self.kill()
        self._count_death()
        return True

    def terminate(self) -> None:
        """Send SIGTERM to the process."""
        if self.process:
            self.process.send_signal(SIGTERM)

    def wait(self, deadline: float) -> None:
        """Wait until the process has ended, or until the deadline (monotonic seconds)."""
        if self.process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(max(0.0, deadline - time.monotonic()))

    def kill(self) -> None:
        """Kill the process and the rest of its process group."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, SIGKILL)
            self.process.wait()
            self.process = None

    def failure(self, what: str) -> FlowError:
        """Return the error for a part that does not become ready."""
        msg = f"{self.part.name} {what}; its log {self.log} ends with:\n{tail(self.log)}"
        return FlowError(msg, code="start", field=self.part.name)

    def _count_death(self) -> None:
        uptime = time.monotonic() - self._started_at
        self._deaths = 1 if uptime > STABLE_AFTER_SECONDS else self._deaths + 1
        self.early_deaths += not self.ready
        self.due = time.monotonic() + restart_delay(self._deaths)
