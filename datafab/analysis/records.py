"""Read the records of a text, whose cells may be quoted in several ways. Pure."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from datafab.core.long_cells import allow_long_cells
from datafab.errors import Fatal

if TYPE_CHECKING:
    from _csv import Reader


@dataclass(frozen=True, slots=True)
class Quoting:
    """How cells that hold the separator are quoted."""

    mark: str = '"'
    #: character before a mark that is part of a cell; None: such a mark is doubled
    escape: str | None = None
    #: whether there may be blanks between a separator and a mark
    skip_blanks: bool = False

    def facts(self) -> dict[str, Any]:
        """Return the part of an analysis that describes it; empty if it is that of RFC 4180."""
        return {} if self == STANDARD else {"quoting": asdict(self)}


STANDARD = Quoting()


def csv_reader(lines: Iterable[str], separator: str, quoting: Quoting = STANDARD) -> Reader:
    """Return a reader of records whose cells may have up to ``MAX_CELL_CHARS`` characters."""
    allow_long_cells()
    return csv.reader(
        lines,
        delimiter=separator,
        quotechar=quoting.mark,
        escapechar=quoting.escape,
        skipinitialspace=quoting.skip_blanks,
    )


def read_records(
    lines: Iterable[str],
    separator: str,
    *,
    quoting: Quoting = STANDARD,
    first_line: int = 1,
    truncated: bool = False,
) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cells) of each record that is not blank; ``line`` is the physical one where it begins.

    Args:
        lines: physical lines with their ends.
        separator: one character.
        quoting: how cells are quoted.
        first_line: number of the first line.
        truncated: whether the lines are only the beginning of a text, so that an incomplete last record is left out.

    Raises:
        Fatal: ``quote``, a quote is never closed; ``too_large``, a cell is too long.
    """
    ended = False

    def feed() -> Iterator[str]:
        nonlocal ended
        yield from lines
        ended = True

    reader = csv_reader(feed(), separator, quoting)
    line = first_line
    try:
        for cells in reader:
            if ended and truncated:
                return
            # The lines ended within a record: only an open quote makes the reader ask for more.
            if ended:
                msg = f"the quote opened in the record at line {line} is never closed: close or double it"
                raise Fatal(msg, code="quote", field=f"line {line}")
            if cells and not (len(cells) == 1 and cells[0].isspace()):
                yield line, cells
            line = first_line + reader.line_num
    except csv.Error as error:
        msg = f"the record at line {line} cannot be read ({error}): is a quote never closed?"
        raise Fatal(msg, code="too_large", field=f"line {line}") from error
