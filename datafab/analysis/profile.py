"""Profile a column: its most frequent values, its unique values if they are few, statistics if it is numeric."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from datafab.analysis.distinct import ValueCounts

#: Maximum number of most frequent values, and of unique values, that are listed.
MAX_TOP_VALUES, MAX_UNIQUE_VALUES = 10, 25
#: Maximum share of distinct values of a categorical column, as in csv-detective.
MAX_CATEGORICAL_SHARE = 0.05
#: Maximum characters of a value that is listed: an outline of an area may have millions.
MAX_VALUE_CHARS = 1000

_DECIMAL, _WIDE, _COUNT = pa.decimal128(38, 12), pa.decimal256(50, 12), pa.decimal256(19, 0)


def top_values(parts: Sequence[ValueCounts]) -> list[dict[str, Any]]:
    """Return the most frequent values with their counts; of equally frequent ones, those that occur first."""
    found = [pair for part in parts for pair in _top_values(part)]
    found.sort(key=lambda pair: -pair[1])
    return [{"count": count, "value": value[:MAX_VALUE_CHARS]} for value, count in found[:MAX_TOP_VALUES]]


def _top_values(part: ValueCounts) -> list[tuple[str, int]]:
    counts = part.counts
    places = np.arange(len(counts))
    if len(counts) > MAX_TOP_VALUES:
        least = np.partition(counts, -MAX_TOP_VALUES)[-MAX_TOP_VALUES]
        above = np.flatnonzero(counts > least)
        places = np.concatenate([above, np.flatnonzero(counts == least)[: MAX_TOP_VALUES - len(above)]])
        places = places[np.argsort(-counts[places], kind="stable")]
    values = part.values.take(pa.array(places)).to_pylist()
    return list(zip(values, counts[places].tolist(), strict=True))


def unique_values(parts: Sequence[ValueCounts]) -> list[str] | None:
    """Return all distinct values; None if they are too many or too long to list."""
    if sum(len(part.values) for part in parts) > MAX_UNIQUE_VALUES:
        return None
    if any((pc.max(pc.utf8_length(part.values)).as_py() or 0) > MAX_VALUE_CHARS for part in parts):
        return None
    return [value for part in parts for value in part.values.to_pylist()]


def is_categorical(distinct: int, rows: int) -> bool:
    """Tell whether a column is categorical."""
    return distinct <= MAX_UNIQUE_VALUES or distinct / rows <= MAX_CATEGORICAL_SHARE


def number_statistics(parts: Sequence[ValueCounts], python_type: str) -> dict[str, Any]:
    """Return ``min, max, mean, std`` of a numeric column; None for values that JSON cannot hold (inf).

    Integers are exact, and so is the sum behind the mean of decimals of up to twelve places. ``std`` is the sample
    standard deviation.
    """
    parts = [part for part in parts if part.rows]
    filled = sum(part.rows for part in parts)
    if not filled:
        return {}
    with np.errstate(invalid="ignore", over="ignore"):
        return _number_statistics(parts, filled, python_type)


def _number_statistics(parts: Sequence[ValueCounts], filled: int, python_type: str) -> dict[str, Any]:
    numbers = [_read_integers(part) if python_type == "int" else _read_decimals(part) for part in parts]
    total = sum((each[1] for each in numbers), start=Decimal(0))
    mean = float(total) / filled if total.is_nan() or total.is_infinite() else float(total / filled)
    spread = sum(float(np.dot(part.counts, (values - mean) ** 2)) for (values, *_), part in _paired(numbers, parts))
    std = (spread / (filled - 1)) ** 0.5 if filled > 1 else float("nan")
    least, most = min(each[2] for each in numbers), max(each[3] for each in numbers)
    return {name: _json_number(value) for name, value in (("min", least), ("max", most), ("mean", mean), ("std", std))}


def _paired(numbers: Sequence[Any], parts: Sequence[ValueCounts]) -> list[tuple[Any, ValueCounts]]:
    return list(zip(numbers, parts, strict=True))


def _json_number(value: float) -> float | int | None:
    return value if isinstance(value, int) or np.isfinite(value) else None


#: Values as floats, their exact sum over all rows, the minimum and the maximum.
_Numbers = tuple[np.ndarray, Decimal, Any, Any]


def _read_integers(part: ValueCounts) -> _Numbers:
    try:
        exact = pc.cast(part.values, pa.int64()).to_numpy()
    except pa.ArrowInvalid:
        # Integers of more than 64 bits, or digits other than ASCII.
        numbers = [int(text) for text in part.values.to_pylist()]
        total = sum(number * count for number, count in zip(numbers, part.counts.tolist(), strict=True))
        return np.array(numbers, dtype=np.float64), Decimal(total), min(numbers), max(numbers)
    least, most = int(exact.min()), int(exact.max())
    if max(-least, most) * part.rows < 2**62:
        total = int(np.dot(exact, part.counts))
    else:
        total = sum(number * count for number, count in zip(exact.tolist(), part.counts.tolist(), strict=True))
    return exact.astype(np.float64), Decimal(total), least, most


def _read_decimals(part: ValueCounts) -> _Numbers:
    texts = pc.replace_substring(part.values, ",", ".")
    try:
        values = pc.cast(texts, pa.float64()).to_numpy()
    except pa.ArrowInvalid:
        values = np.array([float(text) for text in texts.to_pylist()])
    return values, _exact_sum(texts, values, part.counts), float(values.min()), float(values.max())


def _exact_sum(texts: pa.Array, values: np.ndarray, counts: np.ndarray) -> Decimal:
    try:
        exact = pc.cast(texts, _DECIMAL)
        # Widened first, as pyarrow does not report an overflow of the sum.
        total = pc.sum(pc.cast(exact, _WIDE)).as_py()
        several = pa.array(counts > 1)
        more = pc.cast(exact.filter(several), _WIDE)
        times = pc.cast(pa.array(counts[counts > 1] - 1), _COUNT)
        again = pc.sum(pc.multiply(more, times)).as_py() if len(more) else Decimal(0)
    except pa.ArrowInvalid:
        # More decimal places than that, or not finite.
        return Decimal(float(np.dot(values, counts)))
    return Decimal(total) + Decimal(again)
