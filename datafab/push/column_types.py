"""The fields of a datastore for the columns of a table, with types that hold all of their values. Pure.

A guessed type loses nothing: one value such as ``007``, ``+33``, ``1e5`` or ``N/A`` makes its column text. Dates become
timestamps if an analysis has found the single notation of a column, including the order of day and month. A type that
a data dictionary chooses accepts more notations (``chosen_types.py``). An empty cell is null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

from datafab.analysis.day_order import order_of_format
from datafab.analysis.moments import format_moment, parse_moment
from datafab.analysis.numerals import Style
from datafab.core.item import Value
from datafab.errors import Fatal
from datafab.push.chosen_types import ChosenColumn
from datafab.push.guessed_types import GuessedColumn
from datafab.push.store_types import MOMENT_TYPES, NUMBER_TYPES, StoreType, chosen_type, convert

#: Longest name of a field. CKAN counts characters, but PostgreSQL truncates after this number of bytes.
MAX_NAME_BYTES = 63
#: Most columns of a PostgreSQL table, less CKAN's own ``_id`` and ``_full_text``.
MAX_FIELDS = 1598
#: The format that a Table Schema gives to dates that contain words.
ANY_FORMAT = "any"


class Field(Value):
    """A column of the file as a field of the datastore."""

    #: position of its cell in a row, from 0
    position: int
    #: name in the datastore, valid and unique there
    id: str
    type: StoreType
    #: whether its numbers have a decimal comma
    comma: bool = False
    #: characters that may stand between its thousands
    group: str = ""
    #: format of its dates, for ``strptime``, or ``any``
    way: str | None = None
    #: whether a data dictionary has chosen its type
    chosen: bool = False
    #: order of day and month in the dates of a column with a chosen type
    order: str | None = None
    #: its entry in the data dictionary: label, notes, type_override
    info: dict[str, Any]

    def value(self, cell: str) -> str | None:
        """Return the text to send for a cell; the datastore parses numbers without losing a digit."""
        if self.type is StoreType.TEXT:
            return cell or None
        value = cell.strip()
        if not value:
            return None
        if self.chosen:
            return convert(self.type, value, order=self.order, style=self._style)
        if self.way is not None:
            return _moment(value, self.way, zone=self.type is StoreType.TIMESTAMPTZ)
        return self._style.plain(value)

    @property
    def _style(self) -> Style:
        return Style(self.group, "," if self.comma else ".")

    def defined(self) -> dict[str, Any]:
        """Return the field as ``datastore_create`` expects it."""
        return {"id": self.id, "type": self.type.value, "info": self.info}


@lru_cache(4096)
def _moment(value: str, way: str, *, zone: bool) -> str:
    """Return a date or time as ISO 8601, in UTC if it has a zone and its column has none."""
    if way == ANY_FORMAT or "%p" in way:
        return format_moment(parse_moment(value, order_of_format(way)), zone=zone)
    return format_moment(datetime.strptime(value, way), zone=zone)  # noqa: DTZ007 - the value may have no zone


class LoadPlan(Value):
    """How to load a file: decided once, from all of its rows, before anything is deleted."""

    v: Literal[1] = 1
    #: number of rows below the header
    rows: int
    fields: tuple[Field, ...]

    def record(self, cells: Sequence[str]) -> dict[str, str | None]:
        """Return a row as CKAN expects it."""
        return {field.id: field.value(cells[field.position]) for field in self.fields}


@dataclass(frozen=True, slots=True)
class AnalysedColumn:
    """A column as an analysis describes it.

    Attributes:
        type: type that holds all of its values; text if they are identifiers, even if these consist of digits.
        comma: whether its numbers have a decimal comma.
        filled: number of filled cells.
        way: format of its dates.
        group: characters that may separate thousands.
    """

    type: StoreType
    comma: bool
    filled: int
    way: str | None = None
    group: str = ""


#: Type in a Table Schema -> type of the datastore. A boolean stays the text that was published.
_SCHEMA_TYPES = {
    "integer": StoreType.BIGINT,
    "number": StoreType.NUMERIC,
    "date": StoreType.TIMESTAMP,
    "datetime": StoreType.TIMESTAMP,
}


def analysed_columns(analysis: Mapping[str, Any], width: int) -> list[AnalysedColumn] | None:
    """Return the columns of a table as its analysis describes them.

    Return None if the analysis has not read all rows, or if a cell holds a NUL character: the file must then be read,
    which also finds the line of that cell.

    Args:
        analysis: document of the analysis.
        width: number of cells in the table's header.
    """
    if analysis.get("sampled", True) or "schema" not in analysis or "nul" in analysis:
        return None
    columns = [AnalysedColumn(StoreType.TEXT, comma=False, filled=0) for _ in range(width)]
    for position, (name, field) in enumerate(zip(analysis["header"], analysis["schema"]["fields"], strict=True)):
        filled = analysis["total_lines"] - analysis["profile"][name]["nb_missing_values"]
        kind, way = _SCHEMA_TYPES.get(field["type"], StoreType.TEXT), field.get("format")
        if kind is StoreType.TIMESTAMP and (field.get("zoned") or str(way).endswith("%z")):
            kind = StoreType.TIMESTAMPTZ
        comma, group = field.get("decimalChar") == ",", field.get("groupChar", "")
        columns[position] = AnalysedColumn(kind, comma=comma, filled=filled, way=way, group=group)
    return columns


def chosen_columns(
    header: Sequence[str],
    columns: Sequence[AnalysedColumn] | None,
    dictionary: Mapping[str, Mapping[str, Any]],
    *,
    separator: str,
    order: str | None = None,
    by: str = "",
) -> dict[int, ChosenColumn]:
    """Return the columns, by position, whose cells must be read as a data dictionary chooses another type for them.

    Args:
        header: cells of the header.
        columns: the columns as an analysis describes them; None: there is no such analysis.
        dictionary: ``info`` of the resource's fields, by name; fields without a column are ignored.
        separator: separator of the table's cells.
        order: order of day and month, for dates that do not show it.
        by: where this order was set, for messages.

    Raises:
        Fatal: ``unsupported``, a datastore does not have a chosen type.
    """
    found: dict[int, ChosenColumn] = {}
    for position, name in enumerate(field_ids(header)):
        kind = None if name is None else chosen_type(name, _type_override(dictionary.get(name, {})))
        if name is None or kind in {None, StoreType.TEXT} or (columns and _holds(kind, columns[position])):
            continue
        found[position] = ChosenColumn(name, kind, separator=separator, order=order, by=by)
    return found


def _type_override(info: Mapping[str, Any]) -> str:
    return str(info.get("type_override") or "")


def _holds(kind: StoreType, column: AnalysedColumn) -> bool:
    """Tell whether a type certainly holds all values of a column."""
    if kind is StoreType.NUMERIC:
        return column.type in NUMBER_TYPES
    return kind is StoreType.TIMESTAMP and column.type is StoreType.TIMESTAMP


def field_ids(header: Sequence[str]) -> list[str | None]:
    """Return a valid, unique field name for each cell of a header; None for a blank one, whose column is dropped."""
    taken: set[str] = set()
    ids: list[str | None] = []
    for position, cell in enumerate(header, 1):
        ids.append(_unique(_valid(cell) or f"column_{position}", taken) if cell.strip() else None)
    return ids


def _valid(cell: str) -> str:
    """Return a name without characters that CKAN and PostgreSQL refuse, cut to the length that they keep."""
    plain = "".join(char for char in cell if (char.isprintable() or char.isspace()) and char != '"')
    return _cut(" ".join(plain.split()).lstrip("_ "), MAX_NAME_BYTES)


def _cut(name: str, size: int) -> str:
    return name.encode()[:size].decode(errors="ignore").rstrip()


def _unique(name: str, taken: set[str]) -> str:
    unique, number = name, 1
    while unique in taken:
        number += 1
        suffix = f"_{number}"
        unique = _cut(name, MAX_NAME_BYTES - len(suffix)) + suffix
    taken.add(unique)
    return unique


def make_plan(
    header: Sequence[str],
    rows: int,
    guesses: Sequence[GuessedColumn | AnalysedColumn | ChosenColumn],
    dictionary: Mapping[str, Mapping[str, Any]],
) -> LoadPlan:
    """Decide how to load a table.

    Args:
        header: cells of the header, as in the file.
        rows: number of rows.
        guesses: the columns.
        dictionary: current ``info`` of the resource's fields, by field name; it is kept.

    Raises:
        Fatal: no column has a name, or there are too many columns.
    """
    fields = [
        _field(position, name, cell, column, dictionary.get(name, {}))
        for position, (name, cell, column) in enumerate(zip(field_ids(header), header, guesses, strict=True))
        if name is not None
    ]
    if not fields:
        raise Fatal("no column has a name: the header is blank", code="header")
    if len(fields) > MAX_FIELDS:
        raise Fatal(
            f"{len(fields)} columns, of which a datastore takes {MAX_FIELDS}: publish the table in parts",
            code="columns",
        )
    return LoadPlan(rows=rows, fields=tuple(fields))


def _field(
    position: int,
    name: str,
    cell: str,
    column: GuessedColumn | AnalysedColumn | ChosenColumn,
    info: Mapping[str, Any],
) -> Field:
    kept = {key: value for key, value in info.items() if value is not None and value != ""}
    described = {"label": cell.strip()} | kept
    if isinstance(column, ChosenColumn):
        comma, group, order = column.style.decimal == ",", column.style.group, column.order
        facts = {"comma": comma, "group": group, "order": order, "chosen": True}
        return Field(position=position, id=name, type=column.type, info=described, **facts)
    # Any other chosen type holds all values as they were analysed.
    kind = chosen_type(name, _type_override(info)) or column.type
    comma, group = (column.comma, column.group) if kind in NUMBER_TYPES else (False, "")
    way = column.way if kind in MOMENT_TYPES else None
    return Field(position=position, id=name, type=kind, comma=comma, group=group, way=way, info=described)
