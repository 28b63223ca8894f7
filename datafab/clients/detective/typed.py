"""The typed table that an analysis makes possible, as a parquet file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from datafab.clients.detective.formats import parse_date
from datafab.clients.detective.landing import Landed

#: Digits that a double and a 64 bit integer keep for sure: longer numbers stay texts.
DOUBLE, LONG = 15, 18
#: Characters of a moment with microseconds and ``Z``.
_MICRO = 27
#: Ways of writing that pyarrow reads as csv-detective does; the rest is read by that.
_PLAIN = frozenset("YmdHMS")


def write(landed: Landed, first: int, fields: Sequence[dict[str, Any]], target: Path) -> None:
    """Write a table with the types of its schema; what is blank becomes null.

    Args:
        landed: the rows.
        first: position of the first column that is written.
        fields: of the Table Schema.
        target: the file; it is replaced when all is written.
    """
    positions = range(first, first + len(fields))
    types = [_type(landed, position, field) for position, field in zip(positions, fields, strict=True)]
    schema = pa.schema([(field["name"], kind) for field, kind in zip(fields, types, strict=True)])
    part = target.with_name(f".{target.name}.part")
    try:
        with pq.ParquetWriter(part, schema, compression="zstd") as writer:
            for batch in _typed(landed, positions, fields, schema):
                writer.write_batch(batch)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _typed(
    landed: Landed, positions: Sequence[int], fields: Sequence[dict[str, Any]], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    for batch in landed.batches(positions):
        columns = [
            _cast(column, field, kind) for column, field, kind in zip(batch.columns, fields, schema.types, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _type(landed: Landed, position: int, field: dict[str, Any]) -> pa.DataType:
    match field["type"]:
        case "integer":
            return pa.int64() if _digits(landed, position) <= LONG else pa.string()
        case "number" if _digits(landed, position) <= DOUBLE or _doubles(landed, position):
            return pa.float64()
        case "boolean" if "trueValues" in field:
            return pa.bool_()
        case "date":
            return pa.date32()
        case "datetime":
            return _moment(landed, position, field.get("format"))
    return pa.string()


def _digits(landed: Landed, position: int) -> int:
    longest = (
        pc.max(pc.utf8_length(pc.replace_substring_regex(group, r"[^0-9]", ""))).as_py()
        for group in landed.groups(position)
    )
    return max((each or 0 for each in longest), default=0)


def _doubles(landed: Landed, position: int) -> bool:
    """Tell whether a column's longest numbers are doubles written in full, as programs write coordinates."""
    for group in landed.groups(position):
        texts = pc.unique(pc.replace_substring(pc.utf8_trim_whitespace(group), ",", "."))
        longest = texts.filter(pc.greater(pc.utf8_length(texts), DOUBLE)).to_pylist()
        if not all(Decimal(repr(float(text))) == Decimal(text) for text in longest):
            return False
    return True


def _moment(landed: Landed, position: int, way: str | None) -> pa.DataType:
    """Return the type of moments, by the way they are written, or, as pyarrow writes them, by what they tell."""
    if way is not None:
        return pa.timestamp("us", "UTC" if way.endswith("%z") else None)
    groups = list(landed.groups(position))
    aware = any(pc.any(pc.ends_with(group, "Z")).as_py() for group in groups)
    longest = max((pc.max(pc.utf8_length(group)).as_py() or 0 for group in groups), default=0)
    return pa.timestamp("ns" if longest > _MICRO else "us", "UTC" if aware else None)


def _cast(column: pa.Array, field: dict[str, Any], kind: pa.DataType) -> pa.Array:
    blank = pc.match_substring_regex(column, r"\A\s*\z")
    texts = pc.if_else(blank, None, column)
    if pa.types.is_string(kind):
        return texts
    trimmed = pc.utf8_trim_whitespace(texts)
    if pa.types.is_boolean(kind):
        said = pc.is_in(trimmed, value_set=pa.array(field["trueValues"], pa.string()))
        return pc.if_else(pc.is_valid(texts), said, None)
    if pa.types.is_temporal(kind):
        return _moments(texts, field["format"], kind) if "format" in field else pc.cast(texts, kind)
    return pc.cast(pc.replace_substring(trimmed, field.get("decimalChar", "."), "."), kind)


def _moments(texts: pa.Array, way: str, kind: pa.DataType) -> pa.Array:
    if {part[0] for part in way.split("%")[1:] if part} <= _PLAIN:
        return pc.cast(pc.strptime(texts, way, "us"), kind)
    values = texts.dictionary_encode()
    read = [None if value is None else parse_date(value, way) for value in values.dictionary.to_pylist()]
    moments = pa.array(read, pa.timestamp("us", getattr(kind, "tz", None)))
    return pc.cast(moments.take(values.indices), kind)
