r"""Vectorised matching of dates: the values that a date format surely reads, and a few that represent all of them.

csv-detective finds the date format of a column by trying each on every value. Values of one shape behave alike, but
for one thing: whether the day could be a month. So two values of each shape are enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from datafab.analysis.filters import concatenate_bytes

_DAY, _MONTH, _YEAR = r"(?:0[1-9]|[12][0-9]|3[01])", r"(?:0[1-9]|1[0-2])", r"[12][0-9]{3}"
_MINUTES = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_SECONDS = rf"{_MINUTES}:[0-5][0-9]"
_ZONE = r"[+-](?:0[0-9]|1[0-3]):[0-5][0-9]"


@dataclass(frozen=True, slots=True)
class _Shape:
    """A way of writing a date in which each part has a fixed position."""

    pattern: str
    length: int
    year: int
    month: int
    day: int


def _iso_shape(rest: str, length: int) -> _Shape:
    return _Shape(rf"\A{_YEAR}-{_MONTH}-{_DAY}{rest}\z", 10 + length, 0, 5, 8)


def _french_shape(rest: str, length: int) -> _Shape:
    return _Shape(rf"\A{_DAY}/{_MONTH}/{_YEAR}{rest}\z", 10 + length, 6, 3, 0)


#: Shapes by the name of csv-detective's format.
_SHAPES: Mapping[str, tuple[_Shape, ...]] = {
    "date": (_iso_shape("", 0), _french_shape("", 0)),
    "datetime_naive": (
        _iso_shape(rf"[ T]{_SECONDS}", 9),
        _iso_shape(rf"[ T]{_SECONDS}\.[0-9]{{6}}", 16),
        _french_shape(rf" {_SECONDS}", 9),
        _french_shape(rf" {_MINUTES}", 6),
    ),
    "datetime_aware": (
        _iso_shape(rf"[ T]{_SECONDS}Z", 10),
        _iso_shape(rf"[ T]{_SECONDS}{_ZONE}", 15),
        _iso_shape(rf"[ T]{_SECONDS}\.[0-9]{{6}}Z", 17),
        _iso_shape(rf"[ T]{_SECONDS}\.[0-9]{{6}}{_ZONE}", 22),
    ),
}
#: Positions of the character before the time and of the sign of the time zone.
_TIME_POSITION, _SIGN_POSITION = 10, -6
_MONTHS = 12
_DAYS_OF_MONTH = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_FEBRUARY, _LEAP_DAY = 2, 29


@dataclass(frozen=True, slots=True)
class DateMatches:
    """The values of a column that a date format surely reads.

    Attributes:
        mask: for each value, whether the format surely reads it.
        representatives: values that represent all of those.
    """

    mask: pa.Array
    representatives: list[str]


def match_dates(name: str, values: pa.Array) -> DateMatches:
    """Find the values that a date format surely reads.

    Args:
        name: of the format.
        values: distinct, without missing ones.
    """
    mask = np.zeros(len(values), dtype=bool)
    representatives: list[str] = []
    for shape in _SHAPES[name]:
        if mask.all():
            break
        matching = pc.match_substring_regex(values, shape.pattern)
        digits = np.frombuffer(concatenate_bytes(values.filter(matching)), dtype=np.uint8).reshape(
            -1, shape.length
        ) - ord("0")
        if not len(digits):
            continue
        year, month, day = digits[:, shape.year :], _two_digits(digits, shape.month), _two_digits(digits, shape.day)
        leap = _is_leap_year(100 * _two_digits(year, 0).astype(np.int32) + _two_digits(year, 2))
        valid = (day <= _DAYS_OF_MONTH[month]) | ((month == _FEBRUARY) & (day == _LEAP_DAY) & leap)
        places = np.flatnonzero(matching.to_numpy(zero_copy_only=False))[valid]
        # The character before the time and the sign of the zone distinguish date formats, too.
        marks = [
            digits[valid, at].astype(np.int64)
            for at in (_TIME_POSITION, _SIGN_POSITION)
            if shape.length > _TIME_POSITION - _SIGN_POSITION
        ]
        kinds = sum((mark << 8 * (number + 1) for number, mark in enumerate(marks)), start=day[valid] <= _MONTHS)
        representatives += _first_of_each_kind(values, places, kinds)
        mask[places] = True
    return DateMatches(pa.array(mask), representatives)


def _two_digits(digits: np.ndarray, at: int) -> np.ndarray:
    number: np.ndarray = 10 * digits[:, at] + digits[:, at + 1]
    return number


def _is_leap_year(year: np.ndarray) -> np.ndarray:
    leap: np.ndarray = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    return leap


def _first_of_each_kind(values: pa.Array, places: np.ndarray, kinds: np.ndarray) -> list[str]:
    """Return the first value of each kind."""
    _, firsts = np.unique(kinds, return_index=True)
    chosen: list[str] = values.take(pa.array(places[np.sort(firsts)])).to_pylist()
    return chosen
