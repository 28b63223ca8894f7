"""The list of all resources that a udata catalogue exports: CSV with semicolons, one row per resource."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from datafab.catalogue.dataset import RawResource
from datafab.core.long_cells import allow_long_cells
from datafab.errors import Fatal

#: Columns that the list must have.
REQUIRED_COLUMNS = frozenset({"dataset.id", "id", "url", "modified"})


def condense(_content_type: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Convert the exported list, while it is downloaded, to one line of JSON per resource: a fifth of its bytes.

    Raises:
        Fatal: a required column is missing.
    """
    for row in _rows(chunks):
        yield json.dumps(_nested(row), ensure_ascii=False).encode(errors="surrogatepass") + b"\n"


def read_condensed(lines: Iterable[bytes]) -> Iterator[RawResource]:
    """Yield the datasets and resources of a condensed list, in its order."""
    for line in lines:
        dataset = json.loads(line)
        yield dataset, dataset["resource"]


def _rows(chunks: Iterable[bytes]) -> Iterator[dict[str, str]]:
    allow_long_cells()
    reader = csv.DictReader(_lines(chunks), delimiter=";")
    missing = REQUIRED_COLUMNS - set(reader.fieldnames or ())
    if missing:
        msg = f"not a list of resources: its first line has no column {min(missing)!r}"
        raise Fatal(msg, code="catalogue_export", field=min(missing))
    for row in reader:
        if row["id"] and row["dataset.id"] and not _hidden(row):
            yield row


def _hidden(row: Mapping[str, str]) -> bool:
    """Tell whether the API would not list the dataset of a row.

    Archived datasets, which have a date in ``archived`` in newer lists, are listed.
    """
    return row.get("dataset.private") == "True"


def _nested(row: Mapping[str, str]) -> dict[str, Any]:
    """Return a row in the structure that the API gives to a dataset."""
    resource = {
        "id": row["id"],
        "title": row.get("title"),
        "url": row["url"],
        "format": row.get("format"),
        "mime": row.get("mime"),
        "filesize": row.get("filesize"),
        "checksum": {"type": row.get("checksum.type"), "value": row.get("checksum.value")},
        "last_modified": row["modified"],
        "harvest": {"modified_at": row.get("harvest.modified_at")},
    }
    organisation = {"name": row.get("dataset.organization")}
    return {"id": row["dataset.id"], "title": row.get("dataset.title"), "organization": organisation} | {
        "resource": resource
    }


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield lines with their ends, as the csv module needs them; bytes that are not UTF-8 are replaced."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
    unfinished = ""
    for chunk in chunks:
        *lines, unfinished = (unfinished + decoder.decode(chunk)).split("\n")
        yield from (line + "\n" for line in lines)
    unfinished += decoder.decode(b"", final=True)
    if unfinished:
        yield unfinished
