"""Count the distinct values of a column, in several parts if there are many.

Equal values are always in the same part, so that the results of the parts add up to those of the column.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from datafab.analysis.csv_detective import MISSING_VALUES
from datafab.analysis.spool import CHUNK_BYTES, SpooledTable

#: Odd constants that distribute 64 bits evenly.
_SPREAD_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_MIX_FACTOR = np.uint64(0xBF58476D1CE4E5B9)
_MISSING = pa.array(MISSING_VALUES, pa.string())


@dataclass(frozen=True, slots=True)
class ValueCounts:
    """Some of a column's distinct values, with the number of rows of each.

    Attributes:
        values: in the order of their first occurrence.
        counts: rows of each.
    """

    values: pa.Array
    counts: np.ndarray

    @property
    def rows(self) -> int:
        """The number of rows that have one of the values."""
        return int(self.counts.sum())

    def select(self, mask: np.ndarray) -> ValueCounts:
        """Return the values for which a mask is true, without a copy if that is all of them."""
        if mask.all():
            return self
        return ValueCounts(self.values.filter(pa.array(mask)), self.counts[mask])


@dataclass(slots=True)
class RowHashes:
    """A hash of each row of a table, to count duplicates.

    With 64 bits and ten million rows, two different rows share a hash in one table of 300,000. All missing values are
    equal, however they are written.
    """

    hashes: np.ndarray
    #: whether the values of a single column are distinct in all rows
    all_distinct: bool = False

    def needs_column(self, values: int, missing: np.ndarray) -> bool:
        """Tell whether a column must be added: not if its values, or those of an earlier column, are all distinct.

        Args:
            values: number of distinct values of the column.
            missing: codes of the missing values.
        """
        self.all_distinct = self.all_distinct or values - max(0, len(missing) - 1) == len(self.hashes)
        return not self.all_distinct

    def add_column(self, codes: np.ndarray, start: int, missing: np.ndarray) -> None:
        """Add some rows of a column to the hashes.

        Args:
            codes: the code of each row's value.
            start: position of the first row.
            missing: see ``needs_column``.
        """
        if len(missing) > 1:
            codes = np.where(np.isin(codes, missing), missing[0], codes)
        numbers = self.hashes[start : start + len(codes)]
        with np.errstate(over="ignore"):
            numbers ^= codes.astype(np.uint64)
            numbers *= _SPREAD_FACTOR
            numbers ^= numbers >> np.uint64(29)
            numbers *= _MIX_FACTOR

    def count_duplicates(self) -> int:
        """Return the number of rows that are equal to an earlier row."""
        if self.all_distinct or not len(self.hashes):
            return 0
        ordered = np.sort(self.hashes)
        return int((ordered[1:] == ordered[:-1]).sum())


class DistinctValues:
    """The distinct values of a column.

    Args:
        table: the table.
        position: of the column.
        chunk_bytes: maximum bytes of the values of one part.
    """

    def __init__(self, table: SpooledTable, position: int, chunk_bytes: int = CHUNK_BYTES) -> None:
        self._table = table
        self._position = position
        self._chunk_bytes = chunk_bytes

    def parts(self, hashes: RowHashes | None = None) -> Iterator[ValueCounts]:
        """Yield the parts, and add the column to ``hashes``."""
        chunks = self._encoded_chunks()
        if chunks is None:
            yield from self._count_by_part(self._part_count(), hashes)
        else:
            yield self._merge_chunks(chunks, hashes)

    def _part_count(self) -> int:
        """Return the number of parts into which the values are divided."""
        return min(2**16 - 1, -(-int(self._table.sizes[self._position]) // self._chunk_bytes))

    def _encoded_chunks(self) -> list[pa.DictionaryArray] | None:
        """Return the chunks of the column, dictionary-encoded; None: the distinct values are too many."""
        chunks: list[pa.DictionaryArray] = []
        size = 0
        for chunk in self._table.chunks(self._position, self._chunk_bytes):
            chunks.append(_encode(chunk))
            size += chunks[-1].dictionary.nbytes
            # A single chunk is never too large, as it is what may be processed at once.
            if size > self._chunk_bytes and len(chunks) > 1:
                return None
        return chunks

    def _merge_chunks(self, chunks: Sequence[pa.DictionaryArray], hashes: RowHashes | None) -> ValueCounts:
        """Merge the chunks one by one, as they may have many rows."""
        values, places = _merge_dictionaries([each.dictionary for each in chunks])
        missing = _missing_codes(values)
        used = hashes if hashes is not None and hashes.needs_column(len(values), missing) else None
        counts = np.zeros(len(values), dtype=np.int64)
        start = first = 0
        for each in chunks:
            codes = places[first : first + len(each.dictionary)][each.indices.to_numpy()]
            counts += np.bincount(codes, minlength=len(values))
            if used is not None:
                used.add_column(codes, start, missing)
            start, first = start + len(codes), first + len(each.dictionary)
        return ValueCounts(values, counts)

    def _count_by_part(self, number: int, hashes: RowHashes | None) -> Iterator[ValueCounts]:
        """Divide the values into parts by their hashes, reading the column once for each part."""
        part_of_row = self._assign_parts(number)
        codes = np.zeros(self._table.rows, dtype=np.int32) if hashes is not None else None
        base, missing = 0, []
        for part in range(number):
            in_part = part_of_row == part
            chosen, start = [], 0
            for group in self._table.row_groups(self._position):
                chosen += group.filter(pa.array(in_part[start : start + len(group)])).chunks
                start += len(group)
            encoded = _encode(pa.chunked_array(chosen, pa.string()))
            del chosen
            indices = encoded.indices.to_numpy()
            if codes is not None:
                codes[in_part] = indices + base
                missing.append(_missing_codes(encoded.dictionary) + base)
            base += len(encoded.dictionary)
            counts = np.bincount(indices, minlength=len(encoded.dictionary)).astype(np.int64)
            yield ValueCounts(encoded.dictionary, counts)
        if hashes is not None and codes is not None and hashes.needs_column(base, np.concatenate(missing)):
            hashes.add_column(codes, 0, np.concatenate(missing))

    def _assign_parts(self, number: int) -> np.ndarray:
        """Return the number of each row's part."""
        part_of_row = np.zeros(self._table.rows, dtype=np.uint16)
        start = 0
        for group in self._table.row_groups(self._position):
            for values in group.chunks:
                part_of_row[start : start + len(values)] = (_hash_values(values) >> np.uint64(33)) % np.uint64(number)
                start += len(values)
        return part_of_row


def _merge_dictionaries(dictionaries: Sequence[pa.Array]) -> tuple[pa.Array, np.ndarray]:
    """Return the values of several dictionaries, and the position of each dictionary's values among them."""
    if len(dictionaries) == 1:
        return dictionaries[0], np.arange(len(dictionaries[0]))
    united = _encode(pa.chunked_array(dictionaries, pa.string()))
    return united.dictionary, united.indices.to_numpy()


def _missing_codes(values: pa.Array) -> np.ndarray:
    return np.flatnonzero(pc.is_in(values, value_set=_MISSING).to_numpy(zero_copy_only=False))


def _encode(column: pa.ChunkedArray) -> pa.DictionaryArray:
    encoded = pc.dictionary_encode(column, null_encoding="encode").combine_chunks()
    # Without rows there are no chunks to combine.
    return encoded if isinstance(encoded, pa.DictionaryArray) else encoded.chunk(0)


def _hash_values(values: pa.Array) -> np.ndarray:
    """Return a 64-bit hash of each value.

    The hash is a polynomial of the value's bytes, computed as the difference of two cumulative sums over the text of
    all values and scaled to the value's beginning.
    """
    _, offsets, data = values.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int32)[values.offset : values.offset + len(values) + 1].astype(np.int64)
    raw = np.frombuffer(data, dtype=np.uint8) if data is not None and data.size else np.zeros(0, dtype=np.uint8)
    hashes = np.zeros(len(values), dtype=np.uint64)
    start = 0
    with np.errstate(over="ignore"):
        while start < len(values):
            end = max(start + 1, int(np.searchsorted(bounds, bounds[start] + _WINDOW_BYTES, side="right")) - 1)
            here = bounds[start : end + 1] - bounds[start]
            text = raw[bounds[start] : bounds[end]]
            if len(text) > _WINDOW_BYTES:  # one value alone
                hashes[start] = zlib.crc32(text.tobytes())
            else:
                sums = np.zeros(len(text) + 1, dtype=np.uint64)
                np.cumsum(_POWERS[: len(text)] * (text.astype(np.uint64) + np.uint64(1)), out=sums[1:])
                hashes[start:end] = (sums[here[1:]] - sums[here[:-1]]) * _INVERSES[here[:-1]]
            start = end
    return hashes * _SPREAD_FACTOR


def _powers(base: int) -> np.ndarray:
    powers = np.full(_WINDOW_BYTES + 1, base, dtype=np.uint64)
    powers[0] = 1
    with np.errstate(over="ignore"):
        return np.cumprod(powers)


#: Bytes of a column that are hashed at once.
_WINDOW_BYTES = 2**18
_POWERS, _INVERSES = _powers(int(_MIX_FACTOR)), _powers(pow(int(_MIX_FACTOR), -1, 2**64))
