"""When to try again."""

from __future__ import annotations

FIRST = 2.0
FACTOR = 3.0
CAP = 600.0


def next_delay(failures: int, budget: int) -> float | None:
    """Return the seconds until the next try after this many failures; None once the budget is spent.

    Grows by a factor of three from two seconds up to ten minutes.
    """
    if failures > budget:
        return None
    return min(FIRST * FACTOR ** (failures - 1), CAP)
