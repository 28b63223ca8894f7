"""Memory limits for non-text tables."""

from __future__ import annotations

from datafab.errors import Fatal

#: Maximum number of cells of a table that is held in memory as a whole: each takes 40 bytes, even if empty.
MAX_CELLS = 20_000_000
#: Maximum number of XML elements that a library holds at once: each takes some hundred bytes.
MAX_XML_ELEMENTS = 2_000_000


def check_cells(rows: int, columns: int) -> None:
    """Refuse a table that has too many cells for the memory.

    Raises:
        Fatal: ``too_large``.
    """
    if rows * columns > MAX_CELLS:
        raise _too_large(f"has {rows:,} rows by {columns:,} columns, more than {MAX_CELLS:,} cells")


def check_count(count: int, unit: str, limit: int) -> None:
    """Refuse a workbook that has too many of something.

    Raises:
        Fatal: ``too_large``.
    """
    if count > limit:
        raise _too_large(f"has more than {limit:,} {unit}")


def _too_large(what: str) -> Fatal:
    return Fatal(f"{what}: publish it as CSV", code="too_large")
