"""The narrowest type that all values of a column fit without loss, as a field of a Frictionless Table Schema.

An identifier is a text, though it is made of digits: ``007``, a SIRET, a postcode, a phone number. Only an empty cell
is a missing value here: a column of numbers in which somebody wrote ``n/a`` is a text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from datafab.clients.detective.distinct import Part

#: An integer of so many digits fits into 64 bits for sure; a longer one is a number of any length.
_INTEGER = r"\A[ \t]*-?(?:0|[1-9][0-9]{0,17})[ \t]*\z"
_POINT = r"\A[ \t]*-?(?:0|[1-9][0-9]{0,99})(?:\.[0-9]{1,100})?[ \t]*\z"
_COMMA = r"\A[ \t]*-?(?:0|[1-9][0-9]{0,99})(?:,[0-9]{1,100})?[ \t]*\z"
_TRUE = ("true", "vrai", "oui", "yes", "y", "o")
_FALSE = ("false", "faux", "non", "no", "n")
_TIMES = {"date": "date", "datetime_naive": "datetime", "datetime_aware": "datetime"}
#: Ways of writing without and with something between year, month and day.
_PACKED = re.compile(r"(%[YmdHMS])+")
_SEPARATED = re.compile(r"%[Ymd]([-/.])%[md]\1%[Ymd]")

Field = dict[str, Any]


def field(name: str, parts: Sequence[Part], chosen: Mapping[str, Any], separator: str | None) -> Field:
    """Return a column as a field of a Table Schema.

    Args:
        name: of the column.
        parts: its values, but for the empty ones.
        chosen: what csv-detective's rules say of it; ``named``: whether the column's name says so too. Where it does
            not, numbers of three digits are rather numbers than numbers of countries. ``absent``: whether words that
            stand for a missing value (``NA``) are among the values, which are none of that format.
        separator: between the cells: where that is a comma, ``1,234`` may be a thousand.
    """
    if not sum(len(part.values) for part in parts):
        return {"name": name, "type": "string"}
    if chosen["format"] in _TIMES and not chosen.get("absent"):
        return {"name": name, **(_time(chosen, parts) or _number(parts, separator))}
    if chosen["format"] == "bool":
        return {"name": name, **(_bool(parts) or _number(parts, separator))}
    if chosen["python_type"] == "string" and chosen.get("named"):
        return {"name": name, "type": "string"}
    return {"name": name, **_number(parts, separator)}


def _time(chosen: Mapping[str, Any], parts: Sequence[Part]) -> Field | None:
    """Dates whose way of writing a schema can tell, and that can be nothing else.

    ``1.2.10`` may be a version and ``12/11/10`` a lot: the year has four digits. ``202411`` is read as the first of
    January by some, and ``20001212121212`` may be anybody's number: digits alone are a date by the column's name only,
    and if all are there.
    """
    way = chosen.get("date_format")
    if way is None or way.startswith("csvd:") or "%Y" not in way:
        return None
    digits = _PACKED.fullmatch(way) is not None
    if digits and not (chosen.get("named") and _all(parts, rf"\A[0-9]{{{_width(way)}}}\z")):
        return None
    return {"type": _TIMES[chosen["format"]], "format": way} if digits or _SEPARATED.match(way) else None


def _width(way: str) -> int:
    """Return how many digits a packed way of writing has: four for the year, two for each of the rest."""
    return len(way) + 2


def _bool(parts: Sequence[Part]) -> Field | None:
    """Words only: ``0`` and ``1`` are numbers first of all."""
    words = [word for part in parts for word in part.values.to_pylist()]
    if not all(word.lower() in _TRUE + _FALSE for word in words):
        return None
    return {
        "type": "boolean",
        "trueValues": [word for word in words if word.lower() in _TRUE],
        "falseValues": [word for word in words if word.lower() in _FALSE],
    }


def _number(parts: Sequence[Part], separator: str | None) -> Field:
    if _all(parts, _INTEGER):
        return {"type": "integer"}
    if _all(parts, _POINT):
        return {"type": "number"}
    if separator != "," and _all(parts, _COMMA):
        return {"type": "number", "decimalChar": ","}
    return {"type": "string"}


def _all(parts: Sequence[Part], pattern: str) -> bool:
    # The first values tell most columns of texts.
    return all(
        pc.all(pc.match_substring_regex(part.values.slice(0, 100), pattern)).as_py()
        and pc.all(pc.match_substring_regex(part.values, pattern)).as_py()
        for part in parts
        if len(part.values)
    )


def blank(values: pa.Array) -> pa.Array:
    """Tell which values are blank."""
    return pc.match_substring_regex(values, r"\A\s*\z")
