"""A condition on an item: ``media_type = 'text/csv' and size < 1000000 or formats has siret``. Pure.

Comparisons joined by ``and``, groups of them joined by ``or``; there are no brackets. A field is one of an item
(``media_type``, ``dataset.title``, ``collect.plugin``) or of its analysis: ``formats`` and ``columns`` (lists) and
``rows`` (a number). Quote a value unless it is one word.

============================  ==================================================
operator                      compares
============================  ==================================================
``=``  ``!=``                 texts, numbers, ``true`` and ``false``; exactly
``<``  ``<=``  ``>``  ``>=``  numbers
``has``  ``lacks``            a list and one of its values, a text and a part of it
============================  ==================================================

A field that an item does not have meets only ``!=`` and ``lacks``.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from types import UnionType
from typing import Any, NoReturn, Union, get_args, get_origin

from pydantic import BaseModel

from datafab.core.document import Document
from datafab.core.item import Item
from datafab.errors import FlowError


class Kind(Enum):
    """The type of a field."""

    TEXT = "a text"
    NUMBER = "a number"
    TRUTH = "true or false"
    LIST = "a list"


#: Fields of the analysis, which is read only if a condition names one.
ANALYSIS_FIELDS: dict[str, Kind] = {"formats": Kind.LIST, "columns": Kind.LIST, "rows": Kind.NUMBER}

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    **_ORDER,
    "has": operator.contains,
    "lacks": lambda value, part: part not in value,
}
#: The operators that a missing field meets.
_TRUE_IF_MISSING = frozenset({"!=", "lacks"})
_ALLOWED: dict[Kind, frozenset[str]] = {
    Kind.TEXT: frozenset({"=", "!=", "has", "lacks"}),
    Kind.NUMBER: frozenset({"=", "!=", *_ORDER}),
    Kind.TRUTH: frozenset({"=", "!="}),
    Kind.LIST: frozenset({"has", "lacks"}),
}
_TOKEN = re.compile(r"\s*('[^']*'|\"[^\"]*\"|[<>!]?=|[<>]|[^\s'\"<>=!]+)")


@dataclass(frozen=True, slots=True)
class Comparison:
    """``field operator value``."""

    field: str
    operator: str
    value: str | float | bool

    def holds(self, found: Any) -> bool:
        """Return whether a field's value meets it; None: the item does not have the field."""
        if found is None:
            return self.operator in _TRUE_IF_MISSING
        return _COMPARE[self.operator](found, self.value)


@dataclass(frozen=True, slots=True)
class Condition:
    """A parsed condition."""

    #: as it was written
    text: str
    #: the groups joined by ``or``, of which one must hold
    groups: tuple[frozenset[Comparison], ...]

    @property
    def needs(self) -> frozenset[str]:
        """The item fields that it reads; ``analysis`` stands for all fields of the analysis."""
        names = {comparison.field for group in self.groups for comparison in group}
        return frozenset("analysis" if name in ANALYSIS_FIELDS else name.partition(".")[0] for name in names)

    def holds(self, item: Item, facts: Callable[[], Mapping[str, Any]]) -> bool:
        """Return whether an item meets it; ``facts`` returns the fields of the analysis, called only if needed."""
        known = facts() if "analysis" in self.needs else {}
        return any(all(each.holds(_value(each.field, item, known)) for each in group) for group in self.groups)

    def implies(self, other: Condition) -> bool:
        """Return whether every item that meets this condition meets the other, as far as their parts show."""
        return all(any(theirs <= mine for theirs in other.groups) for mine in self.groups)


def analysis_facts(document: Document) -> dict[str, Any]:
    """Return the fields of an analysis, from the document for the index."""
    return {"formats": document.formats, "columns": document.header, "rows": document.total_lines}


@lru_cache(maxsize=256)
def parse(text: str) -> Condition:
    """Parse a condition.

    Raises:
        FlowError: it cannot be parsed; the text says where, and what is possible there.
    """
    tokens = _tokens(text)
    groups: list[frozenset[Comparison]] = []
    group: set[Comparison] = set()
    while True:
        if len(tokens) < 3:  # noqa: PLR2004 - field, operator, value
            _refuse(text, f"a comparison is `field operator value`, {' '.join(tokens) or 'nothing'!r} is not one")
        group.add(_comparison(text, *tokens[:3]))
        joint, tokens = tokens[3:4], tokens[4:]
        if joint not in ([], ["and"], ["or"]):
            _refuse(text, f"{joint[0]!r} where `and`, `or` or the end should be; quote values of several words")
        if joint != ["and"]:
            groups.append(frozenset(group))
            group = set()
        if not joint:
            return Condition(text, tuple(groups))


def _tokens(text: str) -> list[str]:
    tokens, at, end = [], 0, len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if not found:
            _refuse(text, f"cannot be read from {text[at:].strip()[:20]!r} on; is a quote missing?")
        tokens.append(found[1])
        at = found.end()
    return tokens


def _comparison(text: str, name: str, sign: str, value: str) -> Comparison:
    kind = _kind(name)
    if kind is None:
        known = sorted({*Item.model_fields, *ANALYSIS_FIELDS} - {"v"})
        _refuse(text, f"items have no field {name!r} to compare; there are {', '.join(known)}")
    if sign not in _ALLOWED[kind]:
        _refuse(text, f"{name!r} is {kind.value}, which {sign!r} does not compare; {_listed(_ALLOWED[kind])} do")
    if kind is Kind.NUMBER:
        try:
            return Comparison(name, sign, float(value))
        except ValueError:
            _refuse(text, f"{name!r} is a number, and {value} is not")
    if kind is Kind.TRUTH:
        if value not in {"true", "false"}:
            _refuse(text, f"{name!r} is true or false, not {value}")
        return Comparison(name, sign, value == "true")
    if value in {"and", "or"} or value in _COMPARE:
        _refuse(text, f"no value after {name!r} {sign}; quote it if {value!r} is meant")
    return Comparison(name, sign, value[1:-1] if value[0] in "'\"" else value)


def _refuse(text: str, why: str) -> NoReturn:
    raise FlowError(f"condition {text!r}: {why}", code="condition", field="when")


def _listed(signs: frozenset[str]) -> str:
    return ", ".join(sign for sign in _COMPARE if sign in signs)


def _kind(name: str) -> Kind | None:
    """Return the type of a field; None: there is no such field, or it has fields itself."""
    if name in ANALYSIS_FIELDS:
        return ANALYSIS_FIELDS[name]
    model: Any = Item
    for part in name.split("."):
        if not (isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields):
            return None
        model = _without_none(model.model_fields[part].annotation)
    if get_origin(model) in {tuple, list}:
        return Kind.LIST if get_args(model)[0] is str else None
    kinds: dict[type, Kind] = {str: Kind.TEXT, bool: Kind.TRUTH, int: Kind.NUMBER, float: Kind.NUMBER}
    return next((kind for base, kind in kinds.items() if isinstance(model, type) and issubclass(model, base)), None)


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in {Union, UnionType}:
        (annotation,) = [part for part in get_args(annotation) if part is not type(None)][:1]
    return annotation


def _value(name: str, item: Item, facts: Mapping[str, Any]) -> Any:
    if name in ANALYSIS_FIELDS:
        return facts.get(name)
    value: Any = item
    for part in name.split("."):
        value = getattr(value, part, None)
    return value
