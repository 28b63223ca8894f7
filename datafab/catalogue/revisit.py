"""When a file is to be looked at again, whatever its catalogue says: less often the longer it has not changed."""

from __future__ import annotations

from datafab.core.backoff import REVISIT_HOURS

HOUR = 3600.0


def next_look(age: float) -> float:
    """Return the seconds until the next look at what has not changed for ``age`` seconds."""
    return HOUR * next((hours for hours in REVISIT_HOURS if hours * HOUR >= age), REVISIT_HOURS[-1])
