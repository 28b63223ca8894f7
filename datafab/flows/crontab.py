"""The form of a crontab: five fields. The values are checked by Celery's own reader, which is passed in. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

#: ``*/15``, ``1-5``, ``0,30``, ``mon-fri``
_FIELD = re.compile(r"(\*|\w+(-\w+)?)(/\d+)?(,(\*|\w+(-\w+)?)(/\d+)?)*")
_FIELDS = 5

#: Reads a crontab, or raises ValueError.
Cron = Callable[[str], object]


def faults(text: str, cron: Cron = str) -> Iterator[str]:
    """Yield the errors of a crontab; ``cron`` checks its values once its form is right."""
    parts = text.split()
    odd = [part for part in parts if not _FIELD.fullmatch(part)]
    if len(parts) != _FIELDS:
        yield f"{text!r} has {len(parts)} fields; a crontab has 5: minute, hour, day of month, month, day of week"
    elif odd:
        yield f"{text!r}: {odd[0]!r} is none of *, 5, 1-5, */15, mon-fri or a list of these"
    elif parts[2] != "*" and parts[4] != "*":
        yield (
            f"{text!r} names days of the month and of the week, which programs read in different ways: "
            f"write two flows, one for each"
        )
    else:
        try:
            cron(text)
        except ValueError as error:
            yield f"{text!r}: {error}"
