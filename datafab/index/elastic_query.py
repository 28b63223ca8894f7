"""Translate queries to search requests of Elasticsearch. Pure.

Only words are scored; all other terms of a query are filters.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from datafab.index.interface import MAX_FACET_VALUES
from datafab.index.query import And, Everything, Exact, Facet, Node, Not, Or, Range, Sort, Words, positive_terms

#: Text fields below ``folded``, with the weight of a word in each.
FIELD_WEIGHTS = {"title": 4, "dataset": 2, "organisation": 2, "column": 2, "formats": 1}
NUMBER_FIELDS = {"rows": "total_lines", "columns": "nb_columns", "size": "filesize", "modified": "modified"}
#: Maximum of an ``integer`` field: the server refuses queries with larger numbers.
MAX_FIELD_VALUES = {"columns": 2**31 - 1}
SORT_ORDERS: dict[Sort, tuple[Any, ...]] = {
    Sort.RELEVANCE: ("_score",),
    Sort.NEWEST: (),
    Sort.ROWS: ({"total_lines": {"order": "desc", "missing": "_last"}},),
    Sort.SIZE: ({"filesize": {"order": "desc", "missing": "_last"}},),
    Sort.TITLE: ({"folded.title_key": {"order": "asc", "missing": "_last"}},),
}
FACET_FIELDS = {
    Facet.FORMAT: "formats",
    Facet.ORGANISATION: "organisation.keyword",
    Facet.DOMAIN: "domain",
    Facet.STATUS: "status",
}
_Clause = dict[str, Any]


def search_request(query: Node, limit: int, offset: int, sort: Sort, facets: Collection[Facet]) -> dict[str, Any]:
    """Return the arguments of a search."""
    if sort is Sort.RELEVANCE and not any(isinstance(leaf, Words) for leaf in positive_terms(query)):
        sort = Sort.NEWEST
    return {
        "query": _translate(query),
        "size": limit,
        "from_": offset,
        "sort": [*SORT_ORDERS[sort], {"version": "desc"}, {"source": "asc"}],
        "track_total_hits": True,
        "aggs": {facet.value: _facet_aggregation(FACET_FIELDS[facet]) for facet in facets},
    }


def _translate(node: Node) -> _Clause:
    match node:
        case Words():
            return _translate_words(node)
        case And(nodes):
            return {"bool": {"must": [_translate(part) for part in nodes]}}
        case Or(nodes):
            return {"bool": {"should": [_translate(part) for part in nodes], "minimum_should_match": 1}}
        case Not(inner):
            return {"bool": {"must_not": [_translate(inner)]}}
        case _:
            return {"bool": {"filter": [_translate_filter(node)]}}


def _translate_filter(leaf: Everything | Exact | Range) -> _Clause:
    match leaf:
        case Exact(field, value):
            return {"term": {f"folded.{field}": {"value": value}}}
        case Range(field, low, high):
            largest = MAX_FIELD_VALUES.get(field)
            if largest is not None:
                if low is not None and low > largest:
                    return {"match_none": {}}
                high = None if high is None else min(high, largest)
            bounds = {name: bound for name, bound in (("gte", low), ("lte", high)) if bound is not None}
            # Without a format, numbers would be read as years.
            form = {"format": "epoch_millis"} if field == "modified" else {}
            return {"range": {NUMBER_FIELDS[field]: {**bounds, **form}}}
        case _:
            return {"match_all": {}}


def _translate_words(node: Words) -> _Clause:
    text = " ".join(node.words)
    if node.field:
        return {"match_phrase": {f"folded.{node.field}": {"query": text}}}
    fields = [f"folded.{name}^{weight}" for name, weight in FIELD_WEIGHTS.items()]
    return {"multi_match": {"query": text, "type": "phrase", "fields": fields}}


def _facet_aggregation(field: str) -> _Clause:
    return {"terms": {"field": field, "size": MAX_FACET_VALUES, "order": [{"_count": "desc"}, {"_key": "asc"}]}}
