"""The facts on which all workers of a cluster must agree, as ``datafab doctor`` asks for them."""

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
    """Return this worker's version, host, queues, store and index."""
    slots = state.consumer.pool.num_processes
    return describe_worker([queue.name for queue in state.consumer.task_consumer.queues], slots).dump()


def describe_worker(queues: list[str], slots: int | None = None) -> Worker:
    """Return the facts of this process."""
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
    """Return each worker's answer within ``patience`` seconds; None: another version, with another form of answer."""
    answers = app.control.broadcast(COMMAND, reply=True, timeout=patience) or []
    return {name: _read(answer) for one in answers for name, answer in one.items()}


def _read(answer: Any) -> Worker | None:
    try:
        return read_value(Worker, answer)
    except FlowError:
        return None
