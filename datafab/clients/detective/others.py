"""Tables that are no plain texts, made to batches of texts: workbooks, parquet files, records of JSON."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from datafab.clients.detective import jsonrows, sizes
from datafab.clients.detective.formats import Sheet, largest_sheet, sheets
from datafab.clients.detective.landing import batched, schema
from datafab.clients.detective.refusals import LOOKING, refusals
from datafab.clients.workfolder import work_folder
from datafab.domain.table import Kind, names
from datafab.errors import Fatal

#: Rows of a batch, and bytes of its texts that are said once and meant in each of them.
ROWS, AT_ONCE = 65_536, 64 * 1024**2
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


def workbook(path: Path, kind: Kind, check: Callable[[], None]) -> Other:
    """Read the largest sheet of a workbook."""
    if kind is not Kind.XLS:  # which has 65,536 rows at most, each said in full
        sizes.workbook(path, kind, check)
    with _suffixed(path, kind) as link, warnings.catch_warnings(), refusals(LOOKING):
        # Of styles that a workbook loses and of what pandas will change one day.
        warnings.simplefilter("ignore")
        sheet = largest_sheet(str(link))
        there = sheets(str(link), sheet.engine)
    header = [str(name) for name in sheet.cells.columns]
    if any(name.startswith("Unnamed:") or name == "nan" for name in header):
        raise Fatal("has columns without a name: the first filled row must name them all", code="header")
    facts = {"engine": sheet.engine, "sheet_name": sheet.name, "sheets": there, "header_row_idx": sheet.skip}
    return Other(facts, header, batched(_sheet(sheet), schema(len(header))), {})


def _sheet(sheet: Sheet) -> Iterator[list[str]]:
    """Yield the rows of a sheet; equal cells may be one text in its memory, however long and many they are."""
    cells = sheet.cells.astype(object).where(sheet.cells.notna(), "")
    for row in cells.itertuples(index=False, name=None):
        yield [str(cell) for cell in row]


def parquet(path: Path, limit: int) -> Other:
    """Read a parquet file, whose texts may have ``limit`` bytes in all."""
    with refusals(LOOKING):
        of = pq.read_schema(path)
    known = {at: found for at, column in enumerate(of) if (found := _known(column.type)) != "string"}
    return Other({"engine": "parquet"}, names(of.names), _parquet(path, len(of.names), limit), known)


def _parquet(path: Path, width: int, limit: int) -> Iterator[pa.RecordBatch]:
    size = 0
    with refusals(LOOKING), pq.ParquetFile(path) as file:
        for group, rows in enumerate(_steps(path, file)):
            for each in file.iter_batches(rows, row_groups=[group], use_threads=False):
                batch = pa.RecordBatch.from_arrays([_text(column) for column in each.columns], schema=schema(width))
                size += batch.nbytes
                if size > limit:
                    raise Fatal(f"unpacks to more than {limit:,} bytes: publish it in parts", code="too_large")
                yield batch


def _steps(path: Path, file: pq.ParquetFile) -> Iterator[int]:
    """Yield how many rows of each row group may be read in one go: a long text may be said once and meant often."""
    leaves = (file.schema.column(at) for at in range(len(file.schema)))
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
    with pq.ParquetFile(path, read_dictionary=texts) as once:
        for group in range(once.num_row_groups):
            # Any row of a group brings all that is said once in it.
            first = next(once.iter_batches(1, row_groups=[group], use_threads=False), None)
            columns = first.columns if first is not None else ()
            said = (column.dictionary for column in columns if pa.types.is_dictionary(column.type))
            longest = sum(pc.max(pc.binary_length(values)).as_py() or 0 for values in said)
            yield max(1, min(ROWS, AT_ONCE // max(1, longest)))


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
        texts = pa.array([None if each is None else _json(each) for each in column.to_pylist()], pa.string())
    return pc.fill_null(texts, "")


def _json(value: Any) -> str:
    return repr(value) if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False, default=str)


def records(text: str, check: Callable[[], None]) -> Other:
    """Read a list of JSON objects, or the features of a GeoJSON collection with their geometries.

    Raises:
        Fatal: it is neither.
    """
    keys: dict[str, None] = {}
    for number, row in enumerate(jsonrows.rows(text), 1):
        check()
        keys.update(dict.fromkeys(row))
        sizes.bounded(number, len(keys))
    if not keys:
        raise Fatal("is a list without records: nothing was published here", code="empty")
    header = [_whole(key) for key in keys]
    return Other({"engine": "json", "encoding": "utf-8"}, names(header), _records(text, list(keys)), {})


def _records(text: str, keys: Sequence[str]) -> Iterator[pa.RecordBatch]:
    cells = ([_cell(record.get(key)) for key in keys] for record in jsonrows.rows(text))
    yield from batched(cells, schema(len(keys)))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return _whole(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _whole(text: str) -> str:
    """Return a text without halves of characters, which JSON may name, but no UTF-8 holds."""
    return text.encode("utf-8", "replace").decode()


@contextmanager
def _suffixed(path: Path, kind: Kind) -> Iterator[Path]:
    """Give the file the suffix by which the libraries choose their reader."""
    with work_folder() as folder:
        link = Path(folder) / f"table.{kind}"
        link.symlink_to(path.absolute())
        yield link
