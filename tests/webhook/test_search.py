"""``/api/search`` on both indexes."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datafab.core.memory_jobs import MemoryJobs
from datafab.core.services import Services
from datafab.index import Index, open_index
from datafab.index.access import IndexAccess
from datafab.index.query import FIELDS
from datafab.settings import load
from tests.searches import TOWNS
from tests.servers.redis import RedisServer
from webhook import create_app


def client(home, index: Index, server: RedisServer):
    configured = load(home=home, redis_url=server.url)
    services = Services(configured, jobs=MemoryJobs())
    services.put(IndexAccess, IndexAccess(index))
    return create_app(configured, services, lambda *_: None).test_client()


@pytest.fixture(scope="module")
def sqlite_http(tmp_path_factory, shared_redis):
    home = tmp_path_factory.mktemp("home")
    index = open_index(f"sqlite:///{home}/index.db")
    index.put_many(TOWNS)
    yield client(home, index, shared_redis)
    index.close()


@pytest.fixture
def elastic_http(tmp_path, elastic_index, shared_redis):
    elastic_index.put_many(TOWNS)
    elastic_index.refresh()
    return client(tmp_path, elastic_index, shared_redis)


def test_what_matched_and_how_many_have_what_is_told(sqlite_http):
    query = {"q": "column:postal OR naissances", "sort": "rows", "limit": "2", "offset": "1", "facets": "status,domain"}
    found = sqlite_http.get("/api/search", query_string=query).json
    assert (found["total"], [hit["source"] for hit in found["hits"]]) == (3, ["file:2", "file:1"])
    assert found["highlights"]["file:1"] == [{"field": "column", "position": 0, "spans": [[5, 11]]}]
    assert found["facets"] == {
        "status": [{"value": "ok", "count": 3}],
        "domain": [{"value": "data.sete.fr", "count": 2}, {"value": "www.data.gouv.fr", "count": 1}],
    }


@pytest.mark.parametrize(
    ("query", "field", "position", "why"),
    [
        ({"q": "a (b"}, "q", 4, "the end where `)` should be\n  a (b\n      ^"),
        ({"q": "colum:b"}, "q", 0, "is column meant?"),
        ({"q": "a" * 1001}, "q", 1000, "1,000 characters at most"),
        ({"sort": "size desc"}, "sort", None, "'relevance', 'newest'"),
        (
            {"facets": "status,rows"},
            "facets",
            None,
            "'rows' is not a facet; the facets are format, organisation, domain",
        ),
        ({"limit": "100", "offset": "9901"}, "offset", None, "a search reaches 10,000"),
        ({"offset": "10001"}, "offset", None, "less than or equal to 10000"),
    ],
)
def test_what_is_wrong_is_pointed_at(sqlite_http, query, field, position, why):
    answer = sqlite_http.get("/api/search", query_string=query)
    assert answer.status_code == 400
    error = answer.json["error"]
    assert (error["field"], error.get("position")) == (field, position)
    assert why in error["message"]


PIECES = st.sampled_from(
    ["ecoles", "code_postal", "AND ", " OR ", "NOT ", "-", "(", ")", '"', ":", "*", " ", ">", "<=", "..", "10", "1MB"]
    + ["2026-01", "\\", "/", "{", "}", "[", "]", "~", "^", "?", "+", "!", "'", "%", ";", "--", "\0", "ok", "\ue000"]
    + [f"{name}:" for name in FIELDS]
)
TEXTS = st.lists(PIECES | st.characters(exclude_categories=["Cs"]), max_size=30).map("".join)
SORTS = st.sampled_from(["relevance", "newest", "rows", "size", "title"])
NUMBERS = st.sampled_from(["0", "1", "2", "100", "9999", "10000", "-1", "x"])
ASKED = st.fixed_dictionaries({"q": TEXTS}, optional={"sort": SORTS, "limit": NUMBERS, "offset": NUMBERS})


def fuzz(http, examples: int) -> None:
    @given(ASKED, st.sampled_from(["", "all"]))
    @settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=examples)
    def ask(query: dict[str, str], facets: str) -> None:
        answer = http.get("/api/search", query_string=query | {"facets": facets})
        assert answer.status_code in {200, 400}, answer.text
        if answer.status_code == 400:
            assert answer.json["error"]["field"] in {"q", "limit", "offset"}

    ask()


def test_no_query_breaks_sqlite(sqlite_http):
    fuzz(sqlite_http, 400)


def test_no_query_breaks_elasticsearch(elastic_http):
    fuzz(elastic_http, 150)
