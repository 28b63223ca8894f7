"""Spool a table to disk: its rows are read once, then its columns are read one at a time.

Small tables stay in memory. Larger ones are written to a compressed parquet file in a temporary folder, so that an
analysis takes only the memory of the widest column, or of a chunk of it.
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

#: Maximum bytes of a table that stays in memory.
MAX_MEMORY_BYTES = 32 * 1024**2
#: Maximum rows, and approximate maximum of characters plus cells, of a batch that is made in Python.
MAX_BATCH_ROWS, MAX_BATCH_CHARS = 10_000, 4 * 1024**2
#: Maximum characters of a row.
MAX_ROW_CHARS = 64 * 1024**2
#: Bytes of a row group of the file.
ROW_GROUP_BYTES = 16 * 1024**2
#: Bytes of a column that are processed at once.
CHUNK_BYTES = 64 * 1024**2

Batches = Iterable[pa.RecordBatch]


@dataclass(slots=True)
class SpooledTable:
    """A table of texts that has been read, to be read again column by column.

    Attributes:
        schema: columns named ``0``, ``1``, ... by position.
        rows: number of rows that were kept.
        total: number of rows of the whole table.
        sizes: bytes of each column.
    """

    schema: pa.Schema
    rows: int = 0
    total: int = 0
    sizes: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    _batches: list[pa.RecordBatch] = field(default_factory=list)
    _file: pq.ParquetFile | None = None
    _cleanup: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._batches.clear()
        self._cleanup.close()

    def row_groups(self, position: int) -> Iterator[pa.ChunkedArray]:
        """Yield a column in order, some megabytes at a time."""
        for batch in self._batches:
            yield pa.chunked_array([batch.column(position)])
        if self._file is not None:
            for group in range(self._file.num_row_groups):
                yield self._file.read_row_group(group, columns=[str(position)], use_threads=False).column(0)

    def chunks(self, position: int, chunk_bytes: int = CHUNK_BYTES) -> Iterator[pa.ChunkedArray]:
        """Yield a column in order, in chunks of up to ``chunk_bytes`` unless a single row group is larger."""
        chunks: list[pa.Array] = []
        size = 0
        for group in self.row_groups(position):
            if chunks and size + group.nbytes > chunk_bytes:
                yield pa.chunked_array(chunks)
                chunks, size = [], 0
            chunks += group.chunks
            size += group.nbytes
        if chunks:
            yield pa.chunked_array(chunks)

    def batches(self, positions: Sequence[int]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of some columns in order, one batch or row group at a time."""
        names = [str(position) for position in positions]
        for batch in self._batches:
            yield batch.select(names)
        if self._file is not None:
            for group in range(self._file.num_row_groups):
                rows = self._file.read_row_group(group, columns=names, use_threads=False)
                yield from rows.select(names).to_batches()


def text_schema(width: int) -> pa.Schema:
    """Return the schema of a table of texts."""
    return pa.schema([(str(position), pa.string()) for position in range(width)])


def batch_rows(rows: Iterable[Sequence[str]], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield rows of texts in batches of limited size.

    Raises:
        Fatal: ``too_large``, a single row is: many of its cells may refer to one long text.
    """
    pending: list[Sequence[str]] = []
    size = 0
    for row in rows:
        length = sum(map(len, row))
        if length > MAX_ROW_CHARS:
            raise Fatal(f"has a row of more than {MAX_ROW_CHARS:,} characters: publish it in parts", code="too_large")
        pending.append(row)
        size += length + len(row)
        if len(pending) == MAX_BATCH_ROWS or size > MAX_BATCH_CHARS:
            yield _make_batch(pending, schema)
            pending, size = [], 0
    if pending:
        yield _make_batch(pending, schema)


def limit_bytes(batches: Batches, limit: int) -> Iterator[pa.RecordBatch]:
    """Yield batches as long as they have no more than ``limit`` bytes in total.

    Raises:
        Fatal: ``too_large``, they have more.
    """
    size = 0
    for batch in batches:
        size += batch.nbytes
        if size > limit:
            raise Fatal(f"unpacks to more than {limit:,} bytes: publish it in parts", code="too_large")
        yield batch


def _make_batch(rows: Sequence[Sequence[str]], schema: pa.Schema) -> pa.RecordBatch:
    columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def spool_table(batches: Batches, schema: pa.Schema) -> SpooledTable:
    """Spool all rows of a table. The result is a context manager that removes its file."""
    table = SpooledTable(schema, sizes=_no_sizes(schema))
    try:
        _write_batches(table, batches)
    except BaseException:
        table.__exit__()
        raise
    table.total = table.rows
    return table


def spool_sample(batches: Batches, schema: pa.Schema, size: int) -> SpooledTable:
    """Spool a uniform random sample of a table's rows, and count all rows. The sample of a table is always the same."""
    # The sample consists of the rows with the smallest random numbers.
    chances = np.random.default_rng(0)
    pending: list[pa.RecordBatch] = []
    draws = np.zeros(0)
    limit, total = 1.0, 0
    for batch in batches:
        total += batch.num_rows
        drawn = chances.random(batch.num_rows)
        if (selected := drawn < limit).any():
            pending.append(batch.filter(pa.array(selected)))
            draws = np.concatenate([draws, drawn[selected]])
        if len(draws) > 2 * size:
            pending, draws, limit = _keep_smallest(pending, draws, size)
    pending, draws, _ = _keep_smallest(pending, draws, size)
    return SpooledTable(schema, len(draws), total, sum((_sizes(each) for each in pending), _no_sizes(schema)), pending)


def _keep_smallest(
    pending: list[pa.RecordBatch], draws: np.ndarray, size: int
) -> tuple[list[pa.RecordBatch], np.ndarray, float]:
    if len(draws) <= size:
        return pending, draws, 1.0
    limit = float(np.partition(draws, size)[size])
    selected = draws < limit
    rows = pa.Table.from_batches(pending).filter(pa.array(selected)).combine_chunks()
    return rows.to_batches(), draws[selected], limit


def _sizes(batch: pa.RecordBatch) -> np.ndarray:
    return np.array([column.nbytes for column in batch.columns], dtype=np.int64)


def _no_sizes(schema: pa.Schema) -> np.ndarray:
    return np.zeros(len(schema), dtype=np.int64)


def _write_batches(table: SpooledTable, batches: Batches) -> None:
    waiting: list[pa.RecordBatch] = []
    size = 0
    path: Path | None = None
    writer: pq.ParquetWriter | None = None
    with ExitStack() as open_files:
        for batch in batches:
            table.rows += batch.num_rows
            table.sizes += _sizes(batch)
            waiting.append(batch)
            size += batch.nbytes
            if writer is None and size > MAX_MEMORY_BYTES:
                folder = table._cleanup.enter_context(work_folder())  # noqa: SLF001 - its maker
                path = Path(folder) / "table.parquet"
                writer = open_files.enter_context(_open_writer(path, table.schema))
            if writer is not None and size > ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(waiting, table.schema))
                waiting, size = [], 0
        if writer is None:
            table._batches = waiting  # noqa: SLF001 - its maker
        elif waiting:
            writer.write_table(pa.Table.from_batches(waiting, table.schema))
    if path is not None:
        # Opened only once, as its footer is long if there are many columns: it describes each of each row group.
        table._file = table._cleanup.enter_context(pq.ParquetFile(path))  # noqa: SLF001 - its maker


def _open_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    # Dictionaries and statistics cost more than they save, as each column is read only once or twice.
    return pq.ParquetWriter(path, schema, compression="lz4", use_dictionary=False, write_statistics=False)
