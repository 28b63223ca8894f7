"""What was found at an address: for whoever wants to put it into an ``endpoint.csv``."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

from datafab.collect.service_report import is_text, report, root
from datafab.core.item import ItemError, Value
from datafab.urls import url_parts

_ARCGIS = re.compile(r"/(?:feature|map)server(?:/|$)", re.IGNORECASE)


class Table(Value):
    """A table, as its first rows show it; all rows are counted."""

    rows: int
    columns: tuple[str, ...]
    encoding: str | None = None
    separator: str | None = None


class Try(Value):
    """One way to fetch it."""

    #: None: a plain GET
    plugin: str | None = None
    #: HTTP status of the answer
    status: int | None = None
    #: why it gave nothing that can be used
    reason: ItemError | None = None


class Finding(Value):
    """What was found."""

    url: str
    #: what the column ``plugin`` should hold; None: nothing, a plain GET is right
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
    #: why it is no table, where it is none
    no_table: ItemError | None = None
    #: why there is nothing to collect
    reason: ItemError | None = None
    tries: tuple[Try, ...] = ()


def plugins_for(url: str, head: bytes) -> list[str]:
    """Return the plugins that fit an address, or what it answered with."""
    parts = url_parts(url)
    query = {name.lower(): value.lower() for name, value in parse_qsl(parts.query)}
    found = []
    service = b'"currentVersion"' in head and b'"layers"' in head
    if _ARCGIS.search(parts.path) or service or b"ArcGIS REST Services Directory" in head:
        found.append("arcgis")
    wfs = query.get("service") == "wfs" or parts.path.lower().rstrip("/").endswith("/wfs")
    if not found and (wfs or root(head) == "WFS_Capabilities" or b"http://www.opengis.net/wfs" in head):
        found.append("wfs")
    return found


def objection(head: bytes, tail: bytes, *, part: bool = False) -> ItemError | None:
    """Return what is wrong with an answer that HTTP calls a good one; see ``service_report.report``."""
    said = report(head, tail, part=part) if is_text(head) else None
    if said is not None:
        return ItemError(type=said.code, message=said.sentence, field="url")
    if root(head).endswith("Capabilities"):
        msg = (
            "this tells what a service can do, and holds no features: ask for them, e.g. request=GetFeature&typeNames=…"
        )
        return ItemError(type="capabilities", message=msg, field="url")
    return None
