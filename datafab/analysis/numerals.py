"""Detect how the numbers of a column are written: their decimal mark and their thousands separator. Pure.

A style is guessed only if it reads all of a column and no other does. A column that a data dictionary declares as
numeric may also hold what PostgreSQL reads as a number: ``007``, ``+1``, ``1.5E-03``, ``NaN``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cached_property, lru_cache

#: Thousands may be separated by no-break spaces as well as ordinary ones.
_SPACES, _APOSTROPHES = " \u00a0\u202f", "'\u2019"
#: Maximum digits before, and after, the decimal mark of a guessed number.
_MAX_GUESSED_DIGITS = 100
#: Maximum digits before and after the decimal point of PostgreSQL's ``numeric``.
_MAX_INTEGER_DIGITS, _MAX_FRACTION_DIGITS = 131_072, 16_383


@dataclass(frozen=True)
class Style:
    """A way of writing numbers.

    Attributes:
        group: characters that may separate thousands; empty: none may.
        decimal: the decimal mark.
        doubtful: whether a number in this style may also be thousands in another style, such as ``1,234`` in a table
            whose separator is not the semicolon.
    """

    group: str
    decimal: str
    doubtful: bool = False

    @property
    def wants_proof(self) -> bool:
        """Whether a column has this style only if one of its values proves it."""
        return self.doubtful or bool(self.group)

    @property
    def pattern(self) -> str:
        """A regular expression, for Python and RE2, of the numbers that a guess accepts in this style."""
        rest = rf"(?:{re.escape(self.decimal)}[0-9]{{1,{_MAX_GUESSED_DIGITS}}})?"
        plain = rf"[1-9][0-9]{{0,{_MAX_GUESSED_DIGITS - 1}}}"
        if not self.group:
            return rf"-?(?:0|{plain}){rest}"
        return rf"-?(?:0|[1-9][0-9]{{0,2}}(?:[{self.group}][0-9]{{3}})+|{plain}){rest}"

    @property
    def proof(self) -> str:
        """A regular expression of numbers that no other style reads, with both marks or two thousands separators."""
        mark, decimal = f"[{self.group}]", re.escape(self.decimal)
        if not self.group:
            # Not three digits behind one to three others.
            return rf"[+-]?(?:0|[0-9]{{4,}}){decimal}[0-9]+|[+-]?[0-9]+{decimal}(?:[0-9]{{1,2}}|[0-9]{{4,}})"
        proof = rf"-?[0-9]{{1,3}}(?:{mark}[0-9]{{3}})+{decimal}[0-9]+"
        # Two full stops may be a version, and groups of digits an identifier.
        return rf"{proof}|-?[0-9]{{1,3}}(?:,[0-9]{{3}}){{2,}}" if self.group == "," else proof

    @cached_property
    def _guessed(self) -> re.Pattern[str]:
        return re.compile(self.pattern)

    @cached_property
    def _proved(self) -> re.Pattern[str]:
        return re.compile(self.proof)

    def reads(self, value: str) -> bool:
        """Tell whether a guess accepts a value as a number of this style."""
        return self._guessed.fullmatch(value) is not None

    def proves(self, value: str) -> bool:
        """Tell whether a value shows that its column has this style, if it needs to be shown."""
        return not self.wants_proof or self._proved.fullmatch(value) is not None

    def plain(self, value: str) -> str:
        """Return a number without thousands separators, and with a decimal point."""
        for mark in self.group:
            value = value.replace(mark, "")
        return value.replace(",", ".") if self.decimal == "," else value


POINT, COMMA, DOUBTFUL = Style("", "."), Style("", ","), Style("", ",", doubtful=True)
GROUPED: Sequence[Style] = (
    Style(",", "."), Style(_SPACES, ","), Style(_SPACES, "."), Style(".", ","), Style(_APOSTROPHES, ".")
)  # fmt: skip


def possible_styles(separator: str | None) -> tuple[Style, ...]:
    """Return the styles that a table's numbers may have, most likely first.

    Args:
        separator: of its cells. A semicolon is used where the comma is the decimal mark; where it is the comma itself,
            a quoted ``1,234`` may be a thousand; anywhere else it may be both.
    """
    comma = {";": (COMMA,), ",": ()}.get(separator or "", (DOUBTFUL,))
    return (POINT, *comma, *GROUPED)


_DIGITS = r"[0-9]+(?:_[0-9]+)*"
_OTHER_BASE = re.compile(r"([+-]?)(0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+)")
_SPECIAL = re.compile(r"nan|[+-]?inf(?:inity)?", re.IGNORECASE)


@lru_cache
def _declared_pattern(style: Style) -> re.Pattern[str]:
    """Return the pattern of the numbers that a column declared as numeric accepts in a style."""
    decimal = re.escape(style.decimal)
    whole = rf"{_DIGITS}|[0-9]{{1,3}}(?:[{style.group}][0-9]{{3}})+" if style.group else _DIGITS
    return re.compile(rf"[+-]?(?:(?:{whole})(?:{decimal}(?:{_DIGITS})?)?|{decimal}{_DIGITS})(?:[eE][+-]?{_DIGITS})?")


def to_numeric(value: str, style: Style = POINT) -> str:
    """Return a number as every version of PostgreSQL reads it as ``numeric``.

    Underscores and other bases, which PostgreSQL reads since version 16, are converted for earlier versions.

    Raises:
        ValueError: the value is not a number, or has more digits than ``numeric`` keeps.
    """
    if _SPECIAL.fullmatch(value):
        return value
    if found := _OTHER_BASE.fullmatch(value):
        return f"{found[1]}{int(found[2], 0)}"
    plain = style.plain(value).replace("_", "")
    if not _declared_pattern(style).fullmatch(value) or not _fits_numeric(plain):
        msg = f"{value!r} is not a number"
        raise ValueError(msg)
    return plain


def _fits_numeric(plain: str) -> bool:
    """Tell whether ``numeric`` keeps all digits of a number."""
    try:
        number = Decimal(plain)
    except InvalidOperation:
        return False
    exponent = number.as_tuple().exponent
    return (
        isinstance(exponent, int)
        and -exponent <= _MAX_FRACTION_DIGITS
        and (not number or number.adjusted() < _MAX_INTEGER_DIGITS)
    )
