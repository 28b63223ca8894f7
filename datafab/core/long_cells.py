"""The longest cell of a CSV file that is read."""

from __future__ import annotations

import csv

MAX_CELL_CHARS = 16 * 1024**2


def allow_long_cells() -> None:
    """Let the csv module read cells of up to ``MAX_CELL_CHARS`` characters; call it before any reader is used.

    The module has one limit for the whole process; its default of 128 KiB refuses ordinary GeoJSON cells.
    """
    csv.field_size_limit(MAX_CELL_CHARS)
