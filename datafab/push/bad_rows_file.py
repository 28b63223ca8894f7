"""The file with the rows that a push has left out, in the store: ``bad-rows/<job>.csv``, for people who mend them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from datafab.errors import NotFound
from datafab.store.store import Store

FOLDER = "bad-rows"
HEADER = ("line", "reason", "row")


def bad_rows_name(job: str) -> str:
    """Return the name of the file of a job."""
    return f"{FOLDER}/{job}.csv"


def write_bad_rows(store: Store, job: str, rows: Iterable[tuple[int, list[str]]], width: int, separator: str) -> None:
    """Write the rows that have more cells than the header, each with its line, the reason and its text."""
    with store.writer(bad_rows_name(job)) as file:
        text = io.TextIOWrapper(file, "utf-8", "backslashreplace", newline="", write_through=True)
        writer = csv.writer(text)
        writer.writerow(HEADER)
        for line, cells in rows:
            writer.writerow((line, f"{len(cells)} cells, the header has {width}", _row_text(cells, separator)))
        text.detach()


def _row_text(cells: list[str], separator: str) -> str:
    """Return a row as the line of a CSV."""
    csv.writer(text := io.StringIO(), delimiter=separator, lineterminator="").writerow(cells)
    return text.getvalue()


def read_bad_rows(store: Store, job: str) -> bytes:
    """Return the file of a job.

    Raises:
        NotFound: it has none.
    """
    found = store.read(bad_rows_name(job))
    if found is None:
        raise NotFound(f"job {job} has left out no rows", field="job_id")
    return found
