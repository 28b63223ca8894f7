"""A graceful stop within a time limit: what a worker has not finished by then is given back, without counting a death.

A supervisor kills a worker whose stop takes too long. Each killed child would count as a death of its task, and three
restarts during one long task would park it.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import structlog
from celery import bootsteps, signals
from celery.worker import state
from redis.exceptions import RedisError

from datafab.core.ledger import row_id
from workers.app import app, settings
from workers.leases import lease_keeper

log = structlog.get_logger()

#: Set once this process was asked to stop.
_stop_requested = threading.Event()
#: Whether a signal is being handled.
_handling = False


def make_uninterruptible(number: signal.Signals) -> None:
    """Ignore further signals while a signal's handler runs.

    Many supervisors stop the process group and then the process, which makes two signals within a millisecond. Celery's
    handlers take locks: one that starts inside another waits for ever, and so does the supervisor.
    """
    handler = signal.getsignal(number)

    def handle(*signalled: Any) -> None:
        global _handling  # noqa: PLW0603 - signals are of the process
        if _handling:
            return
        _handling = True
        handler(*signalled)  # type: ignore[operator, misc]
        _handling = False  # not where the handler has raised: that ends this process

    if callable(handler):
        signal.signal(number, handle)


class SignalGuard(bootsteps.StartStopStep):
    """The first step of a worker: Celery has just installed its signal handlers."""

    def start(self, parent: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Make each handler uninterruptible."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            make_uninterruptible(number)


app.steps["worker"].add(SignalGuard)


@signals.beat_init.connect
def _guard_beat(**_: Any) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        make_uninterruptible(number)


def is_stopping() -> bool:
    """Return whether this worker is stopping: a child that is killed then has done nothing wrong."""
    return _stop_requested.is_set()


@signals.worker_shutting_down.connect
def _start_timer(**_: Any) -> None:
    """Start the time limit; called in the main process when it is asked to stop."""
    _stop_requested.set()
    timer = threading.Timer(settings().stop_limit, _stop_now)
    timer.daemon = True
    timer.start()


def _stop_now() -> None:
    """Give every task back, and end with all children."""
    try:
        rows = [
            (row_id(request.task_name, request.id), int(request.request_dict.get("retries") or 0))
            for request in list(state.active_requests)
        ]
        log.warning("stopped before its tasks had ended", rows=[row for row, _ in rows])
        lease_keeper().ledger.give_back(rows)
    except RedisError as error:
        log.warning("redis is away: their leases run out", error=str(error))
    finally:  # in any case: the supervisor, which waits for the end of this process, would kill it
        os._exit(os.EX_OK)
