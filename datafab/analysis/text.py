"""Read the rows of a text in batches: with pyarrow if it reads the text as Python's csv does, else with csv."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from threading import Lock

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.csv as pacsv  # type: ignore[import-untyped]

from datafab.analysis.bad_rows import BadRowCount, is_bad
from datafab.analysis.dialect import Layout, delimiter
from datafab.analysis.records import STANDARD, read_records
from datafab.analysis.spool import batch_rows, text_schema
from datafab.analysis.textfile import BLOCK_BYTES, TextFile

#: Called with the number of bytes read.
OnBytes = Callable[[int], None]


class NotReadByPyarrow(Exception):
    """pyarrow may read this text differently from Python's csv."""


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table in a text.

    Attributes:
        encoding: of the text.
        layout: of the table.
        skipped_lines: number of physical lines above the first row: titles and the header.
        quotes: number of quotation marks in the text.
    """

    file: TextFile
    encoding: str
    layout: Layout
    skipped_lines: int
    quotes: int

    def read_with_pyarrow(self, on_bytes: OnBytes) -> Iterator[pa.RecordBatch]:
        """Yield the rows, read with pyarrow.

        Raises:
            NotReadByPyarrow: pyarrow may not read them as Python's csv does, or not at all.
        """
        width = len(self.layout.header)
        # An odd number means a literal quotation mark or a quote that is never closed; a single column may be blank.
        if self.quotes % 2 or width == 1 or self.layout.quoting != STANDARD:
            raise NotReadByPyarrow
        schema = text_schema(width)
        reading = pacsv.ReadOptions(column_names=schema.names, block_size=BLOCK_BYTES, use_threads=False)
        parsing = pacsv.ParseOptions(delimiter=self.layout.separator, newlines_in_values=self.quotes > 0)
        # The encoding has been checked, and no text is a null.
        converting = pacsv.ConvertOptions(column_types=schema, strings_can_be_null=False, check_utf8=False)
        try:
            with closing(_RowBytes(self)) as rest, pacsv.open_csv(rest, reading, parsing, converting) as reader:
                last = None
                for batch in reader:
                    on_bytes(rest.done)
                    yield batch
                    last = batch if batch.num_rows else last
        except pa.ArrowInvalid as error:
            if "Empty CSV file" not in str(error):
                raise NotReadByPyarrow from error
            return
        # A quote that is never closed includes the line end that was added after the text.
        if self.quotes and last is not None and last.column(width - 1)[-1].as_py().endswith("\n"):
            raise NotReadByPyarrow

    def read_with_csv(self, on_bytes: OnBytes, bad: BadRowCount) -> Iterator[pa.RecordBatch]:
        """Yield the rows, read with Python's csv, without those that have more cells than the header.

        Args:
            on_bytes: called with the number of characters read.
            bad: counts the rows that are left out; trailing blank cells are ignored.
        """
        header = self.layout.header
        width, done = len(header), 0

        def rows(found: Iterator[tuple[int, list[str]]]) -> Iterator[list[str]]:
            nonlocal done
            for line, cells in found:
                done += sum(map(len, cells))
                if is_bad(cells, width):
                    bad.add(line, len(cells))
                else:
                    yield cells[:width] + [""] * (width - len(cells))

        with closing(self.file.lines(self.encoding)) as lines:
            below = islice(lines, self.layout.skip, None)
            between, quoting = delimiter(self.layout.separator, width), self.layout.quoting
            found = read_records(below, between, quoting=quoting, first_line=self.layout.skip + 1)
            for _ in range(self.layout.depth):
                next(found)
            for batch in batch_rows(rows(found), text_schema(width)):
                on_bytes(done)
                yield batch


class _RowBytes(io.RawIOBase):
    """A stream of the rows below the header in UTF-8, for pyarrow."""

    def __init__(self, text: TextTable) -> None:
        self._blocks = _row_bytes(text)
        self._rest = b""
        self.done = 0
        # pyarrow reads ahead in a thread of its own, which may still be reading when the reader is closed.
        self._lock = Lock()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        with self._lock:
            return self._read(size)

    def _read(self, size: int) -> bytes:
        while len(self._rest) < size:
            block = next(self._blocks, None)
            if block is None:
                break
            self._rest += block
        given, self._rest = self._rest[:size], self._rest[size:]
        self.done += len(given)
        return given

    def close(self) -> None:
        with self._lock:
            self._blocks.close()
        super().close()


def _row_bytes(text: TextTable) -> Generator[bytes, None, None]:
    """Yield the rows below the header in UTF-8, followed by a line end."""
    with closing(_encode_rows(text)) as blocks:
        yield from blocks
    yield b"\n"


def _encode_rows(text: TextTable) -> Generator[bytes, None, None]:
    if text.encoding in {"utf-8", "utf-8-sig"}:
        skipped = _count_header_bytes(text)
        for block in text.file.blocks():
            if skipped >= len(block):
                skipped -= len(block)
                continue
            yield block[skipped:]
            skipped = 0
        return
    with closing(text.file.lines(text.encoding)) as lines:
        for _ in islice(lines, text.skipped_lines):
            pass
        pending: list[str] = []
        size = 0
        for line in lines:
            pending.append(line)
            size += len(line)
            if size > BLOCK_BYTES:
                yield "".join(pending).encode()
                pending, size = [], 0
        yield "".join(pending).encode()


def _count_header_bytes(text: TextTable) -> int:
    with closing(text.file.lines("utf-8")) as lines:
        return sum(len(line.encode()) for line in islice(lines, text.skipped_lines))
