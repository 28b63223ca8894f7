"""The leases of this process, and the thread that renews them and ends what no longer counts."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from types import FrameType

import structlog
from celery import signals
from celery.worker import state as worker_state
from redis.exceptions import RedisError

from datafab.cancellation import Cancellation, current
from datafab.core.lease import Lease
from datafab.core.ledger import Ledger
from datafab.errors import Lost
from workers.app import settings

#: Leases of a prefork child are longer by this factor: a C call may hold the interpreter lock, and with it the
#: heartbeat, for long. That a child dies is seen at once anyway.
PREFORK_LEASE_FACTOR = 4
#: How long a worker rides out a restart of Redis.
REDIS_PATIENCE_SECONDS = 30

#: Seconds after which a running attempt learns that its job was cancelled.
WATCH_SECONDS = 2.0
#: Seconds that a cancelled attempt in a child process has for its end; then the child is killed.
GRACE_SECONDS = 2.0
#: Ends the work in the main thread of a child. Celery has its own use for SIGUSR1.
CANCEL_SIGNAL = signal.SIGUSR2
#: The code that runs while a module is imported.
_IMPORTING = "<frozen importlib._bootstrap>"

log = structlog.get_logger()
#: the pool of this process, as the ledger knows it
_pool = "threads"


@signals.worker_process_init.connect
def _note_prefork(**_: object) -> None:
    global _pool  # noqa: PLW0603 - only a prefork child hears this signal
    _pool = "prefork"
    signal.signal(CANCEL_SIGNAL, end_work)


def end_work(_number: int, frame: FrameType | None) -> None:
    """Raise Cancelled where the work is, unless it imports a module: many cannot be imported again after that.

    The signal comes again with the next heartbeat, or the process is replaced.
    """
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTING:
            return
        frame = frame.f_back
    current().raise_once()


@dataclass(slots=True)
class _Watched:
    """A lease of this process, and what its heartbeat knows of the attempt."""

    lease: Lease
    #: seconds without progress after which the attempt is given up
    deadline: float
    cancellation: Cancellation
    #: when it was found to be lost
    lost_at: float | None = None
    #: whether it runs its stage now, which may be interrupted
    running: bool = False
    #: whether it made no progress for too long
    hung: bool = False
    progress_at: float = field(default_factory=time.monotonic)

    @property
    def lost(self) -> bool:
        """Whether the attempt no longer counts."""
        return self.lost_at is not None

    def lose(self) -> None:
        """Cancel the attempt, and interrupt what it waits for."""
        if self.lost_at is None:
            self.lost_at = time.monotonic()
            self.cancellation.cancel()


class LeaseKeeper:
    """Renews the leases of this process, confirms the messages that it sent, and gives up attempts that hang.

    Args:
        ledger: where the rows are.
        interval: seconds between two heartbeats.
        lease_seconds: the length of a lease in a threads pool.
    """

    def __init__(self, ledger: Ledger, interval: float, lease_seconds: float) -> None:
        self.ledger = ledger
        self._lease_seconds = lease_seconds * (PREFORK_LEASE_FACTOR if _pool == "prefork" else 1)
        self._pool = _pool
        self._interval = interval
        self._watched: dict[str, _Watched] = {}
        self._published: list[tuple[str, int]] = []
        self._postponed: list[Callable[[], object]] = []
        self._lock = threading.Lock()
        self._renewed_at = time.monotonic()
        self._draining = False
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        threading.Thread(target=self._run, name="lease-keeper", daemon=True).start()

    def take(
        self,
        row_id: str,
        attempt: int,
        *,
        stage: str,
        deadline: float,
        done_key: str = "",
        give_up_reason: str | None = None,
    ) -> Lease | None:
        """Take a row and keep its lease; return None where the message is a stale copy.

        Args:
            row_id: the row.
            attempt: the number of the attempt, from the message.
            stage: the stage that counters name.
            deadline: seconds without progress after which the attempt is given up.
            done_key: see ``Ledger.take``.
            give_up_reason: see ``Lease``.
        """
        holder = f"{self._name}:{secrets.token_hex(6)}"
        lease = self.ledger.take(
            row_id,
            attempt,
            holder,
            seconds=self._lease_seconds,
            pool=self._pool,
            stage=stage,
            done_key=done_key,
            give_up_reason=give_up_reason,
        )
        if lease is not None:
            with self._lock:
                self._watched[holder] = _Watched(lease, deadline, Cancellation(f"{row_id}, attempt {attempt},"))
        return lease

    def drop(self, lease: Lease) -> None:
        """Stop renewing a lease."""
        with self._lock:
            self._watched.pop(lease.holder, None)

    @contextmanager
    def interruptible(self, lease: Lease) -> Iterator[None]:
        """Interrupt what is done until the end of ``with`` as soon as the lease is lost.

        Raises:
            Lost: it was lost already.
        """
        watched = self._watched.get(lease.holder)
        if watched is None:
            raise Lost(f"{lease.row_id}, attempt {lease.attempt}, no longer counts")
        with watched.cancellation.active():
            watched.running = True
            try:
                yield
            finally:
                watched.running = False

    def note_progress(self, lease: Lease) -> None:
        """Note that an attempt has made progress, so that it is not taken for hung."""
        if watched := self._watched.get(lease.holder):
            watched.progress_at = time.monotonic()

    def check(self, lease: Lease) -> None:
        """Raise Lost where an attempt no longer counts, as far as the last heartbeat knows."""
        watched = self._watched.get(lease.holder)
        if watched is None:
            raise Lost(f"{lease.row_id}, attempt {lease.attempt}, no longer counts")
        watched.cancellation.check()

    def is_lost(self, lease: Lease) -> bool:
        """Return whether an attempt no longer counts; ask Redis where the last heartbeat is too old to know."""
        watched = self._watched.get(lease.holder)
        if watched is None:
            return True
        if not watched.lost and time.monotonic() - self._renewed_at > self._lease_seconds:
            self._lose(self.ledger.renew([lease], self._lease_seconds))
        return watched.lost

    def confirm_later(self, row_id: str, attempt: int = 0) -> None:
        """Confirm with the next heartbeat that a message has left."""
        with self._lock:
            self._published.append((row_id, attempt))

    def run_later(self, action: Callable[[], object]) -> None:
        """Run an action on Redis as soon as Redis answers again."""
        with self._lock:
            self._postponed.append(action)

    def _run(self) -> None:
        try:
            while not (self._draining and not self._has_live_attempts()):
                time.sleep(min(self._interval, WATCH_SECONDS))
                try:
                    self._step()
                except (RedisError, OSError) as error:
                    log.warning("heartbeat failed", error=str(error))
            log.error("a task hangs: this process ends, the supervisor starts it again")
        finally:
            # Whatever else ends the heartbeat: a process without one loses its rows one by one, so it ends at once.
            if broken := sys.exc_info()[1]:
                log.error("the heartbeat broke: this process ends, the supervisor starts it again", error=repr(broken))
            os._exit(os.EX_TEMPFAIL)

    def _step(self) -> None:
        """Renew the leases if it is time, else only look whether they are lost; interrupt what is lost."""
        self._interrupt_children()
        if time.monotonic() - self._renewed_at >= self._interval - WATCH_SECONDS / 2:
            self._beat()
        elif leases := [one.lease for one in self._snapshot() if not one.lost]:
            self._lose(self.ledger.lost(leases))
        self._interrupt_children()

    def _beat(self) -> None:
        watched = self._snapshot()
        self._catch_up()
        now = time.monotonic()
        # One whose lease is lost (its job was cancelled) may hang as well, and occupy its slot.
        hung = [one for one in watched if not one.hung and now - one.progress_at > one.deadline]
        for one in hung:
            self._give_up(one)
        kept = [one.lease for one in watched if one not in hung and not one.lost]
        lost = self.ledger.renew(kept, self._lease_seconds) if kept else set()
        self._renewed_at = now
        self._lose(lost)

    def _snapshot(self) -> list[_Watched]:
        with self._lock:
            return list(self._watched.values())

    def _lose(self, holders: Collection[str]) -> None:
        """Cancel the attempts of holders that have lost their rows."""
        for one in self._snapshot():
            if one.lease.holder in holders:
                one.lose()

    def _interrupt_children(self) -> None:
        """End the work of a child whose attempt is lost: by a signal, or by its end where it does not react.

        Its row is gone or with another holder by then, so the parent counts no death.
        """
        if self._pool != "prefork":
            return
        for one in self._snapshot():
            if one.lost_at is None or not one.running:
                continue
            if time.monotonic() - one.lost_at > GRACE_SECONDS:
                log.warning("a cancelled task does not end: its process is replaced", row=one.lease.row_id)
                if not one.running:  # it has ended just now: the process may have the next task already
                    continue
                os.kill(os.getpid(), signal.SIGKILL)
            main = threading.main_thread().ident
            assert main is not None
            signal.pthread_kill(main, CANCEL_SIGNAL)

    def _catch_up(self) -> None:
        """Run what was postponed, and confirm the messages that have left."""
        with self._lock:
            published, postponed = self._published, self._postponed
            self._published, self._postponed = [], []
        try:
            while postponed:
                postponed[0]()
                postponed.pop(0)
            self.ledger.confirm(published)
        except RedisError:
            with self._lock:
                self._postponed[:0], self._published[:0] = postponed, published
            raise

    def _give_up(self, watched: _Watched) -> None:
        """Let go of a row whose attempt made no progress for too long; this process cannot be trusted any more."""
        lease, reason = watched.lease, f"nothing moved in {watched.deadline:g} s"
        log.error("task hangs", row=lease.row_id, reason=reason)
        if not watched.lost:
            self.ledger.count_death(lease.row_id, lease.attempt, reason)
        watched.hung = True
        watched.lose()
        if self._pool == "prefork":
            os.kill(os.getpid(), signal.SIGKILL)
        # A thread cannot be killed and occupies its slot: take no more work, and end when the others are done.
        self._draining = True
        worker_state.should_stop = os.EX_TEMPFAIL

    def _has_live_attempts(self) -> bool:
        with self._lock:
            return any(not watched.lost for watched in self._watched.values())


def lease_keeper() -> LeaseKeeper:
    """Return this process's keeper; a forked child has its own."""
    return _keeper(os.getpid())


_making = threading.Lock()


def _keeper(pid: int) -> LeaseKeeper:
    with _making:
        return _made(pid)


@lru_cache(maxsize=1)
def _made(_pid: int) -> LeaseKeeper:
    mine = settings()
    return LeaseKeeper(Ledger.connect(mine, patience=REDIS_PATIENCE_SECONDS), mine.heartbeat_interval, mine.lease)
