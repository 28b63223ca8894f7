"""Find the header of a table among its first records: below titles and remarks, on one row or two.

The rules are the same for texts and for workbooks, and go by the kinds of the cells: names stand above values of
another kind, a title fills few cells, a remark such as ``Extracted on;12/03/2024`` fills fewer cells than the header
below it. If the cells do not decide, the first record is the header.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from datafab.analysis.cell_kind import CellKind, classify_cell, is_value
from datafab.analysis.header_candidate import Candidate, Record, count_filled_cells

#: Maximum number of records among which a header is searched.
MAX_SEARCHED_RECORDS = 30
#: Share of the records in which a column of the table is filled; one filled in fewer belongs to a remark.
_MIN_FILLED_SHARE = 0.25
#: Minimum number of words of a title; column names rarely have as many.
_MIN_TITLE_WORDS = 3
#: Cells of a remark: its name and its value.
_REMARK_CELLS = 2
_TITLE_MARK = re.compile(r"(#|//|--)|:(\s|$)")
_NUMBER = re.compile(r"-?[0-9]+([.,][0-9]+)?")
_YEAR = re.compile(r"(1[89]|20)[0-9]{2}")


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a table and its place.

    Attributes:
        position: of its first record.
        cells: the names, ``""`` if there is none; those of a header on two rows are joined.
        depth: number of its records.
        skipped: number of filled records above it.
        maybe_doubled: whether the first row may be a second header, such as names in another language or units.
    """

    position: int
    cells: tuple[str, ...]
    depth: int = 1
    skipped: int = 0
    maybe_doubled: bool = False


def find_header(rows: Sequence[Record]) -> Header:
    """Find the header among the first records of a table; there must be at least one."""
    position = _header_position(rows)
    pair = _find_double_header(rows, position)
    if pair is not None:
        first, cells = pair
        return Header(first, cells, 2, _filled_above(rows, first))
    return Header(position, tuple(rows[position][1]), 1, _filled_above(rows, position), _is_doubled(rows, position))


def _is_doubled(rows: Sequence[Record], position: int) -> bool:
    """Tell whether the row below the header holds texts in columns that hold values in all other rows."""
    if position + 2 >= len(rows):
        return False
    candidate = Candidate(rows, position + 1)
    values = sum(map(is_value, candidate.columns))
    return candidate.is_header() and 0 < values <= candidate.contrasts


def header_warnings(head: Header, unit: str) -> tuple[str, ...]:
    """Return warnings about lines skipped above a header, and about a header of two records.

    Args:
        head: the header.
        unit: the word for a record: ``line`` or ``row``.
    """
    warnings = []
    if head.skipped:
        plural = "s" * (head.skipped > 1)
        warnings.append(f"{head.skipped} {unit}{plural} above the header passed over")
    if head.depth > 1:
        warnings.append(f"the header stands on {head.depth} {unit}s: their names are joined")
    if head.maybe_doubled:
        warnings.append(f"the first {unit} below the header may be a second one: it holds texts above values")
    return tuple(warnings)


def starts_with_title(rows: Sequence[Record], separator: str) -> bool:
    """Tell whether a first record of one cell is a title above a table and not the name of a single column."""
    position = _header_position(rows)
    candidate = Candidate(rows, position)
    width = len(rows[position][1])
    if not position or width == 1 or not candidate.columns or not candidate.is_header(distinct=True):
        return False
    if rows[0][1][0].lstrip().startswith("#"):
        return True
    if _is_prose(rows[position:]):
        return candidate.contrasts >= _REMARK_CELLS
    if candidate.contrasts or candidate.below_gap or separator == "\t":
        return True
    # A list such as ``red;green`` has the same words in other rows, a header's names are no values.
    return (
        not candidate.comes_again
        and all(len(cells) == width for _, cells in rows[position:])
        and _is_above_texts(rows, position, separator)
    )


def _is_above_texts(rows: Sequence[Record], position: int, separator: str) -> bool:
    """Tell whether a first record of one cell is a title above texts, in which commas are frequent."""
    titles = sum(len(cells) == 1 for _, cells in rows[:position])
    wide, comma = len(rows[position][1]) > _REMARK_CELLS, separator == ","
    if _is_title_text(rows[0][1]):
        return wide or titles > 1 or not comma
    return wide and titles == 1 and not (comma and len(rows[0][1][0].split()) == 1)


def _is_prose(rows: Sequence[Record]) -> bool:
    """Tell whether most separators are followed by a blank, as in a sentence: ``1 rue de la Paix, Lyon``."""
    cells = [cell for _, row in rows for cell in row[1:] if cell.strip()]
    return sum(cell[0] == " " for cell in cells) * 2 > len(cells)


def _filled_above(rows: Sequence[Record], position: int) -> int:
    return sum(1 for _, cells in rows[:position] if count_filled_cells(cells))


def most_common_width(rows: Sequence[Record]) -> tuple[int, int]:
    """Return the most common number of cells of a record, and the number of records that have it."""
    counts = Counter(len(cells) for _, cells in rows)
    return max(counts.items(), key=lambda pair: (pair[1], pair[0]))


def _regular_width(rows: Sequence[Record]) -> int:
    """Return the number of regularly filled columns; a remark next to the table does not count."""
    counts: Counter[int] = Counter()
    for _, cells in rows:
        counts.update(at for at, cell in enumerate(cells) if cell and not cell.isspace())
    least = max(_REMARK_CELLS, _MIN_FILLED_SHARE * len(rows))
    return sum(1 for count in counts.values() if count >= least)


def _header_position(rows: Sequence[Record]) -> int:
    """Return the position of the first record that is no title or remark; if it is repeated, of the last repetition."""
    position = _below_titles(rows)
    while (fuller := _header_below_remarks(rows, position)) is not None:
        position = fuller
    if position and not count_filled_cells(rows[position - 1][1]) and Candidate(rows, position).is_data(position):
        # The header consists of blank cells only.
        position -= 1
    while position + 1 < len(rows) and _same(rows[position][1], rows[position + 1][1]):
        position += 1
    return position


def _below_titles(rows: Sequence[Record]) -> int:
    """Return the position of the first record that fills half of the table's columns."""
    narrow, wide = _regular_width(rows), most_common_width(rows)[0]
    titles = [_is_title(cells, narrow, wide) for _, cells in rows]
    position = titles.index(False) if False in titles else 0
    if position and len(rows[position - 1][1]) == wide and _is_row_below(rows[position - 1][1], rows[position][1]):
        position -= 1
    return position


def _is_title(cells: Sequence[str], narrow: int, wide: int) -> bool:
    return count_filled_cells(cells) * 2 < narrow or len(cells) == 1 < wide


def _is_row_below(title: Sequence[str], row: Sequence[str]) -> bool:
    """Tell whether an apparent title is a header with blank cells, because the record below begins with a number.

    A record of years only may be a header itself.
    """
    number = _NUMBER.fullmatch(row[0].strip()) is not None
    return number and bool(title[0].strip()) and not all(_YEAR.fullmatch(cell.strip()) for cell in row)


def _same(one: Sequence[str], other: Sequence[str]) -> bool:
    return [cell.strip() for cell in one] == [cell.strip() for cell in other]


def _header_below_remarks(rows: Sequence[Record], start: int) -> int | None:
    """Return the position of the header below remarks; None if the record at ``start`` is the header."""
    most, named = count_filled_cells(rows[start][1]), _may_name(rows[start][1])
    for position in range(start + 1, min(len(rows), start + MAX_SEARCHED_RECORDS)):
        filled = count_filled_cells(rows[position][1])
        if filled > most or (filled == most == _REMARK_CELLS):
            candidate = Candidate(rows, position)
            if named and any(candidate.is_data(above) for above in range(start, position)):
                return None
            if candidate.is_header() and _is_below_remarks(candidate, start, filled):
                return position
        most = max(most, filled)
    return None


def _may_name(cells: Sequence[str]) -> bool:
    """Tell whether cells may be names: none is a number, and none is the only date."""
    kinds = [classify_cell(cell) for cell in cells]
    return CellKind.NUMBER not in kinds and kinds.count(CellKind.MOMENT) != 1


def _is_below_remarks(candidate: Candidate, start: int, filled: int) -> bool:
    """Tell whether there is evidence that all records from ``start`` up to a fuller one are remarks above a header."""
    above = [cells for _, cells in candidate.rows[start : candidate.position]]
    most = max(map(count_filled_cells, above))
    odd = any(candidate.is_odd_value(cells) for cells in above)
    if filled == most:
        pairs = all(
            count_filled_cells(cells) in {0, _REMARK_CELLS} and not is_value(classify_cell(_first(cells)))
            for cells in above
        )
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
    """Tell whether the first cell holds more than the name of a column."""
    first = cells[0].strip() if cells else ""
    return len(first.split()) >= _MIN_TITLE_WORDS or _TITLE_MARK.search(first) is not None


def _find_double_header(rows: Sequence[Record], position: int) -> tuple[int, tuple[str, ...]] | None:
    """Return the position of a header on two rows and its joined names; None if it is on one.

    Merged cells yield such a header: ``commune;2019;;2020;`` above ``;H;F;H;F``.
    """
    for first in (position, position - 1):
        if first >= 0 and first + 2 < len(rows):
            upper, lower = rows[first][1], rows[first + 1][1]
            candidate = Candidate(rows, first + 1)
            if _complete_each_other(candidate, upper, lower):
                return first, _join_names(upper, lower)
    return None


def _complete_each_other(candidate: Candidate, upper: Sequence[str], lower: Sequence[str]) -> bool:
    """Tell whether two rows form names only together, and the lower one holds no values."""
    if len(upper) != len(lower) or count_filled_cells(upper) == len(upper) or not candidate.is_header():
        return False
    if not candidate.contrasts or candidate.is_odd_value(upper):
        return False
    used = [at for at, column in enumerate(candidate.columns) if column is not CellKind.BLANK and at < len(upper)]
    only_upper = [at for at in used if upper[at].strip() and not lower[at].strip()]
    only_lower = [at for at in used if lower[at].strip() and not upper[at].strip()]
    if only_upper:
        named = all(upper[at].strip() or lower[at].strip() for at in used)
        return bool(named and only_lower and used[0] == only_upper[0])
    # Groups above names that are repeated in each group.
    joined = _join_names(upper, lower)
    groups = not candidate.below_gap and count_filled_cells(upper) >= _REMARK_CELLS and used[:1] == only_lower[:1]
    return groups and _repeats(lower) and not _repeats(joined)


def _repeats(names: Sequence[str]) -> bool:
    filled = [name.strip().casefold() for name in names if name.strip()]
    return len(set(filled)) < len(filled)


def _join_names(upper: Sequence[str], lower: Sequence[str]) -> tuple[str, ...]:
    """Join the names of two rows; the name of a group also applies to the blank cells to its right."""
    names, group = [], ""
    for above, below in zip(upper, lower, strict=True):
        group = above.strip() or group
        names.append(" ".join(name for name in (group, below.strip()) if name) if below.strip() else above.strip())
        group = group if below.strip() else ""
    return tuple(names)
