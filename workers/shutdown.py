"""A peaceful stop ends within a limit: what a worker has not finished by then is given back, and counts no death.

Whoever stops a worker kills it when it takes too long. A killed child would count as a death of what it was doing, and
three restarts during one long task would park it.
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

from workers.app import app, settings
from workers.canvas import row_id
from workers.leases import keeper

log = structlog.get_logger()


#: Whether this process was told to stop.
_told = threading.Event()
#: Whether a signal is being handled.
_handling = False


def alone(number: signal.Signals) -> None:
    """Let a signal's handler be interrupted by none of these signals.

    A supervisor that stops the whole group and then the process, as many do, sends two within a millisecond. Celery's
    handlers take locks: one that begins inside another waits for ever, and so does whoever waits for this process.
    """
    handler = signal.getsignal(number)

    def handle(*signalled: Any) -> None:
        global _handling  # noqa: PLW0603 - signals are of the process
        if _handling:
            return
        _handling = True
        handler(*signalled)  # type: ignore[operator, misc]
        _handling = False  # not if it has raised: that ends this process

    if callable(handler):
        signal.signal(number, handle)


class Peacefully(bootsteps.StartStopStep):
    """A worker's first step: Celery has just installed its handlers."""

    def start(self, parent: Any) -> None:  # noqa: ARG002 - Celery calls it so
        """See to it that each is alone."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            alone(number)


app.steps["worker"].add(Peacefully)


@signals.beat_init.connect
def _beat_begins(**_: Any) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        alone(number)


def begun() -> bool:
    """Tell whether this worker is stopping: then a child that is killed is killed with it, and by nothing it did."""
    return _told.is_set()


@signals.worker_shutting_down.connect
def _stopping(**_: Any) -> None:
    """Begin to wait; called in the main process, when it is told to stop."""
    _told.set()
    timer = threading.Timer(settings().stop_limit, _give_up)
    timer.daemon = True
    timer.start()


def _give_up() -> None:
    """Give every task back, and end with all children, as when the host goes."""
    try:
        rows = [
            (row_id(request.task_name, request.id), int(request.request_dict.get("retries") or 0))
            for request in list(state.active_requests)
        ]
        log.warning("stopped before its tasks had ended", rows=[rid for rid, _ in rows])
        keeper().ledger.give_back(rows)
    except RedisError as error:
        log.warning("redis is away: their leases run out", error=str(error))
    finally:  # whatever happens: whoever waits for the end of this process would kill it
        os._exit(os.EX_OK)
