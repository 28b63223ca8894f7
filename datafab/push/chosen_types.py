"""Columns whose types an editor has chosen in the data dictionary: how all of their values are parsed. Pure.

A guessed type is strict, a chosen one is not: ``007`` is a number in a column that is declared numeric. All values are
read before anything is deleted. A value that cannot be parsed, or can be parsed in two ways, is an error with its line.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Protocol

from datafab.analysis.day_order import describe_ambiguity
from datafab.analysis.moments import UNAMBIGUOUS, Moment, possible_readings
from datafab.analysis.numerals import POINT, Style, possible_styles
from datafab.errors import Fatal
from datafab.push.store_types import MOMENT_TYPES, NUMBER_TYPES, StoreType, convert

_DIGITS = re.compile(r"[+-]?[0-9]+")
#: Longest value that an error message quotes.
_QUOTED_CHARS = 80


class AmbiguousValueError(ValueError):
    """A value can be parsed in two ways: ``args`` are its line, the value and the reason."""


class _Evidence(Protocol):
    """What the values of a column show about the way in which all of them are written.

    Attributes:
        notes: remarks for the log.
    """

    notes: list[str]

    def observe(self, value: str, line: int) -> None:
        """Take a value into account.

        Raises:
            ValueError: it cannot be parsed as the chosen type.
        """

    def decide(self, order: str | None) -> tuple[str | None, Style]:
        """Return the order and the style in which all values are parsed.

        Args:
            order: order of day and month, for a column whose values do not show it.

        Raises:
            AmbiguousValueError: a value can be parsed in two ways.
        """


class _NumberEvidence:
    """The styles in which all numbers of a column can be parsed."""

    def __init__(self, kind: StoreType, separator: str | None) -> None:
        self.notes: list[str] = []
        self._kind = kind
        self._styles = list(possible_styles(separator))
        self._proved: set[Style] = set()
        self._doubtful: tuple[int, str] | None = None

    def observe(self, value: str, line: int) -> None:
        if _DIGITS.fullmatch(value):
            # Every style parses them.
            convert(self._kind, value)
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
            convert(self._kind, value, style=style)
        except ValueError:
            return False
        return True

    def decide(self, order: str | None) -> tuple[str | None, Style]:
        for style in self._styles:
            if not style.wants_proof or style in self._proved:
                return order, style
        assert self._doubtful is not None
        raise AmbiguousValueError(*self._doubtful, ", which may be thousands or decimals")


def _marked(value: str, style: Style) -> bool:
    """Tell whether thousands are separated by a character that is never a decimal mark: a blank or an apostrophe."""
    return style.group not in {",", "."} and any(mark in value for mark in style.group)


class _MomentEvidence:
    """The orders of day and month in which all dates of a column can be parsed."""

    def __init__(self, kind: StoreType, by: str) -> None:
        self.notes: list[str] = []
        self._kind = kind
        self._by = by
        self._orders: set[str] | None = None
        self._ambiguous: tuple[int, str] | None = None

    def observe(self, value: str, line: int) -> None:
        read = possible_readings(value)
        if not self.notes and self._kind is StoreType.TIMESTAMP and any(map(_zoned, read.values())):
            self.notes.append("its times with a zone are converted to UTC, as a timestamp has no zone")
        if UNAMBIGUOUS in read:
            return
        self._orders = read.keys() & (self._orders if self._orders is not None else read.keys())
        if self._ambiguous is None and len(set(map(str, read.values()))) > 1:
            self._ambiguous = (line, value)

    def decide(self, order: str | None) -> tuple[str | None, Style]:
        orders = self._orders or set()
        if len(orders) == 1:
            return next(iter(orders)), POINT
        if self._ambiguous is None:
            return None, POINT
        if order in orders:
            self.notes.append(describe_ambiguity(self._ambiguous[1], str(order), self._by))
            return order, POINT
        why = ", which can be read day first or month first"
        if orders:
            why += ": set date_order of the job, or DATAFAB_DATE_ORDER, to dmy or mdy"
            raise AmbiguousValueError(*self._ambiguous, why)
        raise AmbiguousValueError(*self._ambiguous, f"{why}, and other dates of the column are of both kinds")


def _zoned(read: Moment) -> bool:
    return isinstance(read, datetime) and read.tzinfo is not None


class _IndependentValues:
    """Values of a type that has one notation only."""

    def __init__(self, kind: StoreType) -> None:
        self.notes: list[str] = []
        self._kind = kind

    def observe(self, value: str, line: int) -> None:  # noqa: ARG002 - of the protocol
        convert(self._kind, value)

    def decide(self, order: str | None) -> tuple[str | None, Style]:
        return order, POINT


class ChosenColumn:
    """A column whose type an editor has chosen, and what its values have shown so far.

    Attributes:
        type: the chosen type.
        filled: number of filled cells.
        order: order of day and month in its dates.
        style: style of its numbers.
    """

    def __init__(
        self, name: str, kind: StoreType, *, separator: str | None, order: str | None = None, by: str = ""
    ) -> None:
        """Start without any values.

        Args:
            name: name of the column.
            kind: the chosen type.
            separator: separator of the table's cells. If it is a comma, a quoted ``1,234`` may be a thousand.
            order: order of day and month, for a column whose values do not show it.
            by: where this order was set, for messages.
        """
        self.type = kind
        self.filled = 0
        self.order = order
        self.style = POINT
        self._name = name
        self._evidence: _Evidence = _IndependentValues(kind)
        if kind in NUMBER_TYPES:
            self._evidence = _NumberEvidence(kind, separator)
        elif kind in MOMENT_TYPES:
            self._evidence = _MomentEvidence(kind, by)

    @property
    def notes(self) -> list[str]:
        """Remarks on the column for the log."""
        return [f"column {self._name!r}: {note}" for note in self._evidence.notes]

    def observe(self, cell: str, line: int) -> None:
        """Take a cell into account.

        Raises:
            Fatal: ``type_override``, the cell is not a value of the type.
        """
        value = cell.strip()
        if not value:
            return
        self.filled += 1
        try:
            self._evidence.observe(value, line)
        except ValueError as error:
            raise self._refused(line, value, ": correct one of the two") from error

    def decide(self) -> None:
        """Decide, after the last cell, how all cells are parsed.

        Raises:
            Fatal: ``type_override``, a cell can be parsed in two ways.
        """
        try:
            self.order, self.style = self._evidence.decide(self.order)
        except AmbiguousValueError as error:
            raise self._refused(*error.args) from error

    def _refused(self, line: int, value: str, why: str) -> Fatal:
        found = (
            f"column {self._name!r}: its data dictionary says {self.type}, line {line} holds {value[:_QUOTED_CHARS]!r}"
        )
        return Fatal(f"{found}{why}", code="type_override", field=self._name)
