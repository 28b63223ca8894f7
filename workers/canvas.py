"""Flows as Celery canvases: the producer's task replaces itself by a chain, or by one chord of chains."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import structlog
from celery import chain, chord
from celery.canvas import Signature
from kombu.exceptions import OperationalError
from kombu.transport.redis import Channel
from kombu.utils.json import dumps, loads

from datafab.core.caller import Caller
from datafab.core.item import MAX_INLINE_BYTES, Batch
from datafab.core.job import Job, JobStatus
from datafab.core.ledger import Enqueued, NewRow, row_id
from datafab.core.redis import CONNECTION_ERRORS
from datafab.core.stage import Stage
from datafab.errors import FlowError
from datafab.flows.registry import find, last_requested_stage, plan_new_job, with_defaults
from workers.app import app, jobs, ledger, services, settings

log = structlog.get_logger()

#: The task that ends every job.
REPORT = "datafab.report"
CHAIN, CHORD = "celery.chain", "celery.chord"
#: The least urgent ``priority`` of a job. 0, the default, is the most urgent.
LOWEST_PRIORITY = 9


def queue_of(task: str, priority: int = 0) -> str:
    """Return the list in Redis that holds a task's message: the queue's own, or that of a lower priority beside it."""
    queue = str(app.amqp.router.route({}, task)["queue"].name)
    step = max(step for step in Channel.priority_steps if step <= priority)
    return f"{queue}{Channel.sep}{step}" if step else queue


def queue_name(key: str) -> str:
    """Return the name of the queue that a list in Redis belongs to."""
    return key.partition(Channel.sep)[0]


def job_canvas(batches: Sequence[Batch], stages: Sequence[Stage]) -> Signature:
    """Return the tasks of a job's batches: one chain, or a chord of one chain per batch."""
    report = app.signature(REPORT, args=(batches[0].job,), immutable=True)
    if len(batches) == 1:
        return chain(*batch_tasks(batches[0], stages, last=False), report)
    return chord([chain(*batch_tasks(batch, stages, last=True)) for batch in batches], report)


def batch_tasks(batch: Batch, stages: Sequence[Stage], *, last: bool) -> Iterator[Signature]:
    """Yield the task of each stage.

    Args:
        batch: on which they work.
        stages: in their order.
        last: whether the final task returns counts instead of a batch: it belongs to a chord.
    """
    for position, stage in enumerate(stages):
        args = (batch.dump(),) if position == 0 else ()
        sig = app.signature(f"datafab.{stage.name}", args=args, options=_options(batch, started=True))
        if last and position == len(stages) - 1:
            # A chord counts its parts by their results.
            sig = sig.clone(kwargs={"last": True}).set(ignore_result=False)
        yield sig


def _options(batch: Batch, *, started: bool = False) -> dict[str, Any]:
    """Return the options with which a batch's tasks are sent.

    Among jobs of low priority, those that have started go first: otherwise all of them would end at the same time.
    """
    number = "" if batch.number is None else f", batch {batch.number}"
    # Shown by logs and Flower instead of the arguments: a whole batch says less, and takes time to cut short.
    options: dict[str, Any] = {"argsrepr": f"(job {batch.job}{number})"}
    priority = _priority(batch.params)
    if started and priority > Channel.priority_steps[1]:
        priority -= 1
    return options | ({"priority": priority} if priority else {})


def _priority(params: Mapping[str, Any]) -> int:
    priority = params.get("priority", 0)
    if not isinstance(priority, int) or isinstance(priority, bool) or not 0 <= priority <= LOWEST_PRIORITY:
        msg = f"priority={priority!r}: use a whole number from 0 (most urgent) to {LOWEST_PRIORITY}"
        raise FlowError(msg, code="bad_request", field="priority")
    return priority


def publishable(sig: Signature) -> Signature:
    """Return a frozen canvas in the form in which it comes out of Redis, so that it is published the same each time."""
    return app.signature(loads(dumps(dict(sig))))


def new_rows(sig: Signature) -> list[NewRow]:
    """Return the rows of the tasks that are sent when this canvas is published.

    Raises:
        FlowError: it is neither a chain nor one chord of chains, of which flows are made.
    """
    if sig.task == CHORD:
        return [new_row([sig.body], "held"), *(_new_part_row(part, sig) for part in sig.tasks)]
    return [new_row(_tasks(sig))]


def _new_part_row(part: Signature, canvas: Signature) -> NewRow:
    """Return a header part's row. A part that is sent again alone needs its group, or the chord never joins.

    A chord that comes out of Redis gives its header its own task id (celery/canvas.py, ``chord.apply_async``).
    """
    tasks = _tasks(part)
    tasks[-1]["options"]["group_id"] = canvas.options["task_id"]
    return new_row(tasks)


def _tasks(sig: Signature) -> Sequence[dict[str, Any]]:
    tasks = sig.tasks if sig.task == CHAIN else [sig]
    if any(task["task"] in {CHAIN, CHORD, "celery.group"} for task in tasks):
        raise FlowError("a flow is a chain or one chord of chains, nothing deeper")
    return tasks


def new_row(tasks: Sequence[dict[str, Any]], state: str = "sent") -> NewRow:
    """Return the row of a chain's first task, which carries the others as in Celery's messages.

    A chain itself cannot be used: Celery publishes it with a producer of its own, and so outside of the tick's batch.
    """
    first, *others = tasks
    options = {**first["options"], **({"chain": others[::-1]} if others else {})}
    sig = dumps({**first, "options": options})
    queue = queue_of(first["task"], options.get("priority", 0))
    return NewRow(row_id(first["task"], options["task_id"]), sig, queue, state)


def start(
    flow: str,
    params: dict[str, Any],
    key: str | None = None,
    *,
    secrets: Mapping[str, str] | None = None,
    caller: Caller | None = None,
) -> tuple[Job, bool]:
    """Enqueue a job; return it, and whether it is new (else it is the one that has the key).

    The job, its key and its first row are written together before the message leaves: should this process die in
    between, the tick sends the message. ``secrets`` are kept apart, until the job has ended. A job of a ``caller`` that
    has as many running jobs as its limit allows is accepted, and waits until one of them has ended.

    Raises:
        NotFound: no such flow.
        FlowError: a parameter is missing or too large.
        redis.exceptions.RedisError: Redis is away; nothing was accepted.
    """
    source, stages = plan_new_job(flow, params)
    params = with_defaults(flow, params)
    now = ledger().now()
    deadline = now + settings().job_deadline
    name, limit = (caller.name, caller.limit) if caller else (None, None)
    job = Job(id=uuid.uuid4().hex, flow=flow, params=params, key=key, caller=name, created=now, deadline=deadline)
    known, sig = write_job(job, source, stages, secrets or {}, limit=limit)
    if known.job != job.id:
        if secrets:
            services().secrets.erase(job.id)
        return jobs().get(known.job), False
    if known.limited:
        return job, True
    try:
        sig.apply_async(add_to_parent=False)  # a stage that enqueues jobs has no children
        ledger().confirm([(new_rows(sig)[0].row_id, 0)])
    except (OperationalError, *CONNECTION_ERRORS) as error:
        # The job is accepted: its row exists, and the tick sends it when Redis is back.
        log.warning("redis went away after a job was accepted", job=job.id, error=str(error))
    return job, True


def retry(job_id: str, caller: Caller | None = None) -> Job:
    """Run a job again and return it: a parked job from where it stopped, any other as a new one of the caller.

    Raises:
        NotFound: no such job.
        FlowError: the job has not ended.
    """
    job = jobs().get(job_id)
    if not job.final:
        raise FlowError(f"job {job_id} is {job.status.value}; cancel it first", field="job")
    if job.status == JobStatus.PARKED and (ledger().unpark(job_id) or not jobs().get(job_id).final):
        return jobs().get(job_id)
    again, _ = start(job.flow, dict(job.params), caller=caller)
    return again


def write_job(
    job: Job,
    source: Stage,
    stages: Sequence[Stage],
    secrets: Mapping[str, str] | None = None,
    *,
    limit: int | None = None,
) -> tuple[Enqueued, Signature]:
    """Write a job, its key and its first row; return what has become of it, and the task to be sent."""
    batch = Batch(job=job.id, flow=job.flow, params=dict(job.params))
    if len(dumps(batch.dump()).encode()) > MAX_INLINE_BYTES:
        raise FlowError(
            f"the parameters are larger than {MAX_INLINE_BYTES} bytes; pass data by reference", field="params"
        )
    sig = app.signature(f"datafab.{source.name}", args=(batch.dump(),), options=_options(batch))
    sig.freeze()
    if secrets:
        services().secrets.put(job.id, secrets)
    names = [stage.name for stage in stages]
    possible = [find(job.flow).follow_up, *(stage.follow_up for stage in stages)]
    follow_ups = ",".join(dict.fromkeys(one.flow for one in possible if one and one.applies(job.params)))
    asked = last_requested_stage(job.flow)
    row, priority = new_rows(sig)[0], _priority(job.params)
    known = ledger().enqueue(job, row, names, follow_ups=follow_ups, asked=asked, limit=limit, priority=priority)
    return known, sig
