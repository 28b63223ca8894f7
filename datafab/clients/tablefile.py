"""Rows of a table, read where and how its analysis says it stands."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from datafab.clients.textfile import TextFile
from datafab.domain.table import Kind, kind, records

#: (line, cells) of each row below the header, every row as wide as that.
Rows = Iterator[tuple[int, list[str]]]


class Table(Protocol):
    """A table, to be read as often as one likes.

    Attributes:
        analysis: its analysis document.
        separator: between its cells, where it is a text.
        header: its cells as they stand in the file.
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
        self.separator = str(analysis["separator"])
        with closing(self._records()) as found:
            self.header: Sequence[str] = tuple(next(found)[1])

    def _records(self) -> Generator[tuple[int, list[str]], None, None]:
        with closing(self._file.lines(self._encoding)) as lines:
            yield from records(islice(lines, self._skip, None), self.separator, first=self._skip + 1)

    def rows(self) -> Rows:
        """Yield its rows."""
        width = len(self.header)
        with closing(self._records()) as found:
            next(found)
            for line, cells in found:
                yield line, [*cells[:width], *([""] * (width - len(cells)))]


class CellsFile:
    """A table in a workbook, a parquet file or JSON.

    Args:
        cells: yields its rows, read anew each time.
        analysis: its analysis document.
    """

    separator = ""

    def __init__(self, cells: Callable[[], Iterator[list[str]]], analysis: Mapping[str, Any]) -> None:
        self._cells = cells
        self.analysis = analysis
        self.header: Sequence[str] = tuple(analysis["header"])

    def rows(self) -> Rows:
        """Yield its rows; a line is the number of a row, the header being the first."""
        first = int(self.analysis["heading_columns"])
        for line, cells in enumerate(self._cells(), 2):
            yield line, cells[first : first + len(self.header)]
