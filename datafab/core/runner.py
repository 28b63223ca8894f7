"""The runner: maps a stage over a batch, without Celery. ``--inline`` runs the same code.

What is done is kept per (job, stage, batch), so a second attempt does only what is missing. Items that have to
wait are set aside and waited for together at the end; failures become the item's status.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from datafab.core.attempt import WHOLE_BATCH, Attempt, BatchRun, catch_error
from datafab.core.condition import analysis_facts, parse
from datafab.core.document import analysis_name, document
from datafab.core.item import MAX_INLINE_BYTES, Batch, Counts, Item, read_value
from datafab.core.job import Job
from datafab.core.lease import Lease
from datafab.core.services import Services
from datafab.core.stage import Stage
from datafab.errors import DatafabError, FlowError, Retriable, Wait

__all__ = ["Attempt", "expand", "load_items", "pack", "run_inline", "run_stage"]


def run_stage(stage: Stage, batch: Batch, services: Services, attempt: Attempt) -> list[Item]:
    """Run a stage on every item of a batch that still needs it; return all items.

    Raises:
        Wait: some items are not ready; what is done is kept. ``delay`` is the shortest of theirs.
        FlowError: the job as a whole cannot run.
        Lost: this attempt no longer counts.
    """
    run = BatchRun(stage, batch, services, attempt, load_items(batch, services))
    todo: list[int] = []
    for index, item in enumerate(run.items):
        if index in run.done:
            continue
        wanted = _is_wanted(run, item)
        if wanted is not True:
            run.record(index, wanted or item, touched=bool(wanted))
        elif not run.is_waiting(index):
            todo.append(index)
    try:
        (_run_many if stage.run_many else _run_each)(run, _give_up(run, todo))
    finally:
        run.flush()
        services.tidy()
    if run.waits:
        raise min(run.waits, key=lambda wait: wait.delay)
    return [run.done[index] for index in range(len(run.items))]


def _is_wanted(run: BatchRun, item: Item) -> bool | DatafabError:
    """Return whether the stage takes an item, by its status and the job's condition, or why that is not known."""
    item = item.effective()
    text = run.batch.params.get("when", {}).get(run.stage.name)
    if item.status not in run.stage.wants or text is None:
        return item.status in run.stage.wants
    wanted, _ = catch_error(partial(parse(text).holds, item, partial(_analysis_facts, item, run.services)), run)
    return wanted


def _analysis_facts(item: Item, services: Services) -> dict[str, Any]:
    """Return the findings of an item's analysis; empty for an item that has none."""
    if item.analysis is None or item.sha256 is None or item.store is None:
        return {}
    kept = services.store(item.store).read(analysis_name(item.sha256, item.sheet))
    return analysis_facts(document(item, json.loads(kept), 0)) if kept else {}


def _give_up(run: BatchRun, todo: list[int]) -> list[int]:
    """Fail the item that has killed its worker too often, and return the others.

    Where it is not known which item did, all that are left fail. In an attempt after a crash the item that was current
    goes last: the others are done by then.
    """
    current, reason = run.current_item, run.attempt.give_up_reason
    if reason is not None:
        given_up = [current] if current in todo else todo
        for index in given_up:
            run.record(index, reason)
        return [index for index in todo if index not in given_up]
    return sorted(todo, key=lambda index: index == current) if run.attempt.lease.after_crash else todo


def _run_each(run: BatchRun, todo: list[int]) -> None:
    """Run item by item."""
    assert run.stage.run is not None
    for index in todo:
        run.attempt.check()
        if len(run.items) > 1:
            run.start(index)
        outcome, _ = catch_error(partial(run.stage.run, run.items[index], run.context(index)), run)
        run.record(index, outcome)


def _run_many(run: BatchRun, todo: list[int]) -> None:
    """Run all items at once; after a crash one by one, to know which of them caused it."""
    if not run.attempt.lease.after_crash:
        _run_together(run, todo)
        return
    for index in todo:
        run.start(index)
        _run_together(run, [index])


def _run_together(run: BatchRun, todo: list[int]) -> None:
    """Run several items in one call. Where the stage raises, its current item fails and the rest is called again."""
    assert run.stage.run_many is not None
    while todo:
        run.attempt.check()
        outcomes = run.stage.run_many([run.items[index] for index in todo], run.context())
        for position, index in enumerate(todo):
            outcome, raised = catch_error(partial(next, outcomes), run)
            run.record(index, outcome)
            if raised:
                todo = todo[position + 1 :]
                break
            run.attempt.check()
        else:
            return


def load_items(batch: Batch, services: Services) -> list[Item]:
    """Return a batch's items, from the message or from the store."""
    if isinstance(batch.items, str):
        text = services.store(services.settings.store).read_list(batch.items)
        return [read_value(Item, item) for item in json.loads(text)]
    return list(batch.items)


def pack(batch: Batch, items: Iterable[Item], services: Services) -> Batch:
    """Return the batch with these items; their list goes to the store where the message would be too large."""
    packed = batch.evolve(items=tuple(items))
    if len(packed.model_dump_json(exclude_none=True).encode()) < MAX_INLINE_BYTES:
        return packed
    text = json.dumps([item.dump() for item in packed.items if isinstance(item, Item)], ensure_ascii=False)
    return batch.evolve(items=services.store(services.settings.store).write_list(text.encode()))


def expand(stage: Stage, batch: Batch, services: Services, attempt: Attempt) -> Iterator[Batch]:
    """Run a producer and deal its items into batches, which are numbered where there are several."""
    run = BatchRun(stage, batch, services, attempt, [])
    yielded, _ = catch_error(partial(_all_items, stage, run), run)
    run.flush()
    items = _produced(yielded, run)
    services.jobs.set_total(batch.job, len(items), lease=attempt.lease)
    settings = services.settings
    dealt = list(stage.deal(items, settings.batch_size, settings.per_host)) or [[]]
    for number, mine in enumerate(dealt):
        yield pack(batch.evolve(number=number if len(dealt) > 1 else None, items=()), mine, services)
    services.tidy()


def _all_items(stage: Stage, run: BatchRun) -> list[Item]:
    assert stage.expand is not None
    items = []
    for item in stage.expand(run.context()):
        run.attempt.check()
        items.append(item)
    return items


def _produced(yielded: list[Item] | DatafabError, run: BatchRun) -> list[Item]:
    """Return a producer's items. Its failure fails the job, once patience or retries are spent."""
    if isinstance(yielded, list):
        return yielded
    error = run.schedule_retry(WHOLE_BATCH, yielded) if isinstance(yielded, Wait | Retriable) else yielded
    run.flush()
    if isinstance(error, Wait):
        raise error
    raise FlowError(error.message, code=error.code, field=error.field)


def run_inline(
    stages: Sequence[Stage],
    producer: Stage,
    job: Job,
    services: Services,
    on_progress: Callable[[], None],
    *,
    extra_stages: Container[str] = (),
) -> Counts:
    """Run a whole flow in this process.

    Args:
        stages: the flow's.
        producer: the stage that yields the items.
        job: the run.
        services: the clients that the stages use.
        on_progress: called whenever a stage has ended a batch.
        extra_stages: names of the stages that come after those that the job asked for.
    """
    lease = Lease(job_created=job.created)
    total = Counts(job=job.id)
    batch = Batch(job=job.id, flow=job.flow, params=job.params)
    for dealt in expand(producer, batch, services, Attempt(lease)):
        items = load_items(dealt, services)
        for stage in stages:
            attempt = Attempt(lease, is_extra=stage.name in extra_stages)
            items = _run_until_ready(stage, dealt.evolve(items=tuple(items)), services, attempt)
            on_progress()
        total = total.plus(Counts.of(dealt, items))
    return total


def _run_until_ready(stage: Stage, batch: Batch, services: Services, attempt: Attempt) -> list[Item]:
    """Run a stage until no item waits any more: without a cluster nobody else does the waiting."""
    while True:
        try:
            return run_stage(stage, batch, services, attempt)
        except Wait as wait:
            time.sleep(wait.delay)
            attempt = replace(attempt, lease=attempt.lease.next())
