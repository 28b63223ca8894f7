"""Compare a record that may be the header of a table with the records around it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from datafab.analysis.cell_kind import CellKind, agrees, classify_cell, classify_column, is_value

#: A record: its first physical line or row, and its cells.
Record = tuple[int, Sequence[str]]

#: Maximum number of records below a candidate that are compared with it.
MAX_COMPARED_RECORDS = 50
#: More records than these are needed to say that a column is always filled.
_MIN_RECORDS = 2


def count_filled_cells(cells: Sequence[str]) -> int:
    """Count the cells of a record that are not blank."""
    return sum(1 for cell in cells if cell and not cell.isspace())


@dataclass(frozen=True)
class Candidate:
    """A record that may be the header, with the records around it."""

    rows: Sequence[Record]
    position: int

    @cached_property
    def cells(self) -> Sequence[str]:
        """The cells of the record."""
        return self.rows[self.position][1]

    @cached_property
    def kinds(self) -> list[CellKind]:
        """The kinds of the record's cells."""
        return [classify_cell(cell) for cell in self.cells]

    @cached_property
    def columns(self) -> list[CellKind]:
        """The kinds of the columns below the record; empty if there are no records below."""
        below = [cells for _, cells in self.rows[self.position + 1 : self.position + 1 + MAX_COMPARED_RECORDS]]
        width = max(map(len, below), default=0)
        return [classify_column(cells[at] for cells in below if at < len(cells)) for at in range(width)]

    def _pairs(self, cells: Sequence[str]) -> list[tuple[CellKind, CellKind]]:
        """Return the kinds of some cells, each with that of its column."""
        kinds = self.kinds if cells is self.cells else [classify_cell(cell) for cell in cells]
        return list(zip(kinds, self.columns, strict=False))

    @cached_property
    def contrasts(self) -> int:
        """The number of the record's names that stand above values."""
        pairs = self._pairs(self.cells)
        names = sum(kind is CellKind.TEXT and is_value(column) for kind, column in pairs)
        # Dates and years may be names, too, if several stand above numbers.
        dates = sum(kind in {CellKind.YEAR, CellKind.MOMENT} and column is CellKind.NUMBER for kind, column in pairs)
        return names + (dates if dates > 1 else 0)

    @property
    def below_gap(self) -> bool:
        """Whether a blank record or a blank line precedes the record."""
        line, before = self.rows[self.position - 1]
        height = 1 + sum(cell.count("\n") for cell in before)
        return not count_filled_cells(before) or self.rows[self.position][0] > line + height

    def is_header(self, *, distinct: bool = False) -> bool:
        """Tell whether the record may hold names: no value like those of its column, no number above texts."""
        if any(kind in {CellKind.NUMBER, CellKind.LINK} for kind in self.kinds):
            return False
        pairs = self._pairs(self.cells)
        if not self.columns or any(agrees(*pair) for pair in pairs):
            return False
        named = [cell.strip().casefold() for cell in self.cells if cell.strip()]
        moments = any(kind is CellKind.MOMENT and column is not CellKind.NUMBER for kind, column in pairs)
        return not moments and (not distinct or len(set(named)) == len(named))

    @property
    def comes_again(self) -> bool:
        """Whether one of its cells is also a cell of a record below it."""
        names = {cell.strip().casefold() for cell in self.cells if cell.strip()}
        return any(cell.strip().casefold() in names for _, cells in self.rows[self.position + 1 :] for cell in cells)

    def is_data(self, position: int) -> bool:
        """Tell whether another record holds values like those of the columns, and no text in a column of values."""
        pairs = self._pairs(self.rows[position][1])
        foreign = any(kind is CellKind.TEXT and is_value(column) for kind, column in pairs)
        return not foreign and any(agrees(*pair) for pair in pairs)

    def is_odd_value(self, cells: Sequence[str]) -> bool:
        """Tell whether some cell holds a number or a date unlike the values of its column."""
        return any(
            kind in {CellKind.NUMBER, CellKind.MOMENT} and not agrees(kind, column)
            for kind, column in self._pairs(cells)
        )

    def fills_what_is_blank_in(self, above: Sequence[Sequence[str]]) -> bool:
        """Tell whether this record and all below fill a column that no record above fills."""
        below = [cells for _, cells in self.rows[self.position : self.position + MAX_COMPARED_RECORDS]]
        return len(below) > _MIN_RECORDS and any(
            all(at < len(cells) and cells[at].strip() for cells in below)
            and not any(at < len(cells) and cells[at].strip() for cells in above)
            for at in range(len(self.cells))
        )
