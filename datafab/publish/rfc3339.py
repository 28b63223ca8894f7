"""Times in the format of RFC 3339: with a zone, any number of decimals, and leap seconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:)(\d\d)(\.\d+)?(?:[Zz]|([+-])(\d\d:\d\d))", re.ASCII)
_LEAP = "60"


class Moment(NamedTuple):
    """A time, comparable with others.

    Attributes:
        second: the second, in UTC; for a leap second, the one before it.
        fraction: fraction of the second; a leap second adds 1.
        zulu: whether it is written in UTC.
    """

    second: datetime
    fraction: Decimal
    zulu: bool

    def __str__(self) -> str:
        """Format it in UTC, with ``T`` and ``Z``."""
        text = f"{self.second:%Y-%m-%dT%H:%M:%S}".zfill(19)
        leap, rest = divmod(self.fraction, 1)
        digits = f"{rest:f}"[1:]  # as many as were written
        return f"{text[:-2]}{_LEAP if leap else text[-2:]}{digits}Z"


def moment(text: object) -> Moment | None:
    """Parse a time; return None if it is not in the format of RFC 3339."""
    matched = _TIME.fullmatch(text) if isinstance(text, str) else None
    if matched is None:
        return None
    date, minutes, seconds, fraction, sign, offset = matched.groups()
    leap = seconds == _LEAP
    zone = f"{sign}{offset}" if sign else "+00:00"
    try:
        second = datetime.fromisoformat(f"{date}T{minutes}{'59' if leap else seconds}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    if leap and (second.hour, second.minute) != (23, 59):  # leap seconds end a day in UTC
        return None
    return Moment(second, Decimal(fraction or 0) + leap, zone in {"+00:00", "-00:00"})
