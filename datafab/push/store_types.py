"""The types of a datastore, and the conversion of cells to a type that an editor has chosen. Pure.

Every PostgreSQL parses the converted values in the same way, whatever its version and its ``DateStyle``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import NoReturn

from datafab.analysis.moments import format_moment, format_time, parse_moment
from datafab.analysis.numerals import POINT, Style, to_numeric
from datafab.errors import Fatal


class StoreType(StrEnum):
    """A type of the datastore. The first five can be guessed; the others can only be chosen."""

    TEXT = "text"
    BIGINT = "bigint"
    NUMERIC = "numeric"
    TIMESTAMP = "timestamp"
    TIMESTAMPTZ = "timestamptz"
    SMALLINT = "smallint"
    INTEGER = "integer"
    REAL = "real"
    DOUBLE = "double precision"
    BOOL = "bool"
    DATE = "date"
    TIME = "time"
    JSON = "json"
    JSONB = "jsonb"
    UUID = "uuid"


#: Other names that CKAN accepts for them.
_ALIASES = {
    "int": StoreType.INTEGER, "int2": StoreType.SMALLINT, "int4": StoreType.INTEGER, "int8": StoreType.BIGINT,
    "float": StoreType.DOUBLE, "float4": StoreType.REAL, "float8": StoreType.DOUBLE, "boolean": StoreType.BOOL,
    "decimal": StoreType.NUMERIC,
}  # fmt: skip
_BITS = {StoreType.SMALLINT: 16, StoreType.INTEGER: 32, StoreType.BIGINT: 64}
_LARGEST = {StoreType.REAL: 3.4028235e38, StoreType.DOUBLE: 1.7976931348623157e308}
_SMALLEST = {StoreType.REAL: 1.4e-45, StoreType.DOUBLE: 5e-324}
NUMBER_TYPES = frozenset({StoreType.NUMERIC, *_BITS, *_LARGEST})
MOMENT_TYPES = frozenset({StoreType.TIMESTAMP, StoreType.TIMESTAMPTZ, StoreType.DATE})
#: PostgreSQL accepts each unambiguous prefix of a word; the French words are those that an analysis recognises.
_WORDS = {
    **dict.fromkeys(["t", "tr", "tru", "true", "y", "ye", "yes", "on", "1", "oui", "vrai"], "true"),
    **dict.fromkeys(["f", "fa", "fal", "fals", "false", "n", "no", "of", "off", "0", "non", "faux"], "false"),
}


def chosen_type(name: str, wanted: str) -> StoreType | None:
    """Return the type that a data dictionary chooses for a column; None if it chooses none.

    Raises:
        Fatal: ``unsupported``, no such type.
    """
    known = wanted.strip().lower()
    if not known:
        return None
    if known in _ALIASES:
        return _ALIASES[known]
    if known in {each.value for each in StoreType}:
        return StoreType(known)
    msg = f"column {name!r}: its data dictionary says {wanted}: choose one of {', '.join(StoreType)}"
    raise Fatal(msg, code="unsupported", field=name)


def convert(kind: StoreType, value: str, *, order: str | None = None, style: Style = POINT) -> str:
    """Convert a filled, stripped cell to the notation of a type that any datastore accepts.

    Args:
        kind: the chosen type.
        value: the cell.
        order: order of day and month, if the column has one.
        style: style of its numbers.

    Raises:
        ValueError: it is not a value of that type, or needs an order and has none.
    """
    if kind in NUMBER_TYPES:
        return _number(kind, to_numeric(value, style))
    if kind in MOMENT_TYPES:
        return _moment(kind, value, order)
    return _CONVERTED[kind](value)


def _number(kind: StoreType, number: str) -> str:
    if kind in _BITS:
        whole = int(number)
        if not -(2 ** (_BITS[kind] - 1)) <= whole < 2 ** (_BITS[kind] - 1):
            msg = f"{number!r} is out of range"
            raise ValueError(msg)
        return str(whole)
    if kind in _LARGEST:
        read = float(number)
        small = bool(Decimal(number)) and abs(read) < _SMALLEST[kind]
        if small or (abs(read) > _LARGEST[kind] and "inf" not in number.lower()):
            msg = f"{number!r} is out of range"
            raise ValueError(msg)
    return number


def _moment(kind: StoreType, value: str, order: str | None) -> str:
    read = parse_moment(value, order)
    if kind is StoreType.DATE and isinstance(read, datetime):
        return read.date().isoformat()
    return format_moment(read, zone=kind is StoreType.TIMESTAMPTZ)


def _bool(value: str) -> str:
    if value.lower() not in _WORDS:
        raise ValueError(value)
    return _WORDS[value.lower()]


def _json(value: str) -> str:
    # Numbers are not parsed here, as PostgreSQL keeps all of their digits.
    json.loads(value, parse_constant=_refused, parse_int=str, parse_float=str)
    return value


def _jsonb(value: str) -> str:
    """Accept the values of ``json`` without characters that PostgreSQL cannot store."""
    json.dumps(json.loads(_json(value)), ensure_ascii=False).encode()
    if re.search(r"(?<!\\)(?:\\\\)*\\u0000", value):
        raise ValueError(value)
    return value


def _refused(word: str) -> NoReturn:
    raise ValueError(word)


def _uuid(value: str) -> str:
    found = re.fullmatch(r"(\{?)((?:[0-9a-fA-F]{4}-?){7}[0-9a-fA-F]{4})(\}?)", value)
    if found is None or bool(found[1]) != bool(found[3]):
        raise ValueError(value)
    return value


_CONVERTED: Mapping[StoreType, Callable[[str], str]] = {
    StoreType.TEXT: str,
    StoreType.BOOL: _bool,
    StoreType.TIME: format_time,
    StoreType.JSON: _json,
    StoreType.JSONB: _jsonb,
    StoreType.UUID: _uuid,
}
