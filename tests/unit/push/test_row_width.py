"""When PostgreSQL has no room for a row."""

from __future__ import annotations

import pytest

from datafab.push.row_width import ALWAYS_FITTING_FIELDS, MAX_ROW_BYTES, row_bytes


@pytest.mark.parametrize(
    ("kind", "value", "columns", "fits"),
    [
        # Measured on PostgreSQL 15.18: the most columns that it takes, and where it is certain, one more.
        ("bigint", "1", 1014, True),
        ("bigint", "1", 1015, False),
        ("timestamp", "2020-01-01", 1014, True),
        ("timestamp", "2020-01-01", 1015, False),
        ("text", "x" * 23, 338, True),
        ("text", "x" * 23, 339, False),
        ("text", "x" * 24, 450, True),
        ("text", "x" * 24, 451, False),
        ("text", "é" * 12, 450, True),
        ("text", "é" * 12, 451, False),
        ("text", "x" * 500, 507, True),
        ("text", "x", 1598, True),
        ("text", None, 1598, True),
        ("numeric", "1.5", 1159, True),
        ("numeric", "9" * 99, 405, True),
    ],
)
def test_a_row_fits_into_a_page_or_not(kind: str, value: str | None, columns: int, fits: bool):
    assert (row_bytes([(kind, value)] * columns) <= MAX_ROW_BYTES) is fits


@pytest.mark.parametrize("value", ["x" * 24, "é" * 12, "x" * 23, "x" * 10_000, "9" * 99])
@pytest.mark.parametrize("kind", ["text", "numeric", "bigint"])
def test_with_few_columns_every_row_fits(kind: str, value: str):
    assert row_bytes([(kind, value)] * ALWAYS_FITTING_FIELDS) <= MAX_ROW_BYTES
