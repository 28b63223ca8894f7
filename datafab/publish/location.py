"""The location of a file in its message: a hint, for which no file is left unannounced.

WNM allows a point, a polygon or null. Another geometry of an event, or one that the message has no room for, is
replaced by its box.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from datafab.publish.geometry import LATITUDE, LONGITUDE

#: west, south, east, north
Box = tuple[float, float, float, float]
Geometry = dict[str, Any]

_MESSAGE_GEOMETRIES = ("Point", "Polygon")


def message_geometry(geometry: Geometry | None, bbox: Any = None) -> Geometry | None:
    """Return the geometry of an event as a message may have it: as it is, its box, or None.

    Args:
        geometry: GeoJSON of any type.
        bbox: the event's ``bbox``, which is used before the box of the geometry's positions.
    """
    if geometry is None or geometry.get("type") in _MESSAGE_GEOMETRIES:
        return geometry
    return box_geometry(geometry, bbox)


def box_geometry(geometry: Geometry, bbox: Any = None) -> Geometry | None:
    """Return the box of a geometry as a polygon; a point if it has no extent; None if there is no such box."""
    box = _given_box(bbox) or _box_of(geometry)
    if box is None:
        return None
    west, south, east, north = box
    if (west, south) == (east, north):
        return {"type": "Point", "coordinates": [west, south]}
    if west >= east or south >= north:  # a line, or a box over the antimeridian, which one polygon cannot show
        return None
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def _given_box(bbox: Any) -> Box | None:
    """Return a bbox of 4 or 6 numbers without the heights; None if it is something else."""
    if not isinstance(bbox, list | tuple) or len(bbox) not in {4, 6}:
        return None
    corners = [_position(bbox[: len(bbox) // 2]), _position(bbox[len(bbox) // 2 :])]
    if corners[0] is None or corners[1] is None:
        return None
    return (*corners[0], *corners[1])


def _box_of(geometry: Mapping[str, Any]) -> Box | None:
    """Return the box of the positions of a geometry; None if there are none, or one is not on Earth."""
    positions = list(_positions(geometry))
    found = [position for position in positions if position is not None]
    if not found or len(found) < len(positions):
        return None
    longitudes, latitudes = [position[0] for position in found], [position[1] for position in found]
    return min(longitudes), min(latitudes), max(longitudes), max(latitudes)


def _positions(geometry: Mapping[str, Any]) -> Iterator[tuple[float, float] | None]:
    """Yield the positions of a geometry or of a collection of geometries, None for each that is not on Earth."""
    left: list[Any] = [geometry]
    while left:
        part = left.pop()
        if isinstance(part, Mapping):
            left += [part[name] for name in ("coordinates", "geometries") if name in part]
        elif isinstance(part, list) and part and isinstance(part[0], list | Mapping):
            left += part
        elif part != []:
            yield _position(part)


def _position(part: Any) -> tuple[float, float] | None:
    if not isinstance(part, list | tuple) or len(part) not in {2, 3}:
        return None
    longitude, latitude = part[:2]
    for value, limit in ((longitude, LONGITUDE), (latitude, LATITUDE)):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if not math.isfinite(value) or abs(value) > limit:
            return None
    return longitude, latitude
