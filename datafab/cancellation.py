"""The end of work that no longer counts, because its job was cancelled or has passed its deadline.

A worker activates a ``Cancellation`` around each attempt, and its heartbeat cancels it. Code that takes long calls
``check``, which raises ``Lost``. A thread cannot be killed, so code that blocks registers a function that makes its
call return: the sockets of a request are shut down, a query is interrupted. Outside an attempt nothing is cancelled.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from datafab.errors import Lost

#: Makes a blocking call return. It is called in another thread, must not block, and must not raise.
Interrupt = Callable[[], object]


class Cancelled(BaseException):
    """Raised in the main thread of a process by a signal, wherever the work is.

    It is no ``Exception``: libraries such as csv-detective take every exception of a value for "no", and remember it.
    """


class Cancellation:
    """The cancellation of one attempt, with the functions that interrupt its blocking calls."""

    def __init__(self, what: str = "this attempt") -> None:
        self._what = what
        self._lock = threading.Lock()
        self._interrupts: dict[int, Interrupt] = {}
        self._next = 0
        self._raised = False
        self.is_cancelled = False

    def cancel(self) -> None:
        """Cancel the attempt, and interrupt its blocking calls."""
        with self._lock:
            self.is_cancelled = True
            for interrupt in self._interrupts.values():
                interrupt()

    def check(self) -> None:
        """Raise Lost if the attempt was cancelled."""
        if self.is_cancelled:
            raise Lost(f"{self._what} no longer counts")

    def raise_once(self) -> None:
        """Raise Cancelled if the attempt was cancelled, but only once: cleanup code must not be interrupted."""
        if self.is_cancelled and not self._raised:
            self._raised = True
            raise Cancelled

    def register(self, interrupt: Interrupt) -> int:
        """Add a function that interrupts a blocking call; return its number. It is called at once if it is late."""
        with self._lock:
            self._next += 1
            self._interrupts[self._next] = interrupt
            if self.is_cancelled:
                interrupt()
            return self._next

    def unregister(self, number: int) -> None:
        """Remove a function. It is neither running nor called after this."""
        with self._lock:
            self._interrupts.pop(number, None)

    @contextmanager
    def interrupted_by(self, interrupt: Interrupt) -> Iterator[None]:
        """Call a function on cancellation until the end of ``with``; then raise Lost if the attempt was cancelled."""
        number = self.register(interrupt)
        try:
            yield
        finally:
            self.unregister(number)
            self.check()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make this the cancellation of the work in this thread."""
        before = _current.set(self)
        try:
            yield
        finally:
            _current.reset(before)


class _Never(Cancellation):
    """The cancellation of work that nobody can cancel; all threads share it, so it keeps nothing."""

    def register(self, interrupt: Interrupt) -> int:  # noqa: ARG002 - it is never called
        return 0


_NEVER = _Never()
_current: ContextVar[Cancellation] = ContextVar("cancellation", default=_NEVER)


def current() -> Cancellation:
    """Return the cancellation of the work in this thread."""
    return _current.get()


def check() -> None:
    """Raise Lost if the work in this thread was cancelled."""
    _current.get().check()
