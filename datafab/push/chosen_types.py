"""Columns whose types an editor has chosen in a data dictionary: what their values say of how to read them. Pure.

Guessing is strict, choosing is not: ``007`` is a number where a column is called one. All values are looked at before
anything is deleted; what cannot be read is named with its line, and so is what could be read in two ways.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Protocol

from datafab.analysis.day_order import describe_ambiguity
from datafab.analysis.moments import UNAMBIGUOUS, Moment, possible_readings
from datafab.analysis.numerals import POINT, Style, possible_styles
from datafab.errors import Fatal
from datafab.push.store_types import MOMENTS, NUMBERS, Type, converted

_DIGITS = re.compile(r"[+-]?[0-9]+")
#: Characters of a value that a message shows.
_SHOWN = 80


class Undecided(ValueError):
    """A value can be read in two ways: ``args`` are its line, itself and why."""


class _Evidence(Protocol):
    """What the values of a column say of how all of them are to be read.

    Attributes:
        notes: what a log should say of it.
    """

    notes: list[str]

    def see(self, value: str, line: int) -> None:
        """Take a value into account.

        Raises:
            ValueError: it cannot be read.
        """

    def settle(self, order: str | None) -> tuple[str | None, Style]:
        """Return the order and the style in which all values are read.

        Args:
            order: of day and month, for a column whose values do not say.

        Raises:
            Undecided: a value can be read in two ways.
        """


class _Numbers:
    """Finds the style that reads all numbers of a column."""

    def __init__(self, kind: Type, separator: str | None) -> None:
        self.notes: list[str] = []
        self._kind = kind
        self._styles = list(possible_styles(separator))
        self._proved: set[Style] = set()
        self._doubtful: tuple[int, str] | None = None

    def see(self, value: str, line: int) -> None:
        if _DIGITS.fullmatch(value):
            # Every style reads them.
            converted(self._kind, value)
            return
        left = [style for style in self._styles if self._reads(value, style)]
        if not left:
            raise ValueError(value)
        self._styles = left
        self._proved.update(style for style in left if style.proves(value) or _marked(value, style))
        if POINT not in left and self._doubtful is None:
            self._doubtful = (line, value)

    def _reads(self, value: str, style: Style) -> bool:
        try:
            converted(self._kind, value, style=style)
        except ValueError:
            return False
        return True

    def settle(self, order: str | None) -> tuple[str | None, Style]:
        for style in self._styles:
            if not style.group or style in self._proved:
                return order, style
        assert self._doubtful is not None
        raise Undecided(*self._doubtful, "which may be thousands or decimals")


def _marked(value: str, style: Style) -> bool:
    """Tell whether thousands are marked by what is never a decimal mark: blanks and apostrophes."""
    return style.group not in {",", "."} and any(mark in value for mark in style.group)


class _Moments:
    """Finds the order of day and month that reads all dates of a column."""

    def __init__(self, kind: Type, by: str) -> None:
        self.notes: list[str] = []
        self._kind = kind
        self._by = by
        self._orders: set[str] | None = None
        self._ambiguous: tuple[int, str] | None = None

    def see(self, value: str, line: int) -> None:
        read = possible_readings(value)
        if not self.notes and self._kind is Type.TIMESTAMP and any(map(_zoned, read.values())):
            self.notes.append("its moments with a zone are kept in UTC, for a timestamp has none")
        if UNAMBIGUOUS in read:
            return
        self._orders = read.keys() & (self._orders if self._orders is not None else read.keys())
        if self._ambiguous is None and len(set(map(str, read.values()))) > 1:
            self._ambiguous = (line, value)

    def settle(self, order: str | None) -> tuple[str | None, Style]:
        orders = self._orders or set()
        if len(orders) == 1:
            return next(iter(orders)), POINT
        if self._ambiguous is None:
            return None, POINT
        if order in orders:
            self.notes.append(describe_ambiguity(self._ambiguous[1], str(order), self._by))
            return order, POINT
        why = "which can be read day first or month first"
        if orders:
            raise Undecided(*self._ambiguous, f"{why}: set date_order of the job, or DATAFAB_DATE_ORDER, to dmy or mdy")
        raise Undecided(*self._ambiguous, f"{why}, and other dates of the column are of both kinds")


def _zoned(read: Moment) -> bool:
    return isinstance(read, datetime) and read.tzinfo is not None


class _Others:
    """Reads values that say nothing of each other."""

    def __init__(self, kind: Type) -> None:
        self.notes: list[str] = []
        self._kind = kind

    def see(self, value: str, line: int) -> None:  # noqa: ARG002 - of the protocol
        converted(self._kind, value)

    def settle(self, order: str | None) -> tuple[str | None, Style]:
        return order, POINT


class Chosen:
    """What is known of the values of a column whose type an editor has chosen.

    Attributes:
        type: the chosen one.
        filled: how many values there are.
        order: of day and month in its dates.
        style: of its numbers.
    """

    def __init__(self, name: str, kind: Type, *, separator: str | None, order: str | None = None, by: str = "") -> None:
        """Begin.

        Args:
            name: of the column.
            kind: the chosen type.
            separator: of the table's cells: where it is a comma, a quoted ``1,234`` may be a thousand.
            order: of day and month, for a column whose values do not say.
            by: what says so.
        """
        self.type = kind
        self.filled = 0
        self.order = order
        self.style = POINT
        self._name = name
        self._evidence: _Evidence = (
            _Numbers(kind, separator) if kind in NUMBERS else _Moments(kind, by) if kind in MOMENTS else _Others(kind)
        )

    @property
    def notes(self) -> list[str]:
        """What a log should say of the column, a sentence each."""
        return [f"column {self._name!r}: {note}" for note in self._evidence.notes]

    def see(self, cell: str, line: int) -> None:
        """Take a cell into account.

        Raises:
            Fatal: ``type_override``, the type has no place for it.
        """
        value = cell.strip()
        if not value:
            return
        self.filled += 1
        try:
            self._evidence.see(value, line)
        except ValueError as error:
            raise self._refused(line, value, "change either") from error

    def settle(self) -> None:
        """Decide, after the last cell, how all of them are read.

        Raises:
            Fatal: ``type_override``, one of them can be read in two ways.
        """
        try:
            self.order, self.style = self._evidence.settle(self.order)
        except Undecided as error:
            raise self._refused(*error.args) from error

    def _refused(self, line: int, value: str, why: str) -> Fatal:
        said = f"column {self._name!r}: its data dictionary says {self.type}, line {line} says {value[:_SHOWN]!r}"
        return Fatal(f"{said}: {why}", code="type_override", field=self._name)
