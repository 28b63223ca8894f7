"""The rows of a text as batches of columns: by pyarrow where it reads the text as Python's csv does, else by that."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from threading import Lock

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.csv as pacsv  # type: ignore[import-untyped]

from datafab.analysis.dialect import Layout, delimiter, records
from datafab.analysis.spool import batched, schema
from datafab.analysis.textfile import BLOCK, TextFile
from datafab.errors import Fatal

#: Called with the bytes that have passed.
Passed = Callable[[int], None]


class Unlike(Exception):
    """pyarrow cannot be trusted with this text."""


@dataclass(frozen=True, slots=True)
class Text:
    """A table in a text.

    Attributes:
        encoding: of the text.
        layout: how the table stands there.
        below: number of physical lines above the first row: titles and the header.
        quotes: how many quotation marks the text has.
    """

    file: TextFile
    encoding: str
    layout: Layout
    below: int
    quotes: int

    def quick(self, passed: Passed) -> Iterator[pa.RecordBatch]:
        """Yield the rows as pyarrow reads them.

        Raises:
            Unlike: it would not read them as Python's csv does, or not at all.
        """
        width = len(self.layout.header)
        # An odd mark is one that stands for itself, or a quote that is never closed; a single column may be blank.
        if self.quotes % 2 or width == 1:
            raise Unlike
        of = schema(width)
        reading = pacsv.ReadOptions(column_names=of.names, block_size=BLOCK, use_threads=False)
        parsing = pacsv.ParseOptions(delimiter=self.layout.separator, newlines_in_values=self.quotes > 0)
        # The encoding has been looked at, all texts are texts.
        converting = pacsv.ConvertOptions(column_types=of, strings_can_be_null=False, check_utf8=False)
        try:
            with closing(_Below(self)) as rest, pacsv.open_csv(rest, reading, parsing, converting) as reader:
                last = None
                for batch in reader:
                    passed(rest.done)
                    yield batch
                    last = batch if batch.num_rows else last
        except pa.ArrowInvalid as error:
            if "Empty CSV file" not in str(error):
                raise Unlike from error
            return
        # A quote that is never closed takes the line end that was added behind the text.
        if self.quotes and last is not None and last.column(width - 1)[-1].as_py().endswith("\n"):
            raise Unlike

    def exact(self, passed: Passed) -> Iterator[pa.RecordBatch]:
        """Yield the rows as Python's csv reads them.

        Raises:
            Fatal: ``ragged``, a row has more cells than the header (blank ones at its end are forgiven).
        """
        header = self.layout.header
        width, done = len(header), 0

        def rows(found: Iterator[tuple[int, list[str]]]) -> Iterator[list[str]]:
            nonlocal done
            for line, cells in found:
                done += sum(map(len, cells))
                yield _fitted(cells, width, line)

        with closing(self.file.lines(self.encoding)) as lines:
            below = islice(lines, self.layout.skip, None)
            found = records(below, delimiter(self.layout.separator, width), first=self.layout.skip + 1)
            for _ in range(self.layout.depth):
                next(found)
            for batch in batched(rows(found), schema(width)):
                passed(done)
                yield batch


def _fitted(cells: list[str], width: int, line: int) -> list[str]:
    """Return a row as wide as the header."""
    if len(cells) > width:
        if any(cell.strip() for cell in cells[width:]):
            msg = f"line {line} has {len(cells)} cells, the header {width}: quote cells that hold the separator"
            raise Fatal(msg, code="ragged", field=f"line {line}")
        del cells[width:]
    cells += [""] * (width - len(cells))
    return cells


class _Below(io.RawIOBase):
    """What stands below the header, as UTF-8, for pyarrow to read."""

    def __init__(self, text: Text) -> None:
        self._blocks = _below(text)
        self._rest = b""
        self.done = 0
        # pyarrow reads ahead in a thread of its own, which may be at it when the reader is closed.
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


def _below(text: Text) -> Generator[bytes, None, None]:
    """Yield the bytes below the header as UTF-8, and a line end."""
    with closing(_encoded(text)) as blocks:
        yield from blocks
    yield b"\n"


def _encoded(text: Text) -> Generator[bytes, None, None]:
    if text.encoding in {"utf-8", "utf-8-sig"}:
        skipped = _header_bytes(text)
        for block in text.file.blocks():
            if skipped >= len(block):
                skipped -= len(block)
                continue
            yield block[skipped:]
            skipped = 0
        return
    with closing(text.file.lines(text.encoding)) as lines:
        for _ in islice(lines, text.below):
            pass
        held: list[str] = []
        size = 0
        for line in lines:
            held.append(line)
            size += len(line)
            if size > BLOCK:
                yield "".join(held).encode()
                held, size = [], 0
        yield "".join(held).encode()


def _header_bytes(text: Text) -> int:
    with closing(text.file.lines("utf-8")) as lines:
        return sum(len(line.encode()) for line in islice(lines, text.below))
