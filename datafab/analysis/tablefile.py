"""Rows of a table, read where and how its analysis says it stands."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from datafab.analysis.dialect import Kind, delimiter, is_name, kind, records
from datafab.analysis.textfile import TextFile

#: (line, cells) of each row below the header, every row as wide as that.
Rows = Iterator[tuple[int, list[str]]]


class Table(Protocol):
    """A table, to be read as often as one likes.

    Attributes:
        analysis: its analysis document.
        separator: between its cells, where it is a text; one that is never used, where it has one column.
        header: the cells of its columns as they stand in the file; the analysis' name where one is blank.
    """

    analysis: Mapping[str, Any]
    separator: str
    header: Sequence[str]

    def rows(self) -> Rows:
        """Yield its rows."""


class TableFile:
    """A table in a text; nothing of it is held but a row.

    Args:
        path: the file.
        analysis: its analysis document.
        max_unpacked: bytes that a gzip may unpack to.
        check: called with every block; raises when the work is no longer wanted.

    """

    def __init__(
        self, path: Path, analysis: Mapping[str, Any], *, max_unpacked: int, check: Callable[[], None]
    ) -> None:
        self.analysis = analysis
        file = TextFile(path=path, member=analysis.get("member"), max_unpacked=max_unpacked, check=check)
        # The member of a zip may be a gzip.
        self._file = replace(file, gzipped=kind(file.head()) is Kind.GZIP)
        self._encoding = str(analysis["encoding"])
        self._skip = int(analysis["header_row_idx"])
        self._depth = int(analysis.get("header_rows", 1))
        self._columns = _Columns(analysis)
        width = int(analysis["heading_columns"]) + self._columns.span + int(analysis["trailing_columns"])
        self.separator = delimiter(str(analysis["separator"]), width)
        with closing(self._records()) as found:
            self.header: Sequence[str] = self._columns.named(next(found)[1], joined=self._depth > 1)

    def _records(self) -> Generator[tuple[int, list[str]], None, None]:
        with closing(self._file.lines(self._encoding)) as lines:
            yield from records(islice(lines, self._skip, None), self.separator, first=self._skip + 1)

    def rows(self) -> Rows:
        """Yield its rows."""
        with closing(self._records()) as found:
            for line, cells in islice(found, self._depth, None):
                yield line, self._columns.of(cells)


class CellsFile:
    """A table in a workbook, a parquet file or JSON.

    Args:
        cells: yields its rows, read anew each time.
        analysis: its analysis document.
    """

    separator = ""

    def __init__(self, cells: Callable[[], Iterator[list[str]]], analysis: Mapping[str, Any]) -> None:
        self._cells = cells
        self._columns = _Columns(analysis)
        self._first = int(analysis["header_row_idx"]) + int(analysis.get("header_rows", 1)) + 1
        self.analysis = analysis
        self.header: Sequence[str] = tuple(analysis["header"])

    def rows(self) -> Rows:
        """Yield its rows; a line is the number of a row of the sheet, blank ones not counted."""
        for line, cells in enumerate(self._cells(), self._first):
            yield line, self._columns.of(cells)


class _Columns:
    """The columns of a record that an analysis keeps."""

    def __init__(self, analysis: Mapping[str, Any]) -> None:
        self._names: Sequence[str] = analysis["header"]
        first = int(analysis["heading_columns"])
        self._positions: Sequence[int] = analysis.get("positions") or range(first, first + len(self._names))
        self._first, self._end = self._positions[0], self._positions[-1] + 1
        #: cells from the first to the last of them
        self.span = self._end - self._first
        self._gaps = self.span > len(self._names)

    def of(self, cells: Sequence[str]) -> list[str]:
        """Return their cells of a record, blank where it is short."""
        if self._gaps:
            return [cells[at] if at < len(cells) else "" for at in self._positions]
        found = [*cells[self._first : self._end]]
        return found + [""] * (len(self._names) - len(found))

    def named(self, header: Sequence[str], *, joined: bool) -> tuple[str, ...]:
        """Return their names as they stand in the file; the analysis' where one is blank or joined of two."""
        if joined:
            return tuple(self._names)
        return tuple(cell if is_name(cell) else name for cell, name in zip(self.of(header), self._names, strict=True))
