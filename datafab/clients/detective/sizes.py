"""How many cells a workbook has in memory, by what its sheets say and before any library believes them.

A sheet of a few bytes may name one cell a million rows down, or one that is repeated a million times.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.parsers import expat

from datafab.clients.detective.refusals import LOOKING, READING, refusals
from datafab.clients.textfile import BLOCK
from datafab.domain.table import Kind
from datafab.errors import Fatal

#: Cells that a table may have which is held in memory as a whole: 40 bytes each, be they empty.
CELLS = 20_000_000
_PLACE = re.compile(r"([A-Z]{1,3})([0-9]{1,7})")
#: A longer number is too large anyway, and slow to read.
_DIGITS = 18
_CELL = ("table-cell", "covered-table-cell")
_SHEET = "xl/worksheets/"


def bounded(rows: int, columns: int) -> None:
    """Refuse a table that is too large for the memory.

    Raises:
        Fatal: ``too_large``.
    """
    if rows * columns > CELLS:
        msg = f"has {rows:,} rows by {columns:,} columns, more than {CELLS:,} cells: publish it as CSV"
        raise Fatal(msg, code="too_large")


def workbook(path: Path, kind: Kind, check: Callable[[], None]) -> None:
    """Refuse a workbook of which one sheet is too large for the memory.

    Raises:
        Fatal: ``too_large``; ``corrupt_archive``, it cannot be read.
    """
    with refusals(LOOKING), refusals(READING), zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if kind is Kind.ODS and name == "content.xml":
                _walk(archive, name, _Ods(), check)
            if kind is Kind.XLSX and name.startswith(_SHEET) and name.endswith(".xml"):
                _walk(archive, name, _Xlsx(), check)


def _walk(archive: zipfile.ZipFile, name: str, sheet: _Xlsx | _Ods, check: Callable[[], None]) -> None:
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = sheet.start
    parser.EndElementHandler = sheet.end
    with archive.open(name) as file:
        while block := file.read(BLOCK):
            check()
            parser.Parse(block, False)
            bounded(sheet.rows, sheet.columns)


@dataclass(slots=True)
class _Xlsx:
    """Sees how far the cells of a sheet go."""

    rows: int = 0
    columns: int = 0

    def start(self, element: str, attributes: dict[str, str]) -> None:
        if _local(element) == "row" and attributes.get("r", "").isdecimal():
            self.rows = max(self.rows, int(attributes["r"]))
        elif (place := _PLACE.fullmatch(attributes.get("r", ""))) is not None:
            number = 0
            for letter in place[1]:
                number = number * 26 + ord(letter) - 64
            self.columns = max(self.columns, number)
            self.rows = max(self.rows, int(place[2]))

    def end(self, element: str) -> None:
        """Nothing is known only then."""


@dataclass(slots=True)
class _Ods:
    """Counts rows and cells, the repeated ones as often; those behind the last filled one do not count."""

    rows: int = 0
    columns: int = 0
    _blank_rows: int = 0
    _repeat: int = 1
    _cells: int = 0
    _blank_cells: int = 0
    _cell: int = 1

    def start(self, element: str, attributes: dict[str, str]) -> None:
        name = _local(element)
        if name == "table":
            # Each sheet by itself.
            self.rows = self.columns = self._blank_rows = 0
        elif name == "table-row":
            self._repeat = _count(attributes, "number-rows-repeated")
            self._cells = self._blank_cells = 0
        elif name in _CELL:
            self._cell = _count(attributes, "number-columns-repeated")
            if any(_local(each) == "value-type" for each in attributes):
                self._filled()
        elif name == "p":
            self._filled()

    def _filled(self) -> None:
        self._cells += self._blank_cells + self._cell
        self._blank_cells = self._cell = 0

    def end(self, element: str) -> None:
        name = _local(element)
        if name in _CELL:
            self._blank_cells += self._cell
            self._cell = 0
        elif name == "table-row" and self._cells:
            self.rows += self._blank_rows + self._repeat
            self._blank_rows = 0
            self.columns = max(self.columns, self._cells)
            bounded(self.rows, self.columns)
        elif name == "table-row":
            self._blank_rows += self._repeat


def _local(name: str) -> str:
    return name.rpartition(" ")[2]


def _count(attributes: dict[str, str], name: str) -> int:
    said = next((value for each, value in attributes.items() if _local(each) == name), "1")
    return int(said[:_DIGITS]) if said.isdecimal() else 1
