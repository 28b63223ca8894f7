"""The smallest size of a row in PostgreSQL, which refuses rows that are larger than a page. Pure.

A row must fit into one page. Long values are moved out of it and replaced by a pointer; values of up to 24 bytes are
never moved. Padding is not counted here, so a row that is too wide by this sum is certainly refused. The limits are
those of PostgreSQL's ``heaptoast.c`` and ``htup_details.h``.
"""

from __future__ import annotations

from collections.abc import Iterable

#: Largest row that fits into a page.
MAX_ROW_BYTES = 8160
#: Values of at most this size stay in the row, and the size of the pointer to a longer one.
_STAYS, _POINTER = 24, 18
#: Up to this size, the length of a value takes one byte; for longer values four.
_SHORT = 126
#: A value with at most this number of distinct characters may be compressed to this size, if it is at least this long.
_MONOTONOUS, _COMPRESSED, _COMPRESSIBLE = 8, 12, 32
#: Size of a row's header without the bitmap of nulls, and of CKAN's own columns ``_id`` and ``_full_text``.
_HEADER, _OWN = 23, 4 + _POINTER
#: Digits of a numeric that are stored in two bytes.
_DIGITS = 4
#: Sizes of the types with a fixed width.
_FIXED = {"int": 4, "bigint": 8, "float": 8, "timestamp": 8, "timestamptz": 8, "time": 8, "date": 4, "bool": 1}
#: A row with at most this number of fields is never too wide.
ALWAYS_FITTING_FIELDS = (MAX_ROW_BYTES - _HEADER - _OWN) // (_STAYS + 1)


def row_bytes(cells: Iterable[tuple[str, str | None]]) -> int:
    """Return the smallest size of a row in its page, from the type and the value of each cell."""
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
        # Zeros at both ends are not stored; the others take at most half a byte each.
        size = 2 + 2 * (len(value.strip("-0.").replace(".", "")) // _DIGITS)
    size += 1 if size <= _SHORT else 4
    if size <= _STAYS:
        return size
    return _COMPRESSED if size > _COMPRESSIBLE and len(set(value)) <= _MONOTONOUS else _POINTER
