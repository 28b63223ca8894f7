"""What PostgreSQL needs for a row, at least: more than a page it refuses. Pure.

A row must fit into one page. Long values are moved out of it, and a pointer stays; values of up to 24 bytes are never
moved. The sum here leaves out all padding, so that a row it finds too wide is refused for sure; the limits are those
of PostgreSQL's ``heaptoast.c`` and ``htup_details.h``.
"""

from __future__ import annotations

from collections.abc import Iterable

#: Bytes of a row in a page.
MAX_ROW = 8160
#: Values of so many bytes stay in the row; for a longer one a pointer does.
_STAYS, _POINTER = 24, 18
#: Up to so many bytes the length of a value takes one byte, beyond it four.
_SHORT = 126
#: A value of so few different characters, and of so many bytes, may be compressed to less than a pointer.
_MONOTONOUS, _COMPRESSED, _COMPRESSIBLE = 8, 12, 32
#: Bytes of a row before its values, without the bitmap of its nulls; and of CKAN's own ``_id`` and ``_full_text``.
_HEADER, _OWN = 23, 4 + _POINTER
#: Digits of a numeric that share two bytes.
_DIGITS = 4
#: Bytes of types that have a fixed width.
_FIXED = {"int": 4, "bigint": 8, "float": 8, "timestamp": 8, "timestamptz": 8, "time": 8, "date": 4, "bool": 1}
#: With fewer fields no row is too wide.
SURE = (MAX_ROW - _HEADER - _OWN) // (_STAYS + 1)


def row_bytes(cells: Iterable[tuple[str, str | None]]) -> int:
    """Return the bytes that a row takes in its page at least, from the type and the value of each of its cells."""
    count, nulls, total = 2, 0, 0
    for kind, value in cells:
        count += 1
        if value is None:
            nulls += 1
        else:
            total += _cell_bytes(kind, value)
    return _HEADER + ((count + 7) // 8 if nulls else 0) + _OWN + total


def _cell_bytes(kind: str, value: str) -> int:
    if kind in _FIXED:
        return _FIXED[kind]
    size = 1
    if kind == "text":
        size = len(value.encode("utf-8", "replace"))
    elif kind == "numeric":
        # Zeros at either end are not kept, and take at most half.
        size = 2 + 2 * (len(value.strip("-0.").replace(".", "")) // _DIGITS)
    size += 1 if size <= _SHORT else 4
    if size <= _STAYS:
        return size
    return _COMPRESSED if size > _COMPRESSIBLE and len(set(value)) <= _MONOTONOUS else _POINTER
