"""Analysis of tables: csv-detective's result, computed over all rows.

``detective`` detects the kind of a file and assembles the result; ``text``, ``json_records``, ``parquet`` and
``workbook`` read its rows in batches, ``spool`` keeps these on disk, ``distinct`` counts each column's values,
``format_scores`` scores its formats (``filters`` and ``dates`` are vectorised shortcuts), ``profile`` computes
statistics and ``table_schema`` infers types. Only ``csv_detective`` imports csv-detective.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datafab.analysis.detective import Detective
    from datafab.core.services import Services

__all__ = ["get_detective"]


def get_detective(services: Services) -> Detective:
    """Return the detective of this process; its module is imported on first use, as it takes a second and 150 MB."""
    from datafab.analysis.detective import Detective  # noqa: PLC0415 - see above

    return services.get(Detective)
