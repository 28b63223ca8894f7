"""Rows of a text with more cells than its header: they are left out of the table if they are few, and counted.

A few such rows mostly hold an unquoted separator. If there are more, the separator or the header was not recognised.
Whether a table without some of its rows is wanted is a setting and a parameter of jobs, so the analysis does not decide
it: it only lists them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from datafab.errors import Fatal, FlowError

BadRows = Literal["quarantine", "refuse"]
#: Values of the setting and of the job's parameter.
BAD_ROWS: tuple[BadRows, ...] = ("quarantine", "refuse")
BAD_ROWS_HELP = (
    "Rows with more cells than the header: left out if they are few, or refused; unset: as DATAFAB_BAD_ROWS."
)
#: Key of an analysis document: ``count``, and the ``line`` and number of ``cells`` of the first.
KEY = "bad_rows"
#: Maximum share of bad rows.
MAX_SHARE = 0.01
#: Number of bad rows that are listed.
LISTED = 3


def is_bad(cells: Sequence[str], width: int) -> bool:
    """Tell whether a row has more cells than a header of this width; blank cells do not count."""
    return len(cells) > width and any(cell.strip() for cell in cells[width:])


@dataclass(slots=True)
class BadRowCount:
    """The rows of a text that were left out.

    Attributes:
        width: number of cells of the header.
        count: number of these rows.
        first: the line and the number of cells of the first ones.
    """

    width: int
    count: int = 0
    first: list[dict[str, int]] = field(default_factory=list)

    def add(self, line: int, cells: int) -> None:
        """Count a row."""
        self.count += 1
        if len(self.first) < LISTED:
            self.first.append({"line": line, "cells": cells})

    def facts(self, rows: int) -> dict[str, Any]:
        """Return the part of an analysis about these rows.

        Args:
            rows: number of the other rows.

        Raises:
            Fatal: ``ragged``, they are too many.
        """
        if not self.count:
            return {}
        if self.count > rows:
            line, cells = self.first[0]["line"], self.first[0]["cells"]
            msg = (
                f"line {line} has {cells} cells, the header {self.width}, as most rows: if the header lacks names, add "
                "them; if it is a remark above the header, remove it"
            )
            raise Fatal(msg, code="ragged", field=f"line {line}")
        if self.count > MAX_SHARE * (rows + self.count):
            raise bad_rows_error(self.count, self.first, self.width)
        return {KEY: {"count": self.count, "first": self.first, "width": self.width}}


def bad_rows_policy(params: Mapping[str, Any], setting: BadRows) -> BadRows:
    """Return the value of a job's parameter ``bad_rows``, at the top level or in ``metadata``, or else of the setting.

    Raises:
        FlowError: the parameter is not in ``BAD_ROWS``.
    """
    metadata = params.get("metadata")
    given = params.get("bad_rows") or (metadata.get("bad_rows") if isinstance(metadata, Mapping) else None)
    if not given:
        return setting
    for each in BAD_ROWS:
        if given == each:
            return each
    msg = f"bad_rows is {given!r}: it must be one of {', '.join(BAD_ROWS)}"
    raise FlowError(msg, code="bad_request", field="bad_rows")


def refuse_bad_rows(analysis: Mapping[str, Any], policy: BadRows) -> None:
    """Raise Fatal (``ragged``) if rows were left out of a table, and the policy does not allow that."""
    if policy == "refuse" and KEY in analysis:
        found = analysis[KEY]
        raise bad_rows_error(found["count"], found["first"], found["width"])


def bad_rows_error(count: int, first: Sequence[Mapping[str, int]], width: int) -> Fatal:
    """Return the error for rows with more cells than the header."""
    line, cells = first[0]["line"], first[0]["cells"]
    more = f" ({count} such rows in all)" if count > 1 else ""
    msg = f"line {line} has {cells} cells, the header {width}: quote cells that hold the separator{more}"
    return Fatal(msg, code="ragged", field=f"line {line}")


def bad_rows_warning(analysis: Mapping[str, Any]) -> str:
    """Say which rows were left out of a table."""
    found = analysis[KEY]
    count, width = found["count"], found["width"]
    lines = ", ".join(f"line {each['line']} ({each['cells']} cells)" for each in found["first"])
    more = ", …" if count > len(found["first"]) else ""
    which = "1 row" if count == 1 else f"{count} rows"
    return f"{which} with more cells than the header ({width}) left out: {lines}{more}"
