"""All features of a layer of an ArcGIS service, page by page, as one GeoJSON FeatureCollection.

Source: the ArcGIS REST API, ``layer`` and ``query``. Layers that can page are read by offset, others by ranges of
their object ids. A layer that says more features than came is refused: half a dataset looks like a whole one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from datafab.clients.fetch import Get, Refused
from datafab.clients.refusal import Refusal, bad_status, shown
from datafab.domain.esri import feature

#: Features asked for at once: no more than this, whatever a server allows; where it does not say, half of it.
PAGE, UNSAID = 1000, 500
#: Codes that ArcGIS puts into answers whose HTTP status is 200.
CODES = range(400, 600)


class Layer:
    """One layer of a service."""

    def __init__(self, get: Get, url: str, max_page_size: int | None = None) -> None:
        parts = urlsplit(url)
        self._get = get
        self._parts = parts._replace(path=parts.path.rstrip("/").removesuffix("/query"), fragment="")
        #: what the endpoint's own query asks for, such as a token; how to answer is ours to say
        self._given = {name: value for name, value in parse_qsl(parts.query) if name not in {"f", "outFields"}}
        where = self._given.pop("where", "")
        self._where = "" if where.replace(" ", "") in {"", "1=1"} else f"({where})"
        self._max_page_size = max_page_size
        self.url = url

    def dump(self) -> Iterator[bytes]:
        """Yield the FeatureCollection.

        Raises:
            Refused: an answer was no good, or features are missing.
        """
        facts = self._facts()
        count = self._count()
        yield b'{"type":"FeatureCollection","features":['
        came = 0
        for found in self._pages(facts, count):
            for each in found:
                yield (",\n" if came else "\n").encode() + json.dumps(feature(each)).encode()
                came += 1
        if count is not None and came < count:
            raise self._refused("incomplete", f"the layer has {count} features, and {came} came")
        yield b"]}"

    def _facts(self) -> dict[str, Any]:
        """Return what the layer says of itself."""
        facts = self._json("", {})
        layers = facts.get("layers")
        if layers is not None and "fields" not in facts:
            named = ", ".join(f"{layer.get('id')} ({layer.get('name')})" for layer in layers)
            raise self._refused("no_layer", f"this is a whole service: add a layer's number to the address: {named}")
        return facts

    def _count(self) -> int | None:
        """Return how many features there are; None where the server does not count."""
        try:
            count = self._query({"returnCountOnly": "true"}).get("count")
        except Refused:
            return None
        return count if isinstance(count, int) else None

    def _pages(self, facts: Mapping[str, Any], count: int | None) -> Iterator[list[dict[str, Any]]]:
        size = min(PAGE, _positive(facts.get("maxRecordCount")) or UNSAID, self._max_page_size or PAGE)
        abilities = facts.get("advancedQueryCapabilities") or {}
        if count is not None and (facts.get("supportsPagination") or abilities.get("supportsPagination")):
            yield from self._by_offset(count, size)
        else:
            yield from self._by_ids(facts, size)

    def _by_offset(self, count: int, size: int) -> Iterator[list[dict[str, Any]]]:
        """Go on from what came, not from what was asked for: servers give fewer features than they promise."""
        offset = 0
        while offset < count:
            found, _ = self._features({"resultOffset": str(offset), "resultRecordCount": str(size)})
            if not found:
                return
            yield found
            offset += len(found)

    def _by_ids(self, facts: Mapping[str, Any], size: int) -> Iterator[list[dict[str, Any]]]:
        answer = self._query({"returnIdsOnly": "true"})
        ids = sorted(answer.get("objectIds") or ())
        name = answer.get("objectIdFieldName") or facts.get("objectIdField") or _id_field(facts)
        if ids and not name:
            raise self._refused("no_object_ids", "the layer can neither page nor say which field holds its object ids")
        while ids:
            mine, ids = ids[:size], ids[size:]
            found, cut = self._features({"where": f"{name} >= {mine[0]} AND {name} <= {mine[-1]}"})
            if cut and 0 < len(found) < len(mine):  # it gives fewer at once than it says
                size, ids = len(found), mine + ids
                continue
            yield found

    def _features(self, query: Mapping[str, str]) -> tuple[list[dict[str, Any]], bool]:
        """Return a page, and whether the server says that it left some out."""
        wanted = {"geometryPrecision": "7", "returnGeometry": "true", "outSR": "4326", "outFields": "*"}
        answer = self._query({**query, **wanted})
        features = answer.get("features")
        if not isinstance(features, list):
            raise self._refused("bad_answer", "the answer has no list of features")
        return features, bool(answer.get("exceededTransferLimit"))

    def _query(self, query: Mapping[str, str]) -> dict[str, Any]:
        conditions = [text for text in (self._where, query.get("where")) if text]
        return self._json("/query", {**query, "where": " AND ".join(conditions) or "1=1"})

    def _json(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        parts = self._parts._replace(
            path=self._parts.path + path, query=urlencode({**self._given, **query, "f": "json"})
        )
        body = self._get(urlunsplit(parts))
        try:
            answer = json.loads(body)
        except ValueError as error:
            raise self._refused("bad_answer", "the answer is no JSON: is this an ArcGIS layer?") from error
        if not isinstance(answer, dict):
            raise self._refused("bad_answer", "the answer is no JSON object: is this an ArcGIS layer?")
        told = answer.get("error")
        if told:
            raise self._told(told if isinstance(told, dict) else {"message": told})
        return answer

    def _told(self, error: Mapping[str, Any]) -> Refused:
        """Return what the service says is wrong, under the HTTP status that it should have had."""
        details = error.get("details") or ()
        texts = [error.get("message"), *((details,) if isinstance(details, str) else details)]
        said = ": ".join(dict.fromkeys(str(text) for text in texts if text)) or "an error that it does not name"
        code = error.get("code")
        known = bad_status(code, self.url).code if isinstance(code, int) and code in CODES else "arcgis_error"
        return self._refused(known, f"the service says: {said}")

    def _refused(self, code: str, sentence: str) -> Refused:
        return Refused(Refusal(code, f"{shown(self.url)}: {sentence}", "EsriDownloadError"))


def _positive(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _id_field(facts: Mapping[str, Any]) -> str | None:
    fields = facts.get("fields") or ()
    return next((field["name"] for field in fields if field.get("type") == "esriFieldTypeOID"), None)
