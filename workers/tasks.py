"""One task per stage, made from STAGES, and the cluster's own few."""

from __future__ import annotations

import time
from typing import Any

import structlog
from celery import signals
from kombu.exceptions import EncodeError
from kombu.utils.json import loads

from datafab.core import runner
from datafab.core.item import Batch, Counts, ItemError, received
from datafab.core.job import JobStatus
from datafab.core.ledger import Claimed
from datafab.core.stage import Stage
from datafab.errors import DatafabError, FlowError, Parked
from datafab.flows.chains import STAGES
from datafab.flows.registry import plan, then_stages
from workers import canvas
from workers.app import app, jobs, services, settings
from workers.base import LedgerTask
from workers.leases import Held, keeper

log = structlog.get_logger()


class StageTask(LedgerTask):
    """A task that runs one stage on a batch."""

    abstract = True
    stage: Stage

    def attempt(self, held: Held) -> runner.Attempt:
        """Return what the runner needs to know of this try."""
        return runner.Attempt(
            created=held.created,
            again=held.fence > 0,
            suspect=held.deaths > 0,
            hastened=held.hastened,
            holder=(held.rid, held.by),
            check=held.check,
            alive=held.alive,
            enqueue=_enqueue,
        )

    def done_key(self) -> str:
        """Return where the runner keeps what is done of this batch."""
        batch = self.request.args[0]
        number = batch.get("number")
        return f"job:{batch['job']}:done:{self.stage.name}:{'-' if number is None else number}"


def _enqueue(flow: str, params: dict[str, Any], key: str) -> str:
    return canvas.start(flow, params, key)[0].id


def _run(self: StageTask, payload: dict[str, Any], *, last: bool = False) -> dict[str, Any]:
    batch = received(Batch, payload)
    held: Held = self.request.held
    attempt = self.attempt(held)
    attempt.follows = self.stage.name in then_stages(batch.flow, batch.params)
    if held.park:
        attempt.condemned = Parked(held.park)
        if batch.number is None and len(runner.load_items(batch, services())) == 1:
            raise attempt.condemned  # the job's only item: an operator decides, and can try again
    items = runner.run_stage(self.stage, batch, services(), attempt)
    return (Counts.of(batch, items) if last else runner.pack(batch, items, services())).dump()


def _expand(self: StageTask, payload: dict[str, Any]) -> None:
    batch = received(Batch, payload)
    held: Held = self.request.held
    if held.park:
        raise Parked(held.park)
    batches = list(runner.expand(self.stage, batch, services(), self.attempt(held)))
    _, stages = plan(batch.flow, batch.params)
    self.replace(canvas.body(batches, stages))


def _add(stage: Stage) -> None:
    app.task(
        _expand if stage.expand else _run,
        base=StageTask,
        bind=True,
        name=f"datafab.{stage.name}",
        stage=stage,
        attempt_deadline=stage.deadline,
    )


for _stage in STAGES.values():
    _add(_stage)


@app.task(base=LedgerTask, bind=True, name=canvas.REPORT)
def report(self: LedgerTask, job: str) -> dict[str, Any]:
    """End a job: every batch has been through every stage."""
    jobs().end(job, *jobs().outcome(job))
    self.request.held.ended = True
    return jobs().get(job).dump()


@app.task(name="datafab.tick")
def tick() -> int:
    """Send what is due: what waited, what was lost, what its dead holder left. Several ticks may run at once."""
    ledger = keeper().ledger
    sent = 0
    while claimed := ledger.claim():
        with app.producer_pool.acquire(block=True) as producer, producer.batch(max_size=500):
            gone = [(row.rid, row.fence) for row in claimed if _send(row, producer)]
        ledger.confirm(gone)
        sent += len(claimed)
    for ended, flows, key in jobs().to_follow():
        for place, flow in enumerate(flows):
            _follow(ended, flow, f"{key}:{flow}" if place else key)
        jobs().followed(ended)
    return sent


def _send(row: Claimed, producer: Any) -> bool:
    """Send a row's task; False: it cannot be, which must not hold up the others that are due."""
    options: dict[str, Any] = {"retries": row.fence, "queue": canvas.queue_named(row.queue)}
    if row.deaths >= settings().max_deaths:
        options["headers"] = {"park": f"{row.reason or 'its worker died'} ({row.deaths} times)"}
    try:
        app.signature(loads(row.sig)).apply_async(producer=producer, add_to_parent=False, **options)
    except (ValueError, KeyError, TypeError, AttributeError, EncodeError) as error:
        log.critical("a row cannot be sent; its job ends at its deadline", row=row.rid, error=repr(error))
        return False
    return True


def _follow(ended: str, flow: str, key: str) -> None:
    """Start the flow that follows an ended job."""
    try:
        canvas.start(flow, {"of": ended}, key)
    except DatafabError as error:
        log.critical("no flow can follow this job", job=ended, flow=flow, error=error.message)


@app.task(name="datafab.sweep")
def sweep() -> int:
    """Fail the jobs that are past their deadline."""
    overdue = jobs().overdue()
    for job in overdue:
        error = FlowError("the job's deadline has passed", code="deadline", field="DATAFAB_JOB_DEADLINE")
        jobs().end(job, JobStatus.FAILED, ItemError.of(error))
    return len(overdue)


@app.task(name="datafab.prune")
def prune() -> int:
    """Forget jobs whose retention is over, and the item lists of such."""
    gone, mine = jobs().prune(), settings()
    # A parked job may be tried again until its retention is over, and needs lists that are older than its end.
    services().store(mine.store).forget_lists(time.time() - 2 * mine.retention_days * 24 * 3600)
    return gone


@signals.task_revoked.connect
def _revoked(request: Any = None, **_: Any) -> None:
    """Cancel the whole job when one of its tasks is revoked in Flower: Celery alone would leave it pending for ever."""
    if request is not None and str(request.task).startswith("datafab.") and request.args:
        first = request.args[0]
        job = first.get("job") if isinstance(first, dict) else first
        jobs().end(str(job), JobStatus.CANCELLED)
