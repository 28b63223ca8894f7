"""A job: one run of a flow, and the states it can be in."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal, Self

from datafab.core.item import Counts, ItemError, Value
from datafab.urls import hide_all_secrets

#: the ``stage`` of a job that has been through all of its stages
REPORT = "report"


class JobStatus(StrEnum):
    """The state of a job. The last four are final; only ``parked`` can be left again, by a retry."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    PARKED = "parked"
    CANCELLED = "cancelled"


FINAL = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.PARKED, JobStatus.CANCELLED})


class Progress(Value):
    """The progress of one stage of a job: items by status, the bytes of their resources, speed and time left.

    For a stage after those that were asked for, the statuses are those of its own work: ``skipped`` counts contents of
    another kind (a PDF is not a table), ``failed`` damaged contents too.
    """

    stage: str
    ok: int = 0
    unchanged: int = 0
    skipped: int = 0
    failed: int = 0
    #: items that it did not take, because they had failed before or by the job's condition
    passed: int | None = None
    bytes: int = 0
    #: from its start to the last item that it finished
    items_per_second: float | None = None
    bytes_per_second: int | None = None
    #: seconds that the rest takes at this pace; None once nothing is left
    eta: int | None = None

    def with_pace(self, seconds: float, total: int | None) -> Self:
        """Return the progress with speed and time left.

        Args:
            seconds: the time that the stage has taken so far.
            total: the number of the job's items; None while it is not known.
        """
        if seconds <= 0 or not self.done:
            return self
        left = max(0, (total or 0) - self.done)
        return self.evolve(
            items_per_second=round(self.done / seconds, 3),
            bytes_per_second=round(self.bytes / seconds),
            eta=math.ceil(left * seconds / self.done) if left else None,
        )

    @property
    def done(self) -> int:
        """The number of items that this stage has finished."""
        return self.ok + self.unchanged + self.skipped + self.failed + (self.passed or 0)


class StageSums:
    """The counters of one stage.

    Attributes:
        items: by their status after it.
        counted_as: (status, outcome) -> items that the stage counts as something else than their status.
        bytes: of their resources.
    """

    def __init__(self) -> None:
        self.items: Counter[str] = Counter()
        self.counted_as: Counter[tuple[str, str]] = Counter()
        self.bytes = 0

    def add(self, status: str, outcome: str, size: int) -> None:
        """Count an item."""
        self.items[status] += 1
        self.bytes += size
        if outcome != status:
            self.counted_as[status, outcome] += 1

    def progress(self, stage: str) -> Progress:
        """Return the stage's progress."""
        outcomes = Counter(self.items)
        for (status, outcome), number in self.counted_as.items():
            outcomes[status] -= number
            outcomes[outcome] += number
        return Progress(stage=stage, bytes=self.bytes, **outcomes)

    def counts(self, job: str) -> Counts:
        """Return the items by their status after the stage."""
        return Counts(job=job, bytes=self.bytes, **self.items)


def counts_of(job: str, sums: Mapping[str, StageSums], asked: str | None) -> Counts:
    """Return a job's sums: those of its last stage, through which every item passes.

    A job that ended early is counted by the last stage that was asked for, if that had more items.

    Args:
        job: its id.
        sums: by stage, in the order of the stages.
        asked: the last stage that was asked for; None: it is not known.
    """
    last = list(sums.values())[-1]
    wanted = sums.get(asked or "", last)
    return (wanted if wanted.items.total() > last.items.total() else last).counts(job)


def job_result(counts: Counts | None, failures: Mapping[str, ItemError]) -> tuple[JobStatus, ItemError | None]:
    """Return the final status of a job whose items have been through all stages, and its error.

    It has failed if all of its items have; otherwise it has succeeded, and counts the failed ones.

    Args:
        counts: the sums over its items; None: it had none.
        failures: its failed items, or the first of them.
    """
    if counts is None or not counts.failed or counts.failed < counts.total:
        return JobStatus.SUCCEEDED, None
    if not failures:  # items that a stage failed without a reason
        return JobStatus.FAILED, ItemError(type="failed", message=f"all {counts.failed} items failed")
    error = failures[min(failures)]
    if counts.failed > 1:
        error = error.evolve(message=f"all {counts.failed} items failed, the first with: {error.message}")
    return JobStatus.FAILED, error


class Job(Value):
    """One run of a flow, as the command line, the API and HTTP show it. Times are Unix seconds."""

    v: Literal[1] = 1
    id: str
    flow: str
    params: Mapping[str, Any] = {}
    #: dedupe key: no two jobs that are kept have the same
    key: str | None = None
    #: who enqueued it: the name of a token; None: the command line, a schedule or another job
    caller: str | None = None
    status: JobStatus = JobStatus.QUEUED
    #: the stage that started last
    stage: str | None = None
    #: the last stage that was asked for; those after it leave the items' statuses alone
    asked: str | None = None
    #: the progress of the current item, where it takes long: "12 of 30 MB"
    doing: str | None = None
    #: the number of items, once the producer has counted them
    total: int | None = None
    created: float
    started: float | None = None
    ended: float | None = None
    #: when the job is given up
    deadline: float
    progress: tuple[Progress, ...] = ()
    error: ItemError | None = None
    #: the sums at the end of the last stage
    counts: Counts | None = None

    def dump(self) -> dict[str, Any]:
        """Return the JSON form, without the fields that are unset and the secrets of URLs."""
        facts: dict[str, Any] = hide_all_secrets(super().dump())
        return facts

    @property
    def failed_in(self) -> str | None:
        """The stage in which it ended; if all its items failed, the stage in which the last of them did."""
        through = self.progress and self.stage in {self.progress[-1].stage, REPORT}
        failed = (stage.stage for stage in self.progress if 0 < stage.failed == stage.done)
        return next(failed, self.stage) if through else self.stage

    @property
    def final(self) -> bool:
        """Whether it has ended."""
        return self.status in FINAL

    @property
    def main(self) -> Progress | None:
        """The progress of what was asked for; None: nothing of it is done."""
        if self.asked is None:
            return self.progress[-1] if self.progress else None
        return next((stage for stage in self.progress if stage.stage == self.asked), None)
