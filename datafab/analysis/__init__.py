"""Finds out what the columns of a table hold: csv-detective's answers, exact over all rows.

``detective`` sees what kind of file it is and puts the result together; ``reading``, ``others``, ``parquet``
and ``workbooks`` make batches of rows of it, ``landing`` keeps these on disk, ``distinct`` counts each column's values,
``judge`` finds its formats with ``filters`` and ``dates`` as quick ways, ``profile`` and ``types`` say the rest. Only
``formats`` knows csv-detective.
"""

from datafab.analysis.detective import Detective

__all__ = ["Detective"]
