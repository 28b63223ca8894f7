"""Workbooks: the sheet that csv-detective takes, its cells as they stand there, its header as in a text.

pandas reads the cells. What it would take for a missing value is none here: ``NA`` is Namibia, and what is missing
is found out later, as it is for texts.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import odf.opendocument  # type: ignore[import-untyped]
from pandas import DataFrame, ExcelFile, read_excel  # type: ignore[import-untyped]

from datafab.analysis import workbook_size as sizes
from datafab.analysis.dialect import HEAD_RECORDS, Kind
from datafab.analysis.header import Header, header, header_warnings
from datafab.analysis.header_candidate import Record
from datafab.analysis.json_records import Other
from datafab.analysis.refusals import BOOK, refusals
from datafab.analysis.spool import batched, schema, within
from datafab.errors import Fatal

#: Rows of a sheet that are made texts to find its header among the first of them that are filled.
_HEAD_ROWS = 1000
_ENGINES = {Kind.XLSX: "openpyxl", Kind.XLS: "xlrd", Kind.ODS: "odf"}


def _nowhere(*_: object) -> None:
    """Where odfpy complains to, in place of the standard output, which may be somebody's JSON."""


odf.opendocument.print = _nowhere


@dataclass(frozen=True, slots=True)
class _Sheet:
    """A sheet of a workbook.

    Attributes:
        cells: of any type; missing ones are NaN.
        sheets: names of all sheets.
    """

    name: str
    cells: DataFrame
    sheets: list[str]


def workbook(path: Path, kind: Kind, limit: int, check: Callable[[], None]) -> Other:
    """Read the largest sheet of a workbook, whose texts may have ``limit`` bytes in all."""
    if kind is not Kind.XLS:  # which has 65,536 rows at most, each said in full
        sizes.workbook(path, kind, check)
    engine = _ENGINES[kind]
    with warnings.catch_warnings(), refusals(BOOK):
        # Of styles that a workbook loses and of what pandas will change one day.
        warnings.simplefilter("ignore")
        sheet = _largest(path, engine)
    row, head = _header(sheet.cells)
    facts = {"engine": engine, "sheet_name": sheet.name, "sheets": sheet.sheets, "header_row_idx": row}
    depth = {"header_rows": head.depth} if head.depth > 1 else {}
    below = (cells for _, cells in islice(_rows(sheet.cells), head.position + head.depth, None))
    batches = within(batched(below, schema(len(head.cells))), limit)
    return Other({**facts, **depth}, list(head.cells), batches, {}, header_warnings(head, "row"))


def _header(cells: DataFrame) -> tuple[int, Header]:
    """Return how many rows are above the header of a sheet, and the header, found as in a text.

    Raises:
        Fatal: ``empty``, no cell is filled.
    """
    rows = list(islice(_rows(cells.head(_HEAD_ROWS)), HEAD_RECORDS)) or list(islice(_rows(cells), HEAD_RECORDS))
    if not rows:
        raise Fatal("has a sheet without cells", code="empty")
    found = header(rows)
    return rows[found.position][0], found


def _largest(path: Path, engine: str) -> _Sheet:
    """Read the sheet that csv-detective takes."""
    with ExcelFile(path, engine=engine) as book:
        names = [str(name) for name in book.sheet_names]
        if engine == "odf":
            name, cells = _largest_of(book, names)
        else:
            name = _said_largest(book)
            cells = _cells(book, name)
    return _Sheet(name, cells, names)


def _largest_of(book: ExcelFile, names: list[str]) -> tuple[str, DataFrame]:
    """Read one sheet after the other, since only their cells tell how large they are."""
    largest: tuple[str, DataFrame] | None = None
    for name in names:
        cells = _cells(book, name)
        if largest is None or cells.size > largest[1].size:
            largest = name, cells
    if largest is None:
        raise Fatal("has no sheet: open it, and publish a table", code="empty")
    return largest


def _said_largest(book: ExcelFile) -> str:
    """Return the sheet that is the largest by what the sheets say; where one says nothing, by all their cells."""
    if book.engine == "xlrd":
        said = {sheet.name: sheet.nrows * sheet.ncols for sheet in book.book.sheets()}
    else:
        sheets = book.book.worksheets
        known = all(sheet.max_row and sheet.max_column for sheet in sheets)
        said = {sheet.title: sheet.max_row * sheet.max_column if known else _measured(sheet) for sheet in sheets}
    if not said:
        raise Fatal("has no sheet with cells: publish a table", code="empty")
    return str(max(said, key=lambda name: said[name]))


def _measured(sheet: Any) -> int:
    """Return the size of a sheet of openpyxl, without holding it as a whole."""
    sheet.reset_dimensions()
    rows = columns = 0
    with closing(sheet.iter_rows(values_only=True)) as found:
        for number, row in enumerate(found, 1):
            if row:
                rows, columns = number, max(columns, len(row))
    return rows * columns


def _cells(book: ExcelFile, name: str) -> DataFrame:
    # As objects a text that is meant often stays one text.
    return read_excel(book, sheet_name=name, header=None, dtype=object, keep_default_na=False, na_values=[""])


def _rows(cells: DataFrame) -> Iterator[Record]:
    """Yield (rows above, texts) of each row that is not blank."""
    for number, row in enumerate(cells.where(cells.notna(), "").itertuples(index=False, name=None)):
        texts = [_text(cell) for cell in row]
        if any(text and not text.isspace() for text in texts):
            yield number, texts


def _text(cell: Any) -> str:
    """Return a cell as a CSV would have it: a small number is no text for its exponent."""
    text = str(cell)
    return format(Decimal(text), "f") if isinstance(cell, float) and "e" in text else text
