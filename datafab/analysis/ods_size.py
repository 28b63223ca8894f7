"""How much memory an ODS takes, as odfpy and pandas read it: all its parts at once, its sheets one by one."""

from __future__ import annotations

from dataclasses import dataclass

from datafab.analysis.limits import CELLS, ELEMENTS, bounded, few

#: A longer number is too large anyway, and slow to read.
_DIGITS = 18
_CELL = ("table-cell", "covered-table-cell")


@dataclass(slots=True)
class Ods:
    """Counts rows and cells, the repeated ones as often; those behind the last filled one do not count."""

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
        """See an element begin."""
        self._elements += 1
        name = _local(element)
        if name == "table":
            # Each sheet by itself.
            self._rows = self._columns = self._blank_rows = 0
        elif name == "table-row":
            self._repeat = _count(attributes, "number-rows-repeated")
            self._cells = self._blank_cells = 0
        elif name in _CELL:
            self._cell = _count(attributes, "number-columns-repeated")
            if any(_local(each) == "value-type" for each in attributes):
                self._filled()
        elif name == "p":
            self._filled()
        elif name == "s":
            self._spaces += _count(attributes, "c")

    def _filled(self) -> None:
        self._cells += self._blank_cells + self._cell
        self._blank_cells = self._cell = 0

    def end(self, element: str) -> None:
        """See an element end."""
        name = _local(element)
        if name in _CELL:
            self._blank_cells += self._cell
            self._cell = 0
        elif name == "table-row" and self._cells:
            self._rows += self._blank_rows + self._repeat
            self._blank_rows = 0
            self._columns = max(self._columns, self._cells)
            bounded(self._rows, self._columns)
        elif name == "table-row":
            self._blank_rows += self._repeat
        elif name == "table":
            self._all += self._rows * self._columns

    def bounded(self) -> None:
        """Refuse what is too large.

        Raises:
            Fatal: ``too_large``.
        """
        bounded(self._rows, self._columns)
        few(self._all, "cells", CELLS)
        few(self._spaces, "spaces", CELLS)
        few(self._elements, "elements of XML", ELEMENTS)


def _local(name: str) -> str:
    return name.rpartition(" ")[2]


def _count(attributes: dict[str, str], name: str) -> int:
    said = next((value for each, value in attributes.items() if _local(each) == name), "1")
    return int(said[:_DIGITS]) if said.isdecimal() else 1
