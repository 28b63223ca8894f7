"""What a search asks for, as a tree; ``query_parser.py`` reads and writes its text. Pure.

Every text in a tree is folded (``folding.py``). Trees are in one form: no ``And`` in an ``And``, no ``Or`` in an
``Or``, no ``Not`` of a ``Not``; the functions below keep that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, StrEnum

from datafab.errors import FlowError

#: The end of the last page: no index sorts more than that for a page.
MAX_REACH = 10_000


class Kind(Enum):
    """What a field of the language holds."""

    TEXT = "words"
    EXACT = "a whole value"
    NUMBER = "a whole number"
    SIZE = "a size"
    DATE = "a date"


FIELDS: dict[str, Kind] = {
    "title": Kind.TEXT,
    "dataset": Kind.TEXT,
    "organisation": Kind.TEXT,
    "column": Kind.TEXT,
    "format": Kind.EXACT,
    "type": Kind.EXACT,
    "domain": Kind.EXACT,
    "status": Kind.EXACT,
    "rows": Kind.NUMBER,
    "columns": Kind.NUMBER,
    "size": Kind.SIZE,
    "modified": Kind.DATE,
}


class Sort(StrEnum):
    """An order of results. Equals come the newest first, then by source."""

    #: the best match first; where no word is asked for, all match alike
    RELEVANCE = "relevance"
    NEWEST = "newest"
    #: the most first, what has none last
    ROWS = "rows"
    SIZE = "size"
    #: by the alphabet
    TITLE = "title"


class Facet(StrEnum):
    """What results can be counted by."""

    FORMAT = "format"
    ORGANISATION = "organisation"
    DOMAIN = "domain"
    STATUS = "status"


@dataclass(frozen=True, slots=True)
class Everything:
    """Any document."""


@dataclass(frozen=True, slots=True)
class Words:
    """Words that follow each other in a field, or in any."""

    words: tuple[str, ...]
    field: str | None = None


@dataclass(frozen=True, slots=True)
class Exact:
    """A field that has this value, or has it among others."""

    field: str
    value: str


@dataclass(frozen=True, slots=True)
class Range:
    """A field with a number from ``low`` to ``high``, both included; a date counts milliseconds of Unix time."""

    field: str
    low: int | None = None
    high: int | None = None


@dataclass(frozen=True, slots=True)
class Not:
    """What is not that."""

    node: Node


@dataclass(frozen=True, slots=True)
class And:
    """What is all of these, two or more."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """What is one of these, two or more."""

    nodes: tuple[Node, ...]


Leaf = Everything | Words | Exact | Range
Node = Leaf | Not | And | Or


def both(nodes: Iterable[Node]) -> Node:
    """Join one or more by ``and``."""
    flat = tuple(part for node in nodes for part in (node.nodes if isinstance(node, And) else (node,)))
    return flat[0] if len(flat) == 1 else And(flat)


def either(nodes: Iterable[Node]) -> Node:
    """Join one or more by ``or``."""
    flat = tuple(part for node in nodes for part in (node.nodes if isinstance(node, Or) else (node,)))
    return flat[0] if len(flat) == 1 else Or(flat)


def negated(node: Node) -> Node:
    """Return the opposite."""
    return node.node if isinstance(node, Not) else Not(node)


def children(node: Node) -> tuple[Node, ...]:
    """Return what a node is made of."""
    if isinstance(node, And | Or):
        return node.nodes
    return (node.node,) if isinstance(node, Not) else ()


def depth(node: Node) -> int:
    """Return how many nodes stand in each other."""
    return 1 + max((depth(child) for child in children(node)), default=0)


def leaves(node: Node) -> Iterator[Leaf]:
    """Yield the terms of a query."""
    if isinstance(node, Everything | Words | Exact | Range):
        yield node
    for child in children(node):
        yield from leaves(child)


def wanted(node: Node) -> Iterator[Leaf]:
    """Yield the terms that a document is better for having: all but those below a ``Not``."""
    if isinstance(node, Not):
        return
    if isinstance(node, Everything | Words | Exact | Range):
        yield node
    for child in children(node):
        yield from wanted(child)


def sort_named(name: str) -> Sort:
    """Return the order of a name.

    Raises:
        FlowError: there is none.
    """
    if name not in list(Sort):
        raise FlowError(f"{name!r} is no order; there are {', '.join(Sort)}", code="bad_request", field="sort")
    return Sort(name)


def facets_named(names: Iterable[str]) -> list[Facet]:
    """Return the facets of these names; ``all`` is all of them.

    Raises:
        FlowError: there is no such facet.
    """
    wanted = list(dict.fromkeys(facet for name in names for facet in (Facet if name == "all" else [name])))
    if unknown := [name for name in wanted if name not in list(Facet)]:
        known = ", ".join(Facet)
        raise FlowError(f"{unknown[0]!r} is no facet; there are {known}, all", code="bad_request", field="facets")
    return [Facet(name) for name in wanted]


def page(limit: int, offset: int) -> tuple[int, int]:
    """Return limit and offset, not below zero.

    Raises:
        FlowError: the page lies beyond what can be reached.
    """
    limit, offset = max(0, limit), max(0, offset)
    if limit + offset > MAX_REACH:
        msg = f"results {offset} to {offset + limit} are too far: a search reaches {MAX_REACH:,}; ask for less of them"
        raise FlowError(msg, code="too_far", field="offset")
    return limit, offset
