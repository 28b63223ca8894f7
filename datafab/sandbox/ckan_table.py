"""A table of the sandbox's datastore: what PostgreSQL and CKAN take and refuse, as far as loads come across it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

#: What each type makes of a value; an error means that it is refused.
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
#: How ``datastore_info`` calls them afterwards.
_SHOWN = {"int": "int4", "bigint": "int8", "float": "float8"}
_RANGE = {"int": 2**31, "bigint": 2**63}


class Refused(Exception):
    """CKAN says no.

    Attributes:
        status: HTTP status.
        error: the ``error`` of its answer.
    """

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(error)
        self.status = status
        self.error = error


@dataclass(slots=True)
class Table:
    """Fields and rows; a request that is refused leaves nothing behind."""

    fields: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    serial: int = 0

    def define(self, fields: Sequence[Mapping[str, Any]]) -> None:
        """Add fields that are not there yet."""
        for one in fields:
            _check_name(one.get("id"))
            if one.get("type", "text") not in _MAKE:
                raise _invalid("fields", f'"{one.get("type")}" is not a valid field type')
        names = [one["id"] for one in fields]
        if len(names) != len(set(names)):
            raise _invalid("field", "Duplicate column names are not supported")
        known = {one["id"] for one in self.fields}
        self.fields += [dict(one) for one in fields if one["id"] not in known]

    def insert(self, records: Sequence[Mapping[str, Any]], *, strict: bool) -> None:
        """Insert records; ``strict``: a key that is no field is refused instead of becoming one."""
        types = {_cut(one["id"]): one.get("type", "text") for one in self.fields}
        made = []
        for number, record in enumerate(records, 1):
            extra = [key for key in record if key not in types]
            if extra and strict:
                raise _invalid("records", f'row "{number}" has extra keys "{", ".join(extra)}"')
            types |= dict.fromkeys(extra, "text")
            made.append({key: self._value(record.get(key), kind, len(records)) for key, kind in types.items()})
        self.fields += [{"id": key, "type": "text"} for key in types if key not in {_cut(f["id"]) for f in self.fields}]
        for row in made:
            self.serial += 1
            self.rows.append({"_id": self.serial} | row)

    def _value(self, value: Any, kind: str, last: int) -> Any:
        if value is None or (value == "" and kind != "text"):
            return None
        try:
            made = _MAKE[kind](value)
        except (ValueError, KeyError, InvalidOperation) as error:
            raise _bad_value(value, kind, last) from error
        if kind in _RANGE and not -_RANGE[kind] <= made < _RANGE[kind]:
            raise _bad_value(value, kind, last)
        if kind == "text" and "\0" in made:
            raise Refused(500, {"message": "Internal Server Error", "__type": "Internal Server Error"})
        if kind == "numeric":
            return int(made) if made == made.to_integral_value() else float(made)
        return made.isoformat() if isinstance(made, date) else made

    def described(self) -> list[dict[str, Any]]:
        """Return the fields as ``datastore_info`` shows them."""
        return [one | {"type": _SHOWN.get(one.get("type", "text"), one.get("type", "text"))} for one in self.fields]


def _cut(name: str) -> str:
    """Cut a name as PostgreSQL does, without a word."""
    return name.encode()[:63].decode(errors="ignore")


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not name or name != name.strip() or re.match("_", name) or '"' in name:
        raise _invalid("fields", f'"{name}" is not a valid field name')
    if len(name) > 63:  # noqa: PLR2004 - PostgreSQL's, though it means bytes
        raise _invalid("fields", f'Column heading "{name}" exceeds limit of 63 characters.')


def _invalid(key: str, text: str) -> Refused:
    return Refused(409, {key: [text], "__type": "Validation Error"})


def _bad_value(value: Any, kind: str, last: int) -> Refused:
    """Refuse a value. Of an insert CKAN names the last row of the request, not the one that is wrong."""
    shown = {"int": "integer"}.get(kind, kind)
    error = {"records": [f'invalid input syntax for type {shown}: "{value}"'], "records_row": last - 1}
    return Refused(409, error | {"__type": "Validation Error"})
