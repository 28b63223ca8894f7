"""Describe which columns of a table are kept and how they are named, with warnings. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datafab.analysis import dialect

#: Maximum number of columns that get a warning each; more are summarised in one.
MAX_NAMED_COLUMNS = 10


def table_shape(header: Sequence[str], used: Sequence[int], warnings: Sequence[str]) -> dict[str, Any]:
    """Return the part of an analysis that describes the positions of its columns.

    Args:
        header: all cells of the header.
        used: positions of the columns that have a name or values.
        warnings: of earlier steps.
    """
    names = dialect.unique_names(header)
    first, end = used[0], used[-1] + 1
    blank = [at for at in used if not dialect.is_name(header[at])]
    all_warnings = [*warnings, *_dropped_warning(len(header) - len(used)), *_unnamed_warnings(blank, names)]
    return {
        "heading_columns": first,
        "trailing_columns": len(header) - end,
        # Only if columns between the others are left out.
        **({"positions": list(used)} if end - first > len(used) else {}),
        "header": [names[at] for at in used],
        **({"warnings": all_warnings} if all_warnings else {}),
    }


def _dropped_warning(count: int) -> list[str]:
    if not count:
        return []
    return [f"{count} {'column' if count == 1 else 'columns'} without a name or a value left out"]


def _unnamed_warnings(blank: Sequence[int], names: Sequence[str]) -> list[str]:
    if len(blank) > MAX_NAMED_COLUMNS:
        return [f"{len(blank)} columns have values but no name: called {names[blank[0]]} to {names[blank[-1]]}"]
    return [f"column {at + 1} has values but no name: called {names[at]}" for at in blank]
