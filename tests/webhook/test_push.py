"""DataPusher's HTTP API over a real Redis; what it enqueues is written there as the ledger does it."""

import json
import re

import pytest

from datafab.core.item import ItemError
from datafab.core.job import Job
from datafab.core.jobs import RedisJobs
from datafab.core.redis import connect
from datafab.core.services import Services
from datafab.errors import FlowError
from datafab.push.datapusher import requested_resource
from datafab.settings import load
from tests.servers.redis import PREFIX, RedisServer
from webhook import create_app

GOOD = {"job_type": "push_to_datastore", "api_key": "planted", "metadata": {"resource_id": "r1", "ignore_hash": True}}
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}"


class Pusher:
    """The application, its client, and a queue that writes jobs but runs none."""

    def __init__(self, server, home, **settings):
        self.redis = server.client()
        self.settings = load(home=home, redis_url=server.url, **settings)
        self.services = Services(self.settings, jobs=RedisJobs(self.settings, connect(self.settings, patience=1)))
        self.http = create_app(self.settings, self.services, self.start).test_client()
        self.calls = []

    def start(self, flow, params, key=None, *, secrets=None):
        self.calls.append((flow, params, key, secrets))
        known = self.redis.get(f"{PREFIX}key:{key}")
        number = len(self.calls)
        job = Job(id=known or f"job{number}", flow=flow, params=params, key=key, created=1e9 + number, deadline=2e9)
        if not known:
            facts = {"flow": flow, "status": "queued", "created": job.created, "deadline": job.deadline, "key": key}
            self.set(job.id, params=json.dumps(params), **facts)
            self.redis.zadd(PREFIX + "jobs", {job.id: job.created})
            self.redis.set(f"{PREFIX}key:{key}", job.id)
        return job, not known

    def set(self, job, **fields):
        self.redis.hset(f"{PREFIX}job:{job}", mapping=fields)

    def submit(self, job_id="", **changes):
        return self.http.post(f"/datapusher/job{'/' if job_id else ''}{job_id}", json=GOOD | changes)

    def get(self, path, job_key=None):
        return self.http.get("/datapusher" + path, headers={"Authorization": job_key} if job_key else {})


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def pusher(server, tmp_path):
    pusher = Pusher(server, tmp_path)
    pusher.redis.flushall()
    yield pusher
    pusher.services.close()
    pusher.redis.close()


def test_a_submit_answers_with_the_whole_job_and_its_key(pusher):
    answer = pusher.submit("été-1", result_url="http://ckan/hook", data={"a": 1})
    assert answer.status_code == 200
    job = answer.json
    assert list(job) == [
        "job_id", "job_type", "status", "data", "error", "requested_timestamp", "finished_timestamp", "sent_data",
        "aps_job_id", "result_url", "job_key", "metadata", "logs",
    ]  # fmt: skip
    assert (job["job_id"], job["status"], job["data"], job["error"]) == ("été-1", "pending", None, None)
    assert (job["sent_data"], job["metadata"], job["logs"]) == ({"a": 1}, GOOD["metadata"], [])
    assert job["requested_timestamp"].endswith(".000000")
    assert re.fullmatch(STAMP, job["requested_timestamp"])
    ((flow, params, key, secrets),) = pusher.calls
    assert (flow, key) == ("push", "datapusher:été-1")
    assert secrets == {"api_key": "planted", "job_key": job["job_key"]}
    assert "planted" not in str(params)
    assert job["job_key"] not in str(params)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "Malformed json"),
        (b'{"api_key": "\\ud800"}', "Malformed json"),
        (b'{"metadata": {"\\udfff": 1}}', "Malformed json"),
        (b'{"metadata": NaN}', "Malformed json"),
        (b'{"metadata": 1e999}', "Malformed json"),
        (b'{"metadata": ' + b"[" * 300 + b"]" * 300 + b"}", "Malformed json"),
        (b"[" * 100_000, "Malformed json"),
        (b"\xff", "Malformed json"),
        (b"{}", "Not recognised as json, make sure content type is application/json"),
        (b"[1]", "Not recognised as json, make sure content type is application/json"),
        ({"foo": 1, "result_url": 3}, "Too many arguments. Extra keys are foo"),
        ({"foo": 1, "bar": 2}, "Too many arguments. Extra keys are foo, bar"),
        ({"result_url": "ftp://x"}, "result_url has to start with http"),
        ({"data": ""}, "Please specify a job type"),
        ({"job_type": "x"}, "Job type x not available. Available job types are push_to_datastore"),
        ({"job_type": "push_to_datastore", "metadata": 1}, "Please provide your API key."),
        (GOOD | {"api_key": ["k"]}, "Please provide your API key."),
        (GOOD | {"metadata": "x"}, "metadata has to be a json object"),
        (GOOD | {"metadata": None}, "metadata has to be a json object"),
    ],
)
def test_a_bad_submit_is_refused_in_the_original_order_and_words(pusher, body, text):
    data = body if isinstance(body, bytes) else json.dumps(body)
    answer = pusher.http.post("/datapusher/job", data=data, content_type="application/json")
    assert (answer.status_code, answer.json) == (409, {"error": text})
    assert not pusher.calls


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"metadata": {"ckan_url": "http://ckan.example/secret?x="}}, "cannot have a query or a fragment"),
        ({"metadata": {"ckan_url": "http://ckan.example/secret#"}}, "cannot have a query or a fragment"),
        ({"metadata": {"ckan_url": "http://ckan.example/a/../planted"}}, "is not accepted"),
        ({"metadata": {"ckan_url": "http://ckan.example/a/%2E%2e/planted"}}, "is not accepted"),
        ({"metadata": {"ckan_url": "http://ckan.example/a\\..\\planted"}}, "is not accepted"),
        ({"metadata": {"ckan_url": "http://ckan.example/a b"}}, "is not accepted"),
        ({"metadata": {"ckan_url": "http://ckan.example/.\t./planted"}}, "is not accepted"),
        ({"result_url": "http://ckan.example/a/../planted"}, "is not accepted"),
        ({"api_key": "X-Any:v"}, "DATAFAB_CKAN_KEY_HEADERS"),
        ({"api_key": "Host:v"}, "DATAFAB_CKAN_KEY_HEADERS"),
        ({"api_key": "X-CKAN-API-Key\r\nX-Any:v"}, "no header can carry"),
        ({"api_key": ":v"}, "DATAFAB_CKAN_KEY_HEADERS"),
        ({"api_key": "planted\n"}, "no header can carry"),
        ({"api_key": "planted\0"}, "no header can carry"),
        ({"api_key": " planted"}, "no header can carry"),
        ({"api_key": "planted\u20ac"}, "no header can carry"),
        ({"metadata": {"ckan_url": "http://u:planted@ckan.example"}}, "must not hold a user or a password"),
        ({"metadata": {"ckan_url": "u:planted@ckan.example/"}}, "must not hold a user or a password"),
        ({"result_url": "http://u:plan@ted@ckan.example/"}, "must not hold a user or a password"),
    ],
)
def test_a_submit_chooses_neither_the_path_nor_the_headers_of_a_request(pusher, change, text):
    answer = pusher.http.post("/datapusher/job", json=GOOD | change)
    assert answer.status_code == 409
    assert text in answer.json["error"]
    assert "planted" not in answer.text
    assert not pusher.calls


def test_another_content_type_is_refused(pusher):
    answer = pusher.http.post("/datapusher/job", data=json.dumps(GOOD), content_type="text/plain")
    assert (answer.status_code, answer.json["error"][:22]) == (409, "Not recognised as json")


@pytest.mark.parametrize("kind", ["text/plain; application/json", "APPLICATION/JSON", "application/json charset=utf-8"])
def test_a_content_type_that_only_names_json_will_do(pusher, kind):
    answer = pusher.http.post("/datapusher/job", data=json.dumps(GOOD), content_type=kind)
    assert (answer.status_code, answer.json["status"]) == (200, "pending")
    answer = pusher.http.post("/datapusher/job", data=b"{", content_type=kind)
    assert (answer.status_code, answer.json["error"].split()[0]) == (409, "Malformed" if kind.isupper() else "Not")


@pytest.mark.parametrize(("given", "read"), [(True, True), (1, True), ("yes", True), (0, False), (None, False)])
def test_a_flag_is_any_value_that_is_true(given, read):
    metadata = {"resource_id": "r1", "ckan_url": "http://ckan", "ignore_hash": given, "set_url_type": given}
    facts = requested_resource({"metadata": metadata})
    assert (facts.ignore_hash, facts.set_url_type) == (read, read)


def test_a_slash_at_the_end_of_a_path_does_not_matter(pusher):
    answer = pusher.http.post("/datapusher/job/", json=GOOD)
    assert answer.status_code == 200
    job_id, job_key = answer.json["job_id"], answer.json["job_key"]
    assert pusher.get(f"/job/{job_id}/", job_key).json["job_id"] == job_id
    assert pusher.get(f"/job/{job_id}/data/", job_key).status_code == 200
    assert pusher.get("/job/").json == {"list": [f"/job/{job_id}"]}
    assert pusher.get("/status/").json["stats"]["pending"] == 1
    assert pusher.http.post("/datapusher/job/x/", json=GOOD).json["job_id"] == "x"
    assert pusher.http.delete(f"/datapusher/job/{job_id}/", headers={"Authorization": job_key}).status_code == 200


def test_an_id_in_use_is_refused(pusher):
    assert pusher.submit("x").status_code == 200
    answer = pusher.submit("x")
    assert (answer.status_code, answer.json) == (409, {"error": "job_id x already exists"})


def test_what_the_queue_refuses_is_a_string(pusher):
    def refuse(*_, **__):
        raise FlowError("the parameters are larger than 8192 bytes")

    app = create_app(pusher.settings, pusher.services, refuse).test_client()
    answer = app.post("/datapusher/job", json=GOOD)
    assert (answer.status_code, answer.json) == (409, {"error": "the parameters are larger than 8192 bytes"})


def test_other_ckans_than_the_allowed_ones_are_refused(pusher, server, tmp_path):
    strict = Pusher(server, tmp_path, ckan_urls="https://data.example.fr/ckan")
    for change in ({"result_url": "https://data.example.fr.evil/x"}, {"metadata": {"ckan_url": "10.0.0.1"}}):
        answer = strict.submit(**change)
        assert answer.status_code == 409
        assert "DATAFAB_CKAN_URLS" in answer.json["error"]
    good = {"ckan_url": "https://data.example.fr/ckan/", "resource_id": "r"}
    assert strict.submit(metadata=good, result_url="https://data.example.fr/ckan/api/3/action/h").status_code == 200
    strict.redis.close()
    strict.services.close()


@pytest.mark.parametrize("bind", ["0.0.0.0:8800", "[::]:8800", "192.0.2.7:8800", "data.example.org:80"])
def test_pushes_from_other_hosts_need_a_list_of_ckans(server, tmp_path, bind):
    exposed = Pusher(server, tmp_path, bind=bind)
    answer = exposed.submit(metadata={"ckan_url": "http://127.0.0.1:5000", "resource_id": "r"})
    assert answer.status_code == 409
    assert all(name in answer.json["error"] for name in ("DATAFAB_CKAN_URLS", f"DATAFAB_BIND={bind}"))
    assert not exposed.calls
    listed = Pusher(server, tmp_path, bind=bind, ckan_urls="https://data.example.fr")
    submitted = listed.submit(metadata={"ckan_url": "https://data.example.fr", "resource_id": "r"})
    assert submitted.status_code == 200
    for pusher in (exposed, listed):
        pusher.redis.close()
        pusher.services.close()


def test_a_job_is_for_whoever_has_its_key(pusher):
    job_key = pusher.submit("x").json["job_key"]
    pusher.submit("y")
    assert pusher.get("/job/z", job_key).json == {"error": "job_id not found"}
    assert pusher.get("/job/z", job_key).status_code == 404
    for path in ("/job/x", "/job/x/data"):
        for wrong in (None, "", "wrong", "please_replace_me"):
            answer = pusher.get(path, wrong)
            assert (answer.status_code, answer.json) == (403, {"error": "not authorized"})
    assert pusher.get("/job/y", job_key).status_code == 403
    shown = pusher.get("/job/x", job_key).json
    assert shown["job_id"] == "x"
    assert not {"api_key", "job_key"} & shown.keys()


@pytest.mark.parametrize(
    ("state", "failed", "shown"),
    [
        ("queued", 0, "pending"),
        ("running", 0, "pending"),
        ("waiting", 0, "pending"),
        ("succeeded", 0, "complete"),
        ("succeeded", 1, "error"),
        ("failed", 0, "error"),
        ("parked", 0, "error"),
        ("cancelled", 0, "error"),
    ],
)
def test_statuses_are_the_three_that_ckan_knows(pusher, state, failed, shown):
    job_key = pusher.submit("x").json["job_key"]
    pusher.set("job1", status=state, ended=1e9 + 5, **{"n:datastore:failed": failed})
    if failed:
        error = ItemError(type="ckan_409", message="CKAN answered 409: no", field="http://ckan/api")
        pusher.redis.hset(f"{PREFIX}job:job1:failed", "ckan:x", error.model_dump_json())
    job = pusher.get("/job/x", job_key).json
    assert job["status"] == shown
    assert (job["error"] is not None) == (shown == "error")
    if failed:
        facts = {"HTTP status code": 409, "Requested URL": "http://ckan/api"}
        assert job["error"] == {"message": "CKAN answered 409: no"} | facts
        assert pusher.get("/job/x/data", job_key).json == {"error": job["error"]}
    assert pusher.get("/status").json["stats"] == {"pending": 0, "complete": 0, "error": 0} | {shown: 1}
    assert pusher.get(f"/job?_status={shown}").json == {"list": ["/job/x"]}
    assert pusher.get("/job?_status=none").json == {"list": []}


def test_logs_are_in_order_and_with_a_limit_the_newest_first(pusher):
    job_key = pusher.submit("x").json["job_key"]
    for number in range(3):
        line = {"at": 1e9 + number, "level": "info", "stage": "datastore", "event": f"n{number}"}
        pusher.redis.rpush(f"{PREFIX}job:job1:log", json.dumps(line))
    logs = pusher.get("/job/x", job_key).json["logs"]
    assert list(logs[0]) == ["timestamp", "message", "level", "module", "funcName", "lineno"]
    assert [line["message"] for line in logs] == ["n0", "n1", "n2"]
    assert all(re.fullmatch(STAMP, line["timestamp"]) for line in logs)
    last = pusher.get("/job/x?limit=2", job_key).json["logs"]
    assert [line["message"] for line in last] == ["n2", "n1"]
    assert len(pusher.get("/job/x?limit=no", job_key).json["logs"]) == 3


def test_jobs_are_listed_by_metadata_the_newest_first(pusher):
    for number in range(5):
        pusher.submit(f"j{number}", metadata={"resource_id": f"r{number % 2}", "ignore_hash": number == 4})
    assert pusher.get("/job").json["list"] == [f"/job/j{n}" for n in (4, 3, 2, 1, 0)]
    assert pusher.get("/job?_limit=2&_offset=1").json["list"] == ["/job/j3", "/job/j2"]
    assert pusher.get(f"/job?_limit={10**19}&_offset={10**20}").json["list"] == []
    assert pusher.get("/job?resource_id=r1").json["list"] == ["/job/j3", "/job/j1"]
    assert pusher.get("/job?resource_id=r0&ignore_hash=true").json["list"] == ["/job/j4"]
    assert pusher.get("/job?ckan_url=null").json["list"] == []
    others = {"été": "à côté", "flag": True, "list": ["é", 1], "none": None, "number": 1.5}
    pusher.submit("x", metadata=others)
    for name, value in others.items():
        wanted = value if isinstance(value, str) else json.dumps(value)
        assert pusher.http.get("/datapusher/job", query_string={name: wanted}).json["list"] == ["/job/x"], name
    assert pusher.http.get("/datapusher/job", query_string={"flag": "tru"}).json["list"] == []
    assert pusher.http.get("/datapusher/job", query_string={"job_type": "push_to_datastore"}).json["list"] == []
    assert pusher.get("/job?_limit=x").status_code == 409


def test_a_deleted_job_is_gone_and_its_id_free(pusher):
    job_key = pusher.submit("x").json["job_key"]
    assert pusher.http.delete("/datapusher/job/x").status_code == 403
    answer = pusher.http.delete("/datapusher/job/x", headers={"Authorization": job_key})
    assert (answer.status_code, answer.json) == (200, {"success": True})
    assert pusher.get("/job/x", job_key).status_code == 404
    assert pusher.get("/job").json == {"list": []}
    assert pusher.submit("x").status_code == 200


def test_a_finished_job_has_no_data_but_says_so(pusher):
    job_key = pusher.submit("x", metadata={"mimetype": "text/csv"}).json["job_key"]
    answer = pusher.get("/job/x/data", job_key)
    assert (answer.status_code, answer.data, answer.content_type) == (200, b"", "text/csv")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/status", 200),
        ("GET", "/login", 501),
        ("DELETE", "/job?days=3", 501),
        ("GET", "/nowhere", 404),
    ],
)
def test_other_pages_answer_in_the_same_shape(pusher, method, path, status):
    answer = pusher.http.open("/datapusher" + path, method=method)
    assert answer.status_code == status
    assert status == 200 or isinstance(answer.json["error"], str)


def test_a_redis_that_is_away_is_told_at_once_as_a_string(tmp_path_factory, tmp_path):
    with RedisServer(tmp_path_factory.mktemp("away")) as server:
        pusher = Pusher(server, tmp_path)
        server.stop()
        for answer in (pusher.submit(), pusher.get("/job/x")):
            assert answer.status_code == 503
            assert isinstance(answer.json["error"], str)
            assert answer.headers["Retry-After"]
        assert not pusher.calls
        pusher.redis.close()
        pusher.services.close()
