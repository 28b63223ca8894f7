"""Features of Esri's services as GeoJSON.

Sources: the ArcGIS REST API's geometry objects; RFC 7946. Keys and their order, the rings that are left out, and points
without height are those of digital-land's dumps: an unchanged layer keeps its digest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isfinite
from typing import Any

Position = Sequence[float]
Ring = list[Position]
#: Positions of the smallest ring that encloses an area; the last is the first.
MIN_RING_POSITIONS = 4


def feature(esri: Mapping[str, Any]) -> dict[str, Any]:
    """Return a GeoJSON feature; its geometry is null where the service gives none, or an empty one."""
    return {
        "type": "Feature",
        "geometry": geometry(esri.get("geometry") or {}),
        "properties": esri.get("attributes") or None,
    }


def geometry(esri: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return an Esri geometry as GeoJSON; null if it is empty or of an unknown kind."""
    if "x" in esri or "y" in esri:
        return _point(esri.get("x"), esri.get("y"))
    for key, one, many in (("points", "Point", "MultiPoint"), ("paths", "LineString", "MultiLineString")):
        if parts := esri.get(key):
            return _geometry(one, many, parts)
    polygons = _polygons(esri.get("rings") or ())
    return _geometry("Polygon", "MultiPolygon", polygons) if polygons else None


def _point(x: Any, y: Any) -> dict[str, Any] | None:
    """Return a point; None for an empty one, whose coordinates are null or the text NaN. 0 is a valid coordinate."""
    if not (isinstance(x, int | float) and isinstance(y, int | float) and isfinite(x) and isfinite(y)):
        return None
    return {"type": "Point", "coordinates": [x, y]}


def _geometry(one: str, many: str, parts: Sequence[Any]) -> dict[str, Any]:
    if len(parts) == 1:
        return {"type": one, "coordinates": parts[0]}
    return {"type": many, "coordinates": parts}


def _polygons(rings: Sequence[Sequence[Position]]) -> list[list[Ring]]:
    """Return polygons: a clockwise ring starts a polygon, and anticlockwise rings are its holes."""
    polygons: list[list[Ring]] = []
    closed = [_closed(ring) for ring in rings]
    whole = [ring for ring in closed if len(ring) >= MIN_RING_POSITIONS]
    if len(whole) == 1:
        return [whole]
    for ring in whole:
        if _clockwise(ring) or not polygons:
            polygons.append([ring])
        else:
            polygons[-1].append(ring)
    return polygons


def _closed(ring: Sequence[Position]) -> Ring:
    positions = list(ring)
    return positions if not positions or positions[0] == positions[-1] else [*positions, positions[0]]


def _clockwise(ring: Ring) -> bool:
    """Tell whether a ring is clockwise, by the sign of twice its area."""
    return sum((b[0] - a[0]) * (b[1] + a[1]) for a, b in pairwise(ring)) >= 0
