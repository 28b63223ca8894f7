"""The state of one job in this process, for ``--inline``: the counterpart of ``RedisJobs``."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from datafab.core.item import Item, ItemError
from datafab.core.job import Progress, StageSums
from datafab.core.job_fields import Record
from datafab.core.jobs import NOTHING, Notes
from datafab.core.lease import NO_LEASE, Lease


class MemoryJobs:
    """One job's finished items, log and failures."""

    def __init__(self) -> None:
        self._done: defaultdict[tuple[str, str, int | None], dict[int, Item]] = defaultdict(dict)
        self._memo: defaultdict[tuple[str, str, int | None], dict[int, Notes]] = defaultdict(dict)
        self._sums: defaultdict[str, StageSums] = defaultdict(StageSums)
        self._failed: dict[str, ItemError] = {}
        self._lines: list[dict[str, Any]] = []
        self._times: dict[str, tuple[float, float]] = {}
        self._since = time.time()
        self.total: int | None = None

    def ping(self) -> None:
        """Do nothing: memory is always there."""

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def done(self, job: str, stage: str, number: int | None) -> dict[int, Item]:
        """Return the finished items of a batch, by index."""
        return dict(self._done[job, stage, number])

    def record(
        self,
        job: str,
        stage: str,
        number: int | None,
        records: Sequence[Record],
        lines: Sequence[dict[str, Any]],
        *,
        lease: Lease = NO_LEASE,  # noqa: ARG002 - there is no ledger
    ) -> bool:
        """Keep items as done and append log lines."""
        done = self._done[job, stage, number]
        for position, item, touched, outcome in records:
            if position not in done:
                self._sums[stage].add(item.status.value, str(outcome or item.status), item.size or 0)
            done[position] = item
            if touched and item.listed_error:
                self._failed[item.source] = item.listed_error
        self._lines += lines
        now = time.time()
        started, _ = self._times.get(stage, (self._since, now))
        self._times[stage], self._since = (started, now), now
        return True

    def notes(self, job: str, stage: str, number: int | None) -> dict[int, Notes]:
        """Return the notes on a batch's items."""
        return self._memo[job, stage, number]

    def save_notes(
        self,
        job: str,
        stage: str,
        number: int | None,
        index: int,
        memo: dict[str, Any],
        *,
        waiting: Mapping[str, Any] = NOTHING,
        lease: Lease = NO_LEASE,  # noqa: ARG002 - there is no ledger
    ) -> bool:
        """Keep one item's notes."""
        self._memo[job, stage, number][index] = (dict(memo), dict(waiting))
        return True

    def set_doing(self, job: str, text: str, *, lease: Lease = NO_LEASE) -> None:
        """Do nothing: the progress of an item is not shown."""

    def set_total(self, job: str, total: int, *, lease: Lease = NO_LEASE) -> None:  # noqa: ARG002 - one job only
        """Set the number of the job's items."""
        self.total = total

    def logs(self) -> list[dict[str, Any]]:
        """Return the log lines."""
        return list(self._lines)

    def failures(self) -> dict[str, ItemError]:
        """Return the failed items, source -> error."""
        return dict(self._failed)

    def progress(self) -> tuple[Progress, ...]:
        """Return the progress of each stage."""
        return tuple(
            sums.progress(stage).with_pace(self._times[stage][1] - self._times[stage][0], self.total)
            for stage, sums in self._sums.items()
        )
