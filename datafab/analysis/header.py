"""Find the header of a table among its first records: below titles and remarks, on one row or two.

The rules are the same for texts and for workbooks. They go by what the cells are: names stand above values of another
kind, a title fills few cells, a remark such as ``Extracted on;12/03/2024`` fills fewer than the header below it. Where
the cells do not decide, the first record is the header.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from datafab.analysis.cell_kind import CellKind, is_value, kind_of
from datafab.analysis.header_candidate import Candidate, Record, filled_cells

#: Records among which a header is looked for.
ABOVE = 30
#: Share of the records in which a column is filled that belongs to the table, and not to a remark beside it.
_REGULAR = 0.25
#: Words of a title. Names of columns have seldom as many.
_TITLE_WORDS = 3
#: Cells of a remark: its name and what it says.
_PAIR = 2
_TITLE_MARK = re.compile(r"(#|//|--)|:(\s|$)")
_NUMBER = re.compile(r"-?[0-9]+([.,][0-9]+)?")
_YEAR = re.compile(r"(1[89]|20)[0-9]{2}")


@dataclass(frozen=True, slots=True)
class Header:
    """Where the header of a table stands.

    Attributes:
        position: of its first record.
        cells: the names, ``""`` where there is none; those of a header on two rows are joined.
        depth: records that it takes.
        passed: filled records above it.
        doubled: whether the first row may be a second header: names in another language, units.
    """

    position: int
    cells: tuple[str, ...]
    depth: int = 1
    passed: int = 0
    doubled: bool = False


def header(rows: Sequence[Record]) -> Header:
    """Find the header among the first records of a table, of which there must be one at least."""
    position = _position(rows)
    pair = _grouped(rows, position)
    if pair is not None:
        first, cells = pair
        return Header(first, cells, 2, _filled_above(rows, first))
    return Header(position, tuple(rows[position][1]), 1, _filled_above(rows, position), _is_doubled(rows, position))


def _is_doubled(rows: Sequence[Record], position: int) -> bool:
    """Tell whether the row below the header holds texts where all others hold values."""
    if position + 2 >= len(rows):
        return False
    candidate = Candidate(rows, position + 1)
    values = sum(map(is_value, candidate.columns))
    return candidate.is_header() and 0 < values <= candidate.contrasts


def header_warnings(head: Header, unit: str) -> tuple[str, ...]:
    """Say what was passed over above a header, and whether it was made of two records.

    Args:
        head: the header.
        unit: what a record is called: a line, a row.
    """
    warnings = []
    if head.passed:
        plural = "s" * (head.passed > 1)
        warnings.append(f"{head.passed} {unit}{plural} above the header passed over")
    if head.depth > 1:
        warnings.append(f"the header stands on {head.depth} {unit}s: their names are joined")
    if head.doubled:
        warnings.append(f"the first {unit} below the header may be a second one: it holds texts above values")
    return tuple(warnings)


def supported_title(rows: Sequence[Record], separator: str) -> bool:
    """Tell whether a first record of one cell is a title above a table, and not the name of a single column."""
    position = _position(rows)
    candidate = Candidate(rows, position)
    width = len(rows[position][1])
    if not position or width == 1 or not candidate.columns or not candidate.is_header(distinct=True):
        return False
    if rows[0][1][0].lstrip().startswith("#"):
        return True
    if _is_prose(rows[position:]):
        return candidate.contrasts >= _PAIR
    if candidate.contrasts or candidate.below_gap or separator == "\t":
        return True
    # A list such as ``red;green`` has the same words in other rows, a header's names are no values.
    return (
        not candidate.comes_again
        and all(len(cells) == width for _, cells in rows[position:])
        and _is_above_texts(rows, position, separator)
    )


def _is_above_texts(rows: Sequence[Record], position: int, separator: str) -> bool:
    """Tell whether a first record of one cell is a title above texts; a comma is in texts more often than others."""
    titles = sum(len(cells) == 1 for _, cells in rows[:position])
    wide, comma = len(rows[position][1]) > _PAIR, separator == ","
    if _is_title_text(rows[0][1]):
        return wide or titles > 1 or not comma
    return wide and titles == 1 and not (comma and len(rows[0][1][0].split()) == 1)


def _is_prose(rows: Sequence[Record]) -> bool:
    """Tell whether separators are followed by a blank as in a sentence: ``1 rue de la Paix, Lyon``."""
    cells = [cell for _, row in rows for cell in row[1:] if cell.strip()]
    return sum(cell[0] == " " for cell in cells) * 2 > len(cells)


def _filled_above(rows: Sequence[Record], position: int) -> int:
    return sum(1 for _, cells in rows[:position] if filled_cells(cells))


def raw_width(rows: Sequence[Record]) -> tuple[int, int]:
    """Return how many cells most records have, and how many records these are."""
    counts = Counter(len(cells) for _, cells in rows)
    return max(counts.items(), key=lambda pair: (pair[1], pair[0]))


def _regular_width(rows: Sequence[Record]) -> int:
    """Return how many columns are filled regularly: a remark beside the table makes it no wider."""
    counts: Counter[int] = Counter()
    for _, cells in rows:
        counts.update(at for at, cell in enumerate(cells) if cell and not cell.isspace())
    least = max(_PAIR, _REGULAR * len(rows))
    return sum(1 for count in counts.values() if count >= least)


def _position(rows: Sequence[Record]) -> int:
    """Return the position of the header: the first record that is no title or remark, its last repetition."""
    position = _below_titles(rows)
    while (fuller := _fuller(rows, position)) is not None:
        position = fuller
    if position and not filled_cells(rows[position - 1][1]) and Candidate(rows, position).is_data(position):
        # A header of blanks only.
        position -= 1
    while position + 1 < len(rows) and _same(rows[position][1], rows[position + 1][1]):
        position += 1
    return position


def _below_titles(rows: Sequence[Record]) -> int:
    """Return the position of the first record that fills half of the table's columns."""
    narrow, wide = _regular_width(rows), raw_width(rows)[0]
    titles = [_is_title(cells, narrow, wide) for _, cells in rows]
    position = titles.index(False) if False in titles else 0
    if position and len(rows[position - 1][1]) == wide and _is_row_below(rows[position - 1][1], rows[position][1]):
        position -= 1
    return position


def _is_title(cells: Sequence[str], narrow: int, wide: int) -> bool:
    return filled_cells(cells) * 2 < narrow or len(cells) == 1 < wide


def _is_row_below(title: Sequence[str], row: Sequence[str]) -> bool:
    """Tell whether what looks like a title is a header with blanks: a number below its first name is no header's.

    Unless all are years.
    """
    number = _NUMBER.fullmatch(row[0].strip()) is not None
    return number and bool(title[0].strip()) and not all(_YEAR.fullmatch(cell.strip()) for cell in row)


def _same(one: Sequence[str], other: Sequence[str]) -> bool:
    return [cell.strip() for cell in one] == [cell.strip() for cell in other]


def _fuller(rows: Sequence[Record], start: int) -> int | None:
    """Return the position of the header that stands below remarks; None: the record at ``start`` is the header."""
    most, named = filled_cells(rows[start][1]), _may_name(rows[start][1])
    for position in range(start + 1, min(len(rows), start + ABOVE)):
        filled = filled_cells(rows[position][1])
        if filled > most or (filled == most == _PAIR):
            candidate = Candidate(rows, position)
            if named and any(candidate.is_data(above) for above in range(start, position)):
                return None
            if candidate.is_header() and _is_below_remarks(candidate, start, filled):
                return position
        most = max(most, filled)
    return None


def _may_name(cells: Sequence[str]) -> bool:
    """Tell whether cells may be names: no number is one, and a date only among others."""
    kinds = [kind_of(cell) for cell in cells]
    return CellKind.NUMBER not in kinds and kinds.count(CellKind.MOMENT) != 1


def _is_below_remarks(candidate: Candidate, start: int, filled: int) -> bool:
    """Tell whether something speaks for all records from ``start`` up to a fuller one being remarks above a header."""
    above = [cells for _, cells in candidate.rows[start : candidate.position]]
    most = max(map(filled_cells, above))
    odd = any(candidate.is_odd_value(cells) for cells in above)
    if filled == most:
        pairs = all(filled_cells(cells) in {0, _PAIR} and not is_value(kind_of(_first(cells))) for cells in above)
        return pairs and odd and bool(candidate.contrasts or candidate.below_gap)
    return bool(
        (most * 2 < filled)
        or candidate.contrasts
        or candidate.below_gap
        or odd
        or (most == 1 and _is_title_text(above[0]))
        or (len(above) > 1 and candidate.fills_what_is_blank_in(above))
    )


def _first(cells: Sequence[str]) -> str:
    return next((cell for cell in cells if cell.strip()), "")


def _is_title_text(cells: Sequence[str]) -> bool:
    """Tell whether the first cell is filled, and by more than the name of a column."""
    first = cells[0].strip() if cells else ""
    return len(first.split()) >= _TITLE_WORDS or _TITLE_MARK.search(first) is not None


def _grouped(rows: Sequence[Record], position: int) -> tuple[int, tuple[str, ...]] | None:
    """Return where a header on two rows begins and its joined names; None: it stands on one.

    Merged cells are such a header: ``commune;2019;;2020;`` above ``;H;F;H;F``.
    """
    for first in (position, position - 1):
        if first >= 0 and first + 2 < len(rows):
            upper, lower = rows[first][1], rows[first + 1][1]
            candidate = Candidate(rows, first + 1)
            if _complete_each_other(candidate, upper, lower):
                return first, _joined(upper, lower)
    return None


def _complete_each_other(candidate: Candidate, upper: Sequence[str], lower: Sequence[str]) -> bool:
    """Tell whether two rows make names only together, and the lower one holds no values."""
    if len(upper) != len(lower) or filled_cells(upper) == len(upper) or not candidate.is_header():
        return False
    if not candidate.contrasts or candidate.is_odd_value(upper):
        return False
    used = [at for at, column in enumerate(candidate.columns) if column is not CellKind.BLANK and at < len(upper)]
    only_upper = [at for at in used if upper[at].strip() and not lower[at].strip()]
    only_lower = [at for at in used if lower[at].strip() and not upper[at].strip()]
    if only_upper:
        named = all(upper[at].strip() or lower[at].strip() for at in used)
        return bool(named and only_lower and used[0] == only_upper[0])
    # Groups above names that come again in each.
    joined = _joined(upper, lower)
    groups = not candidate.below_gap and filled_cells(upper) >= _PAIR and used[:1] == only_lower[:1]
    return groups and _repeats(lower) and not _repeats(joined)


def _repeats(names: Sequence[str]) -> bool:
    filled = [name.strip().casefold() for name in names if name.strip()]
    return len(set(filled)) < len(filled)


def _joined(upper: Sequence[str], lower: Sequence[str]) -> tuple[str, ...]:
    """Join the names of two rows: a group's name goes for the blanks to its right, too."""
    names, group = [], ""
    for above, below in zip(upper, lower, strict=True):
        group = above.strip() or group
        names.append(" ".join(name for name in (group, below.strip()) if name) if below.strip() else above.strip())
        group = group if below.strip() else ""
    return tuple(names)
