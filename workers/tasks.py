"""The tasks: one for each stage, made from STAGES, and those of the cluster itself."""

from __future__ import annotations

from functools import partial
from typing import Any

import structlog
from celery import signals
from kombu.exceptions import EncodeError
from kombu.utils.json import loads

from datafab.core import runner
from datafab.core.item import Batch, Counts, ItemError, read_value
from datafab.core.job import JobStatus
from datafab.core.ledger import ClaimedRow
from datafab.core.redis import done_key
from datafab.core.stage import Stage
from datafab.errors import DatafabError, FlowError
from datafab.flows.chains import STAGES
from datafab.flows.registry import plan, then_stages
from datafab.push import bad_rows_file
from datafab.store.files import one_day_ago
from datafab.store.scratch import sweep_work_folders
from workers import canvas
from workers.app import app, jobs, services, settings
from workers.base import LedgerTask
from workers.leases import lease_keeper

log = structlog.get_logger()


class StageTask(LedgerTask):
    """The task of a stage, which runs it on one batch."""

    abstract = True
    stage: Stage

    def attempt(self, *, is_extra: bool = False) -> runner.Attempt:
        """Return what the runner needs to know of this attempt.

        Args:
            is_extra: see ``Attempt``.
        """
        lease, keeper = self.request.lease, lease_keeper()
        return runner.Attempt(
            lease=lease,
            is_extra=is_extra,
            check=partial(keeper.check, lease),
            on_progress=partial(keeper.note_progress, lease),
            enqueue=_enqueue,
        )

    def done_key(self) -> str:
        """Return the key under which the runner keeps what is done of this batch."""
        batch = self.request.args[0]
        return done_key(batch["job"], self.stage.name, batch.get("number"))


def _enqueue(flow: str, params: dict[str, Any], key: str) -> str:
    return canvas.start(flow, params, key)[0].id


def _run(self: StageTask, payload: dict[str, Any], *, last: bool = False) -> dict[str, Any]:
    batch = read_value(Batch, payload)
    attempt = self.attempt(is_extra=self.stage.name in then_stages(batch.flow, batch.params))
    reason = attempt.give_up_reason
    if reason is not None and batch.number is None and len(runner.load_items(batch, services())) == 1:
        raise reason  # the job's only item: an operator decides, and can try again
    items = runner.run_stage(self.stage, batch, services(), attempt)
    return (Counts.of(batch, items) if last else runner.pack(batch, items, services())).dump()


def _expand(self: StageTask, payload: dict[str, Any]) -> None:
    batch = read_value(Batch, payload)
    attempt = self.attempt()
    if attempt.give_up_reason is not None:
        raise attempt.give_up_reason
    batches = list(runner.expand(self.stage, batch, services(), attempt))
    _, stages = plan(batch.flow, batch.params)
    self.replace(canvas.job_canvas(batches, stages))


def _add(stage: Stage) -> None:
    app.task(
        _expand if stage.expand else _run,
        base=StageTask,
        bind=True,
        name=f"datafab.{stage.name}",
        stage=stage,
        attempt_deadline=stage.retry.deadline,
    )


for _stage in STAGES.values():
    _add(_stage)


@app.task(base=LedgerTask, name=canvas.REPORT, ends_job=True)
def report(job: str) -> dict[str, Any]:
    """End a job whose batches have been through all stages."""
    jobs().end(job, *jobs().outcome(job))
    ended = jobs().get(job)
    if ended.caller is not None:
        send_due_rows()  # the next job of this caller need not wait for the tick
    return ended.dump()


@app.task(name="datafab.tick")
def tick() -> int:
    """Send the rows that are due: those that waited, were lost, or lost their holder. Several ticks may run at once."""
    sent = send_due_rows()
    for pending in jobs().ended_with_follow_ups():
        for place, flow in enumerate(pending.flows):
            _start_follow_up(pending.job, flow, f"{pending.key}:{flow}" if place else pending.key)
        jobs().mark_followed_up(pending)
    return sent


def send_due_rows() -> int:
    """Send the rows that are due; return how many."""
    ledger = lease_keeper().ledger
    sent = 0
    while claimed := ledger.claim():
        with app.producer_pool.acquire(block=True) as producer, producer.batch(max_size=500):
            sent_rows = [(row.row_id, row.attempt) for row in claimed if _send(row, producer)]
        ledger.confirm(sent_rows)
        sent += len(claimed)
    return sent


def _send(row: ClaimedRow, producer: Any) -> bool:
    """Send a row's task; return False where that is impossible, which must not hold up other rows."""
    options: dict[str, Any] = {"retries": row.attempt, "queue": canvas.queue_name(row.queue)}
    if row.deaths >= settings().max_deaths:
        options["headers"] = {"park": f"{row.reason or 'its worker died'} ({row.deaths} times)"}
    try:
        app.signature(loads(row.signature)).apply_async(producer=producer, add_to_parent=False, **options)
    except (ValueError, KeyError, TypeError, AttributeError, EncodeError) as error:
        log.critical("a row cannot be sent; its job ends at its deadline", row=row.row_id, error=repr(error))
        return False
    return True


def _start_follow_up(ended: str, flow: str, key: str) -> None:
    """Start a flow that follows an ended job."""
    try:
        canvas.start(flow, {"of": ended}, key)
    except DatafabError as error:
        log.critical("no flow can follow this job", job=ended, flow=flow, error=error.message)


@app.task(name="datafab.sweep")
def sweep() -> int:
    """Fail the jobs that are past their deadline, and remove what killed processes have left on this host."""
    sweep_work_folders(one_day_ago())
    overdue = jobs().overdue()
    for job in overdue:
        error = FlowError("the job's deadline has passed", code="deadline", field="DATAFAB_JOB_DEADLINE")
        jobs().end(job, JobStatus.FAILED, ItemError.of(error))
    return len(overdue)


@app.task(name="datafab.prune")
def prune() -> int:
    """Forget jobs whose retention is over, and the lists that they needed or made."""
    forgotten, mine = jobs().prune(), settings()
    # A parked job may be tried again until its retention is over, and needs lists that are older than its end.
    store = services().store(mine.store)
    oldest = services().clock.now() - 2 * mine.retention_days * 24 * 3600
    store.remove_lists(oldest)
    store.remove_files(bad_rows_file.FOLDER, oldest)
    store.sweep()
    return forgotten


@signals.task_revoked.connect
def _revoked(request: Any = None, **_: Any) -> None:
    """Cancel the whole job when one of its tasks is revoked in Flower: with Celery alone it would never end."""
    if request is not None and str(request.task).startswith("datafab.") and request.args:
        first = request.args[0]
        job = first.get("job") if isinstance(first, dict) else first
        jobs().end(str(job), JobStatus.CANCELLED)
