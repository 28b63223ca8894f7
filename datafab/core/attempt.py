"""A batch in the hands of one attempt: what is done of it, what waits, and the lines of the job's log."""

from __future__ import annotations

import time
from collections import UserDict, defaultdict
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import structlog

from datafab.core.item import Batch, Item, Status, Stopped
from datafab.core.job_fields import Record
from datafab.core.jobs import PASSED
from datafab.core.lease import NO_LEASE, Lease
from datafab.core.redis import CONNECTION_ERRORS
from datafab.core.services import Services
from datafab.core.stage import Context, Outcome, Stage, refuse_to_enqueue
from datafab.core.waiting import Waiting
from datafab.errors import DatafabError, Fatal, FlowError, Lost, Parked, Retriable, Skippable, Unsuitable, Wait
from datafab.urls import hide_all_secrets

T = TypeVar("T")

#: Results are kept after this number of items or of seconds, whichever comes first.
FLUSH_ITEMS = 20
FLUSH_SECONDS = 0.5
#: The index of the notes on the batch as a whole, beside those on its items.
WHOLE_BATCH = -1


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a batch, as its worker sees it."""

    #: on the batch's row in the ledger
    lease: Lease = NO_LEASE
    #: whether the stage comes after those that the job asked for: it leaves the items' statuses alone
    is_extra: bool = False
    #: raises Lost when the attempt no longer counts
    check: Callable[[], None] = lambda: None
    #: called whenever an item has ended or made progress, so that the attempt is not taken for hung
    on_progress: Callable[[], None] = lambda: None
    #: see ``Context.enqueue``
    enqueue: Callable[[str, dict[str, Any], str], str] = refuse_to_enqueue

    @property
    def give_up_reason(self) -> Parked | None:
        """The error of the item that has killed too many holders of the row; None: it is tried again."""
        return None if self.lease.give_up_reason is None else Parked(self.lease.give_up_reason)


class Memo(UserDict[str, Any]):
    """A stage's notes on an item; each change is kept at once."""

    def __init__(self, values: dict[str, Any], save: Callable[[], None]) -> None:
        super().__init__()
        self.data = values
        self._save = save

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self._save()


@dataclass(slots=True)
class BatchRun:
    """A stage's run on a batch, by one attempt."""

    stage: Stage
    batch: Batch
    services: Services
    attempt: Attempt
    items: list[Item]
    done: dict[int, Item] = field(default_factory=dict)
    memos: dict[int, dict[str, Any]] = field(default_factory=dict)
    waiting: defaultdict[int, Waiting] = field(default_factory=lambda: defaultdict(Waiting))
    #: items that have come further in this attempt than in any before
    advanced: set[int] = field(default_factory=set)
    records: list[Record] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    flushed_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.attempt.lease.is_retry:
            key = (self.batch.job, self.stage.name, self.batch.number)
            self.done = self.services.jobs.done(*key)
            for index, (memo, waiting) in self.services.jobs.notes(*key).items():
                whole = index == WHOLE_BATCH
                self.waiting[index] = Waiting.split(memo, whole=whole) if waiting is None else Waiting.load(waiting)
                self.memos[index] = memo

    def context(self, index: int = WHOLE_BATCH) -> Context:
        """Return the context of a stage's call, for one item or for all."""
        # The job's log has every line, whatever level the process writes.
        log = structlog.wrap_logger(
            structlog.get_logger(),
            processors=[structlog.processors.add_log_level, self._copy_line],
            wrapper_class=structlog.make_filtering_bound_logger(0),
        ).bind(job=self.batch.job, stage=self.stage.name)
        if index != WHOLE_BATCH:
            log = log.bind(source=self.items[index].source)
        return Context(
            services=self.services,
            params=self.batch.params,
            job=self.batch.job,
            created=self.attempt.lease.job_created,
            log=log,
            check=self.attempt.check,
            progress=partial(self._report_progress, index),
            memo=self.memo(index),
            enqueue=self.attempt.enqueue,
        )

    def memo(self, index: int) -> Memo:
        """Return a stage's notes on an item; changes are kept at once, while this attempt counts."""
        return Memo(self.memos.setdefault(index, {}), partial(self._save_notes, index))

    def _save_notes(self, index: int) -> None:
        """Keep the notes on an item: those of its stage, and the runner's."""
        key = (self.batch.job, self.stage.name, self.batch.number, index)
        memo, waiting = self.memos.setdefault(index, {}), self.waiting[index].dump()
        if not self.services.jobs.save_notes(*key, memo, waiting=waiting, lease=self.attempt.lease):
            raise Lost("this attempt no longer counts")

    @property
    def current_item(self) -> int | None:
        """The index of the item that the last attempt was working on when it died; None: it is not known."""
        return self.waiting[WHOLE_BATCH].at

    def start(self, index: int) -> None:
        """Note which item starts, in case it kills this process; after a crash, keep first what is done."""
        self.waiting[WHOLE_BATCH].at = index
        self._save_notes(WHOLE_BATCH)
        if self.attempt.lease.after_crash:
            self.flush()

    def is_waiting(self, index: int) -> bool:
        """Return whether an item's time has not come yet; it is added to the waits then."""
        waiting = self.waiting[index]
        left = 0.0 if self.attempt.lease.woken else waiting.due - self.services.clock.now()
        if left > 0:
            self.waits.append(Wait(waiting.why, delay=left))
        return left > 0

    def record(self, index: int, outcome: Outcome, *, touched: bool = True) -> None:
        """Act on the outcome of an item. No other function does.

        Args:
            index: the item's.
            outcome: the item, or the error that its stage raised.
            touched: whether the stage worked on it; otherwise it passes through.
        """
        before = item = self.items[index]
        match outcome:
            case Item():
                item = outcome
            case Wait() | Retriable():
                scheduled = self.schedule_retry(index, outcome)
                if isinstance(scheduled, Wait):
                    self.waits.append(scheduled)
                    self.attempt.on_progress()
                    return
                item = self._fail(item, scheduled)
            case Skippable() | Unsuitable() if self.attempt.is_extra:
                item = item.evolve(stopped=Stopped.by(self.stage.name, outcome))
            case Skippable():
                item = item.failed(outcome, Status.SKIPPED)
            case _:
                item = self._fail(item, outcome)
        self._finish(index, before, item, touched=touched)

    def _finish(self, index: int, before: Item, item: Item, *, touched: bool) -> None:
        """Note an item as done, with a line in the job's log where it has failed."""
        self.done[index] = item
        changed = touched and item != before
        self.records.append(Record(index, item, changed, self._counted_as(before, item, touched=touched)))
        seen = item.effective()
        if changed and seen.error and seen.status in {Status.FAILED, Status.SKIPPED}:
            self.log_line("warning", seen.error.message, source=item.source, error=seen.error.type)
        self.attempt.on_progress()
        if len(self.records) >= FLUSH_ITEMS or time.monotonic() - self.flushed_at > FLUSH_SECONDS:
            self.flush()

    def _counted_as(self, before: Item, item: Item, *, touched: bool) -> str:
        """Return what the stage counts an item as: the item's status, unless the job did not ask for the stage."""
        if not self.attempt.is_extra:
            return item.status
        if not touched:
            return PASSED
        if item.stopped is not None and item.stopped.stage == self.stage.name:
            return item.stopped.outcome
        # The stage has done its part for an item that had failed before, as `index` does.
        failed_before = item.status is before.status is Status.FAILED and item.error == before.error
        return Status.OK if failed_before else item.status

    def _fail(self, item: Item, error: DatafabError) -> Item:
        return self.stage.failed(item, error) if self.stage.failed else item.failed(error)

    def schedule_retry(self, index: int, outcome: Wait | Retriable) -> Wait | Fatal:
        """Turn a Wait or a failure into the next try; into a failure for good once patience or retries are spent."""
        waiting, now = self.waiting[index], self.services.clock.now()
        waiting.since = now if waiting.since is None else waiting.since
        delay = outcome.delay
        if isinstance(outcome, Retriable):
            backoff = self._count_failure(index, outcome)
            if backoff is None:
                return Fatal(f"{outcome.message} ({waiting.failures} tries)", code=outcome.code, field=outcome.field)
            delay = backoff if delay is None else delay
            self.log_line("info", f"{outcome.message}; again in {delay:.0f} s", **self._source(index))
        elif outcome.looked:
            waiting.failures = 0
        assert delay is not None
        if now + delay > waiting.since + self.stage.retry.patience:
            return Fatal(f"{outcome.message}: {self._describe_end(outcome)}", code=outcome.code)
        waiting.due, waiting.why = now + delay, outcome.message
        self._save_notes(index)
        return Wait(outcome.message, delay=delay, code=outcome.code)

    def _count_failure(self, index: int, outcome: Retriable) -> float | None:
        """Count a failure; return the seconds until the next try, None after too many failures in a row."""
        waiting = self.waiting[index]
        waiting.failures = 1 if index in self.advanced else waiting.failures + 1
        first = self.services.settings.retry_delay
        return self.stage.retry.next_delay(waiting.failures, first, retries=outcome.retries)

    def _describe_end(self, outcome: Wait | Retriable) -> str:
        """Say why there is no next try: patience is spent, or a server asks for a longer break than it lasts."""
        patience = self.stage.retry.patience
        if isinstance(outcome, Retriable) and outcome.delay is not None and outcome.delay > patience:
            return f"given up, as it asks to wait {outcome.delay:.0f} s and the patience here is {patience:.0f} s"
        return f"given up after {patience:.0f} s"

    def log_line(self, level: str, event: str, **facts: Any) -> None:
        """Add a line to the job's log."""
        line = {"at": round(self.services.clock.now(), 3), "level": level, "stage": self.stage.name, "event": event}
        self.lines.append(hide_all_secrets(line | facts))

    def flush(self) -> None:
        """Keep the records and log lines so far."""
        records, lines = self.records, self.lines
        self.records, self.lines, self.flushed_at = [], [], time.monotonic()
        if not (records or lines):
            return
        key = (self.batch.job, self.stage.name, self.batch.number)
        if not self.services.jobs.record(*key, records, lines, lease=self.attempt.lease):
            raise Lost("this attempt no longer counts")

    def _source(self, index: int) -> dict[str, str]:
        return {} if index == WHOLE_BATCH else {"source": self.items[index].source}

    def _copy_line(self, _logger: Any, _name: str, event: MutableMapping[str, Any]) -> Any:
        """Copy a stage's log line to the job's log (a structlog processor)."""
        facts = {key: value for key, value in event.items() if key not in {"event", "level", "job", "stage"}}
        self.log_line(event["level"], str(event["event"]), **facts)
        return ((), dict(event))

    def _report_progress(self, index: int, done: int, total: int | None, unit: str) -> None:
        if self.waiting[index].advance(done, unit):
            self.advanced.add(index)
        self.attempt.check()
        self.attempt.on_progress()
        if time.monotonic() - self.flushed_at > FLUSH_SECONDS:
            self.flush()
            self.flushed_at = time.monotonic()
            doing = f"{done} of {total or '?'} {unit}"
            self.services.jobs.set_doing(self.batch.job, doing, lease=self.attempt.lease)


def catch_error(call: Callable[[], T], run: BatchRun) -> tuple[T | DatafabError, bool]:
    """Return a call's result, or the error that it raised as a value, and whether it was raised.

    This is the only broad ``except``: a fault in a stage fails the item, never its batch.
    """
    try:
        return call(), False
    except (FlowError, Lost, *CONNECTION_ERRORS):
        raise
    except DatafabError as error:
        return error, True
    except Exception as error:  # noqa: BLE001
        run.attempt.check()  # an interrupted library may raise any exception
        structlog.get_logger().exception("stage broke", job=run.batch.job, stage=run.stage.name)
        return Fatal(f"{type(error).__name__}: {error}", code="internal"), True
