"""The typed table that an analysis makes possible, as a parquet file."""

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
from datafab.analysis.day_order import order_of
from datafab.analysis.moments import moment
from datafab.analysis.spool import Landed
from datafab.analysis.table_schema import ANY, blank

#: Digits that a double and a 64 bit integer keep for sure: longer numbers stay texts.
DOUBLE, LONG = 15, 18
#: Characters of a moment with microseconds and ``Z``.
_MICRO = 27
#: Ways of writing that pyarrow reads as csv-detective does; the rest is read by that.
_PLAIN = frozenset("YmdHMS")


def write(landed: Landed, positions: Sequence[int], fields: Sequence[dict[str, Any]], target: Path) -> None:
    """Write a table with the types of its schema; what is blank becomes null.

    A column that holds something its type has no place for stays one of texts.

    Args:
        landed: the rows.
        positions: of the columns that are written.
        fields: of the Table Schema.
        target: the file; it is replaced when all is written.
    """
    kinds = [_type(landed, position, field) for position, field in zip(positions, fields, strict=True)]
    part = target.with_name(f".{target.name}.part")
    try:
        while (odd := _written(landed, positions, fields, kinds, part)) is not None:
            kinds[odd] = pa.string()
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _written(
    landed: Landed,
    positions: Sequence[int],
    fields: Sequence[dict[str, Any]],
    kinds: Sequence[pa.DataType],
    part: Path,
) -> int | None:
    """Write all rows; return the first column that holds something its type has no place for, if there is one."""
    schema = pa.schema([(field["name"], kind) for field, kind in zip(fields, kinds, strict=True)])
    with pq.ParquetWriter(part, schema, compression="zstd") as writer:
        for batch in landed.batches(positions):
            columns = []
            for at, (column, field, kind) in enumerate(zip(batch.columns, fields, kinds, strict=True)):
                try:
                    columns.append(_cast(column, field, kind))
                except (ValueError, OverflowError):  # of pyarrow, and of Python's dates
                    return at
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
    return None


def _type(landed: Landed, position: int, field: dict[str, Any]) -> pa.DataType:
    match field["type"]:
        case "integer":
            return pa.int64() if _digits(landed, position) <= LONG else pa.string()
        case "number" if _digits(landed, position) <= DOUBLE or _doubles(landed, position, field):
            return pa.float64()
        case "boolean" if "trueValues" in field:
            return pa.bool_()
        case "date":
            return pa.date32()
        case "datetime":
            return _moment(landed, position, field)
    return pa.string()


def _digits(landed: Landed, position: int) -> int:
    longest = (
        pc.max(pc.utf8_length(pc.replace_substring_regex(group, r"[^0-9]", ""))).as_py()
        for group in landed.groups(position)
    )
    return max((each or 0 for each in longest), default=0)


def _doubles(landed: Landed, position: int, field: dict[str, Any]) -> bool:
    """Tell whether a column's longest numbers are doubles written in full, as programs write coordinates."""
    for group in landed.groups(position):
        texts = pc.unique(_plain(pc.utf8_trim_whitespace(group), field))
        longest = texts.filter(pc.greater(pc.utf8_length(texts), DOUBLE)).to_pylist()
        if not all(Decimal(repr(float(text))) == Decimal(text) for text in longest):
            return False
    return True


def _moment(landed: Landed, position: int, field: dict[str, Any]) -> pa.DataType:
    """Return the type of moments; as pyarrow writes them they may have nanoseconds."""
    if "format" in field:
        return pa.timestamp("us", "UTC" if field["format"].endswith("%z") else None)
    longest = max((pc.max(pc.utf8_length(group)).as_py() or 0 for group in landed.groups(position)), default=0)
    return pa.timestamp("ns" if longest > _MICRO else "us", "UTC" if field.get("zoned") else None)


def _cast(column: pa.Array, field: dict[str, Any], kind: pa.DataType) -> pa.Array:
    texts = pc.if_else(blank(column), None, column)
    if pa.types.is_string(kind):
        return texts
    trimmed = pc.utf8_trim_whitespace(texts)
    if pa.types.is_boolean(kind):
        said = pc.is_in(trimmed, value_set=pa.array(field["trueValues"], pa.string()))
        return pc.if_else(pc.is_valid(texts), said, None)
    if pa.types.is_temporal(kind):
        return _moments(trimmed, field["format"], kind) if "format" in field else pc.cast(trimmed, kind)
    return pc.cast(_plain(trimmed, field), kind)


def _plain(numbers: pa.Array, field: dict[str, Any]) -> pa.Array:
    """Return numbers without marks between thousands, and with a decimal point."""
    for mark in field.get("groupChar", ""):
        numbers = pc.replace_substring(numbers, mark, "")
    return pc.replace_substring(numbers, field.get("decimalChar", "."), ".")


def _moments(texts: pa.Array, way: str, kind: pa.DataType) -> pa.Array:
    if way != ANY and {part[0] for part in way.split("%")[1:] if part} <= _PLAIN:
        # It wants each part of a date, and each digit of a part.
        with suppress(pa.ArrowInvalid):
            return pc.cast(pc.strptime(texts, way, "us"), kind)
    values = texts.dictionary_encode()
    read = [None if value is None else _read(value, way) for value in values.dictionary.to_pylist()]
    moments = pa.array(read, pa.timestamp("us", getattr(kind, "tz", None)))
    return pc.cast(moments.take(values.indices), kind)


def _read(value: str, way: str) -> datetime | None:
    if way != ANY and "%p" not in way:
        parsed: datetime | None = parse_date(value, way)
        return parsed
    read = moment(value, order_of(way))
    return read if isinstance(read, datetime) else None
