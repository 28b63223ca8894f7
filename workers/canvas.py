"""Flows as Celery canvases: a source task that replaces itself by a chain, or by one chord of chains."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import structlog
from celery import chain, chord
from celery.canvas import Signature
from kombu.exceptions import OperationalError
from kombu.transport.redis import Channel
from kombu.utils.json import dumps, loads

from datafab.core.item import MAX_INLINE, Batch
from datafab.core.job import Job
from datafab.core.jobs import AWAY
from datafab.core.ledger import Row
from datafab.core.stage import Stage
from datafab.errors import FlowError
from datafab.flows.registry import find, last_requested_stage, plan_new_job, with_defaults
from workers.app import app, jobs, ledger, services, settings

log = structlog.get_logger()

#: Ends every job.
REPORT = "datafab.report"
CHAIN, CHORD = "celery.chain", "celery.chord"
#: The least urgent ``priority`` of a job; 0, which is all others', comes first.
LAST = 9


def row_id(task: str, task_id: str) -> str:
    """Return a task's row: its id alone is not enough, as a task that is replaced leaves it to the body."""
    return f"{task}:{task_id}"


def queue_of(task: str, priority: int = 0) -> str:
    """Return the list in Redis that a task's message lies in: its queue's, or one beside that for the less urgent."""
    queue = str(app.amqp.router.route({}, task)["queue"].name)
    step = max(step for step in Channel.priority_steps if step <= priority)
    return f"{queue}{Channel.sep}{step}" if step else queue


def queue_named(name: str) -> str:
    """Return the queue that a list in Redis belongs to."""
    return name.partition(Channel.sep)[0]


def body(batches: Sequence[Batch], stages: Sequence[Stage]) -> Signature:
    """Return what a job's batches go through: one chain, or a chord of one chain a batch."""
    report = app.signature(REPORT, args=(batches[0].job,), immutable=True)
    if len(batches) == 1:
        return chain(*_steps(batches[0], stages, last=False), report)
    return chord([chain(*_steps(batch, stages, last=True)) for batch in batches], report)


def _steps(batch: Batch, stages: Sequence[Stage], *, last: bool) -> Iterator[Signature]:
    for position, stage in enumerate(stages):
        args = (batch.dump(),) if position == 0 else ()
        sig = app.signature(f"datafab.{stage.name}", args=args, options=_options(batch, begun=True))
        if last and position == len(stages) - 1:
            # A chord counts its parts by their results.
            sig = sig.clone(kwargs={"last": True}).set(ignore_result=False)
        yield sig


def _options(batch: Batch, *, begun: bool = False) -> dict[str, Any]:
    """Return how a batch's tasks are sent.

    Of jobs that give way those that have begun go first, or else a crowd of them would all end at its very end.
    """
    number = "" if batch.number is None else f", batch {batch.number}"
    # What logs and Flower show of the arguments: the batch itself tells less, and costs to cut short.
    options: dict[str, Any] = {"argsrepr": f"(job {batch.job}{number})"}
    priority = _priority(batch.params)
    if begun and priority > Channel.priority_steps[1]:
        priority -= 1
    return options | ({"priority": priority} if priority else {})


def _priority(params: Mapping[str, Any]) -> int:
    priority = params.get("priority", 0)
    if not isinstance(priority, int) or isinstance(priority, bool) or not 0 <= priority <= LAST:
        msg = f"priority={priority!r}: a whole number from 0, which comes first, to {LAST} is needed"
        raise FlowError(msg, code="bad_request", field="priority")
    return priority


def publishable(sig: Signature) -> Signature:
    """Return a frozen canvas in the form that it has when it comes out of Redis, so that each sending is the same."""
    return app.signature(loads(dumps(dict(sig))))


def rows_of(sig: Signature) -> list[Row]:
    """Return the rows of the tasks that publishing this canvas will send.

    Raises:
        FlowError: it is more than a chain or one chord of chains, which is all that flows are made of.
    """
    if sig.task == CHORD:
        return [row_of([sig.body], "held"), *(_row_of_part(part, sig) for part in sig.tasks)]
    return [row_of(_tasks(sig))]


def _row_of_part(part: Signature, canvas: Signature) -> Row:
    """Return a header part's row. Sent again by itself it must still know its group, or the chord never joins.

    A chord that comes out of Redis gives its header its own task id (celery/canvas.py, ``chord.apply_async``).
    """
    tasks = _tasks(part)
    tasks[-1]["options"]["group_id"] = canvas.options["task_id"]
    return row_of(tasks)


def _tasks(sig: Signature) -> Sequence[dict[str, Any]]:
    tasks = sig.tasks if sig.task == CHAIN else [sig]
    if any(task["task"] in {CHAIN, CHORD, "celery.group"} for task in tasks):
        raise FlowError("a flow is a chain or one chord of chains, nothing deeper")
    return tasks


def row_of(tasks: Sequence[dict[str, Any]], state: str = "sent") -> Row:
    """Return the row of a chain's first task, which carries the others as it does in Celery's messages.

    Not the chain's: Celery publishes that by another producer than the one it is given, and so outside of its batch.
    """
    first, *others = tasks
    options = {**first["options"], **({"chain": others[::-1]} if others else {})}
    sig = dumps({**first, "options": options})
    queue = queue_of(first["task"], options.get("priority", 0))
    return Row(row_id(first["task"], options["task_id"]), sig, queue, state)


def start(
    flow: str, params: dict[str, Any], key: str | None = None, *, secrets: Mapping[str, str] | None = None
) -> tuple[Job, bool]:
    """Enqueue a job; return it, and whether it is new (else it is the one that has the key).

    The job, its key and its first row are written together before the message leaves: whoever dies in between,
    the tick sends it. ``secrets`` are kept apart, for as long as the job takes.

    Raises:
        NotFound: no such flow.
        FlowError: a parameter is missing or too large.
        redis.exceptions.RedisError: Redis is away; nothing was accepted.
    """
    source, stages = plan_new_job(flow, params)
    params = with_defaults(flow, params)
    now, limit = time.time(), settings().job_deadline
    job = Job(id=uuid.uuid4().hex, flow=flow, params=params, key=key, created=now, deadline=now + limit)
    known, sig = accept(job, source, stages, secrets or {})
    if known != job.id:
        if secrets:
            services().secrets.erase(job.id)
        return jobs().get(known), False
    try:
        sig.apply_async(add_to_parent=False)  # a stage that enqueues jobs has no children
        ledger().confirm([(rows_of(sig)[0].rid, 0)])
    except (OperationalError, *AWAY) as error:
        # It is accepted: its row is there, and the tick sends it when Redis is back.
        log.warning("redis went away after a job was accepted", job=job.id, error=str(error))
    return job, True


def accept(
    job: Job, source: Stage, stages: Sequence[Stage], secrets: Mapping[str, str] | None = None
) -> tuple[str, Signature]:
    """Write a job, its key and its first row; return the id of the job that has the key, and what is to be sent."""
    batch = Batch(job=job.id, flow=job.flow, params=dict(job.params))
    if len(dumps(batch.dump()).encode()) > MAX_INLINE:
        raise FlowError(f"the parameters are larger than {MAX_INLINE} bytes; pass data by reference", field="params")
    sig = app.signature(f"datafab.{source.name}", args=(batch.dump(),), options=_options(batch))
    sig.freeze()
    if secrets:
        services().secrets.put(job.id, secrets)
    names = [stage.name for stage in stages]
    following = [find(job.flow).following(job.params), *(stage.after for stage in stages)]
    after = ",".join(dict.fromkeys(filter(None, following)))
    return ledger().enqueue(job, rows_of(sig)[0], names, after=after, asked=last_requested_stage(job.flow)), sig
