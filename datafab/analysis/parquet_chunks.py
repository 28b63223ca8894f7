"""Compute how many rows of a parquet file may be read at once, from its footer and its dictionaries.

A long text may be stored once and referenced in each row, and a list may have a million items of a few bits. So the
memory of a row is estimated, and the rows that are read at once take some megabytes, but are at least one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from datafab.errors import Fatal

#: Maximum rows that are read at once, and the bytes that they may take in memory.
MAX_READ_ROWS, MAX_READ_BYTES = 65_536, 64 * 1024**2
#: Bytes of each column that are read from the file at once.
BUFFER_BYTES = 256 * 1024
#: Bytes of a value beyond those of its text, while it is read and converted to text.
_VALUE_OVERHEAD_BYTES = 64
#: Number of copies of a text in memory: as it is read and merged; if Python converts it, as objects, too.
_TEXT_COPIES, _CONVERTED_COPIES = 2, 8
#: Types of texts that need no conversion.
_TEXT_TYPES = frozenset({"UTF8", "ENUM", "JSON"})
#: Assumed ratio of the longest to the mean plain text of a batch.
_MAX_TO_MEAN_RATIO = 4
#: Rows that are read at once to find a dictionary.
_PROBE_ROWS = 256


def rows_per_read(path: Path, file: pq.ParquetFile, limit: int) -> list[int]:
    """Return for each row group how many rows may be read at once.

    Raises:
        Fatal: ``too_large``, a single row has more than ``limit`` bytes.
    """
    leaves = [file.schema.column(at) for at in range(len(file.schema))]
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
    found = []
    # Closed before any row is read, as it holds the pages that it has read until then.
    with pq.ParquetFile(path, read_dictionary=texts, buffer_size=BUFFER_BYTES) as coded:
        for number in range(file.num_row_groups):
            # Read first: the metadata of a damaged row group crashes the process, but reading its rows raises an error.
            next(coded.iter_batches(1, row_groups=[number], use_threads=False), None)
            group = file.metadata.row_group(number)
            whole = sum(_memory_bytes(leaf, group.column(at), coded, number) for at, leaf in enumerate(leaves))
            row = whole / max(1, group.num_rows)
            if row > limit:
                raise Fatal(f"has rows of more than {limit:,} bytes: publish it in parts", code="too_large")
            found.append(max(1, min(MAX_READ_ROWS, int(MAX_READ_BYTES // max(1, row)))))
    return found


def _memory_bytes(leaf: Any, chunk: Any, coded: pq.ParquetFile, group: int) -> int:
    """Return an upper bound of the bytes that the values of a leaf column of a row group take in memory."""
    if leaf.physical_type == "BYTE_ARRAY":
        times = _TEXT_COPIES if leaf.path == leaf.name and leaf.converted_type in _TEXT_TYPES else _CONVERTED_COPIES
        longest_text = _longest_dictionary_text(coded, group, leaf.path)
        longest = chunk.total_uncompressed_size if longest_text is None else longest_text
        return int(
            chunk.num_values * (_VALUE_OVERHEAD_BYTES + times * longest)
            + times * _MAX_TO_MEAN_RATIO * chunk.total_uncompressed_size
        )
    fixed = leaf.length if leaf.physical_type == "FIXED_LEN_BYTE_ARRAY" else 0
    return int(chunk.num_values * (_VALUE_OVERHEAD_BYTES + _CONVERTED_COPIES * fixed))


def _longest_dictionary_text(coded: pq.ParquetFile, group: int, path: str) -> int | None:
    """Return the bytes of the longest text in the dictionaries of a column; None if it has texts without one.

    A dictionary is available with the first value of a row group, even a null; in lists, with the first item.
    """
    longest = None
    for batch in coded.iter_batches(_PROBE_ROWS, row_groups=[group], columns=[path], use_threads=False):
        longest_text = [_find_dictionaries(column) for column in batch.columns]
        if any(each is None for each in longest_text):
            return None
        found = [values for each in longest_text for values in each or ()]
        longest = max((pc.max(pc.binary_length(values)).as_py() or 0 for values in found), default=0)
        if longest:
            break
    return longest


def _find_dictionaries(column: pa.Array) -> list[pa.Array] | None:
    """Return the dictionaries of a column's texts; None if it has texts without one."""
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
    found = [_find_dictionaries(each) for each in inner]
    return None if any(each is None for each in found) else [one for each in found for one in each or ()]
