"""A batch in the hands of one attempt: what is done of it, what waits, what was said."""

from __future__ import annotations

import time
from collections import UserDict, defaultdict
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import structlog

from datafab.core.backoff import next_delay
from datafab.core.item import Batch, Item, Status, Stopped
from datafab.core.job_fields import Record
from datafab.core.jobs import PASSED
from datafab.core.redis import CONNECTION_ERRORS
from datafab.core.services import Services
from datafab.core.stage import Context, Outcome, Stage, no_cluster
from datafab.core.waiting import Waiting
from datafab.errors import DatafabError, Fatal, FlowError, Lost, Parked, Retriable, Skippable, Unsuitable, Wait

T = TypeVar("T")

#: Results are kept after so many items or seconds, whichever comes first.
FLUSH_ITEMS = 20
FLUSH_SECONDS = 0.5
#: The notes on the batch itself stand beside those on its items, under this index.
WHOLE = -1


@dataclass(slots=True)
class Attempt:
    """One try at a batch, as its worker sees it."""

    #: Unix time at which the job was made
    created: float
    #: whether an earlier attempt may have left something done
    again: bool = False
    #: whether an earlier attempt killed its worker
    suspect: bool = False
    #: whether items are to be looked at before their time
    hastened: bool = False
    #: whether the stage comes after what the job asked for
    follows: bool = False
    #: said when that has happened too often: the item in hand then is given up
    condemned: Parked | None = None
    #: its row in the ledger and its own name there: what it keeps counts only while it holds that row
    holder: tuple[str, str] = ("", "")
    #: raises Lost when the attempt no longer counts
    check: Callable[[], None] = lambda: None
    #: told whenever an item has ended, so that the attempt is not taken for hung
    alive: Callable[[], None] = lambda: None
    #: see ``Context.enqueue``
    enqueue: Callable[[str, dict[str, Any], str], str] = no_cluster


class Memo(UserDict[str, Any]):
    """Notes, written through."""

    def __init__(self, values: dict[str, Any], keep: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self.data = values
        self._keep = keep

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self._keep(self.data)


@dataclass(slots=True)
class Work:
    """A batch in the hands of one attempt."""

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
    flushed: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.attempt.again:
            key = (self.batch.job, self.stage.name, self.batch.number)
            self.done = self.services.jobs.done(*key)
            for index, (memo, waiting) in self.services.jobs.memo(*key).items():
                whole = index == WHOLE
                self.waiting[index] = Waiting.split(memo, whole=whole) if waiting is None else Waiting.load(waiting)
                self.memos[index] = memo

    def context(self, index: int = WHOLE) -> Context:
        """Return what the stage sees, for one item or for all."""
        # The job's log has every line, whatever level the process writes.
        log = structlog.wrap_logger(
            structlog.get_logger(),
            processors=[structlog.processors.add_log_level, self._tee],
            wrapper_class=structlog.make_filtering_bound_logger(0),
        ).bind(job=self.batch.job, stage=self.stage.name)
        if index != WHOLE:
            log = log.bind(source=self.items[index].source)
        return Context(
            services=self.services,
            params=self.batch.params,
            job=self.batch.job,
            created=self.attempt.created,
            log=log,
            check=self.attempt.check,
            progress=partial(self._progress, index),
            memo=self.memo(index),
            enqueue=self.attempt.enqueue,
        )

    def memo(self, index: int) -> Memo:
        """Return an item's notes; what is put into them is kept at once, while this attempt counts."""
        return Memo(self.memos.setdefault(index, {}), lambda _: self._keep(index))

    def _keep(self, index: int) -> None:
        """Keep what is noted of an item, by its stage and by the runner."""
        key = (self.batch.job, self.stage.name, self.batch.number, index)
        memo, waiting = self.memos.setdefault(index, {}), self.waiting[index].dump()
        if not self.services.jobs.keep_memo(*key, memo, waiting=waiting, holder=self.attempt.holder):
            raise Lost("this attempt no longer counts")

    @property
    def in_hand(self) -> int | None:
        """The item that was worked on when the last attempt died, if that is known."""
        return self.waiting[WHOLE].at

    def take(self, index: int) -> None:
        """Note which item is in hand, should it kill this process; what is done before it is kept when one did."""
        self.waiting[WHOLE].at = index
        self._keep(WHOLE)
        if self.attempt.suspect:
            self.flush()

    def resting(self, index: int) -> bool:
        """Say whether an item's time has not come yet; it waits with the others then."""
        waiting = self.waiting[index]
        left = 0.0 if self.attempt.hastened else waiting.due - self.services.clock.now()
        if left > 0:
            self.waits.append(Wait(waiting.why, delay=left))
        return left > 0

    def settle(self, index: int, outcome: Outcome, *, touched: bool = True) -> None:
        """Act on what came of an item: the one place that does."""
        before = item = self.items[index]
        match outcome:
            case Item():
                item = outcome
            case Wait() | Retriable():
                later = self.later(index, outcome)
                if isinstance(later, Wait):
                    self.waits.append(later)
                    self.attempt.alive()
                    return
                item = self._failed(item, later)
            case Skippable() | Unsuitable() if self.attempt.follows:
                item = item.evolve(stopped=Stopped.by(self.stage.name, outcome))
            case Skippable():
                item = item.failed(outcome, Status.SKIPPED)
            case _:
                item = self._failed(item, outcome)
        self.done[index] = item
        changed = touched and item != before
        self.records.append(Record(index, item, changed, self._counted(before, item, touched=touched)))
        seen = item.standing()
        if changed and seen.error and seen.status in {Status.FAILED, Status.SKIPPED}:
            self.say("warning", seen.error.message, source=item.source, error=seen.error.type)
        self.attempt.alive()
        if len(self.records) >= FLUSH_ITEMS or time.monotonic() - self.flushed > FLUSH_SECONDS:
            self.flush()

    def _counted(self, before: Item, item: Item, *, touched: bool) -> str:
        """Return what the stage counts an item as: the item's status, unless it only follows what was asked for."""
        if not self.attempt.follows:
            return item.status
        if not touched:
            return PASSED
        if item.stopped is not None and item.stopped.stage == self.stage.name:
            return item.stopped.outcome
        # It has done its part for an item that had failed before, as `index` does.
        failed_before = item.status is before.status is Status.FAILED and item.error == before.error
        return Status.OK if failed_before else item.status

    def _failed(self, item: Item, error: DatafabError) -> Item:
        return self.stage.failed(item, error) if self.stage.failed else item.failed(error)

    def later(self, index: int, outcome: Wait | Retriable) -> Wait | Fatal:
        """Turn a Wait or a failure into the next look, or into a failure when patience or budget are spent."""
        waiting, now = self.waiting[index], self.services.clock.now()
        waiting.since = now if waiting.since is None else waiting.since
        delay = outcome.delay
        if isinstance(outcome, Retriable):
            backoff = self._failed_again(index, outcome)
            if backoff is None:
                return Fatal(f"{outcome.message} ({waiting.failures} tries)", code=outcome.code, field=outcome.field)
            delay = backoff if delay is None else delay
            self.say("info", f"{outcome.message}; again in {delay:.0f} s", **self._source(index))
        elif outcome.looked:
            waiting.failures = 0
        assert delay is not None
        if now + delay > waiting.since + self.stage.patience:
            return Fatal(f"{outcome.message}: {self._given_up(outcome)}", code=outcome.code)
        waiting.due, waiting.why = now + delay, outcome.message
        self._keep(index)
        return Wait(outcome.message, delay=delay, code=outcome.code)

    def _failed_again(self, index: int, outcome: Retriable) -> float | None:
        """Count a failure; return the seconds until the next try, None when there were too many in a row."""
        waiting = self.waiting[index]
        waiting.failures = 1 if index in self.advanced else waiting.failures + 1
        budget = self.stage.retries if outcome.budget is None else outcome.budget
        return next_delay(waiting.failures, budget, self.services.settings.retry_delay)

    def _given_up(self, outcome: Wait | Retriable) -> str:
        """Say why there is no next look: patience is spent, or a server asks for a longer break than it lasts."""
        patience = self.stage.patience
        if isinstance(outcome, Retriable) and outcome.delay is not None and outcome.delay > patience:
            return f"given up, as it asks to wait {outcome.delay:.0f} s and the patience here is {patience:.0f} s"
        return f"given up after {patience:.0f} s"

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

    def _source(self, index: int) -> dict[str, str]:
        return {} if index == WHOLE else {"source": self.items[index].source}

    def _tee(self, _logger: Any, _name: str, event: MutableMapping[str, Any]) -> Any:
        """Send a stage's log line to the job's log too (a structlog processor)."""
        facts = {key: value for key, value in event.items() if key not in {"event", "level", "job", "stage"}}
        self.say(event["level"], str(event["event"]), **facts)
        return ((), dict(event))

    def _progress(self, index: int, done: int, total: int | None, unit: str) -> None:
        if self.waiting[index].advance(done, unit):
            self.advanced.add(index)
        self.attempt.check()
        self.attempt.alive()
        if time.monotonic() - self.flushed > FLUSH_SECONDS:
            self.flush()
            self.flushed = time.monotonic()
            self.services.jobs.set_doing(self.batch.job, f"{done} of {total or '?'} {unit}")


def caught(call: Callable[[], T], work: Work) -> tuple[T | DatafabError, bool]:
    """Return a failure as a value, and whether it was raised.

    The one broad except: a stage's fault fails its item, never its batch.
    """
    try:
        return call(), False
    except (FlowError, Lost, *CONNECTION_ERRORS):
        raise
    except DatafabError as error:
        return error, True
    except Exception as error:  # noqa: BLE001
        structlog.get_logger().exception("stage broke", job=work.batch.job, stage=work.stage.name)
        return Fatal(f"{type(error).__name__}: {error}", code="internal"), True
