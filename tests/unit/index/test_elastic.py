"""The index in Elasticsearch: its template, its refusals and its unavailability."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RDWR
from threading import Thread

import pytest
from elastic_transport import ApiResponseMeta, ConnectionTimeout, HttpHeaders, NodeConfig, TlsError
from elastic_transport import ConnectionError as NoConnection
from elasticsearch import ApiError

from datafab.core.document import Column, Document
from datafab.core.item import Batch, Item, Status
from datafab.core.lease import Lease
from datafab.core.memory_jobs import MemoryJobs
from datafab.core.runner import Attempt, run_stage
from datafab.core.services import Services
from datafab.errors import Fatal, FlowError, Retriable, SettingError
from datafab.index import PutOutcome, open_index
from datafab.index.access import IndexAccess
from datafab.index.elastic_errors import put_result, translate_error
from datafab.index.elastic_indices import SCROLL_DOCUMENTS
from datafab.index.elastic_mapping import SEARCH_FIELDS, document_fields, index_template, read_document
from datafab.index.stages import STAGES
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
        (api_error(403, {"error": refused("security_exception", "no")}), FlowError, "refuses the login (403): no"),
        (
            api_error(403, {"error": refused("cluster_block_exception", "x")}),
            Retriable,
            "is blocked for writing: x. Free",
        ),
        (api_error(429, {"error": refused("cluster_block_exception", "x")}), Retriable, "remove the block"),
        (api_error(404, {"error": refused("index_not_found_exception", "no such")}), Retriable, "does not exist"),
        (api_error(400, {"error": refused("media_type_header_exception", "7")}), FlowError, "too old"),
        (api_error(413, "too large"), Fatal, "refuses the request (413): too large"),
    ],
)
def test_what_is_wrong_is_told(error, family, told):
    found = translate_error(error, AT)
    assert type(found) is family
    assert told in found.message
    assert AT in found.message


@pytest.mark.parametrize(
    ("item", "became"),
    [
        ({"status": 201}, PutOutcome.OK),
        ({"status": 200}, PutOutcome.OK),
        ({"status": 409, "error": refused("version_conflict_engine_exception", "newer")}, PutOutcome.STALE),
        ({"status": 429, "error": refused("es_rejected_execution_exception", "full")}, Retriable),
        ({"status": 503, "error": refused("unavailable_shards_exception", "no")}, Retriable),
        ({"status": 400, "error": refused("strict_dynamic_mapping_exception", "[1:9] no")}, Fatal),
        ({"status": 503, "error": "text", "exception": api_error(503, "away")}, Retriable),
        ({"error": "of an odd server"}, Retriable),
    ],
)
def test_each_document_of_a_request_has_its_own_outcome(item, became):
    found = put_result(item, AT)
    assert found == became or type(found) is became


def test_whoever_is_refused_is_no_fault_of_the_document():
    with pytest.raises(FlowError, match="DATAFAB_INDEX_LOGIN"):
        put_result({"status": 401, "error": refused("security_exception", "no")}, AT)


def test_a_reason_names_the_field_and_quotes_no_document():
    whole = {"status": 400, "error": refused(
        "document_parsing_exception",
        "[1:75] failed to parse field [filesize] of type [long] in document with id 'a'. Preview of field's value: '9'",
        refused("x", 'out of range\n at [Source: (byte[])"{secret}"'),
    )}  # fmt: skip
    found = put_result(whole, AT)
    assert found.field == "filesize"
    assert found.code == "index_refused"
    assert found.message.endswith("of type [long] in document with id 'a': out of range")


def test_the_mapping_knows_every_field_of_a_document_and_its_views():
    made = index_template("x-v*", french=True, asciifolding=True)["template"]
    properties = made["mappings"]["properties"]
    assert set(properties) == set(Document.model_fields) | set(SEARCH_FIELDS)
    assert set(properties["cols"]["properties"]) == set(Column.model_fields)
    assert set(json.loads(document_fields(doc(organisation="o")))["folded"]) == set(properties["folded"]["properties"])
    assert made["mappings"]["dynamic"] == "strict"


@pytest.mark.parametrize(
    ("french", "folding", "analyzer", "normalizer"),
    [(True, True, "french", "folded"), (False, True, "standard", "folded"), (False, False, "standard", "lowercase")],
)
def test_the_template_asks_for_what_the_server_has(french, folding, analyzer, normalizer):
    made = index_template("x-v*", french=french, asciifolding=folding)
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
    facts = {"header": ("Siret", "Code postal"), "formats": ("siret",), "cols": cols, "version": 7}
    made = json.loads(document_fields(doc(title="Œuvre d'Été", **facts)))
    assert made["columns"] == {"siret": ["Siret", "Autre "]}
    assert made["detected_at"] == 7
    assert made["folded"]["title"] == "oeuvre d ete"
    assert made["folded"]["column"] == ["siret", "code postal"]
    assert read_document(made) == doc(title="Œuvre d'Été", **facts)


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
    assert index.display_url == shown
    assert "secret" not in repr(load(index_url=url, index_password="secret", index_api_key="secret"))  # noqa: S106 - told


def test_a_wrong_address_is_told_without_its_password():
    with pytest.raises(SettingError) as told:
        open_index("ftp://user:secret@host/x")
    assert "secret" not in str(told.value)


def test_nobody_listens_and_nothing_is_known_of_any_document(caplog):
    caplog.set_level("INFO")
    index = open_index("http://127.0.0.1:1/x")
    for act in (index.ping, index.count, lambda: index.put_many([doc()]), lambda: index.search("x")):
        with pytest.raises(Retriable, match=r"http://127\.0\.0\.1:1/x \(DATAFAB_INDEX_URL\) cannot be reached"):
            act()
    index.close()
    assert caplog.text == ""


@pytest.fixture
def services(elastic_index):
    services = Services(load(), jobs=MemoryJobs())
    services.put(IndexAccess, IndexAccess(elastic_index))
    return services


def run(services: Services, *items: Item) -> list[Item]:
    return run_stage(STAGES[0], Batch(job="j", flow="f", items=items), services, Attempt(Lease(job_created=1.0)))


def test_a_document_that_is_refused_fails_alone_and_keeps_the_reason(services):
    good, bad, last = run(services, Item(source="file:1"), Item(source="file:2", size=2**70), Item(source="file:3"))
    assert (good.status, bad.status, last.status) == (Status.OK, Status.FAILED, Status.OK)
    assert (bad.error.type, bad.error.field) == ("index_refused", "filesize")
    assert "out of range" in bad.error.message
    services.get(IndexAccess).reading.refresh()
    assert services.get(IndexAccess).reading.count() == 2


def test_a_block_passes_when_somebody_has_lifted_it(elastic_index):
    elastic_index.put_many([doc()])
    for block in ("read_only_allow_delete", "write"):
        setting = f"index.blocks.{block}"
        elastic_index.client.indices.put_settings(index=elastic_index.name, settings={setting: True})
        (became,) = elastic_index.put_many([doc(version=2)])
        assert isinstance(became, Retriable)
        assert "Free space on its disks, or remove the block" in became.message
        elastic_index.client.indices.put_settings(index=elastic_index.name, settings={setting: None})
        assert elastic_index.put_many([doc(version=2)]) == [PutOutcome.OK]


def test_a_server_that_comes_back_empty_gets_template_index_and_aliases_again(elastic_index):
    elastic_index.put_many([doc()])
    client, name = elastic_index.client, elastic_index.name
    client.indices.delete(index=f"{name}-v1-000001")
    client.indices.delete_index_template(name=name)
    assert elastic_index.count() == 0
    assert elastic_index.put_many([doc("file:b")]) == [PutOutcome.OK]
    assert elastic_index.aliases() == {f"{name}-v1-000001": {name, f"{name}-write"}}
    mapping = client.indices.get_mapping(index=name)[f"{name}-v1-000001"]["mappings"]
    assert mapping["dynamic"] == "strict"
    assert mapping["_meta"] == {"schema_version": 1, "analyzer": "standard", "normalizer": "lowercase"}
    assert client.indices.exists_index_template(name=name)


def test_several_make_the_index_at_once(elastic_index):
    several = [open_index(elastic_index.display_url) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        put = [pool.submit(one.put_many, [doc(f"file:{number}")]) for number, one in enumerate(several)]
        assert [each.result() for each in put] == [[PutOutcome.OK]] * 6
    for one in several:
        one.close()
    elastic_index.refresh()
    assert elastic_index.count() == 6
    assert len(elastic_index.aliases()) == 1


def test_an_alias_that_somebody_took_away_is_put_back(elastic_index):
    elastic_index.put_many([doc()])
    elastic_index.client.indices.delete_alias(index=f"{elastic_index.name}-v1-000001", name=elastic_index.write_alias)
    assert elastic_index.put_many([doc(version=2)]) == [PutOutcome.OK]
    assert elastic_index.get("file:a").version == 2


def test_an_index_of_the_original_is_not_touched(elastic_index):
    elastic_index.client.indices.create(index=elastic_index.name)
    try:
        with pytest.raises(FlowError, match=r"end DATAFAB_INDEX_URL \(or DATAFAB_INDEX_LEGACY\) with another name"):
            elastic_index.put_many([doc()])
        assert elastic_index.client.count(index=elastic_index.name)["count"] == 0
    finally:
        elastic_index.client.indices.delete(index=elastic_index.name)


def test_whoever_asks_the_index_himself_gets_answers(elastic_index):
    def cols(*formats: str) -> dict[str, object]:
        named = tuple(Column(name=f"colonne {n}", position=n, format=each, score=1.5) for n, each in enumerate(formats))
        return {"cols": named, "formats": tuple(sorted(set(formats)))}

    many = [f"format_{n}" for n in range(53)]
    elastic_index.put_many(
        [
            doc("file:1", dataset_id="d1", **cols("siret", "commune", *many)),
            doc("file:2", dataset_id="d1", **cols("siret")),
            doc("file:3", dataset_id="d2", **cols("commune", "siret")),
            doc("file:4", dataset_id="d3", **cols("commune")),
        ]
    )
    elastic_index.refresh()

    def ask(**query) -> list[str]:
        found = elastic_index.client.search(index=elastic_index.name, **query)
        return sorted(hit["_id"].removeprefix("file:") for hit in found["hits"]["hits"])

    siret, commune = {"term": {"formats": "siret"}}, {"term": {"formats": "commune"}}
    assert ask(query=siret) == ["1", "2", "3"]
    assert ask(query={"bool": {"filter": [siret, commune]}}) == ["1", "3"]
    assert len(ask(query=siret, collapse={"field": "dataset_id"})) == 2
    assert ask(query={"exists": {"field": "columns.siret"}}) == ["1", "2", "3"]
    assert ask(query={"term": {"columns.siret": "colonne 1"}}) == ["3"]
    both = [{"term": {"cols.format": "siret"}}, {"term": {"cols.name": "colonne 1"}}]
    both.append({"range": {"cols.score": {"gte": 1}}})
    assert ask(query={"nested": {"path": "cols", "query": {"bool": {"filter": both}}}}) == ["3"]
    assert ask(query={"range": {"detected_at": {"gte": 1}}}) == ["1", "2", "3", "4"]
    counts = elastic_index.client.search(
        index=elastic_index.name, aggs={"n": {"terms": {"field": "formats", "size": 99}}}
    )
    counted = {each["key"]: each["doc_count"] for each in counts["aggregations"]["n"]["buckets"]}
    assert (len(counted), counted["siret"], counted["commune"]) == (55, 3, 3)


def test_the_index_of_the_original_is_kept_beside_ours_for_those_who_ask_it(elastic_index):
    name = f"{elastic_index.name}-old"
    url = elastic_index.display_url
    index = open_index(url, load(index_legacy=name))
    cols = (
        Column(name="SIRET", position=0, format="siret", score=1.5),
        Column(name="Actif", position=1, format="bool", score=1.0),
        Column(name="Neuf", position=2, format="of_today", score=1.0),
    )
    facts = {"header": ("SIRET", "Actif", "Neuf"), "cols": cols, "total_lines": 9, "separator": ";"}
    documents = [doc("datagouv:abc", **facts), doc("datagouv:bad", filesize=2**70)]
    ok, refused_ = index.put_many(documents)
    assert ok is PutOutcome.OK
    assert isinstance(refused_, Fatal)
    assert index.put_many(documents[:1]) == [PutOutcome.OK]
    assert index.put_many([doc("datagouv:abc", version=0)]) == [PutOutcome.STALE]
    client = index.client
    client.indices.refresh(index=name)
    found = client.search(index=name, query={"nested": {"path": "columns.booleen", "query": {
        "exists": {"field": "columns.booleen.name"}
    }}})["hits"]["hits"]  # fmt: skip
    assert [hit["_id"] for hit in found] == ["datagouv:abc"]
    assert found[0]["_source"] == {
        "resource_id": "abc",
        "title": "Titre",
        "separator": ";",
        "total_lines": "9",
        "header": ["SIRET", "Actif", "Neuf"],
        "columns": {
            "siret": [{"name": "SIRET", "score_rb": 1.5}],
            "booleen": [{"name": "Actif", "score_rb": 1.0}],
        },
    }
    mapping = client.indices.get_mapping(index=name)[f"{name}-legacy-000001"]["mappings"]["properties"]
    assert mapping["total_lines"] == {"type": "text"}
    assert len(mapping["columns"]["properties"]) == 37
    assert index.delete("datagouv:abc")
    assert not client.exists(index=name, id="datagouv:abc")
    client.indices.delete(index=f"{name}-legacy-000001")
    client.indices.delete_index_template(name=f"{name}-legacy")
    index.close()


class Fake:
    """Answers as an Elasticsearch of a given kind would; notes what it was asked."""

    def __init__(self) -> None:
        self.product = True
        self.french = True
        self.full = 0
        #: bulk requests after which the connection breaks
        self.lives = 10**9
        self.asked: list[tuple[str, str, str | None, bytes]] = []

    def answer(self, path: str, body: bytes) -> tuple[int, object]:
        if path.startswith("/_alias"):
            return 404, {"error": "alias [x] missing", "status": 404}
        if path.startswith("/_analyze"):
            return (200, {"tokens": []}) if self.french else (400, {"error": refused("illegal_argument_exception", "")})
        if path.startswith("/_bulk"):
            items = []
            for line in body.splitlines()[::2]:
                action = json.loads(line)["index"]
                if self.full:
                    self.full -= 1
                    said = {"status": 429, "error": refused("es_rejected_execution_exception", "queue is full")}
                else:
                    said = {"status": 201}
                items.append({"index": {"_id": action["_id"], "_index": "x"} | said})
            return 200, {"took": 1, "errors": True, "items": items}
        return 200, {"acknowledged": True}


@contextmanager
def serving(fake: Fake) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fake.asked.append((self.command, self.path, self.headers["Authorization"], body))
            if self.path.startswith("/_bulk"):
                fake.lives -= 1
                if fake.lives < 0:
                    self.connection.shutdown(SHUT_RDWR)
                    self.close_connection = True
                    return
            status, said = fake.answer(self.path, body)
            sent = json.dumps(said).encode()
            self.send_response(status)
            if fake.product:
                self.send_header("X-Elastic-Product", "Elasticsearch")
            self.send_header("Content-Type", "application/vnd.elasticsearch+json;compatible-with=8")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_PUT = do_POST  # noqa: N815 - the base class's names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/x"
    finally:
        server.shutdown()
        server.server_close()


def test_an_index_that_is_half_read_is_not_taken_for_all_of_it(elastic_index):
    assert list(elastic_index.documents()) == []
    elastic_index.put_many([doc(f"file:{number}") for number in range(SCROLL_DOCUMENTS + 1)])
    elastic_index.refresh()
    found = elastic_index.documents()
    next(found)
    elastic_index.client.clear_scroll(scroll_id="_all")  # as when it is started again, or ten minutes have passed
    with pytest.raises(Retriable, match="start again"):
        list(found)
    assert len(list(elastic_index.documents())) == SCROLL_DOCUMENTS + 1


def test_a_full_server_is_no_failure_of_a_document():
    fake = Fake()
    fake.full = 3
    with serving(fake) as url:
        index = open_index(url)
        documents = [doc("file:a"), doc("file:b")]
        for expected in (["a later", "b later"], ["a later", "b ok"], ["a ok", "b ok"]):
            put = zip("ab", index.put_many(documents), strict=True)
            assert [f"{name} {'ok' if became is PutOutcome.OK else 'later'}" for name, became in put] == expected
        index.close()


def test_a_connection_that_breaks_between_two_requests_leaves_what_was_put():
    fake = Fake()
    fake.lives = 3
    with serving(fake) as url:
        index = open_index(url)
        became = index.put_many([doc(f"file:{number}") for number in range(2300)])
        assert set(became[:1000]) == {PutOutcome.OK}  # two requests at once: the third may come last
        assert {type(one) for one in became[2000:]} == {Retriable}
        assert "cannot be reached" in became[-1].message
        assert len(became) == 2300
        fake.lives = 10**9
        assert set(index.put_many([doc("file:699")])) == {PutOutcome.OK}
        index.close()


@pytest.mark.parametrize(("french", "analyzer"), [(True, "french"), (False, "standard")])
def test_a_server_is_asked_for_its_analyzers_before_the_template_is_put(french, analyzer):
    fake = Fake()
    fake.french = french
    with serving(fake) as url:
        index = open_index(url)
        index.put_many([doc()])
        index.close()
    (sent,) = [json.loads(body) for method, path, _, body in fake.asked if path == "/_index_template/x"]
    assert sent["template"]["mappings"]["properties"]["dataset_title"]["analyzer"] == analyzer
    assert sent["_meta"]["analyzer"] == analyzer


def test_what_is_no_elasticsearch_is_told():
    fake = Fake()
    fake.product = False
    fake.answer = lambda *_: (200, {})
    with serving(fake) as url, pytest.raises(FlowError, match="OpenSearch is not supported"):
        open_index(url).ping()


@pytest.mark.parametrize(
    ("settings", "user", "sent"),
    [
        ({}, "", None),
        ({}, "user:p%40ss@", "Basic dXNlcjpwQHNz"),
        ({"index_login": "user", "index_password": "p@ss"}, "", "Basic dXNlcjpwQHNz"),
        ({"index_api_key": "key"}, "user:other@", "ApiKey key"),
    ],
)
def test_who_we_are_is_said_as_the_settings_say(settings, user, sent, caplog):
    fake = Fake()
    with serving(fake) as url:
        index = open_index(url.replace("http://", f"http://{user}"), load(**settings))
        index.put_many([doc()])
        index.close()
    assert {authorization for _, _, authorization, _ in fake.asked} == {sent}
    assert "p@ss" not in caplog.text + index.display_url
