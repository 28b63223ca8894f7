"""Read workbooks: the largest visible sheet or a chosen one, with its header found as in a text.

pandas reads the cells, but does not detect missing values: ``NA`` may be Namibia, and missing values are detected
later, as for texts.
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

from datafab.analysis import workbook_size
from datafab.analysis.dialect import HEAD_RECORDS, FileKind
from datafab.analysis.header import Header, find_header, header_warnings
from datafab.analysis.header_candidate import Record
from datafab.analysis.json_records import NonTextTable
from datafab.analysis.refusals import WORKBOOK_FAILURES, translate_failures
from datafab.analysis.sheets import find_sheet, hidden_sheets
from datafab.analysis.spool import batch_rows, limit_bytes, text_schema
from datafab.errors import Fatal

#: Rows of a sheet that are converted to find the first filled rows, and the header among them.
_HEAD_ROWS = 1000
_ENGINES = {FileKind.XLSX: "openpyxl", FileKind.XLS: "xlrd", FileKind.ODS: "odf"}


def _discard(*_: object) -> None:
    """Discard what odfpy prints, which would corrupt JSON on the standard output."""


odf.opendocument.print = _discard


@dataclass(frozen=True, slots=True)
class _Sheet:
    """A sheet of a workbook.

    Attributes:
        cells: of any type; empty cells are NaN.
        sheets: names of all sheets.
        hidden: names of the hidden ones.
    """

    name: str
    cells: DataFrame
    sheets: list[str]
    hidden: list[str]

    @property
    def facts(self) -> dict[str, Any]:
        """Return the part of an analysis that describes the sheets."""
        hidden = {"hidden_sheets": self.hidden} if self.hidden else {}
        return {"sheet_name": self.name, "sheets": self.sheets, **hidden}


def read_workbook(
    path: Path, kind: FileKind, limit: int, check: Callable[[], None], wanted: str | None = None
) -> NonTextTable:
    """Read a sheet of a workbook, whose texts may have up to ``limit`` bytes in total.

    Args:
        path: the workbook.
        kind: of the workbook.
        limit: maximum bytes of the sheet's texts.
        check: called often; raises an exception to cancel the work.
        wanted: name or number of the sheet; None: the largest visible one, or the largest if all are hidden.
    """
    if kind is not FileKind.XLS:  # an XLS has 65,536 rows at most, each stored in full
        workbook_size.check_workbook_size(path, kind, check)
    engine = _ENGINES[kind]
    with warnings.catch_warnings(), translate_failures(WORKBOOK_FAILURES):
        # Warnings of lost styles and of future changes of pandas.
        warnings.simplefilter("ignore")
        sheet = _read_sheet(path, engine, wanted)
    row, head = _find_header(sheet.cells)
    facts = {"engine": engine, **sheet.facts, "header_row_idx": row}
    depth = {"header_rows": head.depth} if head.depth > 1 else {}
    below = (cells for _, cells in islice(_filled_rows(sheet.cells), head.position + head.depth, None))
    batches = limit_bytes(batch_rows(below, text_schema(len(head.cells))), limit)
    return NonTextTable({**facts, **depth}, list(head.cells), batches, {}, header_warnings(head, "row"))


def _find_header(cells: DataFrame) -> tuple[int, Header]:
    """Return the number of rows above the header of a sheet, and the header.

    Raises:
        Fatal: ``empty``, no cell is filled.
    """
    rows = list(islice(_filled_rows(cells.head(_HEAD_ROWS)), HEAD_RECORDS)) or list(
        islice(_filled_rows(cells), HEAD_RECORDS)
    )
    if not rows:
        raise Fatal("has a sheet without cells", code="empty")
    found = find_header(rows)
    return rows[found.position][0], found


def _read_sheet(path: Path, engine: str, wanted: str | None) -> _Sheet:
    """Read the sheet that is wanted, else the one of the visible sheets that csv-detective would choose."""
    with ExcelFile(path, engine=engine) as book:
        names = [str(name) for name in book.sheet_names]
        hidden = hidden_sheets(book)
        shown = [name for name in names if name not in hidden] or names
        if wanted is not None:
            name = find_sheet(names, wanted)
            cells = _read_cells(book, name)
        elif engine == "odf":
            name, cells = _read_largest_ods(book, shown)
        else:
            name = _largest_by_dimensions(book, shown)
            cells = _read_cells(book, name)
    return _Sheet(name, cells, names, hidden)


def _read_largest_ods(book: ExcelFile, names: list[str]) -> tuple[str, DataFrame]:
    """Read these sheets one by one, as only their cells show how large they are; return the largest."""
    largest: tuple[str, DataFrame] | None = None
    for name in names:
        cells = _read_cells(book, name)
        if largest is None or cells.size > largest[1].size:
            largest = name, cells
    if largest is None:
        raise Fatal("has no sheet: open it, and publish a table", code="empty")
    return largest


def _largest_by_dimensions(book: ExcelFile, names: list[str]) -> str:
    """Return the largest of these sheets by the declared dimensions, or by all cells if one declares none."""
    if book.engine == "xlrd":
        sizes = {sheet.name: sheet.nrows * sheet.ncols for sheet in book.book.sheets() if sheet.name in names}
    else:
        sheets = [sheet for sheet in book.book.worksheets if sheet.title in names]
        known = all(sheet.max_row and sheet.max_column for sheet in sheets)
        sizes = {sheet.title: sheet.max_row * sheet.max_column if known else _measure_sheet(sheet) for sheet in sheets}
    if not sizes:
        raise Fatal("has no sheet with cells: publish a table", code="empty")
    return str(max(sizes, key=lambda name: sizes[name]))


def _measure_sheet(sheet: Any) -> int:
    """Count the cells of a sheet of openpyxl, without holding all of them."""
    sheet.reset_dimensions()
    rows = columns = 0
    with closing(sheet.iter_rows(values_only=True)) as found:
        for number, row in enumerate(found, 1):
            if row:
                rows, columns = number, max(columns, len(row))
    return rows * columns


def _read_cells(book: ExcelFile, name: str) -> DataFrame:
    # As objects, a text that many cells refer to is held only once.
    return read_excel(book, sheet_name=name, header=None, dtype=object, keep_default_na=False, na_values=[""])


def _filled_rows(cells: DataFrame) -> Iterator[Record]:
    """Yield (number of rows above, texts) of each row that is not blank."""
    for number, row in enumerate(cells.where(cells.notna(), "").itertuples(index=False, name=None)):
        texts = [_cell_text(cell) for cell in row]
        if any(text and not text.isspace() for text in texts):
            yield number, texts


def _cell_text(cell: Any) -> str:
    """Return a cell as in a CSV; a small number is written without an exponent."""
    text = str(cell)
    return format(Decimal(text), "f") if isinstance(cell, float) and "e" in text else text
