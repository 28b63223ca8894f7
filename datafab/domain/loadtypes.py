"""What a table's columns become in a datastore: which fields they are and which types hold all of their values. Pure.

A type is only given where it loses nothing: one value such as ``007``, ``+33``, ``1e5`` or ``N/A`` makes its column
text. Dates are moments where an analysis has found the one way in which all of a column are written, the order of day
and month included. An empty cell is null.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, Literal

from datafab.domain.payload import Value
from datafab.errors import Fatal

#: Bytes of a field's name: CKAN counts characters, PostgreSQL cuts after these many bytes.
MAX_NAME = 63
#: Columns of a PostgreSQL table, less CKAN's own ``_id`` and ``_full_text``.
MAX_FIELDS = 1598
#: An integer of so many characters fits into ``bigint`` for sure.
_BIGINT = 18
#: Nothing that could be an identifier: no leading zeros, no leading plus, no exponent.
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,99})(?:([.,])[0-9]{1,100})?")


class Type(StrEnum):
    """A type of the datastore."""

    TEXT = "text"
    BIGINT = "bigint"
    NUMERIC = "numeric"
    TIMESTAMP = "timestamp"
    TIMESTAMPTZ = "timestamptz"


_NUMBERS = frozenset({Type.BIGINT, Type.NUMERIC})
_MOMENTS = frozenset({Type.TIMESTAMP, Type.TIMESTAMPTZ})


class Field(Value):
    """A column of the file as a field of the datastore."""

    #: position of its cell in a row, from 0
    position: int
    #: its name in the datastore: valid there and unique
    id: str
    type: Type
    #: whether its numbers are written with a decimal comma
    comma: bool = False
    #: how its moments are written, as ``strptime`` wants it
    way: str | None = None
    #: what the data dictionary says of it: label, notes, type_override
    info: dict[str, Any]

    def value(self, cell: str) -> str | None:
        """Return what is sent for a cell; the datastore makes numbers of texts without losing a digit."""
        if self.type is Type.TEXT:
            return cell or None
        value = cell.strip()
        if not value:
            return None
        if self.way is not None:
            return _moment(value, self.way, zone=self.type is Type.TIMESTAMPTZ)
        return value.replace(",", ".") if self.comma else value

    def defined(self) -> dict[str, Any]:
        """Return it as ``datastore_create`` wants it."""
        return {"id": self.id, "type": self.type.value, "info": self.info}


@lru_cache(4096)
def _moment(value: str, way: str, *, zone: bool) -> str:
    """Return a moment as ISO 8601 has it; in UTC where it has a zone that its column has not."""
    moment = datetime.strptime(value, way)  # noqa: DTZ007 - the value may have no zone
    return (moment if zone or moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)).isoformat()


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
        type: holds all of them; text as long as there is none.
        comma: whether they are written with a decimal comma.
        spoiler: the line and the value that are no number, where one made the column text.
        filled: how many there are.
    """

    #: moments are for an analysis to find
    way: str | None = None

    def __init__(self, *, commas: bool) -> None:
        """Begin; ``commas``: whether a comma in a number can be a decimal one."""
        self._commas = commas
        self._marks: set[str] = set()
        self._long = False
        self.spoiler: tuple[int, str] | None = None
        self.filled = 0

    def see(self, cell: str, line: int) -> None:
        """Take a cell into account."""
        value = cell.strip()
        if not value:
            return
        self.filled += 1
        if self.spoiler is None:
            self._judge(value, line)

    def _judge(self, value: str, line: int) -> None:
        number = _NUMBER.fullmatch(value)
        if number is None:
            self.spoiler = (line, value)
            return
        mark = number[1]
        if mark:
            self._marks.add(mark)
            if len(self._marks) > 1 or (mark == "," and not self._commas):
                self.spoiler = (line, value)
        elif len(value) > _BIGINT:
            self._long = True

    @property
    def type(self) -> Type:
        """The type that holds them all."""
        if self.spoiler is not None or not self.filled:
            return Type.TEXT
        return Type.NUMERIC if self._marks or self._long else Type.BIGINT

    @property
    def comma(self) -> bool:
        """Whether they are numbers with a decimal comma."""
        return self._marks == {","} and self.spoiler is None


def guess(rows: Iterable[tuple[int, Sequence[str]]], width: int, *, separator: str) -> tuple[int, list[Guess]]:
    """Look at every cell of a table; return how many rows it has and what is known of each column.

    Args:
        rows: (line, cells) of each row, ``width`` cells each.
        width: columns.
        separator: where it is the comma itself, a quoted ``1,234`` may be a thousand: no decimal comma there.

    Raises:
        Fatal: ``nul``, a cell holds a NUL character, which PostgreSQL cannot keep.
    """
    guesses = [Guess(commas=separator != ",") for _ in range(width)]
    count = 0
    for line, cells in rows:
        count += 1
        for column, cell in zip(guesses, cells, strict=True):
            if "\0" in cell:
                msg = f"line {line}: a cell holds a NUL character, which no datastore keeps: remove it"
                raise Fatal(msg, code="nul", field=f"line {line}")
            column.see(cell, line)
    return count, guesses


@dataclass(frozen=True, slots=True)
class Known:
    """What an analysis has found of a column.

    Attributes:
        type: holds all of its values; text where they are identifiers, though made of digits.
        comma: whether they are written with a decimal comma.
        filled: how many there are.
        spoiler: see ``Guess``: an analysis does not tell the line.
    """

    type: Type
    comma: bool
    filled: int
    way: str | None = None
    spoiler: tuple[int, str] | None = None


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
        columns[position] = Known(kind, comma=field.get("decimalChar") == ",", filled=filled, way=way)
    return columns


def overridden(
    header: Sequence[str], columns: Sequence[Known], dictionary: Mapping[str, Mapping[str, Any]]
) -> list[int]:
    """Return the places of columns that a data dictionary makes more of than an analysis: there each cell counts."""
    wanted = [dictionary.get(str(name), {}).get("type_override") for name in field_ids(header)]
    return [
        at
        for at, (want, column) in enumerate(zip(wanted, columns, strict=True))
        # A column without values may have words for that.
        if (want == "numeric" and column.type not in _NUMBERS) or (want == "timestamp" and not column.filled)
    ]


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
    header: Sequence[str], rows: int, guesses: Sequence[Guess | Known], dictionary: Mapping[str, Mapping[str, Any]]
) -> Plan:
    """Decide how a table is loaded.

    Args:
        header: its cells as they stand in the file.
        rows: how many rows it has.
        guesses: what is known of each column.
        dictionary: the ``info`` of the resource's fields as they are now, by field name; it is kept.

    Raises:
        Fatal: no column has a name, there are too many, or the data dictionary asks for a type that the values refuse.
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


def _field(position: int, name: str, cell: str, known: Guess | Known, info: Mapping[str, Any]) -> Field:
    kept = {key: value for key, value in info.items() if value is not None and value != ""}
    kind = _overridden(name, known, str(kept.get("type_override", "")))
    comma, way = known.comma and kind in _NUMBERS, known.way if kind in _MOMENTS else None
    return Field(position=position, id=name, type=kind, comma=comma, way=way, info={"label": cell.strip()} | kept)


def _overridden(name: str, known: Guess | Known, wanted: str) -> Type:
    """Return a column's type, which is what the data dictionary says where that is possible."""
    match wanted:
        case "":
            return known.type
        case "text":
            return Type.TEXT
        case "timestamp" if known.type in _MOMENTS or not known.filled:
            return Type.TIMESTAMP
        case "timestamp":
            msg = f"column {name!r}: its data dictionary says timestamp, but its values are not all dates in one way"
            raise Fatal(msg, code="type_override", field=name)
        case "numeric" if known.spoiler is None:
            return Type.NUMERIC
        case "numeric":
            assert known.spoiler is not None
            line, value = known.spoiler
            msg = f"column {name!r}: its data dictionary says numeric, line {line} says {value[:80]!r}: change either"
            raise Fatal(msg, code="type_override", field=name)
    msg = f"column {name!r}: its data dictionary says {wanted}: choose text, numeric or timestamp"
    raise Fatal(msg, code="unsupported", field=name)
