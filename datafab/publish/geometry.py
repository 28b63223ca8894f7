"""Rules for the geometry of a WIS2 notification message: a point or a polygon on Earth, or null."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from datafab.publish.finding import Finding

LONGITUDE, LATITUDE = 180.0, 90.0
#: fewest positions of a closed ring
MIN_RING_POSITIONS = 4


def check_geometry(message: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what is wrong with a message's geometry: rules W6 and W7."""
    geometry = message.get("geometry")
    if geometry is None:
        return
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind not in ("Point", "Polygon"):
        fix = "give a Point, a Polygon or null; the box around another geometry is a Polygon"
        yield Finding(rule="W6", field="geometry.type", problem=f"it is {kind!r}", fix=fix)
        return
    coordinates = geometry.get("coordinates")
    problem = _position(coordinates) if kind == "Point" else _polygon(coordinates)
    if problem:
        fix = "write longitude (-180 to 180), then latitude (-90 to 90), in WGS 84"
        yield Finding(rule="W7", field="geometry.coordinates", problem=problem, fix=fix)


def _position(position: Any) -> str | None:
    """Return what is wrong with a position."""
    if not isinstance(position, list) or len(position) not in {2, 3}:
        return f"{position!r} is not a position of 2 or 3 numbers"
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in position):
        return f"{position!r} holds something other than numbers"
    if not all(math.isfinite(number) for number in position):
        return f"{position!r} holds a number that is not finite"
    for name, value, limit in zip(("longitude", "latitude"), position, (LONGITUDE, LATITUDE), strict=False):
        if abs(value) > limit:
            return f"the {name} {value} is beyond {limit:.0f}"
    return None


def _polygon(rings: Any) -> str | None:
    """Return what is wrong with a polygon's rings."""
    if not isinstance(rings, list) or not rings:
        return "the polygon has no ring"
    for number, ring in enumerate(rings, 1):
        if not isinstance(ring, list) or len(ring) < MIN_RING_POSITIONS:
            return f"ring {number} has fewer than {MIN_RING_POSITIONS} positions"
        problem = next(filter(None, map(_position, ring)), None)
        if problem:
            return f"ring {number}: {problem}"
        if ring[0] != ring[-1]:
            return f"ring {number} does not end where it begins: repeat its first position"
    return None
