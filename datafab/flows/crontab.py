"""What a crontab looks like: five fields. Which values each may have, Celery's own reader says, which runs it. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

#: ``*/15``, ``1-5``, ``0,30``, ``mon-fri``
_FIELD = re.compile(r"(\*|\w+(-\w+)?)(/\d+)?(,(\*|\w+(-\w+)?)(/\d+)?)*")
_FIELDS = 5

#: Reads a crontab; raises ValueError.
Cron = Callable[[str], object]


def faults(text: str, cron: Cron = str) -> Iterator[str]:
    """Yield what is wrong with a crontab; ``cron`` judges the values of one whose shape is right."""
    parts = text.split()
    odd = [part for part in parts if not _FIELD.fullmatch(part)]
    if len(parts) != _FIELDS:
        yield f"{text!r} has {len(parts)} fields; a crontab has 5: minute, hour, day of month, month, day of week"
    elif odd:
        yield f"{text!r}: {odd[0]!r} is none of *, 5, 1-5, */15, mon-fri or a list of such"
    elif parts[2] != "*" and parts[4] != "*":
        yield f"{text!r} names days of the month and of the week: make two flows, for programs disagree on its meaning"
    else:
        try:
            cron(text)
        except ValueError as error:
            yield f"{text!r}: {error}"
