"""Measure how much memory an ODS takes when odfpy and pandas read it: all parts at once, its sheets one by one."""

from __future__ import annotations

from dataclasses import dataclass

from datafab.analysis.limits import MAX_CELLS, MAX_XML_ELEMENTS, check_cells, check_count

#: A longer number exceeds every limit anyway, and is slow to parse.
_MAX_COUNT_DIGITS = 18
_CELL_ELEMENTS = ("table-cell", "covered-table-cell")


@dataclass(slots=True)
class OdsSize:
    """Counts the rows and cells of an ODS, repeated ones as often as they are repeated, up to the last filled one."""

    _rows: int = 0
    _columns: int = 0
    _blank_rows: int = 0
    _repeat: int = 1
    _cells: int = 0
    _blank_cells: int = 0
    _cell: int = 1
    _elements: int = 0
    _spaces: int = 0
    _all: int = 0

    def start(self, element: str, attributes: dict[str, str]) -> None:
        """Process the start of an element."""
        self._elements += 1
        name = _local_name(element)
        if name == "table":
            # Sheets are counted separately.
            self._rows = self._columns = self._blank_rows = 0
        elif name == "table-row":
            self._repeat = _repetitions(attributes, "number-rows-repeated")
            self._cells = self._blank_cells = 0
        elif name in _CELL_ELEMENTS:
            self._cell = _repetitions(attributes, "number-columns-repeated")
            if any(_local_name(each) == "value-type" for each in attributes):
                self._filled()
        elif name == "p":
            self._filled()
        elif name == "s":
            self._spaces += _repetitions(attributes, "c")

    def _filled(self) -> None:
        self._cells += self._blank_cells + self._cell
        self._blank_cells = self._cell = 0

    def end(self, element: str) -> None:
        """Process the end of an element."""
        name = _local_name(element)
        if name in _CELL_ELEMENTS:
            self._blank_cells += self._cell
            self._cell = 0
        elif name == "table-row" and self._cells:
            self._rows += self._blank_rows + self._repeat
            self._blank_rows = 0
            self._columns = max(self._columns, self._cells)
            check_cells(self._rows, self._columns)
        elif name == "table-row":
            self._blank_rows += self._repeat
        elif name == "table":
            self._all += self._rows * self._columns

    def check_limits(self) -> None:
        """Refuse a workbook that exceeds a limit.

        Raises:
            Fatal: ``too_large``.
        """
        check_cells(self._rows, self._columns)
        check_count(self._all, "cells", MAX_CELLS)
        check_count(self._spaces, "spaces", MAX_CELLS)
        check_count(self._elements, "elements of XML", MAX_XML_ELEMENTS)


def _local_name(name: str) -> str:
    return name.rpartition(" ")[2]


def _repetitions(attributes: dict[str, str], name: str) -> int:
    count = next((value for each, value in attributes.items() if _local_name(each) == name), "1")
    return int(count[:_MAX_COUNT_DIGITS]) if count.isdecimal() else 1
