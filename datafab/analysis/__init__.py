"""Finds out what the columns of a table hold: csv-detective's answers, exact over all rows.

``detective`` sees what kind of file it is and puts the result together; ``text``, ``json_records``, ``parquet`` and
``workbook`` make batches of rows of it, ``spool`` keeps these on disk, ``distinct`` counts each column's values,
``format_scores`` finds its formats with ``filters`` and ``dates`` as quick ways, ``profile`` and ``table_schema`` say
the rest. Only ``csv_detective`` knows csv-detective.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datafab.analysis.detective import Detective
    from datafab.core.services import Services

__all__ = ["detective"]


def detective(services: Services) -> Detective:
    """Return the detective of a process. It is imported only where it is used: it costs a second and 150 MB."""
    from datafab.analysis.detective import Detective  # noqa: PLC0415 - see above

    return services.get(Detective)
