"""Tables that are no texts, made to batches of texts: records of JSON. ``parquet`` and ``workbooks`` do the rest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from datafab.analysis import json_parser as jsonrows
from datafab.analysis.limits import bounded
from datafab.analysis.spool import batched, schema
from datafab.errors import Fatal


@dataclass(frozen=True, slots=True)
class Other:
    """A table that is no text.

    Attributes:
        facts: what the analysis says of it.
        header: the columns' names.
        batches: its rows; missing cells are empty.
        known: the format that the file itself tells of a column, by position.
        warnings: what a reader should know of how the table was found.
    """

    facts: Mapping[str, Any]
    header: Sequence[str]
    batches: Iterator[pa.RecordBatch]
    known: Mapping[int, str]
    warnings: Sequence[str] = ()


def records(text: str, check: Callable[[], None]) -> Other:
    """Read a list of JSON objects, or the features of a GeoJSON collection with their geometries.

    Raises:
        Fatal: it is neither.
    """
    keys: dict[str, None] = {}
    for number, row in enumerate(jsonrows.rows(text), 1):
        check()
        keys.update(dict.fromkeys(row))
        bounded(number, len(keys))
    if not keys:
        raise Fatal("is a list without records: nothing was published here", code="empty")
    header = [_whole(key) for key in keys]
    return Other({"engine": "json", "encoding": "utf-8"}, header, _records(text, list(keys)), {})


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
