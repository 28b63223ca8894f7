"""Maps a stage over a batch. No Celery here: ``--inline`` runs the very same code.

What is done is kept per (job, stage, batch), so a second attempt does only what is missing. Items that have to
wait are set aside and waited for together at the end; failures become the item's status.
"""

from __future__ import annotations

import json
import time
from collections import UserDict
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import structlog

from datafab.clients.jobs import AWAY, Record
from datafab.domain.backoff import next_delay
from datafab.domain.condition import facts_of, parse
from datafab.domain.document import analysis_name, document
from datafab.domain.job import Job
from datafab.domain.payload import MAX_MESSAGE, Batch, Counts, Item, Status
from datafab.errors import DatafabError, Fatal, FlowError, Lost, Parked, Retriable, Skippable, Wait
from datafab.services import Services
from datafab.stage import Context, Outcome, Stage

T = TypeVar("T")

#: Results are kept after so many items or seconds, whichever comes first.
FLUSH_ITEMS = 20
FLUSH_SECONDS = 0.5


@dataclass(slots=True)
class Attempt:
    """One try at a batch, as its worker sees it."""

    #: Unix time at which the job was made
    created: float
    #: whether an earlier attempt may have left something done
    again: bool = False
    #: whether an earlier attempt killed its worker
    suspect: bool = False
    #: its row in the ledger and its own name there: what it records counts only while it holds that row
    holder: tuple[str, str] = ("", "")
    #: raises Lost when the attempt no longer counts
    check: Callable[[], None] = lambda: None
    #: told whenever an item has ended, so that the attempt is not taken for hung
    alive: Callable[[], None] = lambda: None


class _Memo(UserDict[str, Any]):
    """An item's notes, written through."""

    def __init__(self, values: dict[str, Any], keep: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self.data = values
        self._keep = keep

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self._keep(self.data)


@dataclass(slots=True)
class _Work:
    """A batch in the hands of one attempt."""

    stage: Stage
    batch: Batch
    services: Services
    attempt: Attempt
    items: list[Item]
    done: dict[int, Item] = field(default_factory=dict)
    memos: dict[int, dict[str, Any]] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    flushed: float = field(default_factory=time.monotonic)

    def context(self, index: int | None = None) -> Context:
        """Return what the stage sees, for one item or for all."""
        log = structlog.wrap_logger(
            structlog.get_logger(), processors=[structlog.processors.add_log_level, self._tee]
        ).bind(job=self.batch.job, stage=self.stage.name)
        if index is not None:
            log = log.bind(source=self.items[index].source)
        return Context(
            services=self.services,
            params=self.batch.params,
            job=self.batch.job,
            created=self.attempt.created,
            log=log,
            check=self.attempt.check,
            progress=self._progress,
            memo=self.memo(index) if index is not None else {},
        )

    def memo(self, index: int) -> _Memo:
        """Return an item's notes; what is put into them is kept at once."""
        job, stage, number = self.batch.job, self.stage.name, self.batch.number
        keep = self.services.jobs.keep_memo
        return _Memo(self.memos.setdefault(index, {}), lambda memo: keep(job, stage, number, index, memo))

    def settle(self, index: int, outcome: Outcome, *, touched: bool = True) -> None:
        """Act on what came of an item: the one place that does."""
        item = self.items[index]
        match outcome:
            case Item():
                item = outcome
            case Wait() | Retriable():
                later = self._later(index, outcome)
                if isinstance(later, Wait):
                    self.waits.append(later)
                    return
                item = item.failed(later)
            case Skippable():
                item = item.failed(outcome, Status.SKIPPED)
            case _:
                item = item.failed(outcome)
        self.done[index] = item
        self.records.append(Record(index, item, touched))
        if touched and item.error and item.status in {Status.FAILED, Status.SKIPPED}:
            self.say("warning", item.error.message, source=item.source, error=item.error.type)
        self.attempt.alive()
        if len(self.records) >= FLUSH_ITEMS or time.monotonic() - self.flushed > FLUSH_SECONDS:
            self.flush()

    def _later(self, index: int, outcome: Wait | Retriable) -> Wait | Fatal:
        """Turn a Wait or a failure into the next look, or into a failure when patience or budget are spent."""
        memo = self.memo(index)
        since = memo.setdefault("_since", time.time())
        failures = memo.get("_failures", 0)
        if isinstance(outcome, Retriable):
            failures += 1
            backoff = next_delay(failures, self.stage.retries)
            if backoff is None:
                return Fatal(f"{outcome.message} ({failures} tries)", code=outcome.code, field=outcome.field)
            delay = backoff if outcome.delay is None else outcome.delay
            self.say("info", f"{outcome.message}; again in {delay:.0f} s", source=self.items[index].source)
        else:
            delay = outcome.delay
        if time.time() + delay > since + self.stage.patience:
            return Fatal(f"{outcome.message}: given up after {self.stage.patience:.0f} s", code=outcome.code)
        if failures != memo.get("_failures", 0):
            memo["_failures"] = failures
        return Wait(outcome.message, delay=delay, code=outcome.code)

    def say(self, level: str, event: str, **facts: Any) -> None:
        """Add a line to the job's log."""
        line = {"at": round(time.time(), 3), "level": level, "stage": self.stage.name, "event": event} | facts
        self.lines.append(line)

    def flush(self) -> None:
        """Keep what is done so far."""
        records, lines = self.records, self.lines
        self.records, self.lines, self.flushed = [], [], time.monotonic()
        if not (records or lines):
            return
        batch, holder = self.batch, self.attempt.holder
        if not self.services.jobs.record(batch.job, self.stage.name, batch.number, records, lines, holder=holder):
            raise Lost("this attempt no longer counts")

    def _tee(self, _logger: Any, _name: str, event: MutableMapping[str, Any]) -> Any:
        """Send a stage's log line to the job's log too (a structlog processor)."""
        facts = {key: value for key, value in event.items() if key not in {"event", "level", "job", "stage"}}
        self.say(event["level"], str(event["event"]), **facts)
        return ((), dict(event))

    def _progress(self, done: int, total: int | None, unit: str) -> None:
        self.attempt.check()
        self.attempt.alive()
        if time.monotonic() - self.flushed > FLUSH_SECONDS:
            self.say("debug", f"{done} of {total or '?'} {unit}")
            self.flush()


def run_stage(stage: Stage, batch: Batch, services: Services, attempt: Attempt) -> list[Item]:
    """Run a stage on every item of a batch that still needs it; return all items.

    Raises:
        Wait: some items are not ready; what is done is kept. ``delay`` is the shortest of theirs.
        FlowError: the job as a whole cannot run.
        Lost: this attempt no longer counts.
    """
    work = _Work(stage, batch, services, attempt, load_items(batch, services))
    if attempt.again:
        work.done = services.jobs.done(batch.job, stage.name, batch.number)
        work.memos = services.jobs.memo(batch.job, stage.name, batch.number)
    todo: list[int] = []
    for index, item in enumerate(work.items):
        if index in work.done:
            continue
        wanted = _wanted(work, item)
        if wanted is True:
            todo.append(index)
        else:
            work.settle(index, wanted or item, touched=bool(wanted))
    try:
        if stage.run_many is not None:
            _run_many(work, todo)
        else:
            _run_each(work, todo)
    finally:
        work.flush()
    if work.waits:
        raise min(work.waits, key=lambda wait: wait.delay)
    return [work.done[index] for index in range(len(work.items))]


def _wanted(work: _Work, item: Item) -> bool | DatafabError:
    """Say whether the stage takes an item, by its status and the job's condition for it; or why not known."""
    text = work.batch.params.get("when", {}).get(work.stage.name)
    if item.status not in work.stage.wants or text is None:
        return item.status in work.stage.wants
    wanted, _ = _caught(partial(parse(text).holds, item, partial(_facts, item, work.services)), work)
    return wanted


def _facts(item: Item, services: Services) -> dict[str, Any]:
    """Return what the analysis of an item found; nothing of one without."""
    if item.analysis is None or item.sha256 is None or item.store is None:
        return {}
    kept = services.store(item.store).read(analysis_name(item.sha256))
    return facts_of(document(item, json.loads(kept), 0)) if kept else {}


def _run_each(work: _Work, todo: list[int]) -> None:
    """Run item by item. One that killed its worker before goes last: the others are safe by then."""
    if work.attempt.suspect:
        todo = sorted(todo, key=lambda index: "_tried" in work.memos.get(index, {}))
    for index in todo:
        work.attempt.check()
        if len(todo) > 1:
            work.memo(index)["_tried"] = True
        work.settle(index, _outcome(work, index))
        if work.attempt.suspect:
            work.flush()


def _outcome(work: _Work, index: int) -> Outcome:
    assert work.stage.run is not None
    outcome, _ = _caught(partial(work.stage.run, work.items[index], work.context(index)), work)
    return outcome


def _run_many(work: _Work, todo: list[int]) -> None:
    """Run all at once. A stage that breaks off is blamed on the item it was at; the rest goes on without it."""
    assert work.stage.run_many is not None
    while todo:
        work.attempt.check()
        outcomes = work.stage.run_many([work.items[index] for index in todo], work.context())
        for position, index in enumerate(todo):
            outcome, broken = _caught(partial(next, outcomes), work)
            work.settle(index, outcome)
            if broken:
                todo = todo[position + 1 :]
                break
            work.attempt.check()
        else:
            return


def _caught(call: Callable[[], T], work: _Work) -> tuple[T | DatafabError, bool]:
    """Return a failure as a value, and whether it was raised.

    The one broad except: a stage's fault fails its item, never its batch.
    """
    try:
        return call(), False
    except (FlowError, Lost, *AWAY):
        raise
    except DatafabError as error:
        return error, True
    except Exception as error:  # noqa: BLE001
        structlog.get_logger().exception("stage broke", job=work.batch.job, stage=work.stage.name)
        return Fatal(f"{type(error).__name__}: {error}", code="internal"), True


def parked(stage: Stage, batch: Batch, services: Services, attempt: Attempt, reason: Parked) -> list[Item]:
    """Fail what an attempt that died too often left undone; return all items."""
    work = _Work(stage, batch, services, attempt, load_items(batch, services))
    work.done = services.jobs.done(batch.job, stage.name, batch.number)
    for index, item in enumerate(work.items):
        if index not in work.done:
            wanted = _wanted(work, item)
            work.settle(index, reason if wanted is True else wanted or item, touched=bool(wanted))
    work.flush()
    return [work.done[index] for index in range(len(work.items))]


def load_items(batch: Batch, services: Services) -> list[Item]:
    """Return a batch's items, from the message or from the store."""
    if isinstance(batch.items, str):
        text = services.store(services.settings.store).read_list(batch.items)
        return [Item.model_validate(item) for item in json.loads(text)]
    return list(batch.items)


def pack(batch: Batch, items: Iterable[Item], services: Services) -> Batch:
    """Return the batch with these items, their list in the store where the message would grow too large."""
    packed = batch.evolve(items=tuple(items))
    if len(packed.model_dump_json(exclude_none=True)) < MAX_MESSAGE:
        return packed
    text = json.dumps([item.dump() for item in packed.items if isinstance(item, Item)], ensure_ascii=False)
    return batch.evolve(items=services.store(services.settings.store).write_list(text.encode()))


def expand(stage: Stage, batch: Batch, services: Services, attempt: Attempt) -> Iterator[Batch]:
    """Run a source stage and deal its items into batches; numbers them where there are several."""
    assert stage.expand is not None
    work = _Work(stage, batch, services, attempt, [])
    items = list(stage.expand(work.context()))
    work.flush()
    services.jobs.set_total(batch.job, len(items))
    settings = services.settings
    dealt = list(stage.deal(items, settings.batch_size, settings.per_host)) or [[]]
    for number, mine in enumerate(dealt):
        yield pack(batch.evolve(number=number if len(dealt) > 1 else None, items=()), mine, services)


def run_inline(
    stages: Sequence[Stage], source: Stage, job: Job, services: Services, told: Callable[[], None]
) -> Counts:
    """Run a whole flow in this process; ``told`` is called whenever a stage has ended a batch."""
    attempt = Attempt(created=job.created)
    total = Counts(job=job.id)
    for batch in expand(source, Batch(job=job.id, flow=job.flow, params=job.params), services, attempt):
        items = load_items(batch, services)
        for stage in stages:
            items = _until_ready(stage, batch.evolve(items=tuple(items)), services, attempt)
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
            attempt = Attempt(created=attempt.created, again=True)
