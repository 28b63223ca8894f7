"""Read the columns of a parquet file in batches of texts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from datafab.analysis.json_records import NonTextTable
from datafab.analysis.parquet_chunks import BUFFER_BYTES, rows_per_read
from datafab.analysis.refusals import PARSE_FAILURES, translate_failures
from datafab.analysis.spool import text_schema
from datafab.errors import Fatal

#: csv-detective's types of the parquet types; the first match counts.
_DECLARED_TYPES = (
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


def read_parquet(path: Path, limit: int) -> NonTextTable:
    """Read a parquet file, whose texts may have up to ``limit`` bytes in total."""
    with translate_failures(PARSE_FAILURES):
        file_schema = pq.read_schema(path)
    declared_types = {
        at: found for at, column in enumerate(file_schema) if (found := _declared_type(column.type)) != "string"
    }
    return NonTextTable(
        {"engine": "parquet"}, file_schema.names, _read_batches(path, len(file_schema.names), limit), declared_types
    )


def _read_batches(path: Path, width: int, limit: int) -> Iterator[pa.RecordBatch]:
    size = 0
    with translate_failures(PARSE_FAILURES), pq.ParquetFile(path, buffer_size=BUFFER_BYTES) as file:
        for group, rows in enumerate(rows_per_read(path, file, limit)):
            for each in file.iter_batches(rows, row_groups=[group], use_threads=False):
                batch = pa.RecordBatch.from_arrays(
                    [_to_text(column) for column in each.columns], schema=text_schema(width)
                )
                size += batch.nbytes
                if size > limit:
                    raise Fatal(f"unpacks to more than {limit:,} bytes: publish it in parts", code="too_large")
                yield batch


def _declared_type(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind):
        return _declared_type(kind.value_type)
    if pa.types.is_timestamp(kind):
        return "datetime_aware" if kind.tz else "datetime_naive"
    return next((name for fits, name in _DECLARED_TYPES if fits(kind)), "string")


def _to_text(column: pa.Array) -> pa.Array:
    """Return a column as texts; values that have no plain text are converted to JSON."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_timestamp(column.type) and column.type.tz:
        column = pc.cast(column, pa.timestamp(column.type.unit, "UTC"))
    try:
        texts = pc.cast(column, pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        texts = pa.array([None if each is None else _value_text(each) for each in column.to_pylist()], pa.string())
    return pc.fill_null(texts, "") if texts.null_count else texts


def _value_text(value: Any) -> str:
    """Return the text of a value: JSON if it is nested; bytes are decoded if they are UTF-8."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return repr(value)
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=_value_text)
    return str(value)
