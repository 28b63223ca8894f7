"""The syntax tree of a query; ``query_parser.py`` parses and writes its text. Pure.

All texts in a tree are folded (``folding.py``). Trees are normalised: there is no ``And`` in an ``And``, no ``Or`` in
an ``Or`` and no ``Not`` of a ``Not``, which the functions below ensure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, StrEnum

from datafab.errors import FlowError

#: Maximum position of a result: no index sorts more results for a page.
MAX_RESULT_POSITION = 10_000


class FieldKind(Enum):
    """The kind of values of a field."""

    TEXT = "words"
    EXACT = "a whole value"
    NUMBER = "a whole number"
    SIZE = "a size"
    DATE = "a date"


FIELDS: dict[str, FieldKind] = {
    "title": FieldKind.TEXT,
    "dataset": FieldKind.TEXT,
    "organisation": FieldKind.TEXT,
    "column": FieldKind.TEXT,
    "format": FieldKind.EXACT,
    "type": FieldKind.EXACT,
    "domain": FieldKind.EXACT,
    "status": FieldKind.EXACT,
    "rows": FieldKind.NUMBER,
    "columns": FieldKind.NUMBER,
    "size": FieldKind.SIZE,
    "modified": FieldKind.DATE,
}


class Sort(StrEnum):
    """An order of results. Equal results are ordered by version, newest first, then by source."""

    #: the best match first; without words in the query, all results match equally
    RELEVANCE = "relevance"
    NEWEST = "newest"
    #: largest first, missing values last
    ROWS = "rows"
    SIZE = "size"
    #: alphabetical
    TITLE = "title"


class Facet(StrEnum):
    """A field by whose values results can be counted."""

    FORMAT = "format"
    ORGANISATION = "organisation"
    DOMAIN = "domain"
    STATUS = "status"


@dataclass(frozen=True, slots=True)
class Everything:
    """Matches all documents."""


@dataclass(frozen=True, slots=True)
class Words:
    """Matches consecutive words in a field, or in any field."""

    words: tuple[str, ...]
    field: str | None = None


@dataclass(frozen=True, slots=True)
class Exact:
    """Matches a field that has this value, possibly among others."""

    field: str
    value: str


@dataclass(frozen=True, slots=True)
class Range:
    """Matches a field with a number from ``low`` to ``high``, inclusive; dates are milliseconds of Unix time."""

    field: str
    low: int | None = None
    high: int | None = None


@dataclass(frozen=True, slots=True)
class Not:
    """Matches documents that a node does not match."""

    node: Node


@dataclass(frozen=True, slots=True)
class And:
    """Matches documents that all nodes, two or more, match."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Matches documents that at least one of two or more nodes matches."""

    nodes: tuple[Node, ...]


Leaf = Everything | Words | Exact | Range
Node = Leaf | Not | And | Or


def join_and(nodes: Iterable[Node]) -> Node:
    """Join one or more nodes with ``And``."""
    flat = tuple(part for node in nodes for part in (node.nodes if isinstance(node, And) else (node,)))
    return flat[0] if len(flat) == 1 else And(flat)


def join_or(nodes: Iterable[Node]) -> Node:
    """Join one or more nodes with ``Or``."""
    flat = tuple(part for node in nodes for part in (node.nodes if isinstance(node, Or) else (node,)))
    return flat[0] if len(flat) == 1 else Or(flat)


def negate(node: Node) -> Node:
    """Return the negation of a node."""
    return node.node if isinstance(node, Not) else Not(node)


def children(node: Node) -> tuple[Node, ...]:
    """Return the direct children of a node."""
    if isinstance(node, And | Or):
        return node.nodes
    return (node.node,) if isinstance(node, Not) else ()


def depth(node: Node) -> int:
    """Return the depth of a tree."""
    return 1 + max((depth(child) for child in children(node)), default=0)


def leaves(node: Node) -> Iterator[Leaf]:
    """Yield all terms of a query."""
    if isinstance(node, Everything | Words | Exact | Range):
        yield node
    for child in children(node):
        yield from leaves(child)


def positive_terms(node: Node) -> Iterator[Leaf]:
    """Yield the terms of a query that are not below a ``Not``, which a matching document may contain."""
    if isinstance(node, Not):
        return
    if isinstance(node, Everything | Words | Exact | Range):
        yield node
    for child in children(node):
        yield from positive_terms(child)


def parse_sort(name: str) -> Sort:
    """Return the order with a name.

    Raises:
        FlowError: there is no such order.
    """
    if name not in list(Sort):
        raise FlowError(f"{name!r} is not an order; the orders are {', '.join(Sort)}", code="bad_request", field="sort")
    return Sort(name)


def parse_facets(names: Iterable[str]) -> list[Facet]:
    """Return the facets with these names; ``all`` stands for all facets.

    Raises:
        FlowError: there is no such facet.
    """
    requested = list(dict.fromkeys(facet for name in names for facet in (Facet if name == "all" else [name])))
    if unknown := [name for name in requested if name not in list(Facet)]:
        known = ", ".join(Facet)
        raise FlowError(
            f"{unknown[0]!r} is not a facet; the facets are {known}, all", code="bad_request", field="facets"
        )
    return [Facet(name) for name in requested]


def check_page(limit: int, offset: int) -> tuple[int, int]:
    """Return limit and offset, at least zero.

    Raises:
        FlowError: the page is beyond the maximum position.
    """
    limit, offset = max(0, limit), max(0, offset)
    if limit + offset > MAX_RESULT_POSITION:
        last = f"{MAX_RESULT_POSITION:,}"
        msg = f"results {offset} to {offset + limit} are too far: a search reaches {last}; ask for less of them"
        raise FlowError(msg, code="too_far", field="offset")
    return limit, offset
