"""A layer of an ArcGIS service, with the habits that real ones have.

Source: the ArcGIS REST API on developers.arcgis.com. "Layer / Table": ``/layer/0``. "Query (Feature Service/Layer)":
``/layer/0/query`` with ``f=json``, ``where``, ``outFields``, ``orderByFields``, ``resultOffset`` and
``resultRecordCount`` (refused where the layer cannot page), ``exceededTransferLimit`` (true where more is to come),
``returnCountOnly`` and ``returnIdsOnly`` (both of what ``where`` selects; ``objectIds`` is null where that is nothing).
``fields`` is left out where nothing is found. Errors come under HTTP 200.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.servers.http import Answer


@dataclass
class Layer:
    """Answers to ``/layer/0`` and its ``/query``: give it to ``Site`` as its router.

    Attributes:
        features: Esri JSON; their object ids are in the attribute ``OBJECTID``.
        says: maxRecordCount.
        gives: features that it really gives at once.
        pages: whether it can page by offset.
        counts: whether it counts.
        silent: whether it keeps quiet about what it left out.
        lost: features at the end that it counts but never gives.
        count: its whole answer to ``returnCountOnly``, where that is not the right one.
        ids: its whole answer to ``returnIdsOnly``, where that is not the right one.
        offsets: whether it knows ``resultOffset``.
        order: what it makes of ``orderByFields``: ``kept``, ``refused`` or ``ignored``.
        stable: whether pages without an order have one.
        where: whether it knows ``where``.
        named: whether it names the field of its object ids.
        cuts: whether it says that it left something out, where it has given nothing.
        clock: whether its features have an attribute whose value is another one in each answer.
    """

    features: list[dict[str, Any]]
    says: int = 1000
    gives: int = 1000
    pages: bool = True
    counts: bool = True
    silent: bool = False
    lost: int = 0
    count: dict[str, Any] | None = None
    ids: dict[str, Any] | None = None
    offsets: bool = True
    order: str = "kept"
    stable: bool = True
    where: bool = True
    named: bool = True
    cuts: bool = False
    clock: bool = False
    queries: list[dict[str, str]] = field(default_factory=list)

    def __call__(self, path: str, _headers: dict[str, str]) -> Answer:
        parts = urlsplit(path)
        query = dict(parse_qsl(parts.query))
        assert query.get("f") == "json"
        if parts.path == "/layer":
            return _json({"layers": [{"id": 0, "name": "Zones"}, {"id": 1, "name": "Arbres"}]})
        if parts.path == "/layer/0":
            abilities = {"advancedQueryCapabilities": {"supportsPagination": self.pages, "supportsOrderBy": True}}
            return _json({"type": "Feature Layer", "maxRecordCount": self.says, "fields": self.fields, **abilities})
        if parts.path == "/layer/0/query":
            self.queries.append(query)
            return _json(self.answer(query))
        return Answer(b"{}", status=404)

    @property
    def fields(self) -> list[dict[str, str]]:
        kind = "esriFieldTypeOID" if self.named else "esriFieldTypeInteger"
        return [{"name": "OBJECTID", "type": kind}, {"name": "nom", "type": "esriFieldTypeString"}]

    def answer(self, query: dict[str, str]) -> dict[str, Any]:
        if "returnCountOnly" in query:
            right = {"count": len(self._selected(query))} if self.counts else _error(400, "Invalid")
            return right if self.count is None else self.count
        if "returnIdsOnly" in query:
            ids = [feature["attributes"]["OBJECTID"] for feature in self._selected(query)]
            right = {"objectIdFieldName": "OBJECTID", "objectIds": ids[::-1] or None}
            return right if self.ids is None else self.ids
        ordered = "orderByFields" in query
        if ordered and self.order == "refused":
            return _error(400, "'Invalid URL' Parameters: orderByFields")
        if "resultOffset" in query and not self.pages:
            return _error(400, "Pagination is not supported.")
        assert query["outFields"] == "*"
        given = self.features[: len(self.features) - self.lost]
        found = [feature for feature in self._selected(query) if feature in given]
        if ordered and self.order == "kept":
            found.sort(key=lambda feature: feature["attributes"][query["orderByFields"]])
        elif not self.stable:
            random.Random(len(self.queries)).shuffle(found)
        size = self.gives
        if "resultRecordCount" in query:
            start = int(query["resultOffset"]) if self.offsets else 0
            found, size = found[start:], min(size, int(query["resultRecordCount"]))
        cut = (len(found) > size and not self.silent) or (self.cuts and not found)
        head = {"objectIdFieldName": "OBJECTID"} | ({"fields": self.fields} if found else {})
        return head | {"features": self._told(found[:size])} | ({"exceededTransferLimit": True} if cut else {})

    def _told(self, features: list[dict[str, Any]]) -> list[dict[str, Any]]:
        more = {"asked": len(self.queries)} if self.clock else {}
        return [feature | {"attributes": feature["attributes"] | more} for feature in features]

    def _selected(self, query: dict[str, str]) -> list[dict[str, Any]]:
        found = self.features
        for sign, number in re.findall(r"OBJECTID (>=|<=|>) (\d+)", query["where"] if self.where else ""):
            holds = {">=": int.__ge__, "<=": int.__le__, ">": int.__gt__}[sign]
            found = [feature for feature in found if holds(feature["attributes"]["OBJECTID"], int(number))]
        return list(found)


def _error(code: int, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "details": []}}


def _json(value: dict[str, Any]) -> Answer:
    return Answer(json.dumps(value).encode(), content_type="application/json; charset=utf-8")
