"""When to try again."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FACTOR = 3.0
CAP = 600.0
#: Of the time between looks; after so many of them it is beyond any limit, and would be beyond a float's too.
GROWTH, ENOUGH = 1.5, 60
#: Hours until the next look at what has been the same for so many looks (and for any more).
DELAYS = (12.0, 24.0, 168.0, 720.0)


def next_delay(failures: int, budget: int | None, first: float = 2.0) -> float | None:
    """Return the seconds until the next try after this many failures in a row; None once the budget is spent.

    Grows by a factor of three from the ``first`` seconds up to ten minutes. Without a budget there is always one.
    """
    if budget is not None and failures > budget:
        return None
    return min(first * FACTOR ** min(failures - 1, ENOUGH), CAP)


def pause(looks: int, first: float, most: float) -> float:
    """Return the seconds until the next look at what has not changed for so many looks.

    Grows by half each time up to ``most`` seconds.
    """
    return min(most, first * GROWTH ** min(looks, ENOUGH))


def retry_after(text: str, now: datetime) -> float | None:
    """Return the seconds that a ``Retry-After`` asks for, given as such or as a date; None: it says nothing."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds())
