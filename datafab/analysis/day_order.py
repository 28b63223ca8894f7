"""Decide whether ambiguous dates are day first or month first. Pure.

The dates of a column are ambiguous if no value has a part above 12, as in ``01/02/2020``. The column is kept as text,
unless the job, the other date columns of the file or a setting decide. In a Table Schema such a field has
``dayOrder``: its possible ``type``, the two possible formats (``dmy``, ``mdy``), an ``example`` and ``by``, the reason
for the decision.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from datafab.analysis.moments import DMY, MDY
from datafab.errors import FlowError

DateOrder = Literal["dmy", "mdy", "none"]
#: Values of the setting and of the job's parameter.
DATE_ORDERS: Sequence[DateOrder] = ("dmy", "mdy", "none")
DATE_ORDER_HELP = "How ambiguous dates such as 01/02/2020 are read; unset: as DATAFAB_DATE_ORDER says."
ORDER_NAMES: Mapping[str, str] = {DMY: "day first", MDY: "month first"}

Field = dict[str, Any]


@dataclass(frozen=True, slots=True)
class DateOrderPreference:
    """The order of day and month that a job or a setting prefers.

    Attributes:
        order: ``none`` expresses no preference.
        origin: the job's parameter or the setting, as messages name it.
        forced: whether it overrides the other date columns of the file.
    """

    order: DateOrder = "none"
    origin: str = "DATAFAB_DATE_ORDER"
    forced: bool = False


#: Neither a job nor a setting prefers an order.
NO_PREFERENCE = DateOrderPreference()


def date_order_preference(params: Mapping[str, Any], setting: DateOrder) -> DateOrderPreference:
    """Return the preference of a job's parameter ``date_order``, or else that of the setting.

    Raises:
        FlowError: the parameter is not in ``DATE_ORDERS``.
    """
    metadata = params.get("metadata")
    order_name = params.get("date_order") or (metadata.get("date_order") if isinstance(metadata, Mapping) else None)
    if not order_name:
        return DateOrderPreference(setting)
    for order in DATE_ORDERS:
        if order_name == order:
            return DateOrderPreference(order, "the job's date_order", forced=True)
    msg = f"date_order is {order_name!r}: it must be one of {', '.join(DATE_ORDERS)}"
    raise FlowError(msg, code="bad_request", field="date_order")


def order_of_format(date_format: str | None) -> str | None:
    """Return the order of a date format; None if the year comes first."""
    found = re.match(r"%([dm])\W%[dm]", date_format or "")
    return None if found is None else DMY if found[1] == "d" else MDY


def ambiguous_field(kind: str, date_format: str, example: str) -> Field:
    """Return the Table Schema field of a column with ambiguous dates.

    Args:
        kind: ``date`` or ``datetime``.
        date_format: the day-first format that reads the column.
        example: one of its values.
    """
    if "%Y" not in date_format:
        # Dates with two-digit years are kept as text in any order.
        return {"type": "string", "dayOrder": {"example": example}}
    swapped = date_format.translate(str.maketrans("dm", "md"))
    return {"type": "string", "dayOrder": {"type": kind, DMY: date_format, MDY: swapped, "example": example}}


def decide_order(fields: Iterable[Field], preference: DateOrderPreference) -> tuple[str | None, str]:
    """Return the order for ambiguous columns and the reason for it; None: nothing decides.

    Args:
        fields: of the Table Schema.
        preference: of the job or the setting.
    """
    if preference.forced and preference.order != "none":
        return preference.order, preference.origin
    decided: dict[str, str] = {}
    for field in fields:
        order = None if "dayOrder" in field else order_of_format(field.get("format"))
        if order is not None:
            decided.setdefault(order, f"column {field['name']!r}")
    if len(decided) == 1:
        return next(iter(decided.items()))
    return (None, "") if preference.order == "none" else (preference.order, preference.origin)


def apply_order(fields: Sequence[Field], preference: DateOrderPreference) -> list[Field]:
    """Return the fields of a Table Schema with the types of ambiguous columns decided."""
    order, by = decide_order(fields, preference)
    return [_apply_order(field, order, by) for field in fields]


def _apply_order(field: Field, order: str | None, by: str) -> Field:
    if "type" not in field.get("dayOrder", {}):
        return field
    readings = {key: value for key, value in field["dayOrder"].items() if key != "by"}
    rest = {key: value for key, value in field.items() if key not in {"type", "format", "dayOrder"}}
    if order is None:
        return rest | {"type": "string", "dayOrder": readings}
    return rest | {"type": readings["type"], "format": readings[order], "dayOrder": readings | {"by": by}}


def order_warnings(fields: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a warning for each column with ambiguous dates."""
    return [_order_warning(field) for field in fields if "dayOrder" in field]


def _order_warning(field: Mapping[str, Any]) -> str:
    readings = field["dayOrder"]
    column, order = f"column {field['name']!r}", order_of_format(field.get("format"))
    if order is not None:
        return f"{column}: {describe_ambiguity(readings['example'], order, readings['by'])}"
    begins = f"{column}: dates such as {readings['example']!r} can be read day first or month first"
    if "type" not in readings:
        return f"{begins}, and their years have two digits: they are kept as text"
    return f"{begins}: they are kept as text; set date_order of the job, or DATAFAB_DATE_ORDER, to dmy or mdy"


def describe_ambiguity(example: str, order: str, by: str) -> str:
    """Return a log message on ambiguous dates whose order has been decided."""
    read = ORDER_NAMES.get(order, "year first")
    return f"dates such as {example!r} can be read day first or month first; they are read {read}, as {by} says"
