"""Types of a datastore, and what a cell must be for each where an editor has chosen it. Pure.

What is sent is read in one way by every PostgreSQL, whatever its version and its ``DateStyle``.
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


class Type(StrEnum):
    """A type of the datastore; all but the first five are only ever chosen."""

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


#: Further names that CKAN takes for them.
_ALIASES = {
    "int": Type.INTEGER, "int4": Type.INTEGER, "int2": Type.SMALLINT, "int8": Type.BIGINT, "float": Type.DOUBLE,
    "float8": Type.DOUBLE, "float4": Type.REAL, "boolean": Type.BOOL, "decimal": Type.NUMERIC,
}  # fmt: skip
_BITS = {Type.SMALLINT: 16, Type.INTEGER: 32, Type.BIGINT: 64}
_LARGEST = {Type.REAL: 3.4028235e38, Type.DOUBLE: 1.7976931348623157e308}
_SMALLEST = {Type.REAL: 1.4e-45, Type.DOUBLE: 5e-324}
NUMBERS = frozenset({Type.NUMERIC, *_BITS, *_LARGEST})
MOMENTS = frozenset({Type.TIMESTAMP, Type.TIMESTAMPTZ, Type.DATE})
#: PostgreSQL takes each beginning of a word that is no beginning of another; the French words are an analysis's.
_WORDS = {
    **dict.fromkeys(["t", "tr", "tru", "true", "y", "ye", "yes", "on", "1", "oui", "vrai"], "true"),
    **dict.fromkeys(["f", "fa", "fal", "fals", "false", "n", "no", "of", "off", "0", "non", "faux"], "false"),
}


def chosen(name: str, wanted: str) -> Type | None:
    """Return the type that a data dictionary chooses for a column; None: it chooses none.

    Raises:
        Fatal: ``unsupported``.
    """
    known = wanted.strip().lower()
    if not known:
        return None
    if known in _ALIASES:
        return _ALIASES[known]
    if known in {each.value for each in Type}:
        return Type(known)
    msg = f"column {name!r}: its data dictionary says {wanted}: choose {', '.join(Type)}"
    raise Fatal(msg, code="unsupported", field=name)


def converted(kind: Type, value: str, *, order: str | None = None, style: Style = POINT) -> str:
    """Return a filled cell without blanks around it as a datastore takes it for a type, whatever its settings.

    Args:
        kind: the chosen type.
        value: the cell.
        order: of day and month, where the column has one.
        style: of its numbers.

    Raises:
        ValueError: it is no value of that type, or without an order it can be read in two ways.
    """
    if kind in NUMBERS:
        return _number(kind, to_numeric(value, style))
    if kind in MOMENTS:
        return _moment(kind, value, order)
    return _CONVERTED[kind](value)


def _number(kind: Type, number: str) -> str:
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


def _moment(kind: Type, value: str, order: str | None) -> str:
    read = parse_moment(value, order)
    if kind is Type.DATE and isinstance(read, datetime):
        return read.date().isoformat()
    return format_moment(read, zone=kind is Type.TIMESTAMPTZ)


def _bool(value: str) -> str:
    if value.lower() not in _WORDS:
        raise ValueError(value)
    return _WORDS[value.lower()]


def _json(value: str) -> str:
    # Digits of a number are not counted here: PostgreSQL keeps them all.
    json.loads(value, parse_constant=_refused, parse_int=str, parse_float=str)
    return value


def _jsonb(value: str) -> str:
    """Take what ``json`` takes, but for characters that no text of PostgreSQL holds."""
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


_CONVERTED: Mapping[Type, Callable[[str], str]] = {
    Type.TEXT: str,
    Type.BOOL: _bool,
    Type.TIME: format_time,
    Type.JSON: _json,
    Type.JSONB: _jsonb,
    Type.UUID: _uuid,
}
