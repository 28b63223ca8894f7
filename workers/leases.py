"""The rows that this process holds, and the one thread that keeps them alive."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import structlog
from celery import signals
from celery.worker import state as worker_state
from redis.exceptions import RedisError

from datafab.core.ledger import Ledger
from datafab.errors import Lost
from workers.app import settings

#: A C call may hold the interpreter lock, and with it the heartbeat, for long; a child's death is seen at once anyway.
CPU_LEASES = 4
#: Seconds that a worker rides out a restart of Redis.
PATIENCE = 30

log = structlog.get_logger()
#: the pool of this process, as the ledger knows it
_pool = "threads"


@signals.worker_process_init.connect
def _in_child(**_: object) -> None:
    global _pool  # noqa: PLW0603 - only a prefork child hears this signal
    _pool = "prefork"


@dataclass(slots=True)
class Held:
    """One row in the hands of this process."""

    rid: str
    fence: int
    #: names this attempt: no other call ever has the same
    by: str
    job: str = ""
    deaths: int = 0
    created: float = 0.0
    #: whether its items are to be looked at before their time
    hastened: bool = False
    #: why it is to be parked, when the tick said so
    park: str | None = None
    #: seconds in which something must move
    deadline: float = 3600.0
    lost: bool = False
    #: whether it was found hung
    given_up: bool = False
    #: whether its row is gone already, with the job
    ended: bool = False
    moved: float = field(default_factory=time.monotonic)

    def alive(self) -> None:
        """Say that something moved."""
        self.moved = time.monotonic()

    def check(self) -> None:
        """Raise Lost when this attempt no longer counts."""
        if self.lost:
            raise Lost(f"{self.rid}, attempt {self.fence}, no longer counts")


class Keeper:
    """Renews the leases of this process's rows, confirms what it published, and gives up what hangs."""

    def __init__(self, ledger: Ledger, every: float, lease: float) -> None:
        self.ledger = ledger
        self.lease = lease * (CPU_LEASES if _pool == "prefork" else 1)
        self.pool = _pool
        self._every = every
        self._held: dict[str, Held] = {}
        self._published: list[tuple[str, int]] = []
        self._todo: list[Callable[[], object]] = []
        self._lock = threading.Lock()
        self._renewed = time.monotonic()
        self._draining = False
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        threading.Thread(target=self._run, name="keeper", daemon=True).start()

    def take(self, rid: str, fence: int, stage: str, done: str = "") -> Held | None:
        """Take a row; None when this copy of the task is stale. ``done``: see ``Ledger.take``."""
        by = f"{self._name}:{secrets.token_hex(6)}"
        taken = self.ledger.take(rid, fence, by, lease=self.lease, pool=self.pool, stage=stage, done=done)
        if taken is None:
            return None
        held = Held(rid, fence, by, taken.job, taken.deaths, taken.created, taken.hastened)
        with self._lock:
            self._held[by] = held
        return held

    def drop(self, held: Held) -> None:
        """Stop keeping a row."""
        with self._lock:
            self._held.pop(held.by, None)

    def stale(self, held: Held) -> bool:
        """Say whether an attempt no longer counts, asking Redis when the last heartbeat is too old to know."""
        if not held.lost and time.monotonic() - self._renewed > self.lease:
            held.lost = bool(self.ledger.renew([(held.rid, held.by)], self.lease))
        return held.lost

    def published(self, rid: str, fence: int = 0) -> None:
        """Remember a message that has left; the next heartbeat confirms it."""
        with self._lock:
            self._published.append((rid, fence))

    def later(self, action: Callable[[], object]) -> None:
        """Do something in Redis as soon as Redis is back."""
        with self._lock:
            self._todo.append(action)

    def _run(self) -> None:
        try:
            while not (self._draining and not self._alive()):
                time.sleep(self._every)
                try:
                    self._beat()
                except (RedisError, OSError) as error:
                    log.warning("heartbeat failed", error=str(error))
            log.error("a task hangs: this process ends, the supervisor starts it again")
        finally:
            # Whatever else ends the heartbeat: a process without one loses its rows one by one, so it goes at once.
            if broken := sys.exc_info()[1]:
                log.error("the heartbeat broke: this process ends, the supervisor starts it again", error=repr(broken))
            os._exit(os.EX_TEMPFAIL)

    def _beat(self) -> None:
        with self._lock:
            held, published, todo = list(self._held.values()), self._published, self._todo
            self._published, self._todo = [], []
        try:
            while todo:
                todo[0]()
                todo.pop(0)
            self.ledger.confirm(published)
        except RedisError:
            with self._lock:
                self._todo[:0], self._published[:0] = todo, published
            raise
        now = time.monotonic()
        # One that is lost (its job was cancelled) may hang as well, and keep its slot.
        hung = [one for one in held if not one.given_up and now - one.moved > one.deadline]
        for one in hung:
            self._give_up(one)
        kept = [(one.rid, one.by) for one in held if one not in hung and not one.lost]
        lost = set(self.ledger.renew(kept, self.lease)) if kept else set()
        self._renewed = now
        for one in held:
            one.lost = one.lost or one.by in lost

    def _give_up(self, held: Held) -> None:
        """Let go of a row that nothing has moved in for too long; the process cannot be trusted any more."""
        reason = f"nothing moved in {held.deadline:g} s"
        log.error("task hangs", row=held.rid, reason=reason)
        if not held.lost:
            self.ledger.died(held.rid, held.fence, reason)
        held.lost = held.given_up = True
        if self.pool == "prefork":
            os.kill(os.getpid(), signal.SIGKILL)
        # A thread cannot be killed and keeps its slot: no more work here, and an end when the others are done.
        self._draining = True
        worker_state.should_stop = os.EX_TEMPFAIL

    def _alive(self) -> bool:
        with self._lock:
            return any(not held.lost for held in self._held.values())


def keeper() -> Keeper:
    """Return this process's keeper; a forked child has its own."""
    return _keeper(os.getpid())


_making = threading.Lock()


def _keeper(pid: int) -> Keeper:
    with _making:
        return _made(pid)


@lru_cache(maxsize=1)
def _made(_pid: int) -> Keeper:
    mine = settings()
    return Keeper(Ledger.connect(mine, patience=PATIENCE), mine.heartbeat_interval, mine.lease)
