"""A udata catalogue's list of all resources, as it exports it: CSV with semicolons, one line a resource."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from datafab.catalogue.dataset import Raw
from datafab.errors import Fatal

#: Columns that a list must have.
NEEDED = frozenset({"dataset.id", "id", "url", "modified"})


def condensed(_content_type: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Turn a list on its way into a line of JSON for each resource, with what is needed of it: a fifth of its bytes.

    Raises:
        Fatal: it is no such list.
    """
    for row in _rows(chunks):
        yield json.dumps(_nested(row), ensure_ascii=False).encode(errors="surrogatepass") + b"\n"


def listed(lines: Iterable[bytes]) -> Iterator[Raw]:
    """Yield datasets and resources of a condensed list, in its order."""
    for line in lines:
        dataset = json.loads(line)
        yield dataset, dataset["resource"]


def _rows(chunks: Iterable[bytes]) -> Iterator[dict[str, str]]:
    reader = csv.DictReader(_lines(chunks), delimiter=";")
    missing = NEEDED - set(reader.fieldnames or ())
    if missing:
        msg = f"no list of resources: its first line has no column {min(missing)!r}"
        raise Fatal(msg, code="catalogue_export", field=min(missing))
    for row in reader:
        if row["id"] and row["dataset.id"] and not _hidden(row):
            yield row


def _hidden(row: Mapping[str, str]) -> bool:
    """Whether the API would not list its dataset; ``archived`` holds a date in newer lists, which it does list."""
    return row.get("dataset.private") == "True"


def _nested(row: Mapping[str, str]) -> dict[str, Any]:
    """Return a row in the shape that the API gives a dataset."""
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
    """Yield lines with their ends, as the csv module wants them; what is no UTF-8 does not stop it."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
    rest = ""
    for chunk in chunks:
        *lines, rest = (rest + decoder.decode(chunk)).split("\n")
        yield from (line + "\n" for line in lines)
    rest += decoder.decode(b"", final=True)
    if rest:
        yield rest
