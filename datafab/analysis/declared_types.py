"""Table Schema fields of the column types that a file declares, as far as the values fit them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from datafab.analysis.distinct import ValueCounts
from datafab.analysis.table_schema import Field

#: Timestamps are written in ISO 8601, those with a time zone in UTC.
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
#: Years that ISO 8601, Python and every datastore accept.
_YEARS = r"\A(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])-"


def declared_field(name: str, declared_type: str, parts: Sequence[ValueCounts]) -> Field:
    """Return the Table Schema field of a column with a declared type.

    Args:
        name: of the column.
        declared_type: the type that the file declares.
        parts: its values without the empty ones.
    """
    found = _FIELDS.get(declared_type, _TEXT)
    fits, otherwise = _CHECKS.get(found["type"], (None, _TEXT))
    if fits is not None and not all(fits(part.values) for part in parts):
        found = otherwise
    return {"name": name, **found}


def _fit_64_bits(values: pa.Array) -> bool:
    """Tell whether all integers fit in 64 bits."""
    try:
        pc.cast(values, pa.int64())
    except pa.ArrowInvalid:
        return False
    return True


def _are_finite(values: pa.Array) -> bool:
    """Tell whether no number is infinite: PostgreSQL before version 14 takes ``nan``, but no ``inf``."""
    return not pc.any(pc.is_in(values, value_set=_INFINITE)).as_py()


def _have_common_years(values: pa.Array) -> bool:
    return pc.all(pc.match_substring_regex(values, _YEARS), min_count=0).as_py() is True


#: By type: the check that values fit it, and the field to use if they do not.
_CHECKS: Mapping[str, tuple[Callable[[pa.Array], bool], Field]] = {
    "integer": (_fit_64_bits, _FIELDS["float"]),
    "number": (_are_finite, _TEXT),
    "date": (_have_common_years, _TEXT),
    "datetime": (_have_common_years, _TEXT),
}
