"""What Elasticsearch alone does: its template, its refusals, its absence."""

from __future__ import annotations

import pytest
from elastic_transport import ApiResponseMeta, ConnectionTimeout, HttpHeaders, NodeConfig, TlsError
from elastic_transport import ConnectionError as NoConnection
from elasticsearch import ApiError

from datafab.clients.index import Outcome, open_index
from datafab.clients.index.elastic_errors import failure, outcome
from datafab.clients.index.elastic_mapping import VIEWS, entry, read, template
from datafab.domain.document import Column, Document
from datafab.errors import Fatal, FlowError, Retriable, SettingError
from datafab.settings import load

AT = "http://host:9200/name"


def doc(source: str = "file:a", version: int = 1, **facts) -> Document:
    return Document(**({"source": source, "version": version, "status": "ok", "title": "Titre"} | facts))


def api_error(status: int, body: object) -> ApiError:
    meta = ApiResponseMeta(status, "1.1", HttpHeaders(), 0.1, NodeConfig("http", "host", 9200))
    return ApiError("message", meta, body)


def refused(kind: str, reason: str, cause: dict[str, object] | None = None) -> dict[str, object]:
    return {"type": kind, "reason": reason} | ({"caused_by": cause} if cause else {})


@pytest.mark.parametrize(
    ("error", "family", "told"),
    [
        (NoConnection("refused"), Retriable, "(DATAFAB_INDEX_URL) cannot be reached: refused"),
        (ConnectionTimeout("slow"), Retriable, "(DATAFAB_INDEX_URL) does not answer in time"),
        (TlsError("self-signed certificate"), FlowError, "DATAFAB_CA_BUNDLE"),
        (api_error(429, {"error": refused("es_rejected_execution_exception", "full")}), Retriable, "429: full"),
        (api_error(503, "<html>"), Retriable, "answers 503: <html>"),
        (api_error(502, None), Retriable, "answers 502: message"),
        (api_error(401, {"error": refused("security_exception", "missing")}), FlowError, "DATAFAB_INDEX_API_KEY"),
        (api_error(403, {"error": refused("security_exception", "no")}), FlowError, "refuses us (403): no"),
        (api_error(403, {"error": refused("cluster_block_exception", "x")}), Retriable, "may not be written: x. Free"),
        (api_error(429, {"error": refused("cluster_block_exception", "x")}), Retriable, "lift the block"),
        (api_error(404, {"error": refused("index_not_found_exception", "no such")}), Retriable, "is not there"),
        (api_error(400, {"error": refused("media_type_header_exception", "7")}), FlowError, "too old"),
        (api_error(413, "too large"), Fatal, "refuses this (413): too large"),
    ],
)
def test_what_is_wrong_is_told(error, family, told):
    found = failure(error, AT)
    assert type(found) is family
    assert told in found.message
    assert AT in found.message


@pytest.mark.parametrize(
    ("item", "became"),
    [
        ({"status": 201}, Outcome.OK),
        ({"status": 200}, Outcome.OK),
        ({"status": 409, "error": refused("version_conflict_engine_exception", "newer")}, Outcome.STALE),
        ({"status": 429, "error": refused("es_rejected_execution_exception", "full")}, Retriable),
        ({"status": 503, "error": refused("unavailable_shards_exception", "no")}, Retriable),
        ({"status": 400, "error": refused("strict_dynamic_mapping_exception", "[1:9] no")}, Fatal),
        ({"status": 503, "error": "text", "exception": api_error(503, "away")}, Retriable),
        ({"error": "of an odd server"}, Retriable),
    ],
)
def test_each_document_of_a_request_has_its_own_outcome(item, became):
    found = outcome(item, AT)
    assert found == became or type(found) is became


def test_whoever_is_refused_is_no_fault_of_the_document():
    with pytest.raises(FlowError, match="DATAFAB_INDEX_LOGIN"):
        outcome({"status": 401, "error": refused("security_exception", "no")}, AT)


def test_a_reason_names_the_field_and_quotes_no_document():
    whole = {"status": 400, "error": refused(
        "document_parsing_exception",
        "[1:75] failed to parse field [filesize] of type [long] in document with id 'a'. Preview of field's value: '9'",
        refused("x", 'out of range\n at [Source: (byte[])"{secret}"'),
    )}  # fmt: skip
    found = outcome(whole, AT)
    assert found.field == "filesize"
    assert found.code == "index_refused"
    assert found.message.endswith("of type [long] in document with id 'a': out of range")


def test_the_mapping_knows_every_field_of_a_document_and_its_views():
    made = template("x-v*", french=True, asciifolding=True)["template"]
    properties = made["mappings"]["properties"]
    assert set(properties) == set(Document.model_fields) | set(VIEWS)
    assert set(properties["cols"]["properties"]) == set(Column.model_fields)
    assert set(entry(doc(organisation="o"))["folded"]) == set(properties["folded"]["properties"])
    assert made["mappings"]["dynamic"] == "strict"


@pytest.mark.parametrize(
    ("french", "folding", "analyzer", "normalizer"),
    [(True, True, "french", "folded"), (False, True, "standard", "folded"), (False, False, "standard", "lowercase")],
)
def test_the_template_asks_for_what_the_server_has(french, folding, analyzer, normalizer):
    made = template("x-v*", french=french, asciifolding=folding)
    mappings = made["template"]["mappings"]
    assert mappings["properties"]["title"]["analyzer"] == analyzer
    assert mappings["properties"]["header"]["normalizer"] == normalizer
    assert made["_meta"] == mappings["_meta"] == {"schema_version": 1, "analyzer": analyzer, "normalizer": normalizer}
    assert ("analysis" in made["template"]["settings"]) is folding


def test_a_document_has_the_view_of_the_original():
    cols = (
        Column(name="Siret", position=0, format="siret", score=1.5),
        Column(name="Autre\0", position=1, format="siret", score=1.0),
        Column(name="x", position=2),
    )
    made = entry(doc(title="Œuvres d'Été", header=("Siret", "Code postal"), formats=("siret",), cols=cols, version=7))
    assert made["columns"] == {"siret": {"name": ["Siret", "Autre "], "score": [1.5, 1.0]}}
    assert made["detected_at"] == 7
    assert made["folded"]["title"] == "oeuvres d ete"
    assert made["folded"]["column"] == ["siret", "code postal"]
    assert read(made) == doc(
        title="Œuvres d'Été", header=("Siret", "Code postal"), formats=("siret",), cols=cols, version=7
    )


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://host", "http://host:9200/csvmetadtgv"),
        ("https://host/", "https://host:443/csvmetadtgv"),
        ("http://user:secret@host:9201/mine", "http://host:9201/mine"),
        ("https://host/behind/a/proxy/mine", "https://host:443/behind/a/proxy/mine"),
        ("http://[::1]:9200/x", "http://[::1]:9200/x"),
    ],
)
def test_an_address_is_read_and_told_without_its_password(url, shown):
    index = open_index(url)
    assert index.shown == shown
    assert "secret" not in repr(load(index_url=url, index_password="secret", index_api_key="secret"))  # noqa: S106 - told


def test_a_wrong_address_is_told_without_its_password():
    with pytest.raises(SettingError) as told:
        open_index("ftp://user:secret@host/x")
    assert "secret" not in str(told.value)


def test_nobody_listens_and_nothing_is_known_of_any_document():
    index = open_index("http://127.0.0.1:1/x")
    for act in (index.ping, index.count, lambda: index.put_many([doc()]), lambda: index.search("x")):
        with pytest.raises(Retriable, match=r"http://127\.0\.0\.1:1/x \(DATAFAB_INDEX_URL\) cannot be reached"):
            act()
    index.close()
