"""What is counted of a column: missing and distinct values, the most frequent ones, and figures where it is numbers."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from datafab.analysis.distinct import Part

#: Most frequent values that are named, and the distinct ones that are all named.
TOPS, FEW = 10, 25
#: Share of distinct values below which a column is categorical, as csv-detective has it.
CATEGORICAL = 0.05
#: Characters of a value that is named: an outline of an area may have millions.
LONGEST = 1000

_DECIMAL, _WIDE, _COUNT = pa.decimal128(38, 12), pa.decimal256(50, 12), pa.decimal256(19, 0)


def tops(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Return the most frequent values with their rows; of equals, those that come first."""
    found = [pair for part in parts for pair in _tops(part)]
    found.sort(key=lambda pair: -pair[1])
    return [{"count": count, "value": value[:LONGEST]} for value, count in found[:TOPS]]


def _tops(part: Part) -> list[tuple[str, int]]:
    counts = part.counts
    places = np.arange(len(counts))
    if len(counts) > TOPS:
        least = np.partition(counts, -TOPS)[-TOPS]
        above = np.flatnonzero(counts > least)
        places = np.concatenate([above, np.flatnonzero(counts == least)[: TOPS - len(above)]])
        places = places[np.argsort(-counts[places], kind="stable")]
    values = part.values.take(pa.array(places)).to_pylist()
    return list(zip(values, counts[places].tolist(), strict=True))


def few(parts: Sequence[Part]) -> list[str] | None:
    """Return all distinct values where they are few and of a length that can be named."""
    if sum(len(part.values) for part in parts) > FEW:
        return None
    if any((pc.max(pc.utf8_length(part.values)).as_py() or 0) > LONGEST for part in parts):
        return None
    return [value for part in parts for value in part.values.to_pylist()]


def categorical(distinct: int, rows: int) -> bool:
    """Tell whether a column is one of categories."""
    return distinct <= FEW or distinct / rows <= CATEGORICAL


def figures(parts: Sequence[Part], python_type: str) -> dict[str, Any]:
    """Return ``min, max, mean, std`` of a column of numbers; of what is no number in JSON (inf), None.

    Integers are exact, and so is the sum behind the mean of decimals of up to twelve places. ``std`` is that of a
    sample.
    """
    parts = [part for part in parts if part.rows]
    filled = sum(part.rows for part in parts)
    if not filled:
        return {}
    with np.errstate(invalid="ignore", over="ignore"):
        return _figures(parts, filled, python_type)


def _figures(parts: Sequence[Part], filled: int, python_type: str) -> dict[str, Any]:
    numbers = [_integers(part) if python_type == "int" else _decimals(part) for part in parts]
    total = sum((each[1] for each in numbers), start=Decimal(0))
    mean = float(total) / filled if total.is_nan() or total.is_infinite() else float(total / filled)
    spread = sum(float(np.dot(part.counts, (values - mean) ** 2)) for (values, *_), part in _paired(numbers, parts))
    std = (spread / (filled - 1)) ** 0.5 if filled > 1 else float("nan")
    least, most = min(each[2] for each in numbers), max(each[3] for each in numbers)
    return {name: _finite(value) for name, value in (("min", least), ("max", most), ("mean", mean), ("std", std))}


def _paired(numbers: Sequence[Any], parts: Sequence[Part]) -> list[tuple[Any, Part]]:
    return list(zip(numbers, parts, strict=True))


def _finite(value: float) -> float | int | None:
    return value if isinstance(value, int) or np.isfinite(value) else None


#: Values as floats, their exact sum over all rows, the least and the greatest.
_Numbers = tuple[np.ndarray, Decimal, Any, Any]


def _integers(part: Part) -> _Numbers:
    try:
        exact = pc.cast(part.values, pa.int64()).to_numpy()
    except pa.ArrowInvalid:
        # Twenty digits, or digits that are not ours.
        numbers = [int(text) for text in part.values.to_pylist()]
        total = sum(number * count for number, count in zip(numbers, part.counts.tolist(), strict=True))
        return np.array(numbers, dtype=np.float64), Decimal(total), min(numbers), max(numbers)
    least, most = int(exact.min()), int(exact.max())
    if max(-least, most) * part.rows < 2**62:
        total = int(np.dot(exact, part.counts))
    else:
        total = sum(number * count for number, count in zip(exact.tolist(), part.counts.tolist(), strict=True))
    return exact.astype(np.float64), Decimal(total), least, most


def _decimals(part: Part) -> _Numbers:
    texts = pc.replace_substring(part.values, ",", ".")
    try:
        values = pc.cast(texts, pa.float64()).to_numpy()
    except pa.ArrowInvalid:
        values = np.array([float(text) for text in texts.to_pylist()])
    return values, _sum(texts, values, part.counts), float(values.min()), float(values.max())


def _sum(texts: pa.Array, values: np.ndarray, counts: np.ndarray) -> Decimal:
    try:
        exact = pc.cast(texts, _DECIMAL)
        # As wide as the sum of them may be: one that is too long for its type is wrong, not refused.
        total = pc.sum(pc.cast(exact, _WIDE)).as_py()
        several = pa.array(counts > 1)
        more = pc.cast(exact.filter(several), _WIDE)
        times = pc.cast(pa.array(counts[counts > 1] - 1), _COUNT)
        again = pc.sum(pc.multiply(more, times)).as_py() if len(more) else Decimal(0)
    except pa.ArrowInvalid:
        # More places than that, or none at all: inf.
        return Decimal(float(np.dot(values, counts)))
    return Decimal(total) + Decimal(again)
