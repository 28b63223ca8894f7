"""When PostgreSQL has no room for a row."""

from __future__ import annotations

import pytest

from datafab.domain.rowwidth import MAX_ROW, SURE, row_bytes


@pytest.mark.parametrize(
    ("kind", "value", "columns", "fits"),
    [
        # Measured on PostgreSQL 15 and 17: the last number of columns that it takes, and the first that it refuses.
        ("bigint", "1", 980, True),
        ("bigint", "1", 1020, False),
        ("text", "x" * 500, 430, True),
        ("text", "x" * 500, 460, False),
        ("text", None, 1598, True),
        ("text", "x", 1500, True),
        ("numeric", "1.5", 1300, True),
    ],
)
def test_a_row_fits_into_a_page_or_not(kind: str, value: str | None, columns: int, fits: bool):
    assert (row_bytes([(kind, value)] * columns) <= MAX_ROW) is fits


@pytest.mark.parametrize("value", ["x" * 24, "é" * 12, "x" * 23, "x" * 10_000, "9" * 99])
@pytest.mark.parametrize("kind", ["text", "numeric", "bigint"])
def test_with_few_columns_every_row_fits(kind: str, value: str):
    assert row_bytes([(kind, value)] * SURE) <= MAX_ROW
