"""What a table's columns become in a datastore: which fields they are and which types hold all of their values. Pure.

A guessed type loses nothing: one value such as ``007``, ``+33``, ``1e5`` or ``N/A`` makes its column text. Dates are
moments where an analysis has found the one way in which all of a column are written, the order of day and month
included. A type that a data dictionary chooses takes more (``chosentypes``). An empty cell is null.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal

from datafab.analysis.day_order import order_of_format
from datafab.analysis.moments import format_moment, parse_moment
from datafab.analysis.numerals import Style, possible_styles
from datafab.core.item import Value
from datafab.errors import Fatal
from datafab.push.chosen_types import Chosen
from datafab.push.store_types import MOMENTS, NUMBERS, Type, chosen, converted

#: Bytes of a field's name: CKAN counts characters, PostgreSQL cuts after these many bytes.
MAX_NAME = 63
#: Columns of a PostgreSQL table, less CKAN's own ``_id`` and ``_full_text``.
MAX_FIELDS = 1598
#: An integer of so many digits fits into ``bigint`` for sure.
_BIGINT = 18
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,99})")
#: The format of dates that have words in them, in a Table Schema.
ANY = "any"


class Field(Value):
    """A column of the file as a field of the datastore."""

    #: position of its cell in a row, from 0
    position: int
    #: its name in the datastore: valid there and unique
    id: str
    type: Type
    #: whether its numbers are written with a decimal comma
    comma: bool = False
    #: characters that may stand between its thousands
    group: str = ""
    #: how its moments are written, as ``strptime`` wants it, or ``any``
    way: str | None = None
    #: whether a data dictionary has chosen its type, which then takes more than a guess gives it
    chosen: bool = False
    #: the order of day and month in dates whose column was chosen
    order: str | None = None
    #: what the data dictionary says of it: label, notes, type_override
    info: dict[str, Any]

    def value(self, cell: str) -> str | None:
        """Return what is sent for a cell; the datastore makes numbers of texts without losing a digit."""
        if self.type is Type.TEXT:
            return cell or None
        value = cell.strip()
        if not value:
            return None
        if self.chosen:
            return converted(self.type, value, order=self.order, style=self._style)
        if self.way is not None:
            return _moment(value, self.way, zone=self.type is Type.TIMESTAMPTZ)
        return self._style.plain(value)

    @property
    def _style(self) -> Style:
        return Style(self.group, "," if self.comma else ".")

    def defined(self) -> dict[str, Any]:
        """Return it as ``datastore_create`` wants it."""
        return {"id": self.id, "type": self.type.value, "info": self.info}


@lru_cache(4096)
def _moment(value: str, way: str, *, zone: bool) -> str:
    """Return a moment as ISO 8601 has it; in UTC where it has a zone that its column has not."""
    if way == ANY or "%p" in way:
        return format_moment(parse_moment(value, order_of_format(way)), zone=zone)
    return format_moment(datetime.strptime(value, way), zone=zone)  # noqa: DTZ007 - the value may have no zone


class Plan(Value):
    """How a file is to be loaded: decided once, over all of it, before anything is deleted."""

    v: Literal[1] = 1
    #: rows below the header
    rows: int
    fields: tuple[Field, ...]

    def record(self, cells: Sequence[str]) -> dict[str, str | None]:
        """Return a row as CKAN wants it."""
        return {field.id: field.value(cells[field.position]) for field in self.fields}


class Guess:
    """What is known of a column's values so far.

    Attributes:
        filled: how many there are.
    """

    #: moments are for an analysis to find
    way: str | None = None

    def __init__(self, *, separator: str) -> None:
        """Begin; ``separator``: of the table's cells."""
        self._styles = list(possible_styles(separator))
        self._proved: set[Style] = set()
        self._whole = True
        self._long = False
        self.filled = 0

    def see(self, cell: str, line: int) -> None:  # noqa: ARG002 - as a chosen column sees it
        """Take a cell into account."""
        value = cell.strip()
        if not value:
            return
        self.filled += 1
        if not self._styles:
            return
        if _INTEGER.fullmatch(value):
            # Every style reads it.
            self._long = self._long or len(value.lstrip("-")) > _BIGINT
            return
        self._whole = False
        self._styles = [style for style in self._styles if style.reads(value)]
        self._proved.update(style for style in self._styles if style.proves(value))

    @property
    def _style(self) -> Style | None:
        """The style that reads them all, if they are numbers."""
        return next((each for each in self._styles if not each.group or each in self._proved), None)

    @property
    def type(self) -> Type:
        """The type that holds them all."""
        if self._style is None or not self.filled:
            return Type.TEXT
        return Type.BIGINT if self._whole and not self._long else Type.NUMERIC

    @property
    def comma(self) -> bool:
        """Whether they are numbers with a decimal comma."""
        return self._style is not None and self._style.decimal == ","

    @property
    def group(self) -> str:
        """Characters that may stand between thousands."""
        return "" if self._style is None else self._style.group


def guess(
    rows: Iterable[tuple[int, Sequence[str]]],
    width: int,
    *,
    separator: str,
    chosen: Mapping[int, Chosen] = MappingProxyType({}),
) -> tuple[int, list[Guess | Chosen]]:
    """Look at every cell of a table; return how many rows it has and what is known of each column.

    Args:
        rows: (line, cells) of each row, ``width`` cells each.
        width: columns.
        separator: where it is the comma itself, a quoted ``1,234`` may be a thousand: no decimal comma there.
        chosen: the columns whose types are chosen already, by position.

    Raises:
        Fatal: ``nul``, a cell holds a NUL character, which PostgreSQL cannot keep; ``type_override``, a chosen type
            has no place for a value.
    """
    guesses = [chosen.get(position) or Guess(separator=separator) for position in range(width)]
    count = 0
    for line, cells in rows:
        count += 1
        for column, cell in zip(guesses, cells, strict=True):
            if "\0" in cell:
                msg = f"line {line}: a cell holds a NUL character, which no datastore keeps: remove it"
                raise Fatal(msg, code="nul", field=f"line {line}")
            column.see(cell, line)
    for column in chosen.values():
        column.settle()
    return count, guesses


@dataclass(frozen=True, slots=True)
class Known:
    """What an analysis has found of a column.

    Attributes:
        type: holds all of its values; text where they are identifiers, though made of digits.
        comma: whether they are written with a decimal comma.
        filled: how many there are.
        way: how they are written, where they are dates.
        group: characters that may stand between thousands.
    """

    type: Type
    comma: bool
    filled: int
    way: str | None = None
    group: str = ""


#: What a Table Schema calls a type, in the datastore; a word for yes or no stays the word that was published.
_NAMED = {"integer": Type.BIGINT, "number": Type.NUMERIC, "date": Type.TIMESTAMP, "datetime": Type.TIMESTAMP}


def known(analysis: Mapping[str, Any], width: int) -> list[Known] | None:
    """Return what an analysis has found of each column of a table.

    None where it has not looked at all rows, or where some cell holds a NUL character: whoever looks tells the line.

    Args:
        analysis: its document.
        width: cells of the table's header.
    """
    if analysis.get("sampled", True) or "schema" not in analysis or "nul" in analysis:
        return None
    columns = [Known(Type.TEXT, comma=False, filled=0) for _ in range(width)]
    for position, (name, field) in enumerate(zip(analysis["header"], analysis["schema"]["fields"], strict=True)):
        filled = analysis["total_lines"] - analysis["profile"][name]["nb_missing_values"]
        kind, way = _NAMED.get(field["type"], Type.TEXT), field.get("format")
        if kind is Type.TIMESTAMP and (field.get("zoned") or str(way).endswith("%z")):
            kind = Type.TIMESTAMPTZ
        comma, group = field.get("decimalChar") == ",", field.get("groupChar", "")
        columns[position] = Known(kind, comma=comma, filled=filled, way=way, group=group)
    return columns


def choices(
    header: Sequence[str],
    columns: Sequence[Known] | None,
    dictionary: Mapping[str, Mapping[str, Any]],
    *,
    separator: str,
    order: str | None = None,
    by: str = "",
) -> dict[int, Chosen]:
    """Return the columns, by position, whose cells must be looked at: a data dictionary chooses another type for them.

    Args:
        header: its cells.
        columns: what an analysis has found of them; None: nothing.
        dictionary: the ``info`` of the resource's fields, by name; those of columns that are gone do not matter.
        separator: of the table's cells.
        order: of day and month, for dates that do not say.
        by: what says so.

    Raises:
        Fatal: ``unsupported``, a chosen type is none that a datastore has.
    """
    found: dict[int, Chosen] = {}
    for position, name in enumerate(field_ids(header)):
        kind = None if name is None else chosen(name, _wanted(dictionary.get(name, {})))
        if name is None or kind in {None, Type.TEXT} or (columns and _holds(kind, columns[position])):
            continue
        found[position] = Chosen(name, kind, separator=separator, order=order, by=by)
    return found


def _wanted(info: Mapping[str, Any]) -> str:
    return str(info.get("type_override") or "")


def _holds(kind: Type, column: Known) -> bool:
    """Tell whether a type holds for sure what an analysis has found of a column."""
    if kind is Type.NUMERIC:
        return column.type in NUMBERS
    return kind is Type.TIMESTAMP and column.type is Type.TIMESTAMP


def field_ids(header: Sequence[str]) -> list[str | None]:
    """Return a valid, unique field name for each cell of a header; None where it is blank: such a column is dropped."""
    taken: set[str] = set()
    ids: list[str | None] = []
    for position, cell in enumerate(header, 1):
        ids.append(_unique(_valid(cell) or f"column_{position}", taken) if cell.strip() else None)
    return ids


def _valid(cell: str) -> str:
    """Return a name without what CKAN and PostgreSQL refuse, as short as they keep it."""
    plain = "".join(char for char in cell if (char.isprintable() or char.isspace()) and char != '"')
    return _cut(" ".join(plain.split()).lstrip("_ "), MAX_NAME)


def _cut(name: str, size: int) -> str:
    return name.encode()[:size].decode(errors="ignore").rstrip()


def _unique(name: str, taken: set[str]) -> str:
    unique, again = name, 1
    while unique in taken:
        again += 1
        suffix = f"_{again}"
        unique = _cut(name, MAX_NAME - len(suffix)) + suffix
    taken.add(unique)
    return unique


def plan(
    header: Sequence[str],
    rows: int,
    guesses: Sequence[Guess | Known | Chosen],
    dictionary: Mapping[str, Mapping[str, Any]],
) -> Plan:
    """Decide how a table is loaded.

    Args:
        header: its cells as they stand in the file.
        rows: how many rows it has.
        guesses: what is known of each column.
        dictionary: the ``info`` of the resource's fields as they are now, by field name; it is kept.

    Raises:
        Fatal: no column has a name, or there are too many.
    """
    fields = [
        _field(position, name, cell, known, dictionary.get(name, {}))
        for position, (name, cell, known) in enumerate(zip(field_ids(header), header, guesses, strict=True))
        if name is not None
    ]
    if not fields:
        raise Fatal("no column has a name: the header is blank", code="header")
    if len(fields) > MAX_FIELDS:
        raise Fatal(f"{len(fields)} columns, a datastore takes {MAX_FIELDS}: publish it in parts", code="columns")
    return Plan(rows=rows, fields=tuple(fields))


def _field(position: int, name: str, cell: str, known: Guess | Known | Chosen, info: Mapping[str, Any]) -> Field:
    kept = {key: value for key, value in info.items() if value is not None and value != ""}
    described = {"label": cell.strip()} | kept
    if isinstance(known, Chosen):
        comma, group, order = known.style.decimal == ",", known.style.group, known.order
        facts = {"comma": comma, "group": group, "order": order, "chosen": True}
        return Field(position=position, id=name, type=known.type, info=described, **facts)
    # What else is chosen holds all values as they are known.
    kind = chosen(name, _wanted(info)) or known.type
    comma, group = (known.comma, known.group) if kind in NUMBERS else (False, "")
    way = known.way if kind in MOMENTS else None
    return Field(position=position, id=name, type=kind, comma=comma, group=group, way=way, info=described)
