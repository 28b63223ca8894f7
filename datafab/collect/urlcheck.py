"""The findings at an address that may become a row of an ``endpoint.csv``."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

from datafab.collect.service_report import find_report, is_text, root_element
from datafab.core.item import ItemError, Value
from datafab.urls import url_parts

_ARCGIS = re.compile(r"/(?:feature|map)server(?:/|$)", re.IGNORECASE)


class Table(Value):
    """A table, by its first rows; all rows are counted."""

    rows: int
    columns: tuple[str, ...]
    encoding: str | None = None
    separator: str | None = None


class Try(Value):
    """One attempt to fetch an address."""

    #: None: a plain GET
    plugin: str | None = None
    #: HTTP status of the answer
    status: int | None = None
    #: why it gave no usable resource
    reason: ItemError | None = None


class Finding(Value):
    """What a collection would get at an address."""

    url: str
    #: value for the column ``plugin``; None: a plain GET is right
    plugin: str | None = None
    #: whether there is something to collect
    ok: bool
    #: HTTP status of the answer
    status: int | None = None
    media_type: str | None = None
    filename: str | None = None
    #: bytes and digest of the resource that a collection would keep
    size: int | None = None
    sha256: str | None = None
    #: seconds
    elapsed: float | None = None
    table: Table | None = None
    #: why the resource is not a table
    no_table: ItemError | None = None
    #: why there is nothing to collect
    reason: ItemError | None = None
    tries: tuple[Try, ...] = ()


def plugins_for(url: str, head: bytes) -> list[str]:
    """Return the plugins that match an address or the first bytes of its answer."""
    parts = url_parts(url)
    query = {name.lower(): value.lower() for name, value in parse_qsl(parts.query)}
    found = []
    service = b'"currentVersion"' in head and b'"layers"' in head
    if _ARCGIS.search(parts.path) or service or b"ArcGIS REST Services Directory" in head:
        found.append("arcgis")
    wfs = query.get("service") == "wfs" or parts.path.lower().rstrip("/").endswith("/wfs")
    if not found and (wfs or root_element(head) == "WFS_Capabilities" or b"http://www.opengis.net/wfs" in head):
        found.append("wfs")
    return found


def find_objection(head: bytes, tail: bytes, *, part: bool = False) -> ItemError | None:
    """Return what is wrong with an answer of status 200; see ``service_report.find_report``."""
    found = find_report(head, tail, part=part) if is_text(head) else None
    if found is not None:
        return ItemError(type=found.code, message=found.sentence, field="url")
    if root_element(head).endswith("Capabilities"):
        msg = "this describes a service, and has no features: ask for them, e.g. request=GetFeature&typeNames=…"
        return ItemError(type="capabilities", message=msg, field="url")
    return None
