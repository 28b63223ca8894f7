"""How much of a table that is no text may be held in memory."""

from __future__ import annotations

from datafab.errors import Fatal

#: Cells that a table may have which is held in memory as a whole: 40 bytes each, be they empty.
CELLS = 20_000_000
#: Elements of XML that a library holds at once: some hundred bytes each.
ELEMENTS = 2_000_000


def bounded(rows: int, columns: int) -> None:
    """Refuse a table that is too large for the memory.

    Raises:
        Fatal: ``too_large``.
    """
    if rows * columns > CELLS:
        raise _large(f"has {rows:,} rows by {columns:,} columns, more than {CELLS:,} cells")


def few(number: int, of: str, limit: int) -> None:
    """Refuse a workbook that has more of something than it may.

    Raises:
        Fatal: ``too_large``.
    """
    if number > limit:
        raise _large(f"has more than {limit:,} {of}")


def _large(what: str) -> Fatal:
    return Fatal(f"{what}: publish it as CSV", code="too_large")
