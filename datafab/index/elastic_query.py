"""A query as Elasticsearch finds it: the parts of a search request. Pure.

Only words weigh: whatever else a query asks for is a filter, and scores nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from datafab.index.interface import MAX_FACET
from datafab.index.query import And, Everything, Exact, Facet, Node, Not, Or, Range, Sort, Words, wanted

#: Texts of the view ``folded``, and how much a word counts there.
WEIGHTS = {"title": 4, "dataset": 2, "organisation": 2, "column": 2, "formats": 1}
NUMBERS = {"rows": "total_lines", "columns": "nb_columns", "size": "filesize", "modified": "modified"}
#: What an ``integer`` holds: a query with a larger one is refused.
LARGEST = {"columns": 2**31 - 1}
ORDERS: dict[Sort, tuple[Any, ...]] = {
    Sort.RELEVANCE: ("_score",),
    Sort.NEWEST: (),
    Sort.ROWS: ({"total_lines": {"order": "desc", "missing": "_last"}},),
    Sort.SIZE: ({"filesize": {"order": "desc", "missing": "_last"}},),
    Sort.TITLE: ({"folded.title_key": {"order": "asc", "missing": "_last"}},),
}
FACETS = {
    Facet.FORMAT: "formats",
    Facet.ORGANISATION: "organisation.keyword",
    Facet.DOMAIN: "domain",
    Facet.STATUS: "status",
}
_Part = dict[str, Any]


def request(query: Node, limit: int, offset: int, sort: Sort, facets: Collection[Facet]) -> dict[str, Any]:
    """Return the arguments of a search."""
    if sort is Sort.RELEVANCE and not any(isinstance(leaf, Words) for leaf in wanted(query)):
        sort = Sort.NEWEST
    return {
        "query": _translated(query),
        "size": limit,
        "from_": offset,
        "sort": [*ORDERS[sort], {"version": "desc"}, {"source": "asc"}],
        "track_total_hits": True,
        "aggs": {facet.value: _counted(FACETS[facet]) for facet in facets},
    }


def _translated(node: Node) -> _Part:
    match node:
        case Words():
            return _phrase(node)
        case And(nodes):
            return {"bool": {"must": [_translated(part) for part in nodes]}}
        case Or(nodes):
            return {"bool": {"should": [_translated(part) for part in nodes], "minimum_should_match": 1}}
        case Not(inner):
            return {"bool": {"must_not": [_translated(inner)]}}
        case _:
            return {"bool": {"filter": [_filter(node)]}}


def _filter(leaf: Everything | Exact | Range) -> _Part:
    match leaf:
        case Exact(field, value):
            return {"term": {f"folded.{field}": {"value": value}}}
        case Range(field, low, high):
            largest = LARGEST.get(field)
            if largest is not None:
                if low is not None and low > largest:
                    return {"match_none": {}}
                high = None if high is None else min(high, largest)
            bounds = {name: bound for name, bound in (("gte", low), ("lte", high)) if bound is not None}
            # Numbers would be years.
            form = {"format": "epoch_millis"} if field == "modified" else {}
            return {"range": {NUMBERS[field]: {**bounds, **form}}}
        case _:
            return {"match_all": {}}


def _phrase(node: Words) -> _Part:
    text = " ".join(node.words)
    if node.field:
        return {"match_phrase": {f"folded.{node.field}": {"query": text}}}
    fields = [f"folded.{name}^{weight}" for name, weight in WEIGHTS.items()]
    return {"multi_match": {"query": text, "type": "phrase", "fields": fields}}


def _counted(field: str) -> _Part:
    return {"terms": {"field": field, "size": MAX_FACET, "order": [{"_count": "desc"}, {"_key": "asc"}]}}
