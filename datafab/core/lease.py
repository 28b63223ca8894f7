"""The lease: the hold that one attempt has on a row of the ledger."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One attempt's hold on a row of the ledger. What an attempt keeps counts only while it holds that row.

    Attributes:
        row_id: the row; empty for a run in one process, which has no ledger.
        attempt: how often the row had been sent before, so 0 for the first attempt. Messages carry it as Celery's
            ``retries``, rows as ``fence``.
        holder: a name that no other attempt has; rows carry it as ``by``.
        job_created: Unix time at which the job was made.
        deaths: how many holders of the row have died.
        woken: whether a wake-up came in: items that wait are looked at before their time.
        give_up_reason: why the item that killed the holders is given up; None: it is tried again.
    """

    row_id: str = ""
    attempt: int = 0
    holder: str = ""
    job_created: float = 0.0
    deaths: int = 0
    woken: bool = False
    give_up_reason: str | None = None

    @property
    def is_retry(self) -> bool:
        """Whether an earlier attempt may have left something done."""
        return self.attempt > 0

    @property
    def after_crash(self) -> bool:
        """Whether an earlier attempt died with its process."""
        return self.deaths > 0

    def next(self) -> Self:
        """Return the lease of the attempt after this one, in a run without a ledger."""
        return replace(self, attempt=self.attempt + 1)


#: For callers that hold no row: what they keep always counts.
NO_LEASE = Lease()
