"""How much memory a part of an xlsx takes, as openpyxl and pandas read it.

openpyxl pads each row to its last cell, be that empty; pandas then cuts the row behind its last value, and makes all
rows as wide as the widest. Rows and cells that do not say where they are follow the one before.
"""

from __future__ import annotations

from dataclasses import dataclass

from datafab.analysis.limits import CELLS, ELEMENTS, bounded, few

#: What a sheet has in Excel.
ROWS, COLUMNS = 1_048_576, 16_384
#: Cells to which rows are padded, a row at a time: they cost time only.
PADDED = 2 * CELLS
#: Texts of a workbook: a hundred bytes each.
TEXTS = 5_000_000
#: The elements that openpyxl knows, and no others of these names.
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_SHEET, _TEXTS = f"{_MAIN} worksheet", f"{_MAIN} sst"
_ROW, _CELL, _TEXT = f"{_MAIN} row", f"{_MAIN} c", f"{_MAIN} si"
_VALUES = frozenset(f"{_MAIN} {name}" for name in ("v", "is", "f"))


@dataclass(slots=True)
class Xlsx:
    """Sees how far the rows, cells and values of a part go, and how many elements are held at once."""

    _root: str = ""
    _rows: int = 0
    _columns: int = 0
    _filled_rows: int = 0
    _filled_columns: int = 0
    _padded: int = 0
    _texts: int = 0
    _held: int = 0
    _before: int = 0
    _most: int = 0
    _row: int = 0
    _column: int = 0

    def start(self, element: str, attributes: dict[str, str]) -> None:
        """See an element begin."""
        self._root = self._root or element
        self._held += 1
        if element == _CELL:
            self._column = _column(attributes.get("r", "")) or self._column + 1
            self._columns = max(self._columns, self._column)
        elif element in _VALUES:
            self._filled_rows = max(self._filled_rows, self._row)
            self._filled_columns = max(self._filled_columns, self._column)
        elif element == _ROW:
            self._row = _number(attributes.get("r", "")) or self._row + 1
            self._rows = max(self._rows, self._row)
            self._column, self._before = 0, self._held
        elif element == _TEXT:
            self._texts += 1
            self._before = self._held

    def end(self, element: str) -> None:
        """See an element end."""
        if (self._root, element) in {(_SHEET, _ROW), (_TEXTS, _TEXT)}:
            # These are emptied when they are read.
            self._padded += self._column
            self._most = max(self._most, self._held)
            self._held = self._before - 1

    def bounded(self) -> None:
        """Refuse what is too large.

        Raises:
            Fatal: ``too_large``.
        """
        bounded(self._filled_rows, self._filled_columns)
        few(self._rows, "rows in a sheet", ROWS)
        few(self._columns, "columns in a sheet", COLUMNS)
        few(self._padded, "cells in a sheet, most of them empty", PADDED)
        few(self._texts, "texts", TEXTS)
        few(max(self._most, self._held), "elements in one part", ELEMENTS)


def _number(said: str) -> int:
    """Return the number of a row as openpyxl reads it; 0: it says none, or nothing that is read."""
    try:
        return int(float(said)) if said else 0
    except (ValueError, OverflowError):
        return 0


def _column(place: str) -> int:
    number = 0
    for letter in place.rstrip("0123456789").upper():
        number = number * 26 + ord(letter) - 64
    return number
