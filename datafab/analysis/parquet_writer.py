"""Write a table as parquet, with the types that its analysis has inferred."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from datafab.analysis.csv_detective import parse_date
from datafab.analysis.day_order import order_of_format
from datafab.analysis.moments import parse_moment
from datafab.analysis.spool import SpooledTable
from datafab.analysis.table_schema import ANY_FORMAT, is_blank

#: Digits that a double and a 64-bit integer surely keep; longer numbers stay texts.
MAX_DOUBLE_DIGITS, MAX_INTEGER_DIGITS = 15, 18
#: Characters of a timestamp with microseconds and ``Z``.
_MICROSECOND_CHARS = 27
#: Directives of date formats that pyarrow reads as csv-detective does; the rest is parsed by csv-detective.
_ARROW_DIRECTIVES = frozenset("YmdHMS")


def write_parquet(
    table: SpooledTable, positions: Sequence[int], fields: Sequence[dict[str, Any]], target: Path
) -> None:
    """Write a table with the types of its schema; blank cells become null.

    A column with a value that its type cannot hold stays a column of texts.

    Args:
        table: the table.
        positions: of the columns to write.
        fields: of the Table Schema.
        target: the file; it is replaced once all is written.
    """
    kinds = [_column_type(table, position, field) for position, field in zip(positions, fields, strict=True)]
    part = target.with_name(f".{target.name}.part")
    try:
        while (odd := _write_rows(table, positions, fields, kinds, part)) is not None:
            kinds[odd] = pa.string()
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _write_rows(
    table: SpooledTable,
    positions: Sequence[int],
    fields: Sequence[dict[str, Any]],
    kinds: Sequence[pa.DataType],
    part: Path,
) -> int | None:
    """Write all rows; return the first column with a value that its type cannot hold, or None."""
    schema = pa.schema([(field["name"], kind) for field, kind in zip(fields, kinds, strict=True)])
    with pq.ParquetWriter(part, schema, compression="zstd") as writer:
        for batch in table.batches(positions):
            columns = []
            for at, (column, field, kind) in enumerate(zip(batch.columns, fields, kinds, strict=True)):
                try:
                    columns.append(_cast(column, field, kind))
                except (ValueError, OverflowError):  # of pyarrow, and of Python's dates
                    return at
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
    return None


def _column_type(table: SpooledTable, position: int, field: dict[str, Any]) -> pa.DataType:
    match field["type"]:
        case "integer":
            return pa.int64() if _longest_digits(table, position) <= MAX_INTEGER_DIGITS else pa.string()
        case "number" if _longest_digits(table, position) <= MAX_DOUBLE_DIGITS or _are_doubles(table, position, field):
            return pa.float64()
        case "boolean" if "trueValues" in field:
            return pa.bool_()
        case "date":
            return pa.date32()
        case "datetime":
            return _timestamp_type(table, position, field)
    return pa.string()


def _longest_digits(table: SpooledTable, position: int) -> int:
    longest = (
        pc.max(pc.utf8_length(pc.replace_substring_regex(group, r"[^0-9]", ""))).as_py()
        for group in table.row_groups(position)
    )
    return max((each or 0 for each in longest), default=0)


def _are_doubles(table: SpooledTable, position: int, field: dict[str, Any]) -> bool:
    """Tell whether a column's longest numbers are doubles written in full, as programs do with coordinates."""
    for group in table.row_groups(position):
        texts = pc.unique(_plain_numbers(pc.utf8_trim_whitespace(group), field))
        longest = texts.filter(pc.greater(pc.utf8_length(texts), MAX_DOUBLE_DIGITS)).to_pylist()
        if not all(Decimal(repr(float(text))) == Decimal(text) for text in longest):
            return False
    return True


def _timestamp_type(table: SpooledTable, position: int, field: dict[str, Any]) -> pa.DataType:
    """Return the type of a column of timestamps; those written by pyarrow may have nanoseconds."""
    if "format" in field:
        return pa.timestamp("us", "UTC" if field["format"].endswith("%z") else None)
    longest = max((pc.max(pc.utf8_length(group)).as_py() or 0 for group in table.row_groups(position)), default=0)
    return pa.timestamp("ns" if longest > _MICROSECOND_CHARS else "us", "UTC" if field.get("zoned") else None)


def _cast(column: pa.Array, field: dict[str, Any], kind: pa.DataType) -> pa.Array:
    texts = pc.if_else(is_blank(column), None, column)
    if pa.types.is_string(kind):
        return texts
    trimmed = pc.utf8_trim_whitespace(texts)
    if pa.types.is_boolean(kind):
        is_true = pc.is_in(trimmed, value_set=pa.array(field["trueValues"], pa.string()))
        return pc.if_else(pc.is_valid(texts), is_true, None)
    if pa.types.is_temporal(kind):
        return _cast_moments(trimmed, field["format"], kind) if "format" in field else pc.cast(trimmed, kind)
    return pc.cast(_plain_numbers(trimmed, field), kind)


def _plain_numbers(numbers: pa.Array, field: dict[str, Any]) -> pa.Array:
    """Return numbers without thousands separators, and with a decimal point."""
    for mark in field.get("groupChar", ""):
        numbers = pc.replace_substring(numbers, mark, "")
    return pc.replace_substring(numbers, field.get("decimalChar", "."), ".")


def _cast_moments(texts: pa.Array, date_format: str, kind: pa.DataType) -> pa.Array:
    if date_format != ANY_FORMAT and {part[0] for part in date_format.split("%")[1:] if part} <= _ARROW_DIRECTIVES:
        # Fails for dates with missing parts or digits, which the slower way below reads.
        with suppress(pa.ArrowInvalid):
            return pc.cast(pc.strptime(texts, date_format, "us"), kind)
    values = texts.dictionary_encode()
    read = [None if value is None else _parse_moment(value, date_format) for value in values.dictionary.to_pylist()]
    moments = pa.array(read, pa.timestamp("us", getattr(kind, "tz", None)))
    return pc.cast(moments.take(values.indices), kind)


def _parse_moment(value: str, date_format: str) -> datetime | None:
    if date_format != ANY_FORMAT and "%p" not in date_format:
        parsed: datetime | None = parse_date(value, date_format)
        return parsed
    read = parse_moment(value, order_of_format(date_format))
    return read if isinstance(read, datetime) else None
