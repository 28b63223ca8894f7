"""Measure how much memory a part of an XLSX takes when openpyxl and pandas read it.

openpyxl pads each row to its last cell, even if that is empty; pandas then cuts each row after its last value, and pads
all rows to the widest. A row or cell without a reference follows the previous one.
"""

from __future__ import annotations

from dataclasses import dataclass

from datafab.analysis.limits import MAX_CELLS, MAX_XML_ELEMENTS, check_cells, check_count

#: Maximum rows and columns of a sheet in Excel.
MAX_ROWS, MAX_COLUMNS = 1_048_576, 16_384
#: Maximum number of cells after padding; rows are padded one by one, so they only cost time.
MAX_PADDED_CELLS = 2 * MAX_CELLS
#: Maximum number of texts of a workbook: each takes a hundred bytes.
MAX_TEXTS = 5_000_000
#: The elements that openpyxl reads; those of the same names in other namespaces are ignored.
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_SHEET, _TEXTS = f"{_MAIN} worksheet", f"{_MAIN} sst"
_ROW, _CELL, _TEXT = f"{_MAIN} row", f"{_MAIN} c", f"{_MAIN} si"
_VALUES = frozenset(f"{_MAIN} {name}" for name in ("v", "is", "f"))


@dataclass(slots=True)
class XlsxSize:
    """Measures the extent of the rows, cells and values of a part, and the number of elements held at once."""

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
        """Process the start of an element."""
        self._root = self._root or element
        self._held += 1
        if element == _CELL:
            self._column = _column_number(attributes.get("r", "")) or self._column + 1
            self._columns = max(self._columns, self._column)
        elif element in _VALUES:
            self._filled_rows = max(self._filled_rows, self._row)
            self._filled_columns = max(self._filled_columns, self._column)
        elif element == _ROW:
            self._row = _row_number(attributes.get("r", "")) or self._row + 1
            self._rows = max(self._rows, self._row)
            self._column, self._before = 0, self._held
        elif element == _TEXT:
            self._texts += 1
            self._before = self._held

    def end(self, element: str) -> None:
        """Process the end of an element."""
        if (self._root, element) in {(_SHEET, _ROW), (_TEXTS, _TEXT)}:
            # openpyxl clears these elements after reading them.
            self._padded += self._column
            self._most = max(self._most, self._held)
            self._held = self._before - 1

    def check_limits(self) -> None:
        """Refuse a part that exceeds a limit.

        Raises:
            Fatal: ``too_large``.
        """
        check_cells(self._filled_rows, self._filled_columns)
        check_count(self._rows, "rows in a sheet", MAX_ROWS)
        check_count(self._columns, "columns in a sheet", MAX_COLUMNS)
        check_count(self._padded, "cells in a sheet, most of them empty", MAX_PADDED_CELLS)
        check_count(self._texts, "texts", MAX_TEXTS)
        check_count(max(self._most, self._held), "elements in one part", MAX_XML_ELEMENTS)


def _row_number(reference: str) -> int:
    """Return the number of a row as openpyxl reads it; 0 if it is missing or not readable."""
    try:
        return int(float(reference)) if reference else 0
    except (ValueError, OverflowError):
        return 0


def _column_number(place: str) -> int:
    number = 0
    for letter in place.rstrip("0123456789").upper():
        number = number * 26 + ord(letter) - 64
    return number
