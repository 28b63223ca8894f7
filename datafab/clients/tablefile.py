"""Rows of a text table, read where and how its analysis says it stands."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from datafab.clients.textfile import TextFile
from datafab.domain.table import Kind, kind, records
from datafab.errors import Fatal


class TableFile:
    """A table, to be read as often as one likes; nothing of it is held but a row.

    Args:
        path: the file.
        analysis: its analysis document.
        max_unpacked: bytes that a gzip may unpack to.
        check: called with every block; raises when the work is no longer wanted.

    Attributes:
        analysis: as given.
        separator: between its cells.
        header: its cells as they stand in the file.

    Raises:
        Fatal: ``unsupported``, it is a workbook or a parquet file.
    """

    def __init__(
        self, path: Path, analysis: Mapping[str, Any], *, max_unpacked: int, check: Callable[[], None]
    ) -> None:
        if "separator" not in analysis:
            msg = "workbooks and parquet files cannot be loaded yet: publish the table as CSV"
            raise Fatal(msg, code="unsupported")
        self.analysis = analysis
        file = TextFile(path=path, member=analysis.get("member"), max_unpacked=max_unpacked, check=check)
        # The member of a zip may be a gzip.
        self._file = replace(file, gzipped=kind(file.head()) is Kind.GZIP)
        self._encoding = str(analysis["encoding"])
        self._skip = int(analysis["header_row_idx"])
        self.separator = str(analysis["separator"])
        with closing(self._records()) as found:
            self.header = tuple(next(found)[1])

    def _records(self) -> Generator[tuple[int, list[str]], None, None]:
        with closing(self._file.lines(self._encoding)) as lines:
            yield from records(islice(lines, self._skip, None), self.separator, first=self._skip + 1)

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield (line, cells) of each row below the header, every row as wide as that."""
        width = len(self.header)
        with closing(self._records()) as found:
            next(found)
            for line, cells in found:
                yield line, [*cells[:width], *([""] * (width - len(cells)))]
