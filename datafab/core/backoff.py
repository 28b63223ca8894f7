"""When to try again: retry policies, growing delays, and servers' ``Retry-After``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

#: Each delay between retries is longer by this factor, up to a limit.
RETRY_GROWTH = 3.0
MAX_RETRY_DELAY_SECONDS = 600.0
#: The same for looks at what has not changed.
PAUSE_GROWTH = 1.5
#: Larger exponents change nothing, and would overflow a float.
MAX_EXPONENT = 60
#: Hours until the next look at what has been the same for one look, two, three, and for four or more.
REVISIT_HOURS = (12.0, 24.0, 168.0, 720.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and for how long a stage tries an item.

    Attributes:
        retries: how often in a row an item is tried again after a failure; None: no limit but ``patience``. A look
            that is no failure, or coming further than ever, ends a row. ``Retriable.retries`` wins over this.
        patience: seconds that an item may spend in the stage, all its waits and retries together.
        deadline: seconds without progress after which a whole attempt is given up, and its process ended.
    """

    retries: int | None = 3
    patience: float = 24 * 3600.0
    deadline: float = 3600.0

    def next_delay(self, failures: int, first: float = 2.0, *, retries: int | None = None) -> float | None:
        """Return the seconds until the next try; None where there have been too many failures.

        The delay grows by a factor of three up to ten minutes.

        Args:
            failures: in a row, the last one included.
            first: seconds until the first retry.
            retries: instead of the policy's.
        """
        limit = self.retries if retries is None else retries
        if limit is not None and failures > limit:
            return None
        return min(first * RETRY_GROWTH ** min(failures - 1, MAX_EXPONENT), MAX_RETRY_DELAY_SECONDS)


def pause_seconds(looks: int, first: float, longest: float) -> float:
    """Return the seconds until the next look at what has not changed.

    The pause grows by half with each look.

    Args:
        looks: that have found nothing new.
        first: seconds until the first look.
        longest: the limit, in seconds.
    """
    return min(longest, first * PAUSE_GROWTH ** min(looks, MAX_EXPONENT))


def retry_after(text: str, date: str = "") -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for, as a number or a date; None: it is neither.

    Args:
        text: the header.
        date: the header ``Date`` of the same answer: a date is the server's, whose clock may differ from this host's.
    """
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    at = _http_date(text)
    return max(0.0, (at - (_http_date(date) or datetime.now(UTC))).total_seconds()) if at else None


def _http_date(text: str) -> datetime | None:
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
