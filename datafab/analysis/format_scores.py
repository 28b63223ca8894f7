"""Score a column against csv-detective's formats: select plausible ones on a sample, confirm them on all values.

A format that all rows must pass is ruled out by the first value that fails. The others are ruled out early if a random
sample makes it practically impossible that enough rows pass: by Hoeffding's inequality, the probability of ruling one
out wrongly is below 1e-17.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from datafab.analysis import dates
from datafab.analysis.csv_detective import FORMATS, LEAF_FORMATS, Format, add_parent_scores
from datafab.analysis.distinct import ValueCounts
from datafab.analysis.filters import FILTERS, Filter, FilterResult

#: Rows of the sample on which plausible formats are selected, and the numbers of rows after which a format may be ruled
#: out.
SAMPLE_ROWS = 1000
CHECKPOINT_ROWS = (64, 100, 200, 400, 800)
#: ``exp(-2 * 20)`` bounds the probability that the share of a sample is that far below the true one.
HOEFFDING_EXPONENT = 20.0
#: Distinct values from which filters are faster; those of dates save more time.
MIN_FILTER_VALUES, MIN_DATE_FILTER_VALUES = 1000, 100

Test = Callable[[Any], bool]


def passes_format(tested: Format, value: Any) -> bool:
    """Tell whether csv-detective accepts a value; one that makes its function raise is not accepted."""
    try:
        return bool(tested.is_value(value))
    except (ValueError, TypeError, OverflowError, RecursionError, ArithmeticError, LookupError):
        return False


@dataclass(slots=True)
class FormatScorer:
    """Scores a column against the formats.

    Args:
        formats: names of the candidate formats.
        convert: converts a text to what csv-detective's functions get, such as a number in a typed column.
        filters: vectorised filters; empty to call csv-detective for each value.
        use_date_shapes: whether dates are matched by their shapes first.
    """

    formats: Sequence[str]
    convert: Callable[[str], Any] = str
    filters: Mapping[str, Filter] = field(default_factory=lambda: FILTERS)
    use_date_shapes: bool = True

    def scores(self, parts: Sequence[ValueCounts]) -> tuple[dict[str, float], dict[str, str]]:
        """Return the share of rows of each format (0 if it is too low) and the date formats found.

        Args:
            parts: of the column, without missing values.
        """
        filled = sum(part.rows for part in parts)
        if not filled:
            return dict.fromkeys(FORMATS, 0.0), {}
        plausible = self._plausible_formats(parts)
        scores = {leaf: self._passing_share(leaf, parts, filled) if leaf in plausible else 0.0 for leaf in LEAF_FORMATS}
        scores = add_parent_scores(
            scores, lambda name: self._passing_share(name, parts, filled) if name in plausible else 0.0
        )
        return scores, self._find_date_formats(scores, parts)

    def _plausible_formats(self, parts: Sequence[ValueCounts]) -> set[str]:
        """Return the formats that a sample of the rows does not rule out."""
        if (
            sum(part.rows for part in parts) <= SAMPLE_ROWS
            and sum(len(part.values) for part in parts) <= CHECKPOINT_ROWS[0]
        ):
            return set(self.formats)
        sample = [self.convert(value) for value in _draw_sample(parts)]
        return {name for name in self.formats if not _is_ruled_out(FORMATS[name], sample)}

    def _passing_share(self, name: str, parts: Sequence[ValueCounts], filled: int) -> float:
        """Return the share of rows of a format, 0 if it is too low."""
        tested = FORMATS[name]
        allowed = filled * (1 - tested.proportion)
        valid = failing = 0
        for part in parts:
            passed, failed = self._count_rows(tested, part, allowed - failing)
            valid, failing = valid + passed, failing + failed
            if failing > allowed + 1:
                return 0.0
        share = valid / filled
        return share if share >= tested.proportion else 0.0

    def _count_rows(self, tested: Format, part: ValueCounts, allowed: float) -> tuple[int, int]:
        """Count rows that pass and rows that fail; stop when more fail than are allowed."""
        valid, failing = 0, 0
        rest = part
        filtered = self._apply_filter(tested, part.values)
        if filtered is not None:
            yes = filtered[0].to_numpy(zero_copy_only=False)
            sure = yes if filtered[1] is None else filtered[1].to_numpy(zero_copy_only=False)
            valid = int(part.counts[yes].sum())
            failing = int(part.counts[sure].sum()) - valid
            rest = part.select(~sure)
        for value, count in zip(rest.values.to_pylist(), rest.counts.tolist(), strict=True):
            if passes_format(tested, self.convert(value)):
                valid += count
            else:
                failing += count
                if failing > allowed + 1:
                    break
        return valid, failing

    def _apply_filter(self, tested: Format, values: pa.Array) -> FilterResult | None:
        """Return the result of a filter, if there is one and the column is large enough."""
        if self.convert is not str:
            return None
        if self._uses_date_shapes(tested, values):
            return dates.match_dates(tested.name, values).mask, None
        if tested.name in self.filters and len(values) >= MIN_FILTER_VALUES:
            return self.filters[tested.name](values)
        return None

    def _uses_date_shapes(self, tested: Format, values: pa.Array) -> bool:
        return self.use_date_shapes and tested.infer is not None and len(values) >= MIN_DATE_FILTER_VALUES

    def _find_date_formats(self, scores: dict[str, float], parts: Sequence[ValueCounts]) -> dict[str, str]:
        """Find the date format that reads all values, for each format of dates; score 0 if there is none."""
        date_formats: dict[str, str] = {}
        for name, score in scores.items():
            infer = FORMATS[name].infer
            if infer is None or not score or self.convert is not str:
                continue
            date_format = infer(value for part in parts for value in self._representative_values(name, part))
            if date_format is None:
                scores[name] = 0.0
            else:
                date_formats[name] = date_format
        return date_formats

    def _representative_values(self, name: str, part: ValueCounts) -> Iterable[str]:
        """Return values that determine which date format reads all of a part."""
        if not self._uses_date_shapes(FORMATS[name], part.values):
            return part.values.to_pylist()  # type: ignore[no-any-return]
        tested = dates.match_dates(name, part.values)
        rest = part.values.filter(pc.invert(tested.mask))
        return [*tested.representatives, *rest.to_pylist()]


def _draw_sample(parts: Sequence[ValueCounts]) -> list[str]:
    """Draw the values of a sample of rows, always the same for the same content."""
    first = np.concatenate([[0], np.cumsum([part.rows for part in parts])])
    drawn = np.random.default_rng(0).integers(0, first[-1], SAMPLE_ROWS)
    values = np.empty(SAMPLE_ROWS, dtype=object)
    for part, begin, end in zip(parts, first[:-1], first[1:], strict=True):
        in_part = np.flatnonzero((drawn >= begin) & (drawn < end))
        places = np.searchsorted(np.cumsum(part.counts), drawn[in_part] - begin, side="right")
        values[in_part] = part.values.take(pa.array(places)).to_pylist()
    return values.tolist()


def _is_ruled_out(tested: Format, sample: Sequence[Any]) -> bool:
    """Tell whether a sample rules out that enough rows are of a format."""
    if tested.proportion == 1:
        return not all(passes_format(tested, value) for value in sample)
    valid = 0
    for number, value in enumerate(sample, 1):
        valid += passes_format(tested, value)
        if number in CHECKPOINT_ROWS and valid / number < tested.proportion - (HOEFFDING_EXPONENT / number) ** 0.5:
            return True
    return False
