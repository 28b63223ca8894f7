"""Pushes on real workers and a real Redis, into the sandbox's CKAN, submitted as CKAN does it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import requests
from flask.testing import FlaskClient

from datafab.core.job import Job, JobStatus
from datafab.core.jobs import RedisJobs
from datafab.core.redis import connect
from datafab.core.services import Services
from datafab.embedded import free_port
from datafab.sandbox.ckan import TOKEN, Sandbox, ckan
from datafab.sandbox.portal import FILES
from tests.servers.celery import Cluster, Process, until
from tests.servers.http import Answer, Site
from tests.servers.redis import RedisServer
from tests.workers.conftest import Bench
from webhook import create_app
from workers.app import jobs
from workers.canvas import start

#: French: semicolons, cp1252, decimal commas, identifiers with leading zeros.
COMMUNES = "Code INSEE;commune;montant (€);effectif\n01004;Ambérieu;1234,50;12\n2A004;Ajaccio;-0,5;\n".encode("cp1252")
ROWS = [
    {"_id": 1, "Code INSEE": "01004", "commune": "Ambérieu", "montant (€)": 1234.5, "effectif": 12},
    {"_id": 2, "Code INSEE": "2A004", "commune": "Ajaccio", "montant (€)": -0.5, "effectif": None},
]
MD5 = hashlib.md5(COMMUNES, usedforsecurity=False).hexdigest()
OLD = [{"id": "a", "type": "text"}]


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        folder = Path(tmp_path_factory.mktemp("cluster"))
        cluster = Cluster(server.url, folder, app="workers", DATAFAB_ALLOW_PRIVATE_HOSTS="127.0.0.1/32")
        yield Bench(cluster, server)
        cluster.stop()


@pytest.fixture
def bench(standing: Bench) -> Bench:
    standing.mend()
    return standing


def refusal(**error: object) -> str:
    """Return the body with which CKAN refuses an action."""
    return json.dumps({"help": "http://ckan/help_show?name=x", "success": False, "error": error})


#: Flower's user and password.
LOGIN = ("tests", "a password")


@pytest.fixture
def flower(bench: Bench) -> Iterator[str]:
    """Flower beside the cluster; gives the URL of its tasks."""
    port = free_port()
    command = ("workers.flower", "--address=127.0.0.1", f"--port={port}")
    env = bench.cluster.env | {"FLOWER_BASIC_AUTH": ":".join(LOGIN)}
    process = Process("flower", *command, env=env, log=bench.cluster.folder)
    url = f"http://127.0.0.1:{port}/api/tasks"
    until(lambda: seen(url) is not None, 30, 0.2)
    yield url
    process.stop()


def seen(flower: str) -> str | None:
    """Return all that Flower has seen of tasks; None while it does not answer."""
    try:
        return requests.get(flower, auth=LOGIN, timeout=5).text
    except requests.ConnectionError:
        return None


@pytest.fixture
def pusher(bench: Bench) -> FlaskClient:
    services = Services(bench.settings, jobs=RedisJobs(bench.settings, connect(bench.settings)))
    return create_app(bench.settings, services, start).test_client()


@pytest.fixture
def portal() -> Iterator[Site]:
    with Site({"/communes.csv": Answer(COMMUNES)}) as site:
        yield site


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with ckan() as sandbox:
        yield sandbox


def push(sandbox: Sandbox, resource: str, *, key: str = TOKEN, **metadata: object) -> str:
    metadata = {"ckan_url": sandbox.url, "resource_id": resource} | metadata
    job, created = start("push", {"metadata": metadata}, secrets={"api_key": key})
    assert created
    return job.id


def submission(sandbox: Sandbox, resource: str, **metadata: object) -> dict[str, object]:
    """What CKAN sends."""
    facts = {"ignore_hash": False, "ckan_url": sandbox.url, "resource_id": resource, "set_url_type": False}
    facts |= {"task_created": "2026-11-20 21:55:18.656034", "original_url": sandbox.resources[resource]["url"]}
    return {
        "api_key": sandbox.token,
        "job_type": "push_to_datastore",
        "result_url": f"{sandbox.url}/api/3/action/datapusher_hook",
        "metadata": facts | metadata,
    }


def filled(sandbox: Sandbox, resource: str) -> None:
    """Give a resource a table from before, which a failing push must leave as it is."""
    create = {"resource_id": resource, "force": True, "fields": OLD, "records": [{"a": "old"}]}
    assert sandbox.answer("datastore_create", create, TOKEN)[0] == 200


def failure(job: Job) -> str:
    if job.error:
        return job.error.message
    (error,) = jobs().failures(job.id).values()
    return error.message


def log(job: Job) -> str:
    return "\n".join(line["event"] for line in jobs().logs(job.id))


def hook(sandbox: Sandbox) -> dict:
    until(lambda: sandbox.hooks, 10)
    return sandbox.hooks[-1]


def test_a_collected_file_is_pushed_even_if_it_was_collected_before(
    bench: Bench, sandbox: Sandbox, portal: Site, tmp_path: Path
):
    (tmp_path / "endpoint.csv").write_text(f"endpoint,endpoint-url\n,{portal.url('/communes.csv')}\n", encoding="utf-8")
    given = {"endpoints": str(tmp_path / "endpoint.csv"), "collection": str(tmp_path), "then": ["analyse", "push"]}
    for collected in ("ok", "unchanged"):
        resource = sandbox.add("http://elsewhere.example.org/communes.csv", format="")
        params = given | {"ckan_url": sandbox.url, "resource_id": resource}
        job, _ = start("collect", params, secrets={"api_key": TOKEN})
        ended = bench.end(job.id)
        assert (ended.counts.ok, getattr(ended.progress[0], collected)) == (1, 1)
        assert sandbox.tables[resource].rows == ROWS
        assert sandbox.resources[resource]["hash"] == MD5


def test_a_push_within_another_flow_needs_its_key_too(bench: Bench, sandbox: Sandbox, portal: Site, tmp_path: Path):
    (tmp_path / "endpoint.csv").write_text(f"endpoint,endpoint-url\n,{portal.url('/communes.csv')}\n", encoding="utf-8")
    given = {"endpoints": str(tmp_path / "endpoint.csv"), "collection": str(tmp_path), "then": ["push"]}
    job = bench.run("collect", ckan_url=sandbox.url, resource_id=sandbox.add("http://e.example.org/"), **given)
    assert (job.status, "the secret 'api_key' was not given" in failure(job)) == (JobStatus.FAILED, True)


def test_a_table_is_typed_loaded_and_its_hash_saved(bench: Bench, sandbox: Sandbox, portal: Site):
    resource = sandbox.add(portal.url("/communes.csv"))
    job = bench.end(push(sandbox, resource))
    assert job.counts
    assert (job.status, job.counts.ok) == (JobStatus.SUCCEEDED, 1)
    assert sandbox.tables[resource].rows == ROWS
    kinds = {field["id"]: field["type"] for field in sandbox.tables[resource].fields}
    assert kinds == {"Code INSEE": "text", "commune": "text", "montant (€)": "numeric", "effectif": "bigint"}
    shown = sandbox.resources[resource]
    assert shown["hash"] == MD5
    assert (shown["datastore_active"], shown["url_type"]) == (True, None)
    assert f'Successfully pushed 2 entries to "{resource}".' in log(job)


def test_the_same_content_is_not_loaded_twice_unless_asked_for(bench: Bench, sandbox: Sandbox, portal: Site):
    resource = sandbox.add(portal.url("/communes.csv"))
    bench.end(push(sandbox, resource, set_url_type=True))
    assert sandbox.resources[resource]["url_type"] == "datapusher"
    again = bench.end(push(sandbox, resource))
    assert again.counts
    assert (again.status, again.counts.unchanged) == (JobStatus.SUCCEEDED, 1)
    assert f"The file hash hasn't changed: {MD5}." in log(again)
    assert sandbox.calls["datastore_create"] == 1
    bench.end(push(sandbox, resource, ignore_hash=True))
    assert sandbox.calls["datastore_create"] == 2
    # A hash without a table is none.
    sandbox.answer("datastore_delete", {"resource_id": resource, "force": True}, TOKEN)
    bench.end(push(sandbox, resource))
    assert sandbox.tables[resource].rows == ROWS


def test_an_uploaded_file_is_fetched_with_the_key_and_from_where_ckan_is_reached(bench: Bench, sandbox: Sandbox):
    resource = sandbox.upload("été.csv", COMMUNES)
    bench.end(push(sandbox, resource))
    assert sandbox.tables[resource].rows == ROWS


def test_a_file_elsewhere_is_fetched_without_the_key(bench: Bench, sandbox: Sandbox, portal: Site):
    bench.end(push(sandbox, sandbox.add(portal.url("/communes.csv"))))
    ((_, headers),) = portal.requests
    assert TOKEN not in str(headers)


def test_a_datastore_dump_is_left_alone(bench: Bench, sandbox: Sandbox):
    job = bench.end(push(sandbox, sandbox.add("http://x/datastore/dump/1", url_type="datastore")))
    assert job.counts
    assert (job.status, job.counts.skipped) == (JobStatus.SUCCEEDED, 1)
    assert "Dump files are managed with the Datastore API" in log(job)


@pytest.mark.parametrize(
    ("metadata", "key", "message"),
    [
        ({}, TOKEN, "Metadata missing"),
        ({"ckan_url": "http://x"}, TOKEN, "No id provided."),
        ({"resource_id": "r"}, TOKEN, "No ckan_url provided."),
        ({"resource_id": "r", "ckan_url": "http://x"}, "", "No CKAN API key provided"),
        ({"resource_id": "r", "ckan_url": "http://x"}, None, "the secret 'api_key' was not given"),
    ],
)
def test_a_push_that_lacks_something_says_what(bench: Bench, metadata: dict, key: str | None, message: str):
    job, _ = start("push", {"metadata": metadata}, secrets=None if key is None else {"api_key": key})
    ended = bench.end(job.id)
    assert ended.status == JobStatus.FAILED
    assert failure(ended).startswith(message)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        pytest.param(Answer(b"gone", 404), "404 Not Found", id="source answers 404"),
        pytest.param(Answer(b"<html>Connexion</html>"), "a web page, not a table", id="web page"),
        pytest.param(Answer(b""), "is empty", id="empty file"),
        pytest.param(Answer(b"a;b\n"), "has a header but no rows", id="header only"),
        pytest.param(Answer(b"a,b\n1,2\n1,2,3\n"), "line 3 has 3 cells, the header 2", id="ragged"),
        pytest.param(
            Answer(b"a,b\n" + 30 * b"1,2\n" + b"x\0y,3\n"),
            "line 32, column 'a': the cell holds a NUL character",
            id="NUL",
        ),
        pytest.param(Answer(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0"), "neither text nor a workbook", id="binary"),
    ],
)
def test_the_old_table_survives_a_file_that_cannot_be_loaded(
    bench: Bench, sandbox: Sandbox, portal: Site, answer: Answer, message: str
):
    portal.answers["/bad.csv"] = answer
    resource = sandbox.add(portal.url("/bad.csv"))
    filled(sandbox, resource)
    job = bench.end(push(sandbox, resource))
    assert message in failure(job)
    assert sandbox.tables[resource].rows == [{"_id": 1, "a": "old"}]
    assert sandbox.resources[resource]["hash"] == ""


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///etc/passwd", "Only http, https, and ftp resources may be fetched."),
        ("", "Only http, https, and ftp resources may be fetched."),
        ("ftp://example.org/a.csv", "ftp is not supported yet"),
        ("http://10.255.255.1/a.csv", "private"),
    ],
)
def test_an_address_that_may_not_be_fetched(bench: Bench, sandbox: Sandbox, url: str, message: str):
    assert message in failure(bench.end(push(sandbox, sandbox.add(url))))


def test_a_workbook_is_pushed_too(bench: Bench, sandbox: Sandbox, portal: Site):
    portal.answers["/budget.xlsx"] = Answer(FILES["/budget.xlsx"]().body)
    resource = sandbox.add(portal.url("/budget.xlsx"))
    assert bench.end(push(sandbox, resource)).counts.ok == 1
    first, *_, last = sandbox.tables[resource].rows
    assert first == {"_id": 1, "année": 2015, "chapitre": "chapitre 3", "montant": 25187.5}
    assert last == {"_id": 10, "année": 2024, "chapitre": "chapitre 0", "montant": 25300}


@pytest.mark.parametrize(
    ("planned", "message"),
    [
        (("resource_show", 403, refusal(message="Access denied")), "answered 403: Access denied; does the"),
        (("datastore_delete", 409, refusal(**{"read-only": ["Cannot edit"]})), "answered 409: read-only: Cannot"),
        (("datastore_create", 409, refusal(fields=["x is not"])), "answered 409: fields: x is not"),
        (("datastore_upsert", 409, refusal(records=["no"], records_row=4)), "answered 409: records: no"),
        (("resource_patch", 400, '"Bad request"'), "answered 400: Bad request"),
    ],
)
def test_what_ckan_refuses_fails_the_push_in_its_words(
    bench: Bench, sandbox: Sandbox, portal: Site, planned: tuple[str, int, str], message: str
):
    # The first insert is empty, and asks but whether the key may write.
    sandbox.failures += [planned] * (2 if planned[0] == "datastore_upsert" else 1)
    job = bench.end(push(sandbox, sandbox.add(portal.url("/communes.csv"))))
    assert job.status == JobStatus.FAILED
    assert message in failure(job)
    assert f"/api/3/action/{planned[0]}" in failure(job)


def test_a_ckan_that_is_ill_for_a_moment_is_asked_again(bench: Bench, sandbox: Sandbox, portal: Site):
    sandbox.failures += [("datastore_upsert", 503, "<html>maintenance</html>"), ("datastore_create", 502, "")]
    sandbox.failures += [("resource_patch", 500, "oops")]
    resource = sandbox.add(portal.url("/communes.csv"))
    job = bench.end(push(sandbox, resource))
    assert job.status == JobStatus.SUCCEEDED
    assert sandbox.tables[resource].rows == ROWS
    assert sandbox.calls["datastore_create"] == 2


def test_a_ckan_that_submits_before_it_has_stored_is_asked_once_more(bench: Bench, sandbox: Sandbox, portal: Site):
    later = sandbox.add(portal.url("/communes.csv"))
    sandbox.failures.append(("resource_show", 404, refusal(message="Not found")))
    job = bench.end(push(sandbox, later))
    assert sandbox.tables[later].rows == ROWS
    missing = bench.end(push(sandbox, "no-such-id"))
    assert "CKAN answered 404: Not found" in failure(missing)
    assert job.started
    assert job.ended


def test_one_push_at_a_time_loads_a_resource(bench: Bench, sandbox: Sandbox, portal: Site):
    resource = sandbox.add(portal.url("/communes.csv"))
    sandbox.delay = 0.5
    first = push(sandbox, resource, ignore_hash=True)
    until(lambda: sandbox.calls["datastore_upsert"] == 1, 10)
    second = push(sandbox, resource, ignore_hash=True)
    until(lambda: bench.job(second).status == JobStatus.WAITING, 10)
    assert bench.end(first).ended <= bench.end(second).ended
    assert sandbox.tables[resource].rows == ROWS


def test_a_killed_worker_in_the_middle_of_a_load_costs_no_row_and_doubles_none(
    bench: Bench, sandbox: Sandbox, portal: Site
):
    lines = "".join(f"{n:06d};{n};commune n° {n}\n" for n in range(9_500))
    portal.answers["/long.csv"] = Answer(f"code;n;nom\n{lines}".encode())
    resource = sandbox.add(portal.url("/long.csv"))
    sandbox.delay = 0.3
    job = push(sandbox, resource)
    until(lambda: sandbox.calls["datastore_upsert"] == 3, 20, 0.01)
    bench.cluster.parts["io"].kill()
    bench.cluster.start("io")
    ended = bench.end(job, 60)
    assert ended.status == JobStatus.SUCCEEDED
    rows = sandbox.tables[resource].rows
    assert [row["code"] for row in rows] == [f"{n:06d}" for n in range(9_500)]
    assert sandbox.calls["datastore_create"] == 2
    assert portal.hits["/long.csv"] == 1
    assert sandbox.resources[resource]["hash"]


LONG = b"code;n\n" + b"".join(b"%06d;%d\n" % (n, n) for n in range(9_500))
SHOWN = [{"_id": 1, "a": "old"}]


def loading(sandbox: Sandbox, portal: Site) -> str:
    """Return a resource with a table from before, whose file takes several slow requests."""
    portal.answers["/long.csv"] = Answer(LONG)
    resource = sandbox.add(portal.url("/long.csv"))
    filled(sandbox, resource)
    sandbox.delay = 0.3
    return resource


def in_the_middle(sandbox: Sandbox, resource: str) -> bool:
    table = sandbox.tables.get(resource)
    return table is not None and len(table.rows) > 1000


def restored(sandbox: Sandbox, resource: str) -> bool:
    table = sandbox.tables.get(resource)
    return table is not None and table.rows == SHOWN and bool(sandbox.resources[resource]["datastore_active"])


def test_a_push_that_is_cancelled_in_its_load_gives_the_former_table_back(
    bench: Bench, sandbox: Sandbox, portal: Site, pusher: FlaskClient
):
    resource = loading(sandbox, portal)
    sent = pusher.post("/datapusher/job", json=submission(sandbox, resource)).json
    until(lambda: in_the_middle(sandbox, resource), 30, 0.01)
    assert jobs().end(sent["aps_job_id"], JobStatus.CANCELLED)
    told = hook(sandbox)
    assert (told["status"], told["error"]["message"]) == ("error", "the job was cancelled")
    assert restored(sandbox, resource)
    until(lambda: not bench.redis.keys("datafab:1:secret:*"), 10)


def test_a_push_within_another_flow_gives_the_former_table_back_too(
    bench: Bench, sandbox: Sandbox, portal: Site, tmp_path: Path
):
    resource = loading(sandbox, portal)
    (tmp_path / "endpoint.csv").write_text(f"endpoint,endpoint-url\n,{portal.url('/long.csv')}\n", encoding="utf-8")
    given = {"endpoints": str(tmp_path / "endpoint.csv"), "collection": str(tmp_path), "then": ["analyse", "push"]}
    given |= {"save_csv": True, "ckan_url": sandbox.url, "resource_id": resource}
    job, _ = start("collect", given, secrets={"api_key": TOKEN})
    until(lambda: in_the_middle(sandbox, resource), 30, 0.01)
    assert jobs().end(job.id, JobStatus.CANCELLED)
    until(lambda: restored(sandbox, resource), 30)
    until(lambda: not bench.redis.keys("datafab:1:secret:*"), 10)
    until((tmp_path / "log.csv").exists, 30)  # what else follows, follows too


def test_a_load_that_kills_its_workers_is_parked_and_the_former_table_is_back(
    bench: Bench, sandbox: Sandbox, portal: Site, pusher: FlaskClient
):
    resource = loading(sandbox, portal)
    job = pusher.post("/datapusher/job", json=submission(sandbox, resource)).json["aps_job_id"]
    # A death in a process of threads is nobody's fault yet; those after it are.
    for attempt in range(2, 6):
        until(lambda attempt=attempt: sandbox.calls["datastore_create"] >= attempt, 60, 0.01)
        until(lambda: in_the_middle(sandbox, resource) or bench.job(job).final, 60, 0.01)
        if bench.job(job).final:
            break
        for name in ("io", "cpu"):
            bench.cluster.parts[name].kill()
            bench.cluster.start(name)
    until(lambda: bench.job(job).final, 60)
    assert bench.job(job).status == JobStatus.PARKED
    assert hook(sandbox)["status"] == "error"
    assert restored(sandbox, resource)


def test_a_worker_killed_while_it_restores_does_it_again(bench: Bench, sandbox: Sandbox, portal: Site):
    portal.answers["/long.csv"] = Answer(LONG)
    resource = sandbox.add(portal.url("/long.csv"))
    create = {"resource_id": resource, "force": True, "fields": OLD}
    sandbox.answer("datastore_create", create | {"records": [{"a": f"{n}"} for n in range(4000)]}, TOKEN)
    before = list(sandbox.tables[resource].rows)
    sandbox.failures.append(("datastore_create", 409, refusal(fields=["no"])))
    sandbox.delay = 0.5
    job = push(sandbox, resource)
    # The table that grows now is the former one.
    until(lambda: (table := sandbox.tables.get(resource)) and 0 < len(table.rows) < 4000, 30, 0.01)
    bench.cluster.parts["io"].kill()
    bench.cluster.start("io")
    ended = bench.end(job, 60)
    assert "answered 409: fields: no; the table was restored: the 4000 rows from before" in failure(ended)
    assert sandbox.tables[resource].rows == before


def test_ckan_submits_and_is_called_back(bench: Bench, sandbox: Sandbox, portal: Site, pusher: FlaskClient):
    resource = sandbox.add(portal.url("/communes.csv"))
    answer = pusher.post("/datapusher/job", json=submission(sandbox, resource))
    assert answer.status_code == 200
    told = hook(sandbox)
    assert told["job_id"] == answer.json["job_id"]
    assert told["job_key"] == answer.json["job_key"]
    assert (told["status"], told["error"]) == ("complete", None)
    assert told["metadata"]["resource_id"] == resource
    assert "api_key" not in told
    shown = pusher.get(f"/datapusher/job/{told['job_id']}", headers={"Authorization": told["job_key"]}).json
    assert shown == {key: value for key, value in told.items() if key != "job_key"}
    for moment in [shown["requested_timestamp"], shown["finished_timestamp"], *(x["timestamp"] for x in shown["logs"])]:
        assert datetime.strptime(moment, "%Y-%m-%dT%H:%M:%S.%f")  # noqa: DTZ007 - as CKAN does


def test_a_source_that_is_gone_is_called_back_as_an_error(
    bench: Bench, sandbox: Sandbox, portal: Site, pusher: FlaskClient
):
    resource = sandbox.add(portal.url("/gone.csv"))
    pusher.post("/datapusher/job", json=submission(sandbox, resource))
    told = hook(sandbox)
    assert told["status"] == "error"
    assert told["error"]["HTTP status code"] == 404
    assert told["error"]["Requested URL"] == portal.url("/gone.csv")
    assert "the server answered 404" in told["error"]["message"]


def test_a_push_that_fails_as_a_whole_is_called_back_too(bench: Bench, sandbox: Sandbox, pusher: FlaskClient):
    body = submission(sandbox, sandbox.add("http://x"))
    body["metadata"] = {"resource_id": "r"}
    pusher.post("/datapusher/job", json=body)
    told = hook(sandbox)
    assert (told["status"], told["error"]["message"]) == ("error", "No ckan_url provided.")


def test_a_callback_is_tried_again(bench: Bench, sandbox: Sandbox, portal: Site, pusher: FlaskClient):
    sandbox.failures.append(("datapusher_hook", 502, "bad gateway"))
    pusher.post("/datapusher/job", json=submission(sandbox, sandbox.add(portal.url("/communes.csv"))))
    assert hook(sandbox)["status"] == "complete"
    assert sandbox.calls["datapusher_hook"] == 2


def test_a_refused_callback_stands_beside_the_push_and_the_key_goes(
    bench: Bench, sandbox: Sandbox, portal: Site, pusher: FlaskClient
):
    sandbox.failures.append(("datapusher_hook", 403, "no"))
    sent = pusher.post("/datapusher/job", json=submission(sandbox, sandbox.add(portal.url("/gone.csv")))).json
    path, headers = f"/datapusher/job/{sent['job_id']}", {"Authorization": sent["job_key"]}
    shown = until(
        lambda: (job := pusher.get(path, headers=headers).json)["error"] and "callback" in job["error"] and job, 10
    )
    assert shown["status"] == "error"
    assert "the server answered 404" in shown["error"]["message"]
    assert "answered with 403" in shown["error"]["callback"]
    until(lambda: not bench.redis.keys("datafab:1:secret:*"), 5)


def test_a_key_of_another_header_goes_into_that(bench: Bench, portal: Site, sandbox: Sandbox, pusher: FlaskClient):
    body = submission(sandbox, sandbox.add(portal.url("/communes.csv")))
    body |= {"api_key": "X-CKAN-API-Key:planted", "result_url": portal.url("/hook")}
    pusher.post("/datapusher/job", json=body)
    headers = until(lambda: next((each for path, each in portal.requests if path == "/hook"), None), 10)
    assert headers["X-CKAN-API-Key"] == "planted"
    assert "Authorization" not in headers


def test_the_key_is_found_nowhere(bench: Bench, sandbox: Sandbox, portal: Site, pusher: FlaskClient, flower: str):
    """Planted in the submit, and repeated by a CKAN that quotes what it was sent."""
    sandbox.token = planted = "planted-key-5f2c"  # noqa: S105
    quoting = refusal(message="bad key {token}")
    sandbox.failures += [("resource_show", 500, quoting), ("datastore_info", 403, quoting)]
    sandbox.delay = 0.3
    sent = pusher.post("/datapusher/job", json=submission(sandbox, sandbox.add(portal.url("/communes.csv")))).json
    while not sandbox.hooks:
        kept = [line for line in bench.everything().split("\n") if planted in line]
        assert all(line.startswith("datafab:1:secret:") for line in kept)
    until(lambda: planted not in bench.everything(), 5)
    assert "bad key ***" in sandbox.hooks[0]["error"]["message"]
    assert planted not in json.dumps([sent, sandbox.hooks])
    assert planted not in pusher.get("/api/jobs?limit=500").text
    assert planted not in pusher.get("/datapusher/job").text
    tasks = until(lambda: "datafab.forget_key" in (text := seen(flower) or "") and text, 10, 0.2)
    assert sent["aps_job_id"] in tasks
    assert planted not in tasks
    assert sent["job_key"] not in tasks
    logs = "".join(part.log.read_text() for part in bench.cluster.parts.values())
    assert sent["aps_job_id"] in logs
    assert planted not in logs
    assert sent["job_key"] not in logs
