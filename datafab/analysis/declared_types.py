"""What a file itself tells of a column's type, as a field of a Table Schema, where the values let it stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from datafab.analysis.distinct import Part
from datafab.analysis.table_schema import Field

#: Moments are written as ISO 8601 has them, those with a zone in UTC.
_FIELDS: Mapping[str, Field] = {
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean", "trueValues": ["true"], "falseValues": ["false"]},
    "date": {"type": "date"},
    "datetime_naive": {"type": "datetime"},
    "datetime_aware": {"type": "datetime", "zoned": True},
    "json": {"type": "object"},
}
_TEXT: Field = {"type": "string"}
_INFINITE = pa.array(["inf", "-inf"])
#: Years that ISO 8601, Python and every datastore know.
_YEARS = r"\A(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])-"


def field(name: str, known: str, parts: Sequence[Part]) -> Field:
    """Return a column as a field of a Table Schema.

    Args:
        name: of the column.
        known: the format that the file tells.
        parts: its values, but for the empty ones.
    """
    found = _FIELDS.get(known, _TEXT)
    fits, otherwise = _FITS.get(found["type"], (None, _TEXT))
    if fits is not None and not all(fits(part.values) for part in parts):
        found = otherwise
    return {"name": name, **found}


def _long(values: pa.Array) -> bool:
    """Tell whether integers have 64 bits at most."""
    try:
        pc.cast(values, pa.int64())
    except pa.ArrowInvalid:
        return False
    return True


def _finite(values: pa.Array) -> bool:
    """Tell whether no number is infinite, which PostgreSQL knows since its version 14 only; ``nan`` it always knew."""
    return not pc.any(pc.is_in(values, value_set=_INFINITE)).as_py()


def _year(values: pa.Array) -> bool:
    return pc.all(pc.match_substring_regex(values, _YEARS), min_count=0).as_py() is True


#: Which values a type holds, and what their column is otherwise.
_FITS: Mapping[str, tuple[Callable[[pa.Array], bool], Field]] = {
    "integer": (_long, _FIELDS["float"]),
    "number": (_finite, _TEXT),
    "date": (_year, _TEXT),
    "datetime": (_year, _TEXT),
}
