"""What the workers of a cluster must agree on, told by each that is asked (``datafab doctor``)."""

from __future__ import annotations

from typing import Any

from celery.worker.control import inspect_command

from datafab.core.item import read_value
from datafab.errors import FlowError
from datafab.index.owner import Host
from datafab.ops.diagnosis import Worker
from datafab.urls import without_credentials
from datafab.version import __version__
from workers.app import app, settings

COMMAND = "datafab_facts"


@inspect_command(name=COMMAND)
def _facts(state: Any, **_: Any) -> dict[str, Any]:
    """Tell what this worker is and serves, and where it keeps things."""
    slots = state.consumer.pool.num_processes
    return describe_worker([queue.name for queue in state.consumer.task_consumer.queues], slots).dump()


def describe_worker(queues: list[str], slots: int | None = None) -> Worker:
    """Return what is to be told of this process."""
    mine, host = settings(), Host.this()
    return Worker(
        version=__version__,
        host=host.name,
        kernel=host.kernel,
        store=without_credentials(mine.store),
        index=without_credentials(mine.index),
        queues=tuple(queues),
        slots=slots,
    )


def ask_workers(patience: float) -> dict[str, Worker | None]:
    """Return what each worker answers within so many seconds; None where it is of a version that answers otherwise."""
    answers = app.control.broadcast(COMMAND, reply=True, timeout=patience) or []
    return {name: _read(told) for one in answers for name, told in one.items()}


def _read(told: Any) -> Worker | None:
    try:
        return read_value(Worker, told)
    except FlowError:
        return None
