"""When a file is revisited although its catalogue reports no change: less often the longer it has not changed."""

from __future__ import annotations

from datafab.core.backoff import REVISIT_HOURS

HOUR_SECONDS = 3600.0
#: Parameter of a job of the flow ``source`` that revisits a file.
REVISIT_PARAM = "again"


def revisit_delay(age: float) -> float:
    """Return the seconds until the next revisit of a file that has not changed for ``age`` seconds."""
    return HOUR_SECONDS * next((hours for hours in REVISIT_HOURS if hours * HOUR_SECONDS >= age), REVISIT_HOURS[-1])
