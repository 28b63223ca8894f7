"""How many rows of a parquet file may be read in one go, by what its footer and its dictionaries say.

A long text may be said once and meant in each row, a list may have a million items of a few bits: what is read in one
go is as many rows as are some megabytes in memory, and those of one row at least.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from datafab.errors import Fatal

#: Rows that are read in one go at most, and bytes that they may have in memory.
ROWS, AT_ONCE = 65_536, 64 * 1024**2
#: Bytes of each column of a file that are read in one go.
BUFFER = 256 * 1024
#: Bytes of a value beside those of a text: as it is read, as a text, as a Python object on its way.
_VALUE = 64
#: How often a text is in memory: as it is read and made whole; where Python makes the text, as objects too.
_FLAT, _MADE = 2, 8
#: What texts are called that need no making.
_PLAIN = frozenset({"UTF8", "ENUM", "JSON"})
#: How much longer than the mean the plain texts of some rows may be.
_UNEVEN = 4
#: Rows in which a dictionary is looked for.
_LOOK = 256


def strides(path: Path, file: pq.ParquetFile, limit: int) -> list[int]:
    """Return how many rows of each row group may be read in one go.

    Raises:
        Fatal: ``too_large``, a row alone has more than ``limit`` bytes.
    """
    leaves = [file.schema.column(at) for at in range(len(file.schema))]
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
    found = []
    # Closed before any row is read: until then it holds the pages that it has seen.
    with pq.ParquetFile(path, read_dictionary=texts, buffer_size=BUFFER) as coded:
        for number in range(file.num_row_groups):
            # Whoever asks the metadata of a damaged group is killed; whoever reads it is told.
            next(coded.iter_batches(1, row_groups=[number], use_threads=False), None)
            group = file.metadata.row_group(number)
            whole = sum(_bytes(leaf, group.column(at), coded, number) for at, leaf in enumerate(leaves))
            row = whole / max(1, group.num_rows)
            if row > limit:
                raise Fatal(f"has rows of more than {limit:,} bytes: publish it in parts", code="too_large")
            found.append(max(1, min(ROWS, int(AT_ONCE // max(1, row)))))
    return found


def _bytes(leaf: Any, chunk: Any, coded: pq.ParquetFile, group: int) -> int:
    """Return the bytes that a leaf's values of a row group have in memory, each being as long as the longest."""
    if leaf.physical_type == "BYTE_ARRAY":
        times = _FLAT if leaf.path == leaf.name and leaf.converted_type in _PLAIN else _MADE
        said = _said(coded, group, leaf.path)
        longest = chunk.total_uncompressed_size if said is None else said
        return int(chunk.num_values * (_VALUE + times * longest) + times * _UNEVEN * chunk.total_uncompressed_size)
    fixed = leaf.length if leaf.physical_type == "FIXED_LEN_BYTE_ARRAY" else 0
    return int(chunk.num_values * (_VALUE + _MADE * fixed))


def _said(coded: pq.ParquetFile, group: int, path: str) -> int | None:
    """Return the bytes of the longest text in a dictionary; None: it cannot be told apart.

    A dictionary is there with the first value of a group, be it none; in lists, with the first item.
    """
    longest = None
    for batch in coded.iter_batches(_LOOK, row_groups=[group], columns=[path], use_threads=False):
        said = [_dictionaries(column) for column in batch.columns]
        if any(each is None for each in said):
            return None
        found = [values for each in said for values in each or ()]
        longest = max((pc.max(pc.binary_length(values)).as_py() or 0 for values in found), default=0)
        if longest:
            break
    return longest


def _dictionaries(column: pa.Array) -> list[pa.Array] | None:
    """Return the dictionaries of a column's texts; None: it has texts without one."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return [column.dictionary]
    if pa.types.is_struct(kind):
        inner = [column.field(at) for at in range(kind.num_fields)]
    elif pa.types.is_map(kind):
        inner = [column.keys, column.items]
    elif pa.types.is_nested(kind):
        inner = [column.values]
    else:
        return None
    found = [_dictionaries(each) for each in inner]
    return None if any(each is None for each in found) else [one for each in found for one in each or ()]
