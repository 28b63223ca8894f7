"""Simplification of extents to the number of points that an entrepôt accepts.

Lines are simplified by the algorithm of Douglas and Peucker, with a tolerance that grows until few enough points are
left. Rings stay closed and keep at least four positions; no part and no hole is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datafab.errors import Fatal

MAX_POINTS = 5000
#: A ring has at least four positions, of which the last repeats the first; a line has at least two.
MIN_RING_POSITIONS, MIN_LINE_POSITIONS = 4, 2
Position = Sequence[float]
_DEPTH = {"Point": 0, "MultiPoint": 1, "LineString": 1, "MultiLineString": 2, "Polygon": 2, "MultiPolygon": 3}


def simplify(geometry: dict[str, Any], max_points: int = MAX_POINTS) -> dict[str, Any]:
    """Return a geometry of at most ``max_points`` points.

    Raises:
        Fatal: it is not a GeoJSON geometry, or cannot be simplified that far as it has too many parts.
    """
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    if kind not in _DEPTH or not isinstance(coordinates, list):
        msg = f"{kind!r} is not a GeoJSON geometry with coordinates: use one of {', '.join(_DEPTH)}"
        raise Fatal(msg, code="bad_extent", field="extent")
    if count_points(coordinates) <= max_points:
        return geometry
    min_positions = MIN_RING_POSITIONS if "Polygon" in str(kind) else MIN_LINE_POSITIONS
    span = _span(coordinates)
    tolerance = span / 100_000 or 1e-9
    thin = coordinates
    while count_points(thin) > max_points:
        before = count_points(thin)
        thin = _thinned(thin, _DEPTH[str(kind)], tolerance, min_positions)
        tolerance *= 2
        if kind == "MultiPoint" or (count_points(thin) == before and tolerance > 2 * span):
            msg = f"the extent has too many parts: it still has {before} points, of which {max_points} are allowed"
            raise Fatal(msg, code="bad_extent", field="extent")
    return {**geometry, "coordinates": thin}


def count_points(coordinates: Any) -> int:
    """Count the positions in GeoJSON coordinates."""
    if not isinstance(coordinates, list | tuple) or not coordinates:
        return 0
    return 1 if isinstance(coordinates[0], int | float) else sum(map(count_points, coordinates))


def _span(coordinates: Any) -> float:
    """Return the longer side of the box around coordinates."""
    flat = list(_flat(coordinates))
    sides = [max(values) - min(values) for values in ([p[0] for p in flat], [p[1] for p in flat])]
    return float(max(sides))


def _flat(coordinates: Any) -> list[Position]:
    if coordinates and isinstance(coordinates[0], int | float):
        return [coordinates]
    return [position for part in coordinates for position in _flat(part)]


def _thinned(coordinates: list[Any], depth: int, tolerance: float, min_positions: int) -> list[Any]:
    """Simplify each line of a geometry, but keep at least ``min_positions`` of it."""
    if depth > 1:
        return [_thinned(part, depth - 1, tolerance, min_positions) for part in coordinates]
    if len(coordinates) <= min_positions:
        return coordinates
    kept = _line(coordinates, tolerance)
    if len(kept) >= min_positions:
        return kept
    step = (len(coordinates) - 1) / (min_positions - 1)
    return [coordinates[round(step * n)] for n in range(min_positions)]


def _line(line: list[Position], tolerance: float) -> list[Position]:
    """Keep the ends of a line, and the positions between them that are further away than the tolerance."""
    keep = {0, len(line) - 1}
    spans = [(0, len(line) - 1)]
    if line[0] == line[-1]:  # a ring: its furthest position is kept as well
        far = max(range(len(line)), key=lambda n: _squared(line[n], line[0]))
        keep.add(far)
        spans = [(0, far), (far, len(line) - 1)]
    while spans:
        first, last = spans.pop()
        if last - first < MIN_LINE_POSITIONS:
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
