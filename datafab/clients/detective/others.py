"""Tables that are no plain texts, made to batches of texts: workbooks, records of JSON; ``parquet`` has its own."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from datafab.clients.detective import jsonrows, sizes
from datafab.clients.detective.formats import Sheet, largest_sheet, sheets
from datafab.clients.detective.landing import batched, schema
from datafab.clients.detective.refusals import LOOKING, refusals
from datafab.clients.workfolder import work_folder
from datafab.domain.table import Kind, names
from datafab.errors import Fatal


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
    if isinstance(value, float) and "e" in (said := repr(value)):
        # 5e-05 would be no number for a datastore.
        return format(Decimal(said), "f")
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
