"""The distinct values of a column with how many rows have each, in parts where they are many.

Equal values are always in the same part, so that what is found of each part adds up to what holds for the column.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from datafab.analysis.csv_detective import MISSING
from datafab.analysis.spool import AT_ONCE, Landed

#: Odd constants that spread 64 bits.
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_MISSING = pa.array(MISSING, pa.string())


@dataclass(frozen=True, slots=True)
class Part:
    """Some of a column's distinct values.

    Attributes:
        values: in the order in which they come first.
        counts: rows of each.
    """

    values: pa.Array
    counts: np.ndarray

    @property
    def rows(self) -> int:
        """How many rows have one of them."""
        return int(self.counts.sum())

    def only(self, mask: np.ndarray) -> Part:
        """Return those where a mask is true; mostly that is all of them, which need no copy."""
        if mask.all():
            return self
        return Part(self.values.filter(pa.array(mask)), self.counts[mask])


@dataclass(slots=True)
class Rows:
    """A number for each row of a table that is the same for equal rows only, but for chance.

    64 bits: with ten million rows, two unlike ones share a number once in 300,000 tables. Missing values are alike,
    however they are written.
    """

    numbers: np.ndarray
    #: whether some column alone tells all rows apart
    unlike: bool = False

    def wants(self, values: int, missing: np.ndarray) -> bool:
        """Tell whether a column is to be mixed in: not if it, or one before, alone tells all rows apart.

        Args:
            values: how many distinct ones it has.
            missing: the numbers of those that are missing values.
        """
        self.unlike = self.unlike or values - max(0, len(missing) - 1) == len(self.numbers)
        return not self.unlike

    def mix(self, codes: np.ndarray, start: int, missing: np.ndarray) -> None:
        """Take some rows of a column into account.

        Args:
            codes: the number of each row's value.
            start: the number of the first of these rows.
            missing: see ``wants``.
        """
        if len(missing) > 1:
            codes = np.where(np.isin(codes, missing), missing[0], codes)
        numbers = self.numbers[start : start + len(codes)]
        with np.errstate(over="ignore"):
            numbers ^= codes.astype(np.uint64)
            numbers *= _SPREAD
            numbers ^= numbers >> np.uint64(29)
            numbers *= _MIX

    def repeated(self) -> int:
        """Return how many rows are the same as one before."""
        if self.unlike or not len(self.numbers):
            return 0
        ordered = np.sort(self.numbers)
        return int((ordered[1:] == ordered[:-1]).sum())


class Distinct:
    """A column of a table, by its distinct values.

    Args:
        landed: the table.
        position: of the column.
        at_once: bytes of values that one part may have.
    """

    def __init__(self, landed: Landed, position: int, at_once: int = AT_ONCE) -> None:
        self._landed = landed
        self._position = position
        self._at_once = at_once

    def parts(self, rows: Rows | None = None) -> Iterator[Part]:
        """Yield the parts; ``rows`` hears which row has which value."""
        slabs = self._slabs()
        if slabs is None:
            yield from self._divided(self._number(), rows)
        else:
            yield self._whole(slabs, rows)

    def _number(self) -> int:
        """Return into how many parts the values are dealt."""
        return min(2**16 - 1, -(-int(self._landed.sizes[self._position]) // self._at_once))

    def _slabs(self) -> list[pa.DictionaryArray] | None:
        """Return the values of each slab once, with the place of every row's among them; None: they are too many."""
        slabs: list[pa.DictionaryArray] = []
        size = 0
        for slab in self._landed.slabs(self._position, self._at_once):
            slabs.append(_encoded(slab))
            size += slabs[-1].dictionary.nbytes
            # One slab may be as large as what is looked at in one go.
            if size > self._at_once and len(slabs) > 1:
                return None
        return slabs

    def _whole(self, slabs: Sequence[pa.DictionaryArray], rows: Rows | None) -> Part:
        """Unite the slabs, one after the other: their rows may be many."""
        values, places = _united([each.dictionary for each in slabs])
        missing = _missing(values)
        wanted = rows if rows is not None and rows.wants(len(values), missing) else None
        counts = np.zeros(len(values), dtype=np.int64)
        start = first = 0
        for each in slabs:
            codes = places[first : first + len(each.dictionary)][each.indices.to_numpy()]
            counts += np.bincount(codes, minlength=len(values))
            if wanted is not None:
                wanted.mix(codes, start, missing)
            start, first = start + len(codes), first + len(each.dictionary)
        return Part(values, counts)

    def _divided(self, number: int, rows: Rows | None) -> Iterator[Part]:
        """Deal the values into parts, reading the column once for each part."""
        dealt = self._dealt(number)
        codes = np.zeros(self._landed.rows, dtype=np.int32) if rows is not None else None
        base, missing = 0, []
        for part in range(number):
            mine = dealt == part
            chosen, start = [], 0
            for group in self._landed.groups(self._position):
                chosen += group.filter(pa.array(mine[start : start + len(group)])).chunks
                start += len(group)
            encoded = _encoded(pa.chunked_array(chosen, pa.string()))
            del chosen
            indices = encoded.indices.to_numpy()
            if codes is not None:
                codes[mine] = indices + base
                missing.append(_missing(encoded.dictionary) + base)
            base += len(encoded.dictionary)
            counts = np.bincount(indices, minlength=len(encoded.dictionary)).astype(np.int64)
            yield Part(encoded.dictionary, counts)
        if rows is not None and codes is not None and rows.wants(base, np.concatenate(missing)):
            rows.mix(codes, 0, np.concatenate(missing))

    def _dealt(self, number: int) -> np.ndarray:
        """Return the part of each row."""
        dealt = np.zeros(self._landed.rows, dtype=np.uint16)
        start = 0
        for group in self._landed.groups(self._position):
            for values in group.chunks:
                dealt[start : start + len(values)] = (_hashes(values) >> np.uint64(33)) % np.uint64(number)
                start += len(values)
        return dealt


def _united(dictionaries: Sequence[pa.Array]) -> tuple[pa.Array, np.ndarray]:
    """Return the values of several dictionaries, and the place of each one's values among them."""
    if len(dictionaries) == 1:
        return dictionaries[0], np.arange(len(dictionaries[0]))
    united = _encoded(pa.chunked_array(dictionaries, pa.string()))
    return united.dictionary, united.indices.to_numpy()


def _missing(values: pa.Array) -> np.ndarray:
    return np.flatnonzero(pc.is_in(values, value_set=_MISSING).to_numpy(zero_copy_only=False))


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    encoded = pc.dictionary_encode(column, null_encoding="encode").combine_chunks()
    # Without rows there are no chunks to combine.
    return encoded if isinstance(encoded, pa.DictionaryArray) else encoded.chunk(0)


def _hashes(values: pa.Array) -> np.ndarray:
    """Return 64 bits of each value that depend on all of its bytes; equal values have equal ones.

    They are a polynomial of the bytes: the difference of two sums over the whole text, moved to its beginning.
    """
    _, offsets, data = values.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int32)[values.offset : values.offset + len(values) + 1].astype(np.int64)
    raw = np.frombuffer(data, dtype=np.uint8) if data is not None and data.size else np.zeros(0, dtype=np.uint8)
    hashes = np.zeros(len(values), dtype=np.uint64)
    start = 0
    with np.errstate(over="ignore"):
        while start < len(values):
            end = max(start + 1, int(np.searchsorted(bounds, bounds[start] + _WINDOW, side="right")) - 1)
            here = bounds[start : end + 1] - bounds[start]
            text = raw[bounds[start] : bounds[end]]
            if len(text) > _WINDOW:  # one value alone
                hashes[start] = zlib.crc32(text.tobytes())
            else:
                sums = np.zeros(len(text) + 1, dtype=np.uint64)
                np.cumsum(_POWERS[: len(text)] * (text.astype(np.uint64) + np.uint64(1)), out=sums[1:])
                hashes[start:end] = (sums[here[1:]] - sums[here[:-1]]) * _INVERSES[here[:-1]]
            start = end
    return hashes * _SPREAD


def _powers(base: int) -> np.ndarray:
    powers = np.full(_WINDOW + 1, base, dtype=np.uint64)
    powers[0] = 1
    with np.errstate(over="ignore"):
        return np.cumprod(powers)


#: Bytes of a column that are hashed in one go.
_WINDOW = 2**18
_POWERS, _INVERSES = _powers(int(_MIX)), _powers(pow(int(_MIX), -1, 2**64))
