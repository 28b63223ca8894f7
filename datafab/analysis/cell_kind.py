"""Classify single cells, to tell a header from the values below it and from the remarks above it. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from enum import StrEnum


class CellKind(StrEnum):
    """The kind of a cell, judged by its text."""

    BLANK = "blank"
    TEXT = "text"
    NUMBER = "number"
    YEAR = "year"
    MOMENT = "moment"
    LINK = "link"


#: Share of a column's filled cells that must be of one kind for the column to be of that kind.
MIN_KIND_SHARE = 0.8
_YEAR = re.compile(r"(?:1[89]|20)[0-9]{2}")
_NUMBER = re.compile(r"\(?[-+]?(?:[€$£]\s?)?(?:[0-9][0-9\s.,']*|[.,][0-9]+)(?:[eE][-+]?[0-9]+)?\s?[%‰€$£]?\)?")
_DAY = r"[0-9]{1,4}[-/.][0-9]{1,2}[-/.][0-9]{1,4}"
_TIME = r"[0-9]{1,2}[:hH][0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?"
_MOMENT = re.compile(
    rf"{_DAY}(?:[T\s]+{_TIME}(?:Z|\s?[-+][0-9:]+)?)?|{_TIME}|(?:0?[1-9]|1[0-2])[-/][0-9]{{4}}|[0-9]{{4}}-[0-9]{{2}}"
)
_LINK = re.compile(r"(?:https?://|www\.)\S+|[^@\s]+@[^@\s]+\.[a-z]+", re.IGNORECASE)
#: Characters, besides digits, that can begin a number.
_SIGNS = frozenset("(-+€$£.,")
#: A longer cell is a text.
_MAX_VALUE_CHARS = 80
#: Words for a missing value; they do not count towards the kind of a column.
_MISSING = frozenset(
    {"na", "n/a", "nan", "nd", "n.d.", "nc", "null", "none", "inf", "-inf", "-", "--", ".", "..", "...", "/", "?"}
)
_VALUES = frozenset({CellKind.NUMBER, CellKind.YEAR, CellKind.MOMENT, CellKind.LINK})


def classify_cell(cell: str) -> CellKind:
    """Classify a cell; a word for a missing value counts as blank."""
    text = cell.strip()
    if not text or text.lower() in _MISSING:
        return CellKind.BLANK
    if len(text) > _MAX_VALUE_CHARS:
        return CellKind.TEXT
    if text[0].isdecimal():
        if _YEAR.fullmatch(text):
            return CellKind.YEAR
        if _MOMENT.fullmatch(text):
            return CellKind.MOMENT
    if (text[0].isdecimal() or text[0] in _SIGNS) and _NUMBER.fullmatch(text):
        return CellKind.NUMBER
    return CellKind.LINK if _LINK.fullmatch(text) else CellKind.TEXT


def classify_column(cells: Iterable[str]) -> CellKind:
    """Classify a column by the kind of most of its filled cells; it is text if no kind prevails."""
    counts = Counter(map(classify_cell, cells))
    del counts[CellKind.BLANK]
    total = counts.total()
    if not total:
        return CellKind.BLANK
    years = counts[CellKind.YEAR]
    if years < MIN_KIND_SHARE * total:
        # Among other numbers, 1900 is a number and not a year.
        counts[CellKind.NUMBER] += years
        del counts[CellKind.YEAR]
    kind, count = counts.most_common(1)[0]
    return kind if count >= MIN_KIND_SHARE * total else CellKind.TEXT


def is_value(kind: CellKind) -> bool:
    """Tell whether cells of this kind are values, and so rarely the names of columns."""
    return kind in _VALUES


def agrees(cell: CellKind, column: CellKind) -> bool:
    """Tell whether a cell is a value like those of its column. A year above other numbers counts as a name."""
    return is_value(cell) and (cell is column or (cell is CellKind.NUMBER and column is CellKind.YEAR))
