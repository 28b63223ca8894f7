r"""Quick ways with dates: which values a format of dates reads, and a few that stand for all of them.

csv-detective finds the one way of writing that reads a whole column by trying each on every value. Values of one
shape are alike in that, but for one thing: whether the day could be the month. So two of each shape will do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from datafab.analysis.filters import characters

_DAY, _MONTH, _YEAR = r"(?:0[1-9]|[12][0-9]|3[01])", r"(?:0[1-9]|1[0-2])", r"[12][0-9]{3}"
_MINUTES = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_SECONDS = rf"{_MINUTES}:[0-5][0-9]"
_ZONE = r"[+-](?:0[0-9]|1[0-3]):[0-5][0-9]"


@dataclass(frozen=True, slots=True)
class _Shape:
    """One way of writing, in which everything has its place."""

    pattern: str
    length: int
    year: int
    month: int
    day: int


def _iso(rest: str, length: int) -> _Shape:
    return _Shape(rf"\A{_YEAR}-{_MONTH}-{_DAY}{rest}\z", 10 + length, 0, 5, 8)


def _french(rest: str, length: int) -> _Shape:
    return _Shape(rf"\A{_DAY}/{_MONTH}/{_YEAR}{rest}\z", 10 + length, 6, 3, 0)


#: By format of csv-detective.
_SHAPES: Mapping[str, tuple[_Shape, ...]] = {
    "date": (_iso("", 0), _french("", 0)),
    "datetime_naive": (
        _iso(rf"[ T]{_SECONDS}", 9),
        _iso(rf"[ T]{_SECONDS}\.[0-9]{{6}}", 16),
        _french(rf" {_SECONDS}", 9),
        _french(rf" {_MINUTES}", 6),
    ),
    "datetime_aware": (
        _iso(rf"[ T]{_SECONDS}Z", 10),
        _iso(rf"[ T]{_SECONDS}{_ZONE}", 15),
        _iso(rf"[ T]{_SECONDS}\.[0-9]{{6}}Z", 17),
        _iso(rf"[ T]{_SECONDS}\.[0-9]{{6}}{_ZONE}", 22),
    ),
}
#: Where the marks are before the time, and before a zone.
_TIME, _SIGN = 10, -6
_MONTHS = 12
_DAYS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_FEBRUARY, _LEAP_DAY = 2, 29


@dataclass(frozen=True, slots=True)
class Read:
    """What was read of a column's values.

    Attributes:
        mask: for each value, whether the format reads it for sure.
        standing: values that stand for all of those.
    """

    mask: pa.Array
    standing: list[str]


def read(name: str, values: pa.Array) -> Read:
    """Find the values that a format of dates reads for sure.

    Args:
        name: of the format.
        values: distinct ones, none missing.
    """
    mask = np.zeros(len(values), dtype=bool)
    standing: list[str] = []
    for shape in _SHAPES[name]:
        if mask.all():
            break
        there = pc.match_substring_regex(values, shape.pattern)
        spelled = np.frombuffer(characters(values.filter(there)), dtype=np.uint8).reshape(-1, shape.length) - ord("0")
        if not len(spelled):
            continue
        year, month, day = spelled[:, shape.year :], _two(spelled, shape.month), _two(spelled, shape.day)
        leap = _leap(100 * _two(year, 0).astype(np.int32) + _two(year, 2))
        valid = (day <= _DAYS[month]) | ((month == _FEBRUARY) & (day == _LEAP_DAY) & leap)
        places = np.flatnonzero(there.to_numpy(zero_copy_only=False))[valid]
        # The marks before the time and in the zone are part of the way of writing.
        marks = [spelled[valid, at].astype(np.int64) for at in (_TIME, _SIGN) if shape.length > _TIME - _SIGN]
        kinds = sum((mark << 8 * (number + 1) for number, mark in enumerate(marks)), start=day[valid] <= _MONTHS)
        standing += _standing(values, places, kinds)
        mask[places] = True
    return Read(pa.array(mask), standing)


def _two(spelled: np.ndarray, at: int) -> np.ndarray:
    number: np.ndarray = 10 * spelled[:, at] + spelled[:, at + 1]
    return number


def _leap(year: np.ndarray) -> np.ndarray:
    leap: np.ndarray = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    return leap


def _standing(values: pa.Array, places: np.ndarray, kinds: np.ndarray) -> list[str]:
    """Choose the first value of each kind."""
    _, firsts = np.unique(kinds, return_index=True)
    chosen: list[str] = values.take(pa.array(places[np.sort(firsts)])).to_pylist()
    return chosen
