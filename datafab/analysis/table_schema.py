"""Infer the narrowest type that fits all values of a column without loss, as a field of a Frictionless Table Schema.

Identifiers are texts even if they consist of digits: ``007``, a SIRET, a postcode, a phone number. Only empty cells
count as missing values: a column of numbers with a single ``n/a`` is a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from datafab.analysis.csv_detective import FORMATS
from datafab.analysis.day_order import ambiguous_field
from datafab.analysis.distinct import ValueCounts
from datafab.analysis.moments import has_month_name, possible_readings
from datafab.analysis.numerals import Style, possible_styles

#: An integer that surely fits in 64 bits; a longer one is a number of any length.
_INTEGER = r"\A-?(?:0|[1-9][0-9]{0,17})\z"
_TRUE = ("true", "vrai", "oui", "yes", "y", "o")
_FALSE = ("false", "faux", "non", "no", "n")
_DATE_TYPES = {"date": "date", "datetime_naive": "datetime", "datetime_aware": "datetime"}
#: Date formats without and with a separator between year, month and day.
_PACKED = re.compile(r"(%[YmdHMS])+")
_SEPARATED = re.compile(r"%[Ymd]([-/.])%[md]\1%[Yymd]")
#: csv-detective's prefix of a format that not every ``strptime`` reads, and parts that none reads.
_CUSTOM, _UNREADABLE = "csvd:", ("[", "%Z", "%b")
#: A date whose first part can be a day or a month.
_DAY_OR_MONTH_FIRST = r"\A(?:0?[1-9]|1[0-2])[-/.]"

_SLICE_VALUES = 500
#: The Table Schema format of dates that have no ``strptime`` format.
ANY_FORMAT = "any"

Field = dict[str, Any]


def infer_field(name: str, parts: Sequence[ValueCounts], chosen: Mapping[str, Any], separator: str | None) -> Field:
    """Return the Table Schema field of a column.

    Args:
        name: of the column.
        parts: its values without the empty ones.
        chosen: csv-detective's result for the column, with ``named``: whether the column's name suggests the format,
            too (if not, numbers of three digits are numbers and not country codes); ``absent``: whether words for a
            missing value (``NA``) are among the values, which are not of the format; ``blanks``: whether some values
            have blanks around them, which csv-detective does not read as dates; ``labelled``: the formats that the
            column's name suggests.
        separator: of the cells; if it is a comma, ``1,234`` may be a thousand.
    """
    if not sum(len(part.values) for part in parts):
        return {"name": name, "type": "string"}
    if chosen.get("blanks"):
        parts = [ValueCounts(pc.utf8_trim_whitespace(part.values), part.counts) for part in parts]
        chosen = {**chosen, **_find_date_format(parts, chosen)}
    if chosen["format"] in _DATE_TYPES and not chosen.get("absent"):
        return {"name": name, **(_date_field(chosen, parts) or _worded_date_field(parts) or _number(parts, separator))}
    if chosen["format"] == "bool":
        return {"name": name, **(_boolean_field(parts) or _number(parts, separator))}
    if chosen["python_type"] == "string" and chosen.get("named"):
        return {"name": name, "type": "string"}
    return {"name": name, **(_worded_date_field(parts) or _number(parts, separator))}


def _find_date_format(parts: Sequence[ValueCounts], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the date format of a column with blanks around its values."""
    for name in _DATE_TYPES:
        infer = FORMATS[name].infer
        date_format = infer(_iterate_values(parts)) if infer is not None else None
        if date_format is not None:
            return {"format": name, "date_format": date_format, "named": name in chosen.get("labelled", ())}
    return {}


def _worded_date_field(parts: Sequence[ValueCounts]) -> Field | None:
    """Return the field of dates with month names in English or French, if all are written in the same order."""
    shapes: set[str] = set()
    kinds: set[str] = set()
    for value in _iterate_values(parts):
        if not has_month_name(value):
            return None
        shapes.add(_word_order(value))
        kinds.add("datetime" if ":" in value else "date")
        zoned = any(getattr(read, "tzinfo", None) for read in possible_readings(value).values())
        if len(shapes) > 1 or len(kinds) > 1 or zoned:
            return None
    return {"type": kinds.pop(), "format": ANY_FORMAT} if kinds else None


def _iterate_values(parts: Sequence[ValueCounts]) -> Iterator[str]:
    """Yield the values of a column in slices, as the first values rule out most columns of texts."""
    for part in parts:
        for first in range(0, len(part.values), _SLICE_VALUES):
            yield from part.values.slice(first, _SLICE_VALUES).to_pylist()


def _word_order(value: str) -> str:
    """Return the order of the words and numbers of a date."""
    plain = re.sub(r"(?<=[0-9])(?:st|nd|rd|th|er)\b", "", value, flags=re.IGNORECASE).split(":")[0]
    return "".join("9" if part[0].isdigit() else "a" for part in re.findall(r"[0-9]+|[^\W\d_]+", plain))


def _date_field(chosen: Mapping[str, Any], parts: Sequence[ValueCounts]) -> Field | None:
    """Return the field of dates whose format a schema can express, and that can be nothing else.

    The year must have four digits: ``1.2.10`` may be a version and ``12/11/10`` a lot number. Digits alone are a
    date only if the column's name suggests it and no digit is missing: some read ``202411`` as the first of January,
    and ``20001212121212`` may be any number.
    """
    date_format = str(chosen.get("date_format") or "").removeprefix(_CUSTOM)
    if not date_format or any(part in date_format for part in _UNREADABLE):
        return None
    kind = _DATE_TYPES[chosen["format"]]
    if date_format.startswith("%d") and _SEPARATED.match(date_format) and _all(parts, _DAY_OR_MONTH_FIRST):
        return ambiguous_field(kind, date_format, str(parts[0].values[0].as_py()))
    if "%Y" not in date_format:
        return None
    digits = _PACKED.fullmatch(date_format) is not None
    if digits and not (chosen.get("named") and _all(parts, rf"\A[0-9]{{{_packed_digits(date_format)}}}\z")):
        return None
    return {"type": kind, "format": date_format} if digits or _SEPARATED.match(date_format) else None


def _packed_digits(date_format: str) -> int:
    """Return the number of digits of a packed date format: four for the year, two for each other part."""
    return len(date_format) + 2


def _boolean_field(parts: Sequence[ValueCounts]) -> Field | None:
    """Return the field of a column of words for true and false; ``0`` and ``1`` are numbers."""
    words = [word for part in parts for word in part.values.to_pylist()]
    if not all(word.lower() in _TRUE + _FALSE for word in words):
        return None
    return {
        "type": "boolean",
        "trueValues": [word for word in words if word.lower() in _TRUE],
        "falseValues": [word for word in words if word.lower() in _FALSE],
    }


def _number(parts: Sequence[ValueCounts], separator: str | None) -> Field:
    if _all(parts, _INTEGER):
        return {"type": "integer"}
    for style in possible_styles(separator):
        if _all(parts, rf"\A(?:{style.pattern})\z") and (
            not style.wants_proof or _any(parts, rf"\A(?:{style.proof})\z")
        ):
            return {"type": "number", **_marks(style, parts)}
    return {"type": "string"}


def _marks(style: Style, parts: Sequence[ValueCounts]) -> Field:
    """Return the marks of a style that differ from the defaults of a Table Schema."""
    group = "".join(mark for mark in style.group if _any(parts, re.escape(mark)))
    marks = {"groupChar": group} if group else {}
    return marks | ({"decimalChar": style.decimal} if style.decimal != "." else {})


def _any(parts: Sequence[ValueCounts], pattern: str) -> bool:
    return any(pc.any(pc.match_substring_regex(part.values, pattern)).as_py() for part in parts)


def _all(parts: Sequence[ValueCounts], pattern: str) -> bool:
    # The first values rule out most columns of texts.
    return all(
        pc.all(pc.match_substring_regex(part.values.slice(0, 100), pattern)).as_py()
        and pc.all(pc.match_substring_regex(part.values, pattern)).as_py()
        for part in parts
        if len(part.values)
    )


def is_blank(values: pa.Array) -> pa.Array:
    """Return a mask of the blank values."""
    return pc.equal(pc.utf8_trim_whitespace(values), "")


def has_surrounding_blanks(parts: Sequence[ValueCounts]) -> bool:
    """Tell whether any value has leading or trailing blanks."""
    return any(pc.any(pc.not_equal(part.values, pc.utf8_trim_whitespace(part.values))).as_py() for part in parts)
