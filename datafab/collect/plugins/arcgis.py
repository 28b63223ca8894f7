"""All features of a layer of an ArcGIS service, page by page, as one GeoJSON FeatureCollection.

Source: the ArcGIS REST API, ``layer`` and ``query`` (developers.arcgis.com/rest/services-reference). Layers that can
page are read by offset in the order of their object ids, others by ranges of these. A layer that says more features
than came is refused: half a dataset looks like a whole one. So is one that tells neither a count nor object ids and
gives no features: an absent answer is not "none" (``EsriDumper`` of openaddresses/pyesridump reads by envelopes then).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from datafab.collect.plugins.esri_json import feature
from datafab.collect.service_report import arcgis_error
from datafab.fetch.refusal import Refusal
from datafab.fetch.result import Refused
from datafab.fetch.session import Get
from datafab.urls import without_credentials

#: Features asked for at once: no more than this, whatever a server allows; where it does not say, half of it.
PAGE, UNSAID = 1000, 500
#: Refusals of a first page that may be meant for its order: it is asked for again without.
ORDER_REFUSED = frozenset({"arcgis_error", "http_400", "http_500"})


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
        layer = _Reading(self, facts, self._max_page_size)
        yield b'{"type":"FeatureCollection","features":['
        came = 0
        for each in layer.features():
            yield (",\n" if came else "\n").encode() + self._converted(each)
            came += 1
        if came < layer.expected:
            raise self.refused("incomplete", f"the layer has {layer.expected} features, and {came} came")
        yield b"]}"

    def _converted(self, esri: Mapping[str, Any]) -> bytes:
        """Return a feature as GeoJSON."""
        try:
            return json.dumps(feature(esri)).encode()
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise self.refused("bad_answer", f"a geometry is of no form that ArcGIS has: {error}") from error

    def _facts(self) -> dict[str, Any]:
        """Return what the layer says of itself."""
        facts = self._json("", {})
        layers = facts.get("layers")
        if layers is not None and "fields" not in facts:
            named = ", ".join(f"{layer.get('id')} ({layer.get('name')})" for layer in _objects(layers))
            raise self.refused("no_layer", f"this is a whole service: add a layer's number to the address: {named}")
        return facts

    def count(self) -> int | None:
        """Return how many features there are; None where the server does not count."""
        try:
            count = self._query({"returnCountOnly": "true"}).get("count")
        except Refused:
            return None
        if isinstance(count, str) and count.isascii() and count.isdigit():
            return int(count)
        return count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else None

    def ids(self) -> tuple[list[Any] | None, str | None]:
        """Return the object ids, and the name of their field where the server tells it; None: it does not list them."""
        try:
            answer = self._query({"returnIdsOnly": "true"})
        except Refused:
            return None, None
        ids = answer.get("objectIds")
        name = answer.get("objectIdFieldName")
        # ArcGIS says null of a layer without features.
        listed = ids if isinstance(ids, list) else [] if "objectIds" in answer and ids is None else None
        if listed and not all(isinstance(each, int) and not isinstance(each, bool) for each in listed):
            raise self.refused("bad_answer", "the object ids that the server lists are not all whole numbers")
        return listed, name if isinstance(name, str) else None

    def page(self, query: Mapping[str, str]) -> tuple[list[dict[str, Any]], bool]:
        """Return a page, and whether the server says that it left some out."""
        wanted = {"geometryPrecision": "7", "returnGeometry": "true", "outSR": "4326", "outFields": "*"}
        answer = self._query({**query, **wanted})
        features = answer.get("features")
        if not isinstance(features, list):
            raise self.refused("bad_answer", "the answer has no list of features")
        parts = [each.get(name) or {} for each in _objects(features) for name in ("attributes", "geometry")]
        if len(_objects(features)) < len(features) or len(_objects(parts)) < len(parts):
            raise self.refused("bad_answer", "a feature in the answer is no object with attributes and geometry")
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
        except (ValueError, RecursionError) as error:
            raise self.refused("bad_answer", "the answer is no JSON: is this an ArcGIS layer?") from error
        if not isinstance(answer, dict):
            raise self.refused("bad_answer", "the answer is no JSON object: is this an ArcGIS layer?")
        told = arcgis_error(answer)
        if told is not None:
            raise self.refused(told.code, told.sentence)
        return answer

    def refused(self, code: str, sentence: str) -> Refused:
        """Return the refusal of this layer."""
        return Refused(Refusal(code, f"{without_credentials(self.url)}: {sentence}", "EsriDownloadError"))


class _Reading:
    """How the features of one layer are read.

    By offset where the layer can page. What that leaves out, or repeats, is read by object ids: some servers ignore the
    offset, or have no stable order. Each feature comes once.

    Attributes:
        expected: features that must come, as far as the server has told.
    """

    def __init__(self, layer: Layer, facts: Mapping[str, Any], max_page_size: int | None) -> None:
        self._layer = layer
        abilities = facts.get("advancedQueryCapabilities")
        self._abilities = abilities if isinstance(abilities, dict) else {}
        self._pages = bool(facts.get("supportsPagination") or self._abilities.get("supportsPagination"))
        self._size = min(PAGE, _positive(facts.get("maxRecordCount")) or UNSAID, max_page_size or PAGE)
        self._id = _text(facts.get("objectIdField")) or _id_field(facts)
        #: object ids, and hashes of their features
        self._seen: set[int | str] = set()
        self._marks: set[int] = set()
        self._came = 0
        #: features whose object id had come before with other values: rows of a join, or repeats
        self._doubled = 0
        self.expected = 0

    def features(self) -> Iterator[dict[str, Any]]:
        """Yield all features.

        Raises:
            Refused: the server cannot tell them, or gives the same ones again.
        """
        count = self._layer.count()
        self.expected = count or 0
        if count and self._pages:
            yield from self._by_offset(count)
        if self._came and not self._seen:
            return  # without object ids in the features, what is missing cannot be told from what has come
        if not count or self._came < count:
            yield from self._by_ids(count)
        elif self._doubled:
            self._all_seen()

    def _all_seen(self) -> None:
        """Refuse repeats that counted as the features that are missing: their values had changed in between."""
        ids, _ = self._layer.ids()
        if ids is None or not self._seen.issuperset(ids):
            msg = "the server gives the same object ids again, with other values, in place of those that are missing"
            raise self._layer.refused("no_paging", msg)

    def _by_offset(self, count: int) -> Iterator[dict[str, Any]]:
        """Go on from what came, not from what was asked for: servers give fewer features than they promise."""
        pages = {"resultRecordCount": str(self._size)}
        found, cut, order = self._first({**pages, "resultOffset": "0"})
        offset, last = 0, 0
        while found and _mark(found) != last:
            known = len(self._seen)
            fresh = self._new(found)
            yield from fresh
            offset, last = offset + len(found), _mark(found)
            over = not cut or (self._doubled and len(self._seen) == known)  # it says that there is more, for ever
            if not fresh or (offset >= count and over):
                return
            found, cut = self._layer.page({**pages, "resultOffset": str(offset), **order})

    def _first(self, query: Mapping[str, str]) -> tuple[list[dict[str, Any]], bool, dict[str, str]]:
        """Return the first page, whether it is cut, and the order that the pages after it must be asked for in."""
        ordered = self._id and self._abilities.get("supportsOrderBy") is not False
        order = {"orderByFields": str(self._id)} if ordered else {}
        try:
            return *self._layer.page({**query, **order}), order
        except Refused as refused:
            if not order or refused.refusal.code not in ORDER_REFUSED:
                raise
            return *self._layer.page(query), {}

    def _by_ids(self, count: int | None) -> Iterator[dict[str, Any]]:
        """Read what is missing by ranges of object ids; by one after the other where the server does not list them."""
        ids, name = self._layer.ids()
        self._id = name or self._id
        if not ids:
            yield from self._by_keys(count, listed=ids is not None)
            return
        if not self._id:
            msg = "the layer can neither page nor say which field holds its object ids"
            raise self._layer.refused("no_object_ids", msg)
        left, size = sorted(set(ids)), self._size
        self.expected = max(self.expected, self._came + len(set(ids) - self._seen))
        while left:
            mine, left = left[:size], left[size:]
            if self._seen.issuperset(mine):
                continue
            found, cut = self._layer.page({"where": f"{self._id} >= {mine[0]} AND {self._id} <= {mine[-1]}"})
            if cut and 0 < len(found) < len(mine):  # it gives fewer at once than it says
                size, left = len(found), mine + left
                continue
            yield from self._new(found)

    def _by_keys(self, count: int | None, *, listed: bool) -> Iterator[dict[str, Any]]:
        """Read one page after the other, each from the highest object id of the one before on."""
        found, cut, order = self._first({})
        if not found and (cut or (count is None and not listed)):
            msg = "the server tells neither how many features there are nor which; that it gives none proves nothing"
            raise self._layer.refused("no_count", msg)
        if count and len(found) >= count and not cut:
            yield from self._new(found)
            return
        if found and not self._id:
            msg = "the layer can neither page nor say which field holds its object ids"
            raise self._layer.refused("no_object_ids", msg)
        last = None
        while found:
            last = self._highest(found, last)
            yield from self._new(found)
            found, cut = self._layer.page({"where": f"{self._id} > {last}", **order})
        if cut:
            raise self._layer.refused("incomplete", "the server says that it left features out, and gives none")

    def _highest(self, found: Sequence[Mapping[str, Any]], last: int | None) -> int:
        """Return the highest object id of a page, all of whose ids must rise from the last one on."""
        before = last
        for each in found:
            key = (each.get("attributes") or {}).get(str(self._id))
            if not isinstance(key, int) or (before is not None and key <= before):
                raise self._layer.refused("no_paging", "the server gives the same features again, or in no order")
            before = key
        return before or 0

    def _new(self, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the features that have not come yet; two of one object id that differ are two (rows of a join)."""
        fresh = []
        for each in found:
            key = (each.get("attributes") or {}).get(self._id) if self._id else None
            if isinstance(key, int | str):
                mark = hash(json.dumps(each))
                if key in self._seen and mark in self._marks:
                    continue
                self._doubled += key in self._seen
                self._seen.add(key)
                self._marks.add(mark)
            fresh.append(each)
        self._came += len(fresh)
        return fresh


def _positive(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _id_field(facts: Mapping[str, Any]) -> str | None:
    fields = _objects(facts.get("fields"))
    return next((_text(field.get("name")) for field in fields if field.get("type") == "esriFieldTypeOID"), None)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _objects(values: Any) -> list[dict[str, Any]]:
    """Return the objects of a list."""
    return [each for each in values if isinstance(each, dict)] if isinstance(values, list) else []


def _mark(found: Sequence[Mapping[str, Any]]) -> int:
    """Return what is equal for two pages of the same features, in whatever order."""
    return hash(tuple(sorted(map(json.dumps, found))))
