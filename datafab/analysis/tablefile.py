"""Read the rows of a table as described by its analysis."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from datafab.analysis.bad_rows import is_bad
from datafab.analysis.dialect import FileKind, delimiter, detect_kind, is_name
from datafab.analysis.records import Quoting, read_records
from datafab.analysis.textfile import TextFile

#: (line, cells) of each row below the header; all rows are as wide as the header.
NumberedRows = Iterator[tuple[int, list[str]]]


class Table(Protocol):
    """A table whose rows can be read any number of times.

    Attributes:
        analysis: its analysis document.
        separator: between its cells, where it is a text; one that is never used, where it has one column.
        header: the names of its columns as written in the file; the analysis' name if one is blank.
    """

    analysis: Mapping[str, Any]
    separator: str
    header: Sequence[str]

    def rows(self) -> NumberedRows:
        """Yield its rows."""


class TableFile:
    """A table in a text, of which only one row is held in memory.

    Args:
        path: the file.
        analysis: its analysis document.
        max_unpacked: maximum unpacked bytes of a gzip.
        check: called for every block; raises an exception to cancel the work.

    """

    def __init__(
        self, path: Path, analysis: Mapping[str, Any], *, max_unpacked: int, check: Callable[[], None]
    ) -> None:
        self.analysis = analysis
        file = TextFile(path=path, member=analysis.get("member"), max_unpacked=max_unpacked, check=check)
        # The member of a zip may be a gzip.
        self._file = replace(file, gzipped=detect_kind(file.head()) is FileKind.GZIP)
        self._encoding = str(analysis["encoding"])
        self._skip = int(analysis["header_row_idx"])
        self._depth = int(analysis.get("header_rows", 1))
        self._quoting = Quoting(**analysis.get("quoting", {}))
        self._columns = _Columns(analysis)
        self._width = width = int(analysis["heading_columns"]) + self._columns.span + int(analysis["trailing_columns"])
        self.separator = delimiter(str(analysis["separator"]), width)
        with closing(self._records()) as found:
            self.header: Sequence[str] = self._columns.named(next(found)[1], joined=self._depth > 1)

    def _records(self) -> Generator[tuple[int, list[str]], None, None]:
        with closing(self._file.lines(self._encoding)) as lines:
            below = islice(lines, self._skip, None)
            yield from read_records(below, self.separator, quoting=self._quoting, first_line=self._skip + 1)

    def rows(self) -> NumberedRows:
        """Yield its rows."""
        with closing(self._records()) as found:
            for line, cells in islice(found, self._depth, None):
                if not is_bad(cells, self._width):
                    yield line, self._columns.of(cells)

    def bad_rows(self) -> NumberedRows:
        """Yield the rows with more cells than the header, with all of their cells."""
        with closing(self._records()) as found:
            for line, cells in islice(found, self._depth, None):
                if is_bad(cells, self._width):
                    yield line, cells


class CellsFile:
    """A table in a workbook, a parquet file or JSON.

    Args:
        cells: reads its rows anew at each call.
        analysis: its analysis document.
    """

    separator = ""

    def __init__(self, cells: Callable[[], Iterator[list[str]]], analysis: Mapping[str, Any]) -> None:
        self._cells = cells
        self._columns = _Columns(analysis)
        self._first = int(analysis["header_row_idx"]) + int(analysis.get("header_rows", 1)) + 1
        self.analysis = analysis
        self.header: Sequence[str] = tuple(analysis["header"])

    def rows(self) -> NumberedRows:
        """Yield its rows; the line is the number of the row in the sheet without blank rows."""
        for line, cells in enumerate(self._cells(), self._first):
            yield line, self._columns.of(cells)


class _Columns:
    """Selects the columns that an analysis keeps from the cells of a record."""

    def __init__(self, analysis: Mapping[str, Any]) -> None:
        self._names: Sequence[str] = analysis["header"]
        first = int(analysis["heading_columns"])
        self._positions: Sequence[int] = analysis.get("positions") or range(first, first + len(self._names))
        self._first, self._end = self._positions[0], self._positions[-1] + 1
        #: number of cells from the first to the last column
        self.span = self._end - self._first
        self._gaps = self.span > len(self._names)

    def of(self, cells: Sequence[str]) -> list[str]:
        """Return the cells of a record in these columns, blank if the record is short."""
        if self._gaps:
            return [cells[at] if at < len(cells) else "" for at in self._positions]
        found = [*cells[self._first : self._end]]
        return found + [""] * (len(self._names) - len(found))

    def named(self, header: Sequence[str], *, joined: bool) -> tuple[str, ...]:
        """Return the names as written in the file; the analysis' name if one is blank, or all if they were joined."""
        if joined:
            return tuple(self._names)
        return tuple(cell if is_name(cell) else name for cell, name in zip(self.of(header), self._names, strict=True))
