"""The narrowest type that all values of a column fit without loss, as a field of a Frictionless Table Schema.

An identifier is a text, though it is made of digits: ``007``, a SIRET, a postcode, a phone number. Only an empty cell
is a missing value here: a column of numbers in which somebody wrote ``n/a`` is a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from datafab.analysis.csv_detective import FORMATS
from datafab.analysis.day_order import undecided
from datafab.analysis.distinct import Part
from datafab.analysis.moments import readings, worded
from datafab.analysis.numerals import Style, styles

#: An integer of so many digits fits into 64 bits for sure; a longer one is a number of any length.
_INTEGER = r"\A-?(?:0|[1-9][0-9]{0,17})\z"
_TRUE = ("true", "vrai", "oui", "yes", "y", "o")
_FALSE = ("false", "faux", "non", "no", "n")
_TIMES = {"date": "date", "datetime_naive": "datetime", "datetime_aware": "datetime"}
#: Ways of writing without and with something between year, month and day.
_PACKED = re.compile(r"(%[YmdHMS])+")
_SEPARATED = re.compile(r"%[Ymd]([-/.])%[md]\1%[Yymd]")
#: What csv-detective puts before a format that ``strptime`` may not read everywhere, and parts that none reads.
_CUSTOM, _UNREADABLE = "csvd:", ("[", "%Z", "%b")
#: A date whose first part can be a day and a month.
_EITHER = r"\A(?:0?[1-9]|1[0-2])[-/.]"

_SLICE = 500
#: A format that a program cannot tell ``strptime``.
ANY = "any"

Field = dict[str, Any]


def field(name: str, parts: Sequence[Part], chosen: Mapping[str, Any], separator: str | None) -> Field:
    """Return a column as a field of a Table Schema.

    Args:
        name: of the column.
        parts: its values, but for the empty ones.
        chosen: what csv-detective's rules say of it; ``named``: whether the column's name says so too. Where it does
            not, numbers of three digits are rather numbers than numbers of countries. ``absent``: whether words that
            stand for a missing value (``NA``) are among the values, which are none of that format. ``blanks``: whether
            some values are blank or have blanks around them, which are no dates for csv-detective. ``labelled``:
            formats that the column's name says.
        separator: between the cells: where that is a comma, ``1,234`` may be a thousand.
    """
    if not sum(len(part.values) for part in parts):
        return {"name": name, "type": "string"}
    if chosen.get("blanks"):
        parts = [Part(pc.utf8_trim_whitespace(part.values), part.counts) for part in parts]
        chosen = {**chosen, **_dates(parts, chosen)}
    if chosen["format"] in _TIMES and not chosen.get("absent"):
        return {"name": name, **(_time(chosen, parts) or _worded(parts) or _number(parts, separator))}
    if chosen["format"] == "bool":
        return {"name": name, **(_bool(parts) or _number(parts, separator))}
    if chosen["python_type"] == "string" and chosen.get("named"):
        return {"name": name, "type": "string"}
    return {"name": name, **(_worded(parts) or _number(parts, separator))}


def _dates(parts: Sequence[Part], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Find the format of dates of a column that has blanks around its values."""
    for name in _TIMES:
        infer = FORMATS[name].infer
        way = infer(_each(parts)) if infer is not None else None
        if way is not None:
            return {"format": name, "date_format": way, "named": name in chosen.get("labelled", ())}
    return {}


def _worded(parts: Sequence[Part]) -> Field | None:
    """Dates whose month is a word, in English or French, and stands at the same place in all."""
    shapes: set[str] = set()
    kinds: set[str] = set()
    for value in _each(parts):
        if not worded(value):
            return None
        shapes.add(_shape(value))
        kinds.add("datetime" if ":" in value else "date")
        zoned = any(getattr(read, "tzinfo", None) for read in readings(value).values())
        if len(shapes) > 1 or len(kinds) > 1 or zoned:
            return None
    return {"type": kinds.pop(), "format": ANY} if kinds else None


def _each(parts: Sequence[Part]) -> Iterator[str]:
    """Yield the values of a column; the first ones tell most columns of texts."""
    for part in parts:
        for first in range(0, len(part.values), _SLICE):
            yield from part.values.slice(first, _SLICE).to_pylist()


def _shape(value: str) -> str:
    """Return the order of a date's words and numbers."""
    plain = re.sub(r"(?<=[0-9])(?:st|nd|rd|th|er)\b", "", value, flags=re.IGNORECASE).split(":")[0]
    return "".join("9" if part[0].isdigit() else "a" for part in re.findall(r"[0-9]+|[^\W\d_]+", plain))


def _time(chosen: Mapping[str, Any], parts: Sequence[Part]) -> Field | None:
    """Dates whose way of writing a schema can tell, and that can be nothing else.

    ``1.2.10`` may be a version and ``12/11/10`` a lot: the year has four digits. ``202411`` is read as the first of
    January by some, and ``20001212121212`` may be anybody's number: digits alone are a date by the column's name only,
    and if all are there.
    """
    way = str(chosen.get("date_format") or "").removeprefix(_CUSTOM)
    if not way or any(part in way for part in _UNREADABLE):
        return None
    kind = _TIMES[chosen["format"]]
    if way.startswith("%d") and _SEPARATED.match(way) and _all(parts, _EITHER):
        return undecided(kind, way, str(parts[0].values[0].as_py()))
    if "%Y" not in way:
        return None
    digits = _PACKED.fullmatch(way) is not None
    if digits and not (chosen.get("named") and _all(parts, rf"\A[0-9]{{{_width(way)}}}\z")):
        return None
    return {"type": kind, "format": way} if digits or _SEPARATED.match(way) else None


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
    for style in styles(separator):
        if _all(parts, rf"\A(?:{style.pattern})\z") and (
            not style.wants_proof or _any(parts, rf"\A(?:{style.proof})\z")
        ):
            return {"type": "number", **_marks(style, parts)}
    return {"type": "string"}


def _marks(style: Style, parts: Sequence[Part]) -> Field:
    """Return the marks of a style that are not the usual ones of a Table Schema."""
    group = "".join(mark for mark in style.group if _any(parts, re.escape(mark)))
    marks = {"groupChar": group} if group else {}
    return marks | ({"decimalChar": style.decimal} if style.decimal != "." else {})


def _any(parts: Sequence[Part], pattern: str) -> bool:
    return any(pc.any(pc.match_substring_regex(part.values, pattern)).as_py() for part in parts)


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
    return pc.equal(pc.utf8_trim_whitespace(values), "")


def spaced(parts: Sequence[Part]) -> bool:
    """Tell whether some value has blanks around it."""
    return any(pc.any(pc.not_equal(part.values, pc.utf8_trim_whitespace(part.values))).as_py() for part in parts)
