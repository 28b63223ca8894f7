"""Read JSON records in batches of texts; ``parquet`` and ``workbook`` read the other non-text tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from datafab.analysis import json_parser
from datafab.analysis.limits import check_cells
from datafab.analysis.spool import batch_rows, text_schema
from datafab.errors import Fatal


@dataclass(frozen=True, slots=True)
class NonTextTable:
    """A table in a file that is not CSV: a workbook, a parquet file or JSON.

    Attributes:
        facts: members of the analysis document that describe the file.
        header: the columns' names.
        batches: the rows as texts; missing cells are empty.
        declared_types: the types that the file declares for its columns, by position.
        warnings: what a reader should know about how the table was found.
    """

    facts: Mapping[str, Any]
    header: Sequence[str]
    batches: Iterator[pa.RecordBatch]
    declared_types: Mapping[int, str]
    warnings: Sequence[str] = ()


def read_json_records(text: str, check: Callable[[], None]) -> NonTextTable:
    """Read a list of JSON objects, or the features of a GeoJSON collection with their geometries.

    Raises:
        Fatal: the document is neither.
    """
    keys: dict[str, None] = {}
    for number, row in enumerate(json_parser.parse_records(text), 1):
        check()
        keys.update(dict.fromkeys(row))
        check_cells(number, len(keys))
    if not keys:
        raise Fatal("is a list without records: nothing was published here", code="empty")
    header = [_without_surrogates(key) for key in keys]
    return NonTextTable({"engine": "json", "encoding": "utf-8"}, header, _record_batches(text, list(keys)), {})


def _record_batches(text: str, keys: Sequence[str]) -> Iterator[pa.RecordBatch]:
    cells = ([_cell_text(record.get(key)) for key in keys] for record in json_parser.parse_records(text))
    yield from batch_rows(cells, text_schema(len(keys)))


def _cell_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and "e" in (text := repr(value)):
        # A datastore would not read 5e-05 as a number.
        return format(Decimal(text), "f")
    return _without_surrogates(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _without_surrogates(text: str) -> str:
    """Return a text without lone surrogates, which JSON can escape, but UTF-8 cannot encode."""
    return text.encode("utf-8", "replace").decode()
