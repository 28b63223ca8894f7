"""Whether the dates of a column are written day first or month first, where its own values do not say. Pure.

A column in which no value has a part above 12 reads both ways: ``01/02/2020``. It is kept as text, unless a job, the
other date columns of its file or a setting decide. In a Table Schema such a field has ``dayOrder``: the ``type`` and
the two formats (``dmy``, ``mdy``) that it can have, an ``example``, and ``by``, what has decided.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from datafab.analysis.moments import DMY, MDY
from datafab.errors import FlowError

DateOrder = Literal["dmy", "mdy", "none"]
#: What a setting and a job can say.
ORDERS: Sequence[DateOrder] = ("dmy", "mdy", "none")
ORDER_HELP = "How dates such as 01/02/2020 are read where the file does not say; unset: as DATAFAB_DATE_ORDER says."
NAMES: Mapping[str, str] = {DMY: "day first", MDY: "month first"}

Field = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wish:
    """The order that somebody asks for.

    Attributes:
        order: ``none`` leaves it to the file.
        by: what asks, as messages name it.
        forced: whether it outweighs the other columns of the file.
    """

    order: DateOrder = "none"
    by: str = "DATAFAB_DATE_ORDER"
    forced: bool = False


#: Nobody asks for one.
FREE = Wish()


def wish(params: Mapping[str, Any], setting: DateOrder) -> Wish:
    """Return the order that a job asks for by its parameter ``date_order``, else that of the setting.

    Raises:
        FlowError: the parameter is none of ``ORDERS``.
    """
    metadata = params.get("metadata")
    asked = params.get("date_order") or (metadata.get("date_order") if isinstance(metadata, Mapping) else None)
    if not asked:
        return Wish(setting)
    for order in ORDERS:
        if asked == order:
            return Wish(order, "the job's date_order", forced=True)
    msg = f"date_order is {asked!r}: it must be one of {', '.join(ORDERS)}"
    raise FlowError(msg, code="bad_request", field="date_order")


def order_of(way: str | None) -> str | None:
    """Return the order of a format of dates; None where the year comes first."""
    found = re.match(r"%([dm])\W%[dm]", way or "")
    return None if found is None else DMY if found[1] == "d" else MDY


def undecided(kind: str, way: str, example: str) -> Field:
    """Return what a Table Schema says of a column that reads both ways.

    Args:
        kind: ``date`` or ``datetime``.
        way: the day-first format that reads it.
        example: one of its values.
    """
    if "%Y" not in way:
        # Dates with short years are texts in any order.
        return {"type": "string", "dayOrder": {"example": example}}
    swapped = way.translate(str.maketrans("dm", "md"))
    return {"type": "string", "dayOrder": {"type": kind, DMY: way, MDY: swapped, "example": example}}


def preferred(fields: Iterable[Field], wanted: Wish) -> tuple[str | None, str]:
    """Return the order for columns that read both ways, and what decides it; None: nothing does.

    Args:
        fields: of the Table Schema.
        wanted: what a job or a setting says.
    """
    if wanted.forced and wanted.order != "none":
        return wanted.order, wanted.by
    decided: dict[str, str] = {}
    for field in fields:
        order = None if "dayOrder" in field else order_of(field.get("format"))
        if order is not None:
            decided.setdefault(order, f"column {field['name']!r}")
    if len(decided) == 1:
        return next(iter(decided.items()))
    return (None, "") if wanted.order == "none" else (wanted.order, wanted.by)


def settled(fields: Sequence[Field], wanted: Wish) -> list[Field]:
    """Return the fields of a Table Schema with the types that an order gives those that read both ways."""
    order, by = preferred(fields, wanted)
    return [_settled(field, order, by) for field in fields]


def _settled(field: Field, order: str | None, by: str) -> Field:
    if "type" not in field.get("dayOrder", {}):
        return field
    both = {key: value for key, value in field["dayOrder"].items() if key != "by"}
    kept = {key: value for key, value in field.items() if key not in {"type", "format", "dayOrder"}}
    if order is None:
        return kept | {"type": "string", "dayOrder": both}
    return kept | {"type": both["type"], "format": both[order], "dayOrder": both | {"by": by}}


def warnings(fields: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a sentence on each column that reads both ways."""
    return [_warning(field) for field in fields if "dayOrder" in field]


def _warning(field: Mapping[str, Any]) -> str:
    both = field["dayOrder"]
    column, order = f"column {field['name']!r}", order_of(field.get("format"))
    if order is not None:
        return f"{column}: {both_ways(both['example'], order, both['by'])}"
    begins = f"{column}: dates such as {both['example']!r} can be read day first or month first"
    if "type" not in both:
        return f"{begins}, and their years have two digits: they are kept as text"
    return f"{begins}: they are kept as text; set date_order of the job, or DATAFAB_DATE_ORDER, to dmy or mdy"


def both_ways(example: str, order: str, by: str) -> str:
    """Return what a log says of dates that read both ways, where something has decided."""
    read = NAMES.get(order, "year first")
    return f"dates such as {example!r} can be read day first or month first; they are read {read}, as {by} says"
