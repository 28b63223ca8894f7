"""Which columns of a table are kept, what they are called, and what a reader should know of both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datafab.analysis import dialect as table

#: Columns that a warning names; of more it gives the number.
NAMED = 10


def shape(header: Sequence[str], used: Sequence[int], warnings: Sequence[str]) -> dict[str, Any]:
    """Return the part of an analysis that says where its columns stand.

    Args:
        header: all cells of the header.
        used: positions of the columns that have a name or values.
        warnings: what is known already.
    """
    names = table.names(header)
    first, end = used[0], used[-1] + 1
    blank = [at for at in used if not table.is_name(header[at])]
    said = [*warnings, *_dropped(len(header) - len(used)), *_called(blank, names)]
    return {
        "heading_columns": first,
        "trailing_columns": len(header) - end,
        # Only where columns that are left out lie between the others.
        **({"positions": list(used)} if end - first > len(used) else {}),
        "header": [names[at] for at in used],
        **({"warnings": said} if said else {}),
    }


def _dropped(count: int) -> list[str]:
    if not count:
        return []
    return [f"{count} {'column' if count == 1 else 'columns'} without a name or a value left out"]


def _called(blank: Sequence[int], names: Sequence[str]) -> list[str]:
    if len(blank) > NAMED:
        return [f"{len(blank)} columns have values but no name: called {names[blank[0]]} to {names[blank[-1]]}"]
    return [f"column {at + 1} has values but no name: called {names[at]}" for at in blank]
