from __future__ import annotations

import pytest

from datafab.index.elastic_query import search_request
from datafab.index.query import Facet, Sort
from datafab.index.query_parser import parse_query

ANY = ["folded.title^4", "folded.dataset^2", "folded.organisation^2", "folded.column^2", "folded.formats^1"]
ECOLES = {"multi_match": {"query": "ecole", "type": "phrase", "fields": ANY}}
SIRET = {"bool": {"filter": [{"term": {"folded.format": {"value": "siret"}}}]}}


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("", {"bool": {"filter": [{"match_all": {}}]}}),
        ("Écoles", ECOLES),
        ('column:"code postal"', {"match_phrase": {"folded.column": {"query": "code postal"}}}),
        ("format:SIRET", SIRET),
        ("ecoles format:siret", {"bool": {"must": [ECOLES, SIRET]}}),
        ("ecoles OR format:siret", {"bool": {"should": [ECOLES, SIRET], "minimum_should_match": 1}}),
        ("-format:siret", {"bool": {"must_not": [SIRET]}}),
        ("rows:>1000", {"bool": {"filter": [{"range": {"total_lines": {"gte": 1001}}}]}}),
        ("size:1KB..2KB", {"bool": {"filter": [{"range": {"filesize": {"gte": 1000, "lte": 2000}}}]}}),
        (
            "modified:>=2026",
            {"bool": {"filter": [{"range": {"modified": {"gte": 1767225600000, "format": "epoch_millis"}}}]}},
        ),
    ],
)
def test_a_query_is_put_into_elasticsearchs_words(text, asked):
    assert search_request(parse_query(text), 10, 20, Sort.NEWEST, []) == {
        "query": asked,
        "size": 10,
        "from_": 20,
        "sort": [{"version": "desc"}, {"source": "asc"}],
        "track_total_hits": True,
        "aggs": {},
    }


@pytest.mark.parametrize(
    ("text", "sort", "first"),
    [
        ("ecoles", "relevance", ["_score"]),
        ("format:siret -ecoles", "relevance", []),
        ("ecoles", "rows", [{"total_lines": {"order": "desc", "missing": "_last"}}]),
        ("ecoles", "title", [{"folded.title_key": {"order": "asc", "missing": "_last"}}]),
    ],
)
def test_only_words_make_a_match_better(text, sort, first):
    asked = search_request(parse_query(text), 10, 0, Sort(sort), [])
    assert asked["sort"] == [*first, {"version": "desc"}, {"source": "asc"}]


def test_facets_are_aggregations():
    order = [{"_count": "desc"}, {"_key": "asc"}]
    assert search_request(parse_query(""), 10, 0, Sort.NEWEST, [Facet.FORMAT, Facet.ORGANISATION])["aggs"] == {
        "format": {"terms": {"field": "formats", "size": 20, "order": order}},
        "organisation": {"terms": {"field": "organisation.keyword", "size": 20, "order": order}},
    }
