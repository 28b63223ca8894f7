"""A table of the small CKAN's DataStore: the rules of PostgreSQL and CKAN that matter for pushes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any

#: Conversions of values by type; if one raises an error, the value is refused.
_MAKE: dict[str, Callable[[Any], Any]] = {
    "text": str,
    "numeric": Decimal,
    "float": float,
    "int": int,
    "bigint": int,
    "bool": lambda value: {"true": True, "false": False}[str(value).lower()],
    "timestamp": lambda value: datetime.fromisoformat(str(value)).replace(tzinfo=None),
    "timestamptz": lambda value: datetime.fromisoformat(str(value)),
    "date": lambda value: datetime.fromisoformat(str(value)).date(),
}
#: Names of types in ``datastore_info``, if they differ.
_SHOWN = {"int": "int4", "bigint": "int8", "float": "float8"}
_NATIVE = {
    "int": "integer",
    "float": "double precision",
    "bool": "boolean",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
}
#: Other names that PostgreSQL accepts for the same types.
_KNOWN_AS = {shown: kind for names in (_SHOWN, _NATIVE) for kind, shown in names.items()} | {"integer": "int"}
#: Limits of PostgreSQL: length of a name, which CKAN counts in characters instead of bytes; bytes of a full text.
MAX_NAME, MAX_TSVECTOR = 63, 1_048_575
#: Formats of dates for which a field without a type becomes a timestamp.
_DATES = ["%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"]
_DATES += [form for mark in "/-" for form in (f"%d{mark}%m{mark}%Y", f"%m{mark}%d{mark}%Y")]
_RANGE = {"int": 2**31, "bigint": 2**63}


class Refused(Exception):
    """An error response of CKAN.

    Attributes:
        status: HTTP status.
        error: the field ``error`` of the answer.
    """

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(error)
        self.status = status
        self.error = error


@dataclass(slots=True)
class Table:
    """Fields and rows. A refused request changes nothing but the serial, whose numbers are not used again."""

    #: id of the resource
    name: str
    fields: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    serial: int = 0
    primary_key: list[str] = field(default_factory=list)
    indexes: list[list[str]] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)

    def copy(self) -> Table:
        """Return a copy with the same rows."""
        return replace(self, fields=list(self.fields), rows=list(self.rows), indexes=list(self.indexes))

    def define(self, fields: Sequence[Mapping[str, Any]], records: Sequence[Any] = ()) -> None:
        """Add missing fields, including those of the first record: ``create_table``, ``alter_table``."""
        names = [one.get("id") for one in fields]
        first = records[0] if records else {}
        fields = [_plain(one) for one in fields]
        if long := [str(name) for name in names if len(str(name)) > MAX_NAME]:
            texts = [f'Column heading "{name}" exceeds limit of 63 characters.' for name in long]
            raise Refused(409, {"fields": texts, "__type": "Validation Error"})
        if len(names) != len(set(names)):
            raise invalid("field", "Duplicate column names are not supported")
        known = {one["id"]: one for one in self.fields}
        for one in fields:
            if one["id"] in known:
                known[one["id"]] |= {"info": one["info"]} if isinstance(one.get("info"), dict) else {}
            else:
                self.fields.append({"type": _guessed(first.get(one["id"]))} | dict(one))
        existing = {one["id"] for one in self.fields}
        self.fields += [{"id": name, "type": _guessed(value)} for name, value in first.items() if name not in existing]

    def index(self, primary_key: Any, indexes: Any) -> None:
        """Replace the primary key and the indexes: ``create_indexes``."""
        names = {_cut(one["id"]) for one in self.fields}
        for members in [primary_key or [], *(indexes or [])]:
            for name in [members] if isinstance(members, str) else members:
                if name not in names:
                    raise invalid("index", f'The field "{members}" is not a valid column name.')
        if primary_key is not None:
            self.primary_key = [primary_key] if isinstance(primary_key, str) else list(primary_key)
        if indexes is not None:
            self.indexes = [[one] if isinstance(one, str) else list(one) for one in indexes]

    def insert(self, records: Sequence[Any]) -> None:
        """Insert records: ``upsert_data``."""
        types = {_cut(one["id"]): one.get("type", "text") for one in self.fields}
        made = []
        for number, record in enumerate(records, 1):
            if not isinstance(record, dict):
                raise invalid("records", f'row "{number - 1}" is not a json object')
            extra = [key for key in record if key not in types]
            if extra:
                raise invalid("records", f'row "{number}" has extra keys "{", ".join(extra)}"')
            made.append({key: self._value(key, record.get(key), kind, len(records)) for key, kind in types.items()})
        for row in made:
            self.serial += 1
            _full_text(row, len(records))
            self._unique(row)
            self.rows.append({"_id": self.serial} | row)

    def _unique(self, row: Mapping[str, Any]) -> None:
        """Refuse an existing key: the unique index of ``create_indexes``."""
        key = [row[name] for name in self.primary_key]
        if key and None not in key and any([old[name] for name in self.primary_key] == key for old in self.rows):
            text = "duplicate key value violates unique constraint"
            raise Refused(409, {"records": [text], "records_row": 0, "__type": "Validation Error"})

    def _value(self, name: str, value: Any, kind: str, last: int) -> Any:
        if value is None or (value == "" and kind != "text"):
            return None
        if isinstance(value, dict):
            raise _refused_row(f"can't adapt type '{type(value).__name__}'", last)
        if isinstance(value, bool) and kind in {"numeric", "float", "int", "bigint"}:
            shown = _NATIVE.get(kind, kind)
            text = f'column "{name}" is of type {shown} but expression is of type boolean'
            raise _refused_row(text, last)
        try:
            made = _MAKE[kind](value)
        except (ValueError, KeyError, InvalidOperation) as error:
            raise _bad_value(value, kind, last) from error
        if kind in _RANGE and not -_RANGE[kind] <= made < _RANGE[kind]:
            raise _bad_value(value, kind, last)
        if kind == "text" and "\0" in made:
            raise Refused(500, {"message": "Internal Server Error", "__type": "Internal Server Error"})
        if kind == "numeric":
            if not made.is_finite():
                return str(made)
            return int(made) if made == made.to_integral_value() else float(made)
        return made.isoformat() if isinstance(made, date) else made

    def searched(self, name: str, value: Any) -> Any:
        """Return a value as ``datastore_search`` returns it: a timestamp without fractions of a second."""
        kind = next((one.get("type", "text") for one in self.fields if _cut(one["id"]) == name), "")
        return value[:19] if kind == "timestamp" and value else value

    def shown(self) -> list[dict[str, Any]]:
        """Return the fields as ``datastore_info`` returns them."""
        return [
            one | {"id": _cut(one["id"]), "type": _SHOWN.get(one["type"], one["type"]), "schema": self._schema(one)}
            for one in self.fields
        ]

    def _schema(self, one: Mapping[str, Any]) -> dict[str, Any]:
        name, kind = _cut(one["id"]), one["type"]
        index = next((each for each in [self.primary_key, *self.indexes] if name in each), None)
        digest = hashlib.sha1(usedforsecurity=False)
        digest.update((self.name + ", ".join(f'"{each}"' for each in index or ())).encode())
        about = {"native_type": _NATIVE.get(kind, kind), "index_name": digest.hexdigest() if index else None}
        return about | {"is_index": index is not None, "notnull": False, "uniquekey": False}


def _full_text(row: Mapping[str, Any], last: int) -> None:
    """Refuse a row with too many words: ``populate_full_text_trigger`` of ``set_permissions.sql``."""
    if sum(len(value) for value in row.values() if isinstance(value, str)) < MAX_TSVECTOR // 8:
        return
    words = {word.lower() for value in row.values() if value is not None for word in re.findall(r"\w+", str(value))}
    size = sum(len(word.encode()) + len(word.encode()) % 2 + 4 for word in words)
    if size > MAX_TSVECTOR:
        text = f"string is too long for tsvector ({size} bytes, max {MAX_TSVECTOR} bytes)"
        raise Refused(409, {"records": [text], "records_row": last - 1, "__type": "Validation Error"})


def _guessed(value: Any) -> str:
    """Return the type of a field for which none is given: ``_guess_type``."""
    if isinstance(value, int | float):
        return "int" if isinstance(value, int) else "float"
    makes: list[tuple[Callable[[Any], Any], str]] = [
        (int, "int"),
        (float, "numeric"),
        *((partial(_dated, form), "timestamp") for form in _DATES),
    ]
    for make, kind in makes:
        with suppress(TypeError, ValueError):
            make(value)
            return kind
    return "text"


def _dated(form: str, value: str) -> datetime:
    return datetime.strptime(value, form)  # noqa: DTZ007 - as CKAN does


def _cut(name: str) -> str:
    """Cut a long name as PostgreSQL does, which reports no error."""
    return name.encode()[:63].decode(errors="ignore")


def _plain(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return a field with the name of its type that is used here: ``check_fields``."""
    if "type" in one and _KNOWN_AS.get(one["type"], one["type"]) not in _MAKE:
        raise invalid("fields", f'"{one["type"]}" is not a valid field type')
    _check_name(one.get("id"))
    return dict(one) | ({"type": _KNOWN_AS.get(one["type"], one["type"])} if "type" in one else {})


def _check_name(name: Any) -> None:
    """Refuse an invalid field name: ``ckanext/datastore/helpers.py``, ``is_valid_field_name``."""
    if not isinstance(name, str) or not name or name != name.strip() or re.match("_", name) or '"' in name:
        raise invalid("fields", f'"{name}" is not a valid field name')


def invalid(key: str, text: str) -> Refused:
    """Return the error for a value of this field."""
    return Refused(409, {key: [text], "__type": "Validation Error"})


def _bad_value(value: Any, kind: str, last: int) -> Refused:
    """Return the error for a value. CKAN names the last row of the request instead of the row with the error."""
    shown = {"int": "integer"}.get(kind, kind)
    if kind in {"timestamp", "timestamptz", "date"} and re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", str(value)):
        return _refused_row(f'date/time field value out of range: "{value}"', last)
    return _refused_row(f'invalid input syntax for type {shown}: "{value}"', last)


def _refused_row(text: str, last: int) -> Refused:
    return Refused(409, {"records": [text], "records_row": last - 1, "__type": "Validation Error"})
