"""All features of a layer of an ArcGIS service, page by page, as one GeoJSON FeatureCollection.

Source: the ArcGIS REST API, ``layer`` and ``query`` (developers.arcgis.com/rest/services-reference). Layers with paging
are read by offset in the order of their object ids, others by ranges of object ids. A layer that counts more features
than it gives is refused: half a dataset looks like a complete one. So is a layer with neither a count nor object ids
nor features, which may not be empty (``EsriDumper`` of openaddresses/pyesridump reads by envelopes then).
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

#: Largest number of features of a page, and the number where a server states no limit.
MAX_PAGE_FEATURES, DEFAULT_PAGE_FEATURES = 1000, 500
#: Codes of a refused first page that the order may have caused: it is requested again without one.
ORDER_REFUSAL_CODES = frozenset({"arcgis_error", "http_400", "http_500"})


class ArcgisLayer:
    """One layer of a service."""

    def __init__(self, get: Get, url: str, max_page_size: int | None = None) -> None:
        parts = urlsplit(url)
        self._get = get
        self._parts = parts._replace(path=parts.path.rstrip("/").removesuffix("/query"), fragment="")
        #: the endpoint's own parameters, such as a token, without those of the format of the answer
        self._given = {name: value for name, value in parse_qsl(parts.query) if name not in {"f", "outFields"}}
        where = self._given.pop("where", "")
        self._where = "" if where.replace(" ", "") in {"", "1=1"} else f"({where})"
        self._max_page_size = max_page_size
        self.url = url

    def dump(self) -> Iterator[bytes]:
        """Yield the FeatureCollection.

        Raises:
            Refused: an answer cannot be used, or features are missing.
        """
        facts = self._facts()
        reader = _LayerReader(self, facts, self._max_page_size)
        yield b'{"type":"FeatureCollection","features":['
        count = 0
        for each in reader.features():
            yield (",\n" if count else "\n").encode() + self._converted(each)
            count += 1
        if count < reader.expected:
            raise self.refused("incomplete", f"the layer has {reader.expected} features, and {count} came")
        yield b"]}"

    def _converted(self, esri: Mapping[str, Any]) -> bytes:
        """Return a feature as GeoJSON."""
        try:
            return json.dumps(feature(esri)).encode()
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise self.refused("bad_answer", f"a geometry has no form that ArcGIS knows: {error}") from error

    def _facts(self) -> dict[str, Any]:
        """Return the description of the layer."""
        facts = self._json("", {})
        layers = facts.get("layers")
        if layers is not None and "fields" not in facts:
            named = ", ".join(f"{layer.get('id')} ({layer.get('name')})" for layer in _objects(layers))
            raise self.refused("no_layer", f"this is a whole service: add a layer's number to the address: {named}")
        return facts

    def count(self) -> int | None:
        """Return the number of features; None where the server does not count."""
        try:
            count = self._query({"returnCountOnly": "true"}).get("count")
        except Refused:
            return None
        if isinstance(count, str) and count.isascii() and count.isdigit():
            return int(count)
        return count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else None

    def ids(self) -> tuple[list[Any] | None, str | None]:
        """Return the object ids (None where they are not listed) and the name of their field (None where not named)."""
        try:
            answer = self._query({"returnIdsOnly": "true"})
        except Refused:
            return None, None
        ids = answer.get("objectIds")
        name = answer.get("objectIdFieldName")
        # ArcGIS answers null for a layer without features.
        listed = ids if isinstance(ids, list) else [] if "objectIds" in answer and ids is None else None
        if listed and not all(isinstance(each, int) and not isinstance(each, bool) for each in listed):
            raise self.refused("bad_answer", "the object ids that the server lists are not all whole numbers")
        return listed, name if isinstance(name, str) else None

    def page(self, query: Mapping[str, str]) -> tuple[list[dict[str, Any]], bool]:
        """Return the features of a page, and whether the server says that it left some out."""
        wanted = {"geometryPrecision": "7", "returnGeometry": "true", "outSR": "4326", "outFields": "*"}
        answer = self._query({**query, **wanted})
        features = answer.get("features")
        if not isinstance(features, list):
            raise self.refused("bad_answer", "the answer has no list of features")
        parts = [each.get(name) or {} for each in _objects(features) for name in ("attributes", "geometry")]
        if len(_objects(features)) < len(features) or len(_objects(parts)) < len(parts):
            raise self.refused("bad_answer", "a feature in the answer is not an object with attributes and geometry")
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
            raise self.refused("bad_answer", "the answer is not JSON: is this an ArcGIS layer?") from error
        if not isinstance(answer, dict):
            raise self.refused("bad_answer", "the answer is not a JSON object: is this an ArcGIS layer?")
        report = arcgis_error(answer)
        if report is not None:
            raise self.refused(report.code, report.sentence)
        return answer

    def refused(self, code: str, sentence: str) -> Refused:
        """Return the refusal of this layer."""
        return Refused(Refusal(code, f"{without_credentials(self.url)}: {sentence}", "EsriDownloadError"))


class _LayerReader:
    """Reads the features of one layer, each once.

    A layer with paging is read by offset. Features that are left out then are read by object ids: some servers ignore
    the offset, or have no stable order.

    Attributes:
        expected: number of features that must come, as far as the server tells.
    """

    def __init__(self, layer: ArcgisLayer, facts: Mapping[str, Any], max_page_size: int | None) -> None:
        self._layer = layer
        abilities = facts.get("advancedQueryCapabilities")
        self._abilities = abilities if isinstance(abilities, dict) else {}
        self._pages = bool(facts.get("supportsPagination") or self._abilities.get("supportsPagination"))
        limit = min(MAX_PAGE_FEATURES, _positive(facts.get("maxRecordCount")) or DEFAULT_PAGE_FEATURES)
        self._size = min(limit, max_page_size or MAX_PAGE_FEATURES)
        self._id = _text(facts.get("objectIdField")) or _id_field(facts)
        #: object ids that came, and hashes of their features
        self._seen: set[int | str] = set()
        self._hashes: set[int] = set()
        self._came = 0
        #: features with the object id of another one and other values: rows of a join, or repeats
        self._repeated_ids = 0
        self.expected = 0

    def features(self) -> Iterator[dict[str, Any]]:
        """Yield all features.

        Raises:
            Refused: features are missing, or the server repeats them.
        """
        count = self._layer.count()
        self.expected = count or 0
        if count and self._pages:
            yield from self._by_offset(count)
        if self._came and not self._seen:
            return  # without object ids in the features, there is no way to find which are missing
        if not count or self._came < count:
            yield from self._by_ids(count)
        elif self._repeated_ids:
            self._check_all_ids()

    def _check_all_ids(self) -> None:
        """Refuse a layer whose count is reached by repeats: features whose values changed between two pages."""
        ids, _ = self._layer.ids()
        if ids is None or not self._seen.issuperset(ids):
            msg = "the server gives the same object ids again, with other values, in place of those that are missing"
            raise self._layer.refused("no_paging", msg)

    def _by_offset(self, count: int) -> Iterator[dict[str, Any]]:
        """Read by offset, which grows by the features that came: servers give fewer than were requested."""
        pages = {"resultRecordCount": str(self._size)}
        found, cut, order = self._first({**pages, "resultOffset": "0"})
        offset, last = 0, 0
        while found and _page_hash(found) != last:
            known = len(self._seen)
            fresh = self._new(found)
            yield from fresh
            offset, last = offset + len(found), _page_hash(found)
            # Some servers always say that there is more.
            over = not cut or (self._repeated_ids and len(self._seen) == known)
            if not fresh or (offset >= count and over):
                return
            found, cut = self._layer.page({**pages, "resultOffset": str(offset), **order})

    def _first(self, query: Mapping[str, str]) -> tuple[list[dict[str, Any]], bool, dict[str, str]]:
        """Return the first page, whether features were left out, and the order in which to request further pages."""
        ordered = self._id and self._abilities.get("supportsOrderBy") is not False
        order = {"orderByFields": str(self._id)} if ordered else {}
        try:
            return *self._layer.page({**query, **order}), order
        except Refused as refused:
            if not order or refused.refusal.code not in ORDER_REFUSAL_CODES:
                raise
            return *self._layer.page(query), {}

    def _by_ids(self, count: int | None) -> Iterator[dict[str, Any]]:
        """Read the missing features by ranges of object ids; by ascending ids where the server does not list them."""
        ids, name = self._layer.ids()
        self._id = name or self._id
        if not ids:
            yield from self._by_keys(count, listed=ids is not None)
            return
        if not self._id:
            msg = "the layer can neither page nor say which field holds its object ids"
            raise self._layer.refused("no_object_ids", msg)
        remaining, size = sorted(set(ids)), self._size
        self.expected = max(self.expected, self._came + len(set(ids) - self._seen))
        while remaining:
            mine, remaining = remaining[:size], remaining[size:]
            if self._seen.issuperset(mine):
                continue
            found, cut = self._layer.page({"where": f"{self._id} >= {mine[0]} AND {self._id} <= {mine[-1]}"})
            if cut and 0 < len(found) < len(mine):  # the server gives fewer than its own limit
                size, remaining = len(found), mine + remaining
                continue
            yield from self._new(found)

    def _by_keys(self, count: int | None, *, listed: bool) -> Iterator[dict[str, Any]]:
        """Read pages by ascending object ids, each from the highest id of the page before."""
        found, cut, order = self._first({})
        if not found and (cut or (count is None and not listed)):
            msg = "the server gives neither a count nor object ids nor features: the layer may not be empty"
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
        """Return the highest object id of a page; its ids must ascend from the last one."""
        before = last
        for each in found:
            key = (each.get("attributes") or {}).get(str(self._id))
            if not isinstance(key, int) or (before is not None and key <= before):
                raise self._layer.refused("no_paging", "the server gives the same features again, or in no order")
            before = key
        return before or 0

    def _new(self, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the features that have not come yet; two that differ may have the same object id (rows of a join)."""
        fresh = []
        for each in found:
            key = (each.get("attributes") or {}).get(self._id) if self._id else None
            if isinstance(key, int | str):
                digest = hash(json.dumps(each))
                if key in self._seen and digest in self._hashes:
                    continue
                self._repeated_ids += key in self._seen
                self._seen.add(key)
                self._hashes.add(digest)
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


def _page_hash(found: Sequence[Mapping[str, Any]]) -> int:
    """Return a hash that is equal for two pages of the same features in any order."""
    return hash(tuple(sorted(map(json.dumps, found))))
