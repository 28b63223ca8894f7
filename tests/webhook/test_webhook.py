"""The HTTP API over a real Redis; what it enqueues is recorded."""

import csv
import io
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.exceptions import OperationalError

from datafab.core.document import Document
from datafab.core.item import Status
from datafab.core.job import Job
from datafab.core.services import Services
from datafab.errors import FlowError, NotFound, Retriable, SettingError
from datafab.index.access import IndexAccess
from datafab.push.bad_rows_file import FOLDER, write_bad_rows
from datafab.settings import load
from tests.servers.redis import PREFIX, RedisServer
from webhook import create_app
from webhook.limits import MAX_BODY_BYTES


class Recorder:
    """A queue that only takes note, and raises what it is told to."""

    def __init__(self):
        self.calls = []
        self.failure = None
        self.known = {}

    def __call__(self, flow, params, key, caller=None):
        if self.failure:
            raise self.failure
        self.calls.append((flow, params, key))
        job = Job(id=self.known.get(key, f"job{len(self.calls)}"), flow=flow, params=params, created=1, deadline=2)
        return job, key not in self.known


class Asking(Recorder):
    """A queue that needs its Redis."""

    def __call__(self, flow, params, key, caller=None):
        self.jobs.ping()
        return super().__call__(flow, params, key)


class Site:
    """An application, its client, its queue and the Redis behind it."""

    def __init__(self, server, home, kind=Recorder):
        self.server = server
        self.start = kind()
        self.settings = load(home=home, redis_url=server.url)
        self.services = Services(self.settings, patience=1)
        self.app = create_app(self.settings, self.services, self.start)
        self.http = self.app.test_client()

    def post(self, body, **options):
        return self.http.post("/api/jobs", **({"json": body} | options))

    def put(self, job, *, created, **fields):
        """Write a job as the ledger does."""
        facts = {"flow": "collect", "status": "running", "created": created, "deadline": created + 60} | fields
        with self.server.client() as client:
            client.hset(f"{PREFIX}job:{job}", mapping=facts)
            client.zadd(PREFIX + "jobs", {job: created})


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def site(server, tmp_path):
    with server.client() as client:
        client.flushall()
    site = Site(server, tmp_path)
    yield site
    site.services.close()


def test_a_new_job_is_accepted_and_named(site):
    answer = site.post({"flow": "catalogue", "params": {"since": "été", "n": 1}, "key": "k"})
    assert answer.status_code == 202
    assert answer.json == {"id": "job1", "status": "queued", "url": "http://localhost/api/jobs/job1"}
    assert answer.headers["Location"] == answer.json["url"]
    assert site.start.calls == [("catalogue", {"since": "été", "n": 1}, "k")]


def test_params_and_key_may_be_left_out(site):
    assert site.post({"flow": "collect"}).status_code == 202
    assert site.start.calls == [("collect", {}, None)]


def test_a_known_key_answers_with_the_job_as_it_is_now(site):
    site.put("old", created=1, status="succeeded")
    site.start.known["k"] = "old"
    answer = site.post({"flow": "collect", "key": "k"})
    assert answer.status_code == 200
    assert (answer.json["id"], answer.json["status"]) == ("old", "succeeded")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", None),
        (b"{", None),
        (b"\xff\xfe", None),
        ('{"flow": "\u00e9"}'.encode("cp1252"), None),
        (b"[1]", None),
        (b"null", None),
        (b"[" * 100_000, None),
        (b'{"params": {}}', "flow"),
        (b'{"flow": 3}', "flow"),
        (b'{"flow": "collect", "parms": {}}', "parms"),
        (b'{"flow": "collect", "params": []}', "params"),
        (b'{"flow": "collect", "params": {"a": NaN}}', "params"),
        (b'{"flow": "collect", "params": {"a": 1e999}}', "params"),
        (b'{"flow": "collect", "key": ""}', "key"),
    ],
)
def test_a_bad_body_is_refused_with_its_field(site, body, field):
    answer = site.post(None, data=body, json=None, content_type="application/json")
    assert answer.status_code == 400
    assert answer.json["error"]["type"] == "bad_request"
    assert answer.json["error"]["message"]
    assert answer.json["error"]["field"] == field
    assert not site.start.calls


def test_a_body_over_the_limit_is_refused(site):
    body = json.dumps({"flow": "collect", "params": {"a": "x" * MAX_BODY_BYTES}})
    answer = site.post(None, data=body, json=None, content_type="application/json")
    assert answer.status_code == 413
    assert answer.json["error"]["type"] == "request_entity_too_large"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_a_form_of_another_site_is_refused(site, kind):
    answer = site.post(None, data=b'{"flow": "collect"}', json=None, content_type=kind)
    assert answer.status_code == 415
    assert not site.start.calls


@pytest.mark.parametrize(
    ("failure", "status", "error"),
    [
        (FlowError("no endpoints", field="endpoints"), 400, ("flowerror", "no endpoints", "endpoints")),
        (NotFound("no flow 'x'", field="flow"), 404, ("notfound", "no flow 'x'", "flow")),
        (Retriable("index busy"), 503, ("retriable", "index busy", None)),
        (OperationalError("redis://:geheim@host"), 503, ("redis_away", None, None)),
        (ZeroDivisionError("secret detail"), 500, ("internal_server_error", None, None)),
    ],
)
def test_failures_keep_one_form(site, failure, status, error):
    site.start.failure = failure
    answer = site.post({"flow": "collect"})
    kind, message, field = error
    assert answer.status_code == status
    assert answer.json["error"].keys() == {"type", "message", "field"}
    assert (answer.json["error"]["type"], answer.json["error"]["field"]) == (kind, field)
    assert message is None or answer.json["error"]["message"] == message
    assert "secret" not in answer.text
    assert "geheim" not in answer.text
    assert "Traceback" not in answer.text
    assert answer.headers.get("Retry-After") == ("5" if status == 503 else None)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/api/jobs/unknown", 404), ("PUT", "/api/jobs", 405), ("POST", "/health", 405)],
)
def test_what_is_not_there_is_told_in_the_same_form(site, method, path, status):
    answer = site.http.open(path, method=method)
    assert answer.status_code == status
    assert answer.json["error"].keys() == {"type", "message", "field"}


def test_a_wrong_method_is_told_the_right_ones(site):
    assert "POST" in site.http.put("/api/jobs").headers["Allow"]


def test_jobs_are_listed_in_pages_the_newest_first(site):
    for number in range(5):
        site.put(f"j{number}", created=number)
    first = site.http.get("/api/jobs?limit=2").json
    second = site.http.get(f"/api/jobs?limit=2&after={first['next']}").json
    last = site.http.get(f"/api/jobs?limit=2&after={second['next']}").json
    assert [[job["id"] for job in page["jobs"]] for page in (first, second, last)] == [
        ["j4", "j3"],
        ["j2", "j1"],
        ["j0"],
    ]
    assert [page["next"] for page in (first, second, last)] == ["j3", "j1", None]


def test_a_full_last_page_has_no_next(site):
    for number in range(2):
        site.put(f"j{number}", created=number)
    assert site.http.get("/api/jobs?limit=2").json["next"] is None


def test_jobs_are_listed_by_status_and_flow(site):
    site.put("a", created=1, status="failed")
    site.put("b", created=2)
    site.put("c", created=3, flow="push")
    assert [job["id"] for job in site.http.get("/api/jobs?status=failed").json["jobs"]] == ["a"]
    assert [job["id"] for job in site.http.get("/api/jobs?flow=push").json["jobs"]] == ["c"]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/api/jobs?status=lost", "status"),
        ("/api/jobs?limit=0", "limit"),
        ("/api/jobs?limit=many", "limit"),
        ("/api/jobs?page=2", "page"),
        ("/api/jobs/j?log=-1", "log"),
        ("/api/search?query=a", "query"),
        ("/api/search?q=a&limit=1000", "limit"),
    ],
)
def test_a_bad_query_is_refused_with_its_field(site, path, field):
    answer = site.http.get(path)
    assert answer.status_code == 400
    assert answer.json["error"]["field"] == field


def test_a_page_after_an_unknown_job_is_not_found(site):
    assert site.http.get("/api/jobs?after=x").status_code == 404


def test_a_job_shows_its_failures_and_its_log_where_asked(site):
    site.put("j", created=1, params='{"endpoints": "été.csv"}', total=2)
    with site.server.client() as client:
        client.hset(
            f"{PREFIX}job:j:failed", "endpoint:1", '{"type": "http_404", "message": "pas trouvé", "field": "url"}'
        )
        client.rpush(f"{PREFIX}job:j:log", '{"event": "un"}', '{"event": "deux"}', '{"event": "trois"}')
    answer = site.http.get("/api/jobs/j?log=2")
    assert answer.json["failures"] == {"endpoint:1": {"type": "http_404", "message": "pas trouvé", "field": "url"}}
    assert [line["event"] for line in answer.json["log"]] == ["deux", "trois"]
    assert (answer.json["status"], answer.json["total"]) == ("running", 2)
    assert "été.csv" in answer.text
    assert "log" not in site.http.get("/api/jobs/j").json


def test_flows_are_listed_with_what_they_need(site):
    flows = {flow["name"]: flow for flow in site.http.get("/api/flows").json["flows"]}
    assert {"endpoints", "collection"} <= set(flows["collect"]["requires"])
    assert "collect" in flows["collect"]["stages"]


def test_stages_are_listed_with_what_they_need_and_give(site):
    stages = {stage["name"]: stage for stage in site.http.get("/api/flows").json["stages"]}
    assert stages["endpoints"]["source"]
    assert not stages["analyse"]["source"]
    assert (stages["analyse"]["requires"], stages["analyse"]["provides"]) == (["sha256", "store"], ["analysis"])


def test_flows_of_ones_own_are_listed(site, tmp_path):
    file = tmp_path / "datafab.toml"
    file.write_text('[[flow]]\nname = "mine"\nsource = "collect"\nwith = { collection = "c" }\n', encoding="utf-8")
    app = create_app(load(home=tmp_path, redis_url=site.server.url, config=file), site.services, site.start)
    flows = {flow["name"]: flow for flow in app.test_client().get("/api/flows").json["flows"]}
    assert {"collect", "mine"} <= flows.keys()
    assert flows["mine"]["requires"] == ["endpoints"]
    assert flows["mine"]["where"] == f"{file}:1"


def test_with_a_bad_file_there_is_no_webhook(tmp_path, server):
    file = tmp_path / "datafab.toml"
    file.write_text("[[flow]]\nsource = 3\n", encoding="utf-8")
    with pytest.raises(SettingError, match=r"datafab.toml:2: flow number 1, source"):
        create_app(load(home=tmp_path, redis_url=server.url, config=file))


def test_the_index_is_searched_in_pages(site):
    assert site.http.get("/api/search?q=rien").json == {"total": 0, "hits": [], "highlights": {}, "facets": {}}
    documents = [
        Document(source=f"file:{number}", version=number, status=Status.OK, title=f"Écoles n° {number}")
        for number in range(3)
    ]
    site.services.get(IndexAccess).reading.put_many(documents)
    answer = site.http.get("/api/search", query_string={"q": "écoles", "limit": 1, "offset": 1})
    assert answer.json["total"] == 3
    assert [hit["source"] for hit in answer.json["hits"]] == ["file:1"]
    assert "Écoles" in answer.text
    assert site.http.get("/api/search").json["total"] == 3


def test_health_and_ready_answer_while_all_is_well(site):
    assert site.http.get("/health").json == {"status": "ok"}
    answer = site.http.get("/ready")
    assert answer.status_code == 200, answer.json
    assert answer.json["services"]["redis"] is None


def test_without_redis_everything_but_health_answers_503_soon(tmp_path):
    server = RedisServer(tmp_path / "redis").start()
    site = Site(server, tmp_path / "home", Asking)
    site.start.jobs = site.services.jobs
    try:
        assert site.post({"flow": "collect"}).status_code == 202
        server.stop()
        for ask in (
            lambda: site.post({"flow": "collect"}),
            lambda: site.http.get("/api/jobs"),
            lambda: site.http.get("/api/jobs/j"),
        ):
            began = time.monotonic()
            answer = ask()
            assert time.monotonic() - began < 20  # a client would wait for half a minute
            assert answer.status_code == 503
            assert answer.headers["Retry-After"] == "5"
            assert answer.json["error"]["type"] == "redis_away"
        began = time.monotonic()
        ready = site.http.get("/ready")
        assert time.monotonic() - began < 25  # each of two clients waited for half a minute once
        assert ready.status_code == 503
        assert ready.json["services"]["redis"]
        assert site.http.get("/health").status_code == 200
        server.start()
        assert site.post({"flow": "collect"}).status_code == 202
    finally:
        site.services.close()
        server.stop()


def test_without_a_cluster_there_is_no_webhook(tmp_path):
    with pytest.raises(SettingError, match="DATAFAB_REDIS_URL"):
        create_app(load({}, home=tmp_path), start=Recorder())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
KEYS = st.sampled_from(["flow", "params", "key", "other"])


def test_a_check_of_an_address_is_a_job_that_tells_what_it_found(site):
    asked = site.http.post("/api/check-url", json={"url": "https://a.example/a.csv", "plugin": "wfs"})
    assert (asked.status_code, asked.json["url"]) == (202, "http://localhost/api/check-url/job1")
    assert site.start.calls == [("check_url", {"url": "https://a.example/a.csv", "plugin": "wfs"}, None)]
    site.put("job1", created=1, flow="check_url")
    told = {"id": "job1", "status": "running", "result": None, "error": None}
    assert site.http.get("/api/check-url/job1").json == told
    store = site.services.store(site.settings.store)
    store.write("batch/check-job1.json", b'{"ok": true}')
    assert site.http.get("/api/check-url/job1").json["result"] == {"ok": True}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "url"),
        ({"url": ""}, "url"),
        ({"url": "x", "plugin": "gopher"}, "plugin"),
        ({"url": "x", "parameters": 1}, "parameters"),
    ],
)
def test_a_bad_check_is_refused_with_its_field(site, body, field):
    answer = site.http.post("/api/check-url", json=body)
    assert (answer.status_code, answer.json["error"]["field"]) == (400, field)


def test_a_job_that_is_no_check_has_found_nothing(site):
    site.put("job2", created=1)
    assert site.http.get("/api/check-url/job2").status_code == 404
    assert site.http.get("/api/check-url/none").status_code == 404


def test_the_rows_that_a_push_has_left_out_are_given_as_csv(site):
    site.put("job1", created=1, flow="push")
    store, path = site.services.store(site.settings.store), "/api/jobs/job1/bad-rows"
    assert site.http.get(path).status_code == 404
    write_bad_rows(store, "job1", [(3, ["1", "x, y", 'é"'])], 2, ",")
    answer = site.http.get(path)
    assert answer.content_type == "text/csv; charset=utf-8"
    assert list(csv.reader(io.StringIO(answer.text)))[1] == ["3", "3 cells, the header has 2", '1,"x, y","é"""']
    assert site.http.get("/api/jobs/none/bad-rows").status_code == 404
    store.remove_files(FOLDER, time.time() + 60)
    assert site.http.get(path).status_code == 404


@pytest.fixture(scope="module")
def fuzzed(server, tmp_path_factory):
    site = Site(server, tmp_path_factory.mktemp("home"))
    yield site
    site.services.close()


@settings(max_examples=150, deadline=None)
@given(body=st.binary(max_size=40) | st.dictionaries(KEYS, JSON).map(lambda body: json.dumps(body).encode()))
def test_no_body_breaks_it(fuzzed, body):
    answer = fuzzed.http.post("/api/jobs", data=body, content_type="application/json")
    assert answer.status_code in {202, 400, 404}, answer.text
