"""The Celery app of the benchmark's workers: the toy stages, and the tasks that they are compared with."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import Any

from datafab.core.item import Item
from datafab.core.stage import Context, Stage
from datafab.flows.chains import STAGES
from datafab.flows.registry import FLOWS, Flow

#: stages, and so tasks, in each of the chains that are compared
STEPS = 5
#: what the tasks that are no stages are called, without their numbers
BARE, KEPT = "bench.bare", "bench.kept"


def hold(item: Item, ctx: Context) -> Item:
    """Hold the interpreter lock for ``seconds``, as a call into C does that never lets go of it."""
    tell(ctx, "start", item)
    ctypes.PyDLL(None).sleep(int(ctx.params["seconds"]))
    return item


STAGES["hold"] = Stage(name="hold", queue="cpu", run=hold)
#: the stage ``collect`` on another queue, at which nobody listens
STAGES["shelved"] = replace(STAGES["collect"], name="shelved", queue="cpu")
FLOWS["hold"] = Flow(name="hold", title="hold", producer="numbers", stages=("hold",))
FLOWS["shelve"] = Flow(name="shelve", title="shelve", producer="endpoints", stages=("shelved",))

from tests.workers.toys import app, tell, tick  # noqa: E402 - tasks are made from STAGES when these are imported
from workers.base import LedgerTask  # noqa: E402


def _return(payload: dict[str, Any]) -> dict[str, Any]:
    return payload


def _return_kept(_task: LedgerTask, payload: dict[str, Any]) -> dict[str, Any]:
    return payload


for _number in range(STEPS):
    app.task(_return, name=f"{BARE}{_number}")
    app.task(_return_kept, base=LedgerTask, bind=True, name=f"{KEPT}{_number}")
app.conf.task_routes += ({f"{name}{number}": {"queue": "io"} for name in (BARE, KEPT) for number in range(STEPS)},)

__all__ = ["BARE", "KEPT", "STEPS", "app", "tick"]
