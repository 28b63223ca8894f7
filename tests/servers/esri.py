"""A layer of an ArcGIS service, with the habits that real ones have."""

from __future__ import annotations

import json
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
    """

    features: list[dict[str, Any]]
    says: int = 1000
    gives: int = 1000
    pages: bool = True
    counts: bool = True
    silent: bool = False
    lost: int = 0
    queries: list[dict[str, str]] = field(default_factory=list)

    def __call__(self, path: str, _headers: dict[str, str]) -> Answer:
        parts = urlsplit(path)
        query = dict(parse_qsl(parts.query))
        assert query.get("f") == "json"
        if parts.path == "/layer":
            return _json({"layers": [{"id": 0, "name": "Zones"}, {"id": 1, "name": "Arbres"}]})
        if parts.path == "/layer/0":
            fields = [{"name": "OBJECTID", "type": "esriFieldTypeOID"}, {"name": "nom", "type": "esriFieldTypeString"}]
            abilities = {"advancedQueryCapabilities": {"supportsPagination": self.pages}}
            return _json({"type": "Feature Layer", "maxRecordCount": self.says, "fields": fields, **abilities})
        if parts.path == "/layer/0/query":
            self.queries.append(query)
            return _json(self.answer(query))
        return Answer(b"{}", status=404)

    def answer(self, query: dict[str, str]) -> dict[str, Any]:
        if "returnCountOnly" in query:
            count = {"count": len(self.features)}
            return count if self.counts else {"error": {"code": 400, "message": "Invalid", "details": []}}
        if "returnIdsOnly" in query:
            ids = [feature["attributes"]["OBJECTID"] for feature in self.features]
            return {"objectIdFieldName": "OBJECTID", "objectIds": ids[::-1] or None}
        found = self.features[: len(self.features) - self.lost]
        if "resultOffset" in query:
            start = int(query["resultOffset"])
            found = found[start : start + int(query["resultRecordCount"])]
        elif ends := re.fullmatch(r"OBJECTID >= (\d+) AND OBJECTID <= (\d+)", query["where"]):
            first, last = map(int, ends.groups())
            found = [feature for feature in found if first <= feature["attributes"]["OBJECTID"] <= last]
        cut = len(found) > self.gives and not self.silent
        return {"features": found[: self.gives]} | ({"exceededTransferLimit": True} if cut else {})


def _json(value: dict[str, Any]) -> Answer:
    return Answer(json.dumps(value).encode(), content_type="application/json; charset=utf-8")
