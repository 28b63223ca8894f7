"""The columns of a parquet file, made to batches of texts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from datafab.analysis.json_records import Other
from datafab.analysis.parquet_chunks import BUFFER, strides
from datafab.analysis.refusals import LOOKING, refusals
from datafab.analysis.spool import schema
from datafab.errors import Fatal

#: Python types of csv-detective by what parquet says of a column; the first that fits.
_KNOWN = (
    (pa.types.is_boolean, "bool"),
    (pa.types.is_integer, "int"),
    (pa.types.is_floating, "float"),
    (pa.types.is_decimal, "float"),
    (pa.types.is_date, "date"),
    (pa.types.is_string, "string"),
    (pa.types.is_large_string, "string"),
    (pa.types.is_nested, "json"),
    (pa.types.is_binary, "binary"),
    (pa.types.is_large_binary, "binary"),
)


def parquet_table(path: Path, limit: int) -> Other:
    """Read a parquet file, whose texts may have ``limit`` bytes in all."""
    with refusals(LOOKING):
        of = pq.read_schema(path)
    known = {at: found for at, column in enumerate(of) if (found := _known(column.type)) != "string"}
    return Other({"engine": "parquet"}, of.names, _batches(path, len(of.names), limit), known)


def _batches(path: Path, width: int, limit: int) -> Iterator[pa.RecordBatch]:
    size = 0
    with refusals(LOOKING), pq.ParquetFile(path, buffer_size=BUFFER) as file:
        for group, rows in enumerate(strides(path, file, limit)):
            for each in file.iter_batches(rows, row_groups=[group], use_threads=False):
                batch = pa.RecordBatch.from_arrays([_text(column) for column in each.columns], schema=schema(width))
                size += batch.nbytes
                if size > limit:
                    raise Fatal(f"unpacks to more than {limit:,} bytes: publish it in parts", code="too_large")
                yield batch


def _known(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind):
        return _known(kind.value_type)
    if pa.types.is_timestamp(kind):
        return "datetime_aware" if kind.tz else "datetime_naive"
    return next((name for fits, name in _KNOWN if fits(kind)), "string")


def _text(column: pa.Array) -> pa.Array:
    """Return a column as texts; what has no text of its own, as JSON."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_timestamp(column.type) and column.type.tz:
        column = pc.cast(column, pa.timestamp(column.type.unit, "UTC"))
    try:
        texts = pc.cast(column, pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        texts = pa.array([None if each is None else _said(each) for each in column.to_pylist()], pa.string())
    return pc.fill_null(texts, "") if texts.null_count else texts


def _said(value: Any) -> str:
    """Return the text of a value, which is JSON where it has parts; bytes are a text where they can be."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return repr(value)
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=_said)
    return str(value)
