"""Maps a stage over a batch. No Celery here: ``--inline`` runs the very same code.

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

from datafab.core.attempt import WHOLE, Attempt, Work, caught
from datafab.core.condition import facts_of, parse
from datafab.core.document import analysis_name, document
from datafab.core.item import MAX_INLINE, Batch, Counts, Item, received
from datafab.core.job import Job
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
    work = Work(stage, batch, services, attempt, load_items(batch, services))
    todo: list[int] = []
    for index, item in enumerate(work.items):
        if index in work.done:
            continue
        wanted = _wanted(work, item)
        if wanted is not True:
            work.settle(index, wanted or item, touched=bool(wanted))
        elif not work.resting(index):
            todo.append(index)
    try:
        (_run_many if stage.run_many else _run_each)(work, _without_condemned(work, todo))
    finally:
        work.flush()
        services.tidy()
    if work.waits:
        raise min(work.waits, key=lambda wait: wait.delay)
    return [work.done[index] for index in range(len(work.items))]


def _wanted(work: Work, item: Item) -> bool | DatafabError:
    """Say whether the stage takes an item, by its status and the job's condition for it; or why not known."""
    item = item.standing()
    text = work.batch.params.get("when", {}).get(work.stage.name)
    if item.status not in work.stage.wants or text is None:
        return item.status in work.stage.wants
    wanted, _ = caught(partial(parse(text).holds, item, partial(_facts, item, work.services)), work)
    return wanted


def _facts(item: Item, services: Services) -> dict[str, Any]:
    """Return what the analysis of an item found; nothing of one without."""
    if item.analysis is None or item.sha256 is None or item.store is None:
        return {}
    kept = services.store(item.store).read(analysis_name(item.sha256))
    return facts_of(document(item, json.loads(kept), 0)) if kept else {}


def _without_condemned(work: Work, todo: list[int]) -> list[int]:
    """Give up the item that killed its worker too often; where it is not known which one did, all that is left.

    In an attempt after a death the suspect goes last: the others are safe by then.
    """
    at, reason = work.in_hand, work.attempt.condemned
    if reason is not None:
        condemned = [at] if at in todo else todo
        for index in condemned:
            work.settle(index, reason)
        return [index for index in todo if index not in condemned]
    return sorted(todo, key=lambda index: index == at) if work.attempt.suspect else todo


def _run_each(work: Work, todo: list[int]) -> None:
    """Run item by item."""
    assert work.stage.run is not None
    for index in todo:
        work.attempt.check()
        if len(work.items) > 1:
            work.take(index)
        outcome, _ = caught(partial(work.stage.run, work.items[index], work.context(index)), work)
        work.settle(index, outcome)


def _run_many(work: Work, todo: list[int]) -> None:
    """Run all at once; one by one after a death, to know whose it was."""
    if not work.attempt.suspect:
        _run_some(work, todo)
        return
    for index in todo:
        work.take(index)
        _run_some(work, [index])


def _run_some(work: Work, todo: list[int]) -> None:
    """Run several items. A stage that breaks off is blamed on the item it was at; the rest goes on without it."""
    assert work.stage.run_many is not None
    while todo:
        work.attempt.check()
        outcomes = work.stage.run_many([work.items[index] for index in todo], work.context())
        for position, index in enumerate(todo):
            outcome, broken = caught(partial(next, outcomes), work)
            work.settle(index, outcome)
            if broken:
                todo = todo[position + 1 :]
                break
            work.attempt.check()
        else:
            return


def load_items(batch: Batch, services: Services) -> list[Item]:
    """Return a batch's items, from the message or from the store."""
    if isinstance(batch.items, str):
        text = services.store(services.settings.store).read_list(batch.items)
        return [received(Item, item) for item in json.loads(text)]
    return list(batch.items)


def pack(batch: Batch, items: Iterable[Item], services: Services) -> Batch:
    """Return the batch with these items, their list in the store where the message would grow too large."""
    packed = batch.evolve(items=tuple(items))
    if len(packed.model_dump_json(exclude_none=True).encode()) < MAX_INLINE:
        return packed
    text = json.dumps([item.dump() for item in packed.items if isinstance(item, Item)], ensure_ascii=False)
    return batch.evolve(items=services.store(services.settings.store).write_list(text.encode()))


def expand(stage: Stage, batch: Batch, services: Services, attempt: Attempt) -> Iterator[Batch]:
    """Run a source stage and deal its items into batches; numbers them where there are several."""
    work = Work(stage, batch, services, attempt, [])
    yielded, _ = caught(partial(_all, stage, work), work)
    work.flush()
    items = _yielded(yielded, work)
    services.jobs.set_total(batch.job, len(items))
    settings = services.settings
    dealt = list(stage.deal(items, settings.batch_size, settings.per_host)) or [[]]
    for number, mine in enumerate(dealt):
        yield pack(batch.evolve(number=number if len(dealt) > 1 else None, items=()), mine, services)
    services.tidy()


def _all(stage: Stage, work: Work) -> list[Item]:
    assert stage.expand is not None
    return list(stage.expand(work.context()))


def _yielded(yielded: list[Item] | DatafabError, work: Work) -> list[Item]:
    """Return a source's items. What fails it fails its job, once patience or retries are spent."""
    if isinstance(yielded, list):
        return yielded
    later = work.later(WHOLE, yielded) if isinstance(yielded, Wait | Retriable) else yielded
    work.flush()
    if isinstance(later, Wait):
        raise later
    raise FlowError(later.message, code=later.code, field=later.field)


def run_inline(
    stages: Sequence[Stage],
    source: Stage,
    job: Job,
    services: Services,
    told: Callable[[], None],
    *,
    later: Container[str] = (),
) -> Counts:
    """Run a whole flow in this process.

    Args:
        stages: the flow's.
        source: the stage that yields the items.
        job: the run.
        services: what the stages use.
        told: called whenever a stage has ended a batch.
        later: names of the stages that follow what was asked for.
    """
    attempt = Attempt(created=job.created)
    total = Counts(job=job.id)
    for batch in expand(source, Batch(job=job.id, flow=job.flow, params=job.params), services, attempt):
        items = load_items(batch, services)
        for stage in stages:
            mine = replace(attempt, follows=stage.name in later)
            items = _until_ready(stage, batch.evolve(items=tuple(items)), services, mine)
            told()
        total = total.plus(Counts.of(batch, items))
    return total


def _until_ready(stage: Stage, batch: Batch, services: Services, attempt: Attempt) -> list[Item]:
    """Run a stage, waiting where it says so: without a cluster there is nobody else to wait."""
    while True:
        try:
            return run_stage(stage, batch, services, attempt)
        except Wait as wait:
            time.sleep(wait.delay)
            attempt = replace(attempt, again=True)
