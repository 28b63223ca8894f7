"""Columns whose types are guessed from all of their values. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from datafab.analysis.numerals import Style, possible_styles
from datafab.errors import Fatal
from datafab.push.chosen_types import ChosenColumn
from datafab.push.store_types import StoreType

#: An integer of this many digits always fits into ``bigint``.
_SAFE_BIGINT_DIGITS = 18
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,99})")


class GuessedColumn:
    """A column whose type is guessed from the values seen so far.

    Attributes:
        filled: number of filled cells.
    """

    #: only an analysis finds dates
    way: str | None = None

    def __init__(self, *, separator: str) -> None:
        """Start without any values; ``separator`` is the separator of the table's cells."""
        self._styles = list(possible_styles(separator))
        self._proved: set[Style] = set()
        self._whole = True
        self._long = False
        self.filled = 0

    def observe(self, cell: str, line: int) -> None:  # noqa: ARG002 - the same signature as of a chosen column
        """Take a cell into account."""
        value = cell.strip()
        if not value:
            return
        self.filled += 1
        if not self._styles:
            return
        if _INTEGER.fullmatch(value):
            # Every style parses it.
            self._long = self._long or len(value.lstrip("-")) > _SAFE_BIGINT_DIGITS
            return
        self._whole = False
        self._styles = [style for style in self._styles if style.reads(value)]
        self._proved.update(style for style in self._styles if style.proves(value))

    @property
    def _style(self) -> Style | None:
        """The style in which all values are numbers; None if there is none."""
        return next((each for each in self._styles if not each.wants_proof or each in self._proved), None)

    @property
    def type(self) -> StoreType:
        """The type that holds all values."""
        if self._style is None or not self.filled:
            return StoreType.TEXT
        return StoreType.BIGINT if self._whole and not self._long else StoreType.NUMERIC

    @property
    def comma(self) -> bool:
        """Whether the values are numbers with a decimal comma."""
        return self._style is not None and self._style.decimal == ","

    @property
    def group(self) -> str:
        """Characters that may separate thousands."""
        return "" if self._style is None else self._style.group


def guess_columns(
    rows: Iterable[tuple[int, Sequence[str]]],
    width: int,
    *,
    separator: str,
    chosen: Mapping[int, ChosenColumn] = MappingProxyType({}),
    names: Sequence[str] = (),
) -> tuple[int, list[GuessedColumn | ChosenColumn]]:
    """Read every cell of a table; return the number of rows, and the columns.

    Args:
        rows: (line, cells) of each row, ``width`` cells each.
        width: number of columns.
        separator: separator of the cells. If it is a comma, a quoted ``1,234`` may be a thousand, and there is no
            decimal comma.
        chosen: columns whose types are chosen, by position.
        names: of the columns, for messages.

    Raises:
        Fatal: ``nul``, a cell holds a NUL character, which PostgreSQL cannot store; ``type_override``, a cell is not a
            value of the chosen type.
    """
    guesses = [chosen.get(position) or GuessedColumn(separator=separator) for position in range(width)]
    count = 0
    for line, cells in rows:
        count += 1
        for position, (column, cell) in enumerate(zip(guesses, cells, strict=True)):
            if "\0" in cell:
                raise _nul_error(line, names[position] if names else position + 1)
            column.observe(cell, line)
    for column in chosen.values():
        column.decide()
    return count, guesses


def _nul_error(line: int, column: str | int) -> Fatal:
    """Return the error for a cell that holds a NUL character."""
    msg = f"line {line}, column {column!r}: the cell holds a NUL character, which a datastore cannot store: remove it"
    return Fatal(msg, code="nul", field=f"line {line}")
