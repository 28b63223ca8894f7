"""Extents of at most so many points, which is all that an entrepôt takes.

Lines are thinned by Douglas and Peucker's rule, with a tolerance that grows until few enough points are left. Rings
stay closed and keep at least four positions; no part and no hole is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datafab.errors import Fatal

MOST = 5000
#: A ring has four positions, the last of them the first; a line has two.
RING, LINE = 4, 2
Position = Sequence[float]
_DEPTH = {"Point": 0, "MultiPoint": 1, "LineString": 1, "MultiLineString": 2, "Polygon": 2, "MultiPolygon": 3}


def simplified(geometry: dict[str, Any], most: int = MOST) -> dict[str, Any]:
    """Return a geometry of at most ``most`` points.

    Raises:
        Fatal: it is no GeoJSON geometry, or has more parts than points are allowed.
    """
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    if kind not in _DEPTH or not isinstance(coordinates, list):
        msg = f"{kind!r} is no geometry of GeoJSON with coordinates; there are {', '.join(_DEPTH)}"
        raise Fatal(msg, code="bad_extent", field="extent")
    if points(coordinates) <= most:
        return geometry
    least = RING if "Polygon" in str(kind) else LINE
    span = _span(coordinates)
    tolerance = span / 100_000 or 1e-9
    thin = coordinates
    while points(thin) > most:
        before = points(thin)
        thin = _thinned(thin, _DEPTH[str(kind)], tolerance, least)
        tolerance *= 2
        if kind == "MultiPoint" or (points(thin) == before and tolerance > 2 * span):
            msg = f"the extent has too many parts: {before} points are left of them, {most} are taken"
            raise Fatal(msg, code="bad_extent", field="extent")
    return {**geometry, "coordinates": thin}


def points(coordinates: Any) -> int:
    """Count the positions in GeoJSON coordinates."""
    if not isinstance(coordinates, list | tuple) or not coordinates:
        return 0
    return 1 if isinstance(coordinates[0], int | float) else sum(map(points, coordinates))


def _span(coordinates: Any) -> float:
    """Return the longer side of the box around coordinates."""
    flat = list(_flat(coordinates))
    sides = [max(values) - min(values) for values in ([p[0] for p in flat], [p[1] for p in flat])]
    return float(max(sides))


def _flat(coordinates: Any) -> list[Position]:
    if coordinates and isinstance(coordinates[0], int | float):
        return [coordinates]
    return [position for part in coordinates for position in _flat(part)]


def _thinned(coordinates: list[Any], depth: int, tolerance: float, least: int) -> list[Any]:
    """Thin each line of a geometry down to at least so many positions."""
    if depth > 1:
        return [_thinned(part, depth - 1, tolerance, least) for part in coordinates]
    if len(coordinates) <= least:
        return coordinates
    kept = _line(coordinates, tolerance)
    if len(kept) >= least:
        return kept
    step = (len(coordinates) - 1) / (least - 1)
    return [coordinates[round(step * n)] for n in range(least)]


def _line(line: list[Position], tolerance: float) -> list[Position]:
    """Keep the ends of a line, and between them whatever lies further away than the tolerance."""
    keep = {0, len(line) - 1}
    spans = [(0, len(line) - 1)]
    if line[0] == line[-1]:  # a ring: its furthest position is an end too
        far = max(range(len(line)), key=lambda n: _squared(line[n], line[0]))
        keep.add(far)
        spans = [(0, far), (far, len(line) - 1)]
    while spans:
        first, last = spans.pop()
        if last - first < LINE:
            continue
        far = max(range(first + 1, last), key=lambda n: _distance(line[n], line[first], line[last]))
        if _distance(line[far], line[first], line[last]) > tolerance:
            keep.add(far)
            spans += [(first, far), (far, last)]
    return [line[n] for n in sorted(keep)]


def _squared(a: Position, b: Position) -> float:
    return (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2


def _distance(point: Position, start: Position, end: Position) -> float:
    """Return the distance of a point from a segment."""
    length = _squared(start, end)
    if not length:
        return float(_squared(point, start) ** 0.5)
    along = ((point[0] - start[0]) * (end[0] - start[0]) + (point[1] - start[1]) * (end[1] - start[1])) / length
    along = min(1.0, max(0.0, along))
    foot = (start[0] + along * (end[0] - start[0]), start[1] + along * (end[1] - start[1]))
    return float(_squared(point, foot) ** 0.5)
