"""Parse and write numbers, sizes and dates of a query: ``>1000``, ``10..20``, ``<=1.5MB``, ``2026-01``. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from datafab.index.query import FieldKind

#: Maximum number that the indexes accept.
MAX_NUMBER = 2**63 - 2
#: Minimum year: no file is older, and the year before it has four digits, too.
FIRST_YEAR = 1000
MILLISECOND = timedelta(milliseconds=1)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_NUMBER = re.compile(r"[0-9]{1,19}")
_SIZE = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?) ?([kmgt]?i?)[bo]?", re.IGNORECASE)
_DATE = re.compile(
    r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{3}))?)?Z?)?)?)?",
    re.IGNORECASE,
)
_EXAMPLES = {
    FieldKind.NUMBER: "a whole number such as 1000, >1000 or 10..20",
    FieldKind.SIZE: "a size such as >1MB, 500KB..2GB or <100",
    FieldKind.DATE: "a date such as 2026, >2026-01 or 2026-01-31..2026-02-15",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Duration that a date covers, by its number of parts, from the year on.
_DURATIONS = {3: timedelta(days=1), 5: timedelta(minutes=1), 6: timedelta(seconds=1), 7: MILLISECOND}
_MIN_VALUES = {
    FieldKind.NUMBER: 0,
    FieldKind.SIZE: 0,
    FieldKind.DATE: (datetime(FIRST_YEAR, 1, 1, tzinfo=UTC) - _EPOCH) // MILLISECOND,
}


class QueryPartError(Exception):
    """A part of a query is invalid.

    Attributes:
        position: of its first character, from 0.
    """

    def __init__(self, position: int, why: str) -> None:
        super().__init__(why)
        self.position = position
        self.why = why


def read_bounds(kind: FieldKind, operator: str | None, text: str, position: int) -> tuple[int | None, int | None]:
    """Return the minimum and the maximum of a value or range; None if it has no such bound.

    Raises:
        QueryPartError: the text is not of this kind.
    """
    first, dots, last = text.partition("..")
    if dots and not operator:
        low = _read_span(kind, first, position)[0] if first else None
        high = _read_span(kind, last, position + len(first) + 2)[1] if last else None
        if low is None and high is None:
            raise QueryPartError(position, f"`..` needs a bound before it, after it or both: {_EXAMPLES[kind]}")
        if low is not None and high is not None and low > high:
            raise QueryPartError(position, "the range ends before it begins")
        return low, high
    low, high = _read_span(kind, text, position)
    if operator == "<" and low <= _MIN_VALUES[kind]:
        raise QueryPartError(position, f"nothing is less than {text}")
    return {
        ">": (high + 1, None),
        ">=": (low, None),
        "<": (None, low - 1),
        "<=": (None, high),
    }.get(operator or "=", (low, high))


def write_bounds(kind: FieldKind, low: int | None, high: int | None) -> str:
    """Write bounds as text that ``read_bounds`` reads back."""
    first, last = ("" if bound is None else _write_bound(kind, bound) for bound in (low, high))
    return first if low == high else f"{first}..{last}"


def _write_bound(kind: FieldKind, bound: int) -> str:
    if kind is not FieldKind.DATE:
        return str(bound)
    moment = _EPOCH + bound * MILLISECOND
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def _read_span(kind: FieldKind, text: str, position: int) -> tuple[int, int]:
    """Return the minimum and the maximum of a single value; a year covers many milliseconds."""
    span = _read_date(text) if kind is FieldKind.DATE else _read_number(kind, text)
    if span is None:
        raise QueryPartError(position, f"{text or 'nothing'} where {_EXAMPLES[kind]} should be")
    if span[1] > MAX_NUMBER:
        raise QueryPartError(position, f"{text} is more than anything has")
    return span


def _read_number(kind: FieldKind, text: str) -> tuple[int, int] | None:
    if kind is FieldKind.NUMBER:
        return (int(text), int(text)) if _NUMBER.fullmatch(text) else None
    found = _SIZE.fullmatch(text)
    if not found or found[2].lower() not in _UNITS:
        return None
    size = int(Decimal(found[1]) * _UNITS[found[2].lower()])
    return size, size


def _read_date(text: str) -> tuple[int, int] | None:
    found = _DATE.fullmatch(text)
    if not found or int(found[1]) < FIRST_YEAR:
        return None
    parts = [int(part) for part in found.groups() if part]
    year, month, day, hour, minute, second, milli = parts + [1, 1, 1, 0, 0, 0, 0][len(parts) :]
    try:
        begin = datetime(year, month, day, hour, minute, second, milli * 1000, tzinfo=UTC)
        if length := _DURATIONS.get(len(parts)):
            end = begin + length
        elif len(parts) == 1:
            end = begin.replace(year=year + 1)
        else:
            end = begin.replace(year=year + month // 12, month=month % 12 + 1)
    except (ValueError, OverflowError):  # the 30th of February, the end of the year 9999
        return None
    return unix_milliseconds(begin), unix_milliseconds(end) - 1


def unix_milliseconds(moment: datetime) -> int:
    """Return a datetime as milliseconds of Unix time."""
    return (moment - _EPOCH) // MILLISECOND
