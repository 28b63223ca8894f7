"""The list of all resources of the small udata, as CSV.

Source of its columns: opendatateam/udata, ``udata/core/dataset/csv.py`` (``ResourcesCsvAdapter``), and of its form
``udata/core/csv.py``.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

_OF_DATASET = ("id", "title", "slug", "url", "organization", "organization_id", "license", "private", "archived")
_OWN = ("id", "url", "title", "description", "filetype", "type", "format", "mime", "filesize")
_HARVEST = ("issued_at", "modified_at", "last_update")
COLUMNS = (
    *(f"dataset.{name}" for name in _OF_DATASET),
    *_OWN,
    "checksum.type",
    "checksum.value",
    "created_at",
    "modified",
    "downloads",
    *(f"harvest.{name}" for name in _HARVEST),
    "schema_name",
    "schema_version",
    "preview_url",
    "extras",
)


def rows_of(dataset: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a row for each resource of a dataset, unless that is deleted or private."""
    if dataset.get("deleted") or dataset.get("private"):
        return
    organisation = dataset.get("organization") or {}
    of = {f"dataset.{name}": dataset.get(name) for name in _OF_DATASET}
    of |= {"dataset.organization": organisation.get("name"), "dataset.organization_id": organisation.get("id")}
    of |= {"dataset.archived": _naive(dataset.get("archived")) or False}
    for each in dataset["resources"]:
        yield of | _row(each)


def _row(resource: Mapping[str, Any]) -> dict[str, Any]:
    checksum, schema = resource.get("checksum") or {}, resource.get("schema") or {}
    harvest = resource.get("harvest") or {}
    row = {name: resource.get(name) for name in _OWN}
    row |= {f"checksum.{name}": checksum.get(name) for name in ("type", "value")}
    row |= {"created_at": _naive(resource.get("created_at")), "modified": _naive(resource["last_modified"])}
    row |= {"downloads": (resource.get("metrics") or {}).get("views", 0)}
    row |= {f"harvest.{name}": _naive(harvest.get(name)) for name in _HARVEST}
    row |= {"schema_name": schema.get("name"), "schema_version": schema.get("version")}
    return row | {"preview_url": resource.get("preview_url"), "extras": json.dumps(resource.get("extras") or {})}


def _naive(date: str | None) -> str | None:
    """Return a date without its time zone, as MongoDB stores it."""
    return datetime.fromisoformat(date).replace(tzinfo=None).isoformat() if date else None


def lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of the list, beginning with the header."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";", quotechar='"', quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(["" if row[name] is None else row[name] for name in COLUMNS])
        yield text.getvalue()
        text.seek(0)
        text.truncate()
    yield text.getvalue()
