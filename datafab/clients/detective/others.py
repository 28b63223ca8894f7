"""Tables that are no plain texts, made to batches of texts: workbooks, parquet files, records of JSON."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from datafab.clients.detective.formats import largest_sheet, sheets
from datafab.clients.detective.landing import schema
from datafab.clients.detective.refusals import LOOKING, refusals
from datafab.domain.table import Kind, names
from datafab.errors import Fatal

#: Rows of a batch.
ROWS = 65_536
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


@dataclass(frozen=True, slots=True)
class Other:
    """A table that is no text.

    Attributes:
        facts: what the analysis says of it.
        header: the columns' names.
        batches: its rows; missing cells are empty.
        known: the format that the file itself tells of a column, by position.
    """

    facts: Mapping[str, Any]
    header: Sequence[str]
    batches: Iterator[pa.RecordBatch]
    known: Mapping[int, str]


def workbook(path: Path, kind: Kind) -> Other:
    """Read the largest sheet of a workbook."""
    with _suffixed(path, kind) as link, warnings.catch_warnings(), refusals(LOOKING):
        # Of styles that a workbook loses and of what pandas will change one day.
        warnings.simplefilter("ignore")
        sheet = largest_sheet(str(link))
        there = sheets(str(link), sheet.engine)
    header = [str(name) for name in sheet.cells.columns]
    if any(name.startswith("Unnamed:") for name in header):
        raise Fatal("has columns without a name: the first filled row must name them all", code="header")
    columns = [pa.array(sheet.cells.iloc[:, at].fillna("").astype(str), pa.string()) for at in range(len(header))]
    table = pa.table(columns, schema=schema(len(header)))
    facts = {"engine": sheet.engine, "sheet_name": sheet.name, "sheets": there, "header_row_idx": sheet.skip}
    return Other(facts, header, iter(table.to_batches(ROWS)), {})


def parquet(path: Path) -> Other:
    """Read a parquet file."""
    with refusals(LOOKING):
        of = pq.read_schema(path)
    known = {at: found for at, column in enumerate(of) if (found := _known(column.type)) != "string"}
    return Other({"engine": "parquet"}, names(of.names), _parquet(path, len(of.names)), known)


def _parquet(path: Path, width: int) -> Iterator[pa.RecordBatch]:
    with refusals(LOOKING), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS, use_threads=False):
            yield pa.RecordBatch.from_arrays([_text(column) for column in batch.columns], schema=schema(width))


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
    try:
        texts = pc.cast(column, pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        texts = pa.array([None if each is None else _json(each) for each in column.to_pylist()], pa.string())
    return pc.fill_null(texts, "")


def _json(value: Any) -> str:
    return repr(value) if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False, default=str)


def records(text: str) -> Other:
    """Read a list of JSON objects, or the features of a GeoJSON collection with their geometries.

    Raises:
        Fatal: it is neither.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        rows = _lines(text)
        if not rows:
            msg = f"is JSON that cannot be read ({error}): export it anew"
            raise Fatal(msg, code="not_tabular") from error
    else:
        rows = _rows(found)
    header = list(dict.fromkeys(key for row in rows for key in row))
    if not header:
        raise Fatal("is a list without records: nothing was published here", code="empty")
    columns = [pa.array([_cell(row.get(key)) for row in rows], pa.string()) for key in header]
    table = pa.table(columns, schema=schema(len(header)))
    return Other({"engine": "json", "encoding": "utf-8"}, names(header), iter(table.to_batches(ROWS)), {})


def _rows(found: Any) -> list[dict[str, Any]]:
    if isinstance(found, dict) and found.get("type") == "FeatureCollection" and isinstance(found.get("features"), list):
        return [_feature(each) for each in found["features"] if isinstance(each, dict)]
    if isinstance(found, list) and all(isinstance(each, dict) for each in found):
        return found
    msg = "is JSON, but neither a list of records nor a GeoJSON collection: publish a CSV beside it"
    raise Fatal(msg, code="not_tabular")


def _lines(text: str) -> list[dict[str, Any]]:
    """Return the objects of a text with one on each line; none where it is not such a one."""
    try:
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError):
        return []
    return rows if all(isinstance(row, dict) for row in rows) else []


def _feature(feature: Mapping[str, Any]) -> dict[str, Any]:
    properties = feature.get("properties")
    return (properties if isinstance(properties, dict) else {}) | {"geometry": feature.get("geometry")}


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        # JSON may name half a character, which no UTF-8 holds.
        return value.encode("utf-8", "replace").decode()
    return json.dumps(value, ensure_ascii=False)


@contextmanager
def _suffixed(path: Path, kind: Kind) -> Iterator[Path]:
    """Give the file the suffix by which the libraries choose their reader."""
    with TemporaryDirectory(prefix="datafab-") as folder:
        link = Path(folder) / f"table.{kind}"
        link.symlink_to(path.absolute())
        yield link
