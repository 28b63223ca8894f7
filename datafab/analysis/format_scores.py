"""How far a column is of each of csv-detective's formats: proposed on a sample, confirmed on all distinct values.

A format that all rows must pass falls with the first value that does not. The others fall early where a random sample
makes it all but impossible that enough rows pass: the chance of a wrong no is below 1e-17 (Hoeffding).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from datafab.analysis import dates
from datafab.analysis.csv_detective import FORMATS, LEAVES, Format, parents
from datafab.analysis.distinct import Part
from datafab.analysis.filters import FILTERS, Filter, Said

#: Rows of the sample on which formats are proposed, and after how many of them it is looked whether one is out.
SAMPLE = 1000
LOOKS = (64, 100, 200, 400, 800)
#: ``exp(-2 * 20)`` is the chance that the share of a sample is that far below the truth.
CERTAINTY = 20.0
#: Distinct values from which filters are worth their while; those of dates save more.
WORTH, WORTH_DATES = 1000, 100

Test = Callable[[Any], bool]


def passes(known: Format, value: Any) -> bool:
    """Ask csv-detective; what makes its function fail is no value of that format."""
    try:
        return bool(known.is_value(value))
    except (ValueError, TypeError, OverflowError, RecursionError, ArithmeticError, LookupError):
        return False


@dataclass(slots=True)
class Judge:
    """Finds the scores of one column.

    Args:
        formats: the names of those that it may have.
        convert: makes of a text what csv-detective's functions get: a text, or a number of a typed column.
        filters: quick ways; none, to ask csv-detective for each value.
    """

    formats: Sequence[str]
    convert: Callable[[str], Any] = str
    filters: Mapping[str, Filter] = field(default_factory=lambda: FILTERS)
    quick_dates: bool = True

    def scores(self, parts: Sequence[Part]) -> tuple[dict[str, float], dict[str, str]]:
        """Return the share of rows that are of each format, 0 where it is too low, and the way to read its dates.

        Args:
            parts: of the column, without missing values.
        """
        filled = sum(part.rows for part in parts)
        if not filled:
            return dict.fromkeys(FORMATS, 0.0), {}
        proposed = self._proposed(parts)
        scores = {leaf: self._share(leaf, parts, filled) if leaf in proposed else 0.0 for leaf in LEAVES}
        scores = parents(scores, lambda name: self._share(name, parts, filled) if name in proposed else 0.0)
        return scores, self._ways(scores, parts)

    def _proposed(self, parts: Sequence[Part]) -> set[str]:
        """Return the formats that are not out after a look at a sample of all rows."""
        if sum(part.rows for part in parts) <= SAMPLE and sum(len(part.values) for part in parts) <= LOOKS[0]:
            return set(self.formats)
        sample = [self.convert(value) for value in _drawn(parts)]
        return {name for name in self.formats if not _out(FORMATS[name], sample)}

    def _share(self, name: str, parts: Sequence[Part], filled: int) -> float:
        """Return the share of rows that are of a format, 0 where it is too low."""
        known = FORMATS[name]
        allowed = filled * (1 - known.proportion)
        valid = lost = 0
        for part in parts:
            passed, failed = self._counted(known, part, allowed - lost)
            valid, lost = valid + passed, lost + failed
            if lost > allowed + 1:
                return 0.0
        share = valid / filled
        return share if share >= known.proportion else 0.0

    def _counted(self, known: Format, part: Part, allowed: float) -> tuple[int, int]:
        """Count rows that pass and rows that fail; stop when more fail than are allowed."""
        valid, lost = 0, 0
        rest = part
        said = self._said(known, part.values)
        if said is not None:
            yes = said[0].to_numpy(zero_copy_only=False)
            sure = yes if said[1] is None else said[1].to_numpy(zero_copy_only=False)
            valid = int(part.counts[yes].sum())
            lost = int(part.counts[sure].sum()) - valid
            rest = part.only(~sure)
        for value, count in zip(rest.values.to_pylist(), rest.counts.tolist(), strict=True):
            if passes(known, self.convert(value)):
                valid += count
            else:
                lost += count
                if lost > allowed + 1:
                    break
        return valid, lost

    def _said(self, known: Format, values: pa.Array) -> Said | None:
        """Ask the quick way, where there is one that is worth it."""
        if self.convert is not str:
            return None
        if self._quick(known, values):
            return dates.read(known.name, values).mask, None
        if known.name in self.filters and len(values) >= WORTH:
            return self.filters[known.name](values)
        return None

    def _quick(self, known: Format, values: pa.Array) -> bool:
        return self.quick_dates and known.infer is not None and len(values) >= WORTH_DATES

    def _ways(self, scores: dict[str, float], parts: Sequence[Part]) -> dict[str, str]:
        """Find the way in which each format of dates reads all values; a format without one is out."""
        ways: dict[str, str] = {}
        for name, score in scores.items():
            infer = FORMATS[name].infer
            if infer is None or not score or self.convert is not str:
                continue
            way = infer(value for part in parts for value in self._telling(name, part))
            if way is None:
                scores[name] = 0.0
            else:
                ways[name] = way
        return ways

    def _telling(self, name: str, part: Part) -> Iterable[str]:
        """Return values that say which way of writing reads all of a part."""
        if not self._quick(FORMATS[name], part.values):
            return part.values.to_pylist()  # type: ignore[no-any-return]
        known = dates.read(name, part.values)
        rest = part.values.filter(pc.invert(known.mask))
        return [*known.standing, *rest.to_pylist()]


def _drawn(parts: Sequence[Part]) -> list[str]:
    """Draw the values of a sample of rows; of the same content the same ones each time."""
    first = np.concatenate([[0], np.cumsum([part.rows for part in parts])])
    drawn = np.random.default_rng(0).integers(0, first[-1], SAMPLE)
    values = np.empty(SAMPLE, dtype=object)
    for part, begin, end in zip(parts, first[:-1], first[1:], strict=True):
        mine = np.flatnonzero((drawn >= begin) & (drawn < end))
        places = np.searchsorted(np.cumsum(part.counts), drawn[mine] - begin, side="right")
        values[mine] = part.values.take(pa.array(places)).to_pylist()
    return values.tolist()


def _out(known: Format, sample: Sequence[Any]) -> bool:
    """Tell whether a sample shows that too few rows are of a format."""
    if known.proportion == 1:
        return not all(passes(known, value) for value in sample)
    valid = 0
    for number, value in enumerate(sample, 1):
        valid += passes(known, value)
        if number in LOOKS and valid / number < known.proportion - (CERTAINTY / number) ** 0.5:
            return True
    return False
