"""A table on this disk, column by column: read once, then looked at one column at a time.

Small tables stay in memory. Larger ones lie in a parquet file of a temporary folder, compressed, so that the memory
that an analysis takes is that of its widest column, and of a part of it where that is wide too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from datafab.errors import Fatal
from datafab.store.scratch import work_folder

#: Bytes of a table that stay in memory.
IN_MEMORY = 32 * 1024**2
#: Rows, and about as many characters and cells, of a batch that is made in Python.
ROWS, CHARS = 10_000, 4 * 1024**2
#: Characters that one row may have.
ROW = 64 * 1024**2
#: Bytes of a row group.
GROUP = 16 * 1024**2
#: Bytes of a column that are looked at in one go.
AT_ONCE = 64 * 1024**2

Batches = Iterable[pa.RecordBatch]


@dataclass(slots=True)
class Landed:
    """A table of texts (or, from parquet, of any type), to be read column by column.

    Attributes:
        rows: how many there are here.
        total: rows of the table that they are of.
        schema: names are ``0``, ``1``, ... by position.
        sizes: bytes of each column.
    """

    schema: pa.Schema
    rows: int = 0
    total: int = 0
    sizes: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    _held: list[pa.RecordBatch] = field(default_factory=list)
    _file: pq.ParquetFile | None = None
    _left: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.clear()
        self._left.close()

    def groups(self, position: int) -> Iterator[pa.ChunkedArray]:
        """Yield a column's rows, some megabytes of them at a time, in their order."""
        for batch in self._held:
            yield pa.chunked_array([batch.column(position)])
        if self._file is not None:
            for group in range(self._file.num_row_groups):
                yield self._file.read_row_group(group, columns=[str(position)], use_threads=False).column(0)

    def slabs(self, position: int, at_once: int = AT_ONCE) -> Iterator[pa.ChunkedArray]:
        """Yield a column's rows, as many at a time as may be looked at in one go, by their bytes."""
        chunks: list[pa.Array] = []
        size = 0
        for group in self.groups(position):
            if chunks and size + group.nbytes > at_once:
                yield pa.chunked_array(chunks)
                chunks, size = [], 0
            chunks += group.chunks
            size += group.nbytes
        if chunks:
            yield pa.chunked_array(chunks)

    def batches(self, positions: Sequence[int]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of some columns, a row group at a time."""
        names = [str(position) for position in positions]
        for batch in self._held:
            yield batch.select(names)
        if self._file is not None:
            for group in range(self._file.num_row_groups):
                rows = self._file.read_row_group(group, columns=names, use_threads=False)
                yield from rows.select(names).to_batches()


def schema(width: int) -> pa.Schema:
    """Return the schema of a table of texts."""
    return pa.schema([(str(position), pa.string()) for position in range(width)])


def batched(rows: Iterable[Sequence[str]], of: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield rows of texts as batches, none of which is large.

    Raises:
        Fatal: ``too_large``, a row is: one text may be meant in many of its cells.
    """
    held: list[Sequence[str]] = []
    size = 0
    for row in rows:
        length = sum(map(len, row))
        if length > ROW:
            raise Fatal(f"has a row of more than {ROW:,} characters: publish it in parts", code="too_large")
        held.append(row)
        size += length + len(row)
        if len(held) == ROWS or size > CHARS:
            yield _batch(held, of)
            held, size = [], 0
    if held:
        yield _batch(held, of)


def within(batches: Batches, limit: int) -> Iterator[pa.RecordBatch]:
    """Yield batches that have ``limit`` bytes in all.

    Raises:
        Fatal: ``too_large``, they have more.
    """
    size = 0
    for batch in batches:
        size += batch.nbytes
        if size > limit:
            raise Fatal(f"unpacks to more than {limit:,} bytes: publish it in parts", code="too_large")
        yield batch


def _batch(rows: Sequence[Sequence[str]], of: pa.Schema) -> pa.RecordBatch:
    columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=of)


def land(batches: Batches, of: pa.Schema) -> Landed:
    """Take a table in. Close what is returned: it may hold a file."""
    landed = Landed(of, sizes=_none(of))
    try:
        _fill(landed, batches)
    except BaseException:
        landed.__exit__()
        raise
    landed.total = landed.rows
    return landed


def sample(batches: Batches, of: pa.Schema, size: int) -> Landed:
    """Take a fair sample of a table's rows in, and count them all. The same table gives the same sample."""
    # The rows with the smallest of random numbers.
    chances = np.random.default_rng(0)
    held: list[pa.RecordBatch] = []
    numbers = np.zeros(0)
    limit, total = 1.0, 0
    for batch in batches:
        total += batch.num_rows
        drawn = chances.random(batch.num_rows)
        if (good := drawn < limit).any():
            held.append(batch.filter(pa.array(good)))
            numbers = np.concatenate([numbers, drawn[good]])
        if len(numbers) > 2 * size:
            held, numbers, limit = _smallest(held, numbers, size)
    held, numbers, _ = _smallest(held, numbers, size)
    return Landed(of, len(numbers), total, sum((_sizes(each) for each in held), _none(of)), held)


def _smallest(
    held: list[pa.RecordBatch], numbers: np.ndarray, size: int
) -> tuple[list[pa.RecordBatch], np.ndarray, float]:
    if len(numbers) <= size:
        return held, numbers, 1.0
    limit = float(np.partition(numbers, size)[size])
    good = numbers < limit
    rows = pa.Table.from_batches(held).filter(pa.array(good)).combine_chunks()
    return rows.to_batches(), numbers[good], limit


def _sizes(batch: pa.RecordBatch) -> np.ndarray:
    return np.array([column.nbytes for column in batch.columns], dtype=np.int64)


def _none(of: pa.Schema) -> np.ndarray:
    return np.zeros(len(of), dtype=np.int64)


def _fill(landed: Landed, batches: Batches) -> None:
    waiting: list[pa.RecordBatch] = []
    size = 0
    path: Path | None = None
    writer: pq.ParquetWriter | None = None
    with ExitStack() as open_files:
        for batch in batches:
            landed.rows += batch.num_rows
            landed.sizes += _sizes(batch)
            waiting.append(batch)
            size += batch.nbytes
            if writer is None and size > IN_MEMORY:
                folder = landed._left.enter_context(work_folder())  # noqa: SLF001 - its maker
                path = Path(folder) / "table.parquet"
                writer = open_files.enter_context(_writer(path, landed.schema))
            if writer is not None and size > GROUP:
                writer.write_table(pa.Table.from_batches(waiting, landed.schema))
                waiting, size = [], 0
        if writer is None:
            landed._held = waiting  # noqa: SLF001 - its maker
        elif waiting:
            writer.write_table(pa.Table.from_batches(waiting, landed.schema))
    if path is not None:
        # Opened once: its footer tells of each column of each row group, which are many where the columns are.
        landed._file = landed._left.enter_context(pq.ParquetFile(path))  # noqa: SLF001 - its maker


def _writer(path: Path, of: pa.Schema) -> pq.ParquetWriter:
    # Dictionaries and statistics cost more than they save: each column is read once or twice.
    return pq.ParquetWriter(path, of, compression="lz4", use_dictionary=False, write_statistics=False)
