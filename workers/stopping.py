"""A peaceful stop ends within a limit: what a worker has not finished by then is given back, and counts no death.

Whoever stops a worker kills it when it takes too long. A killed child would count as a death of what it was doing, and
three restarts during one long task would park it.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import structlog
from celery import signals
from celery.worker import state
from redis.exceptions import RedisError

from workers.canvas import row_id
from workers.cluster import settings
from workers.keeper import keeper

log = structlog.get_logger()


#: Whether this process was told to stop.
_told = threading.Event()


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
    ledger = keeper().ledger
    for request in list(state.active_requests):
        rid, fence = row_id(request.task_name, request.id), int(request.request_dict.get("retries") or 0)
        log.warning("stopped before its task had ended", row=rid)
        try:
            ledger.give_back(rid, fence)
        except RedisError as error:
            log.warning("redis is away: its lease runs out", row=rid, error=str(error))
    os._exit(os.EX_OK)
