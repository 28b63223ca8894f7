"""Archives on real workers and a real Redis, into the sandbox's entrepôt over HTTP: lost answers, kills, waits."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from datafab.core.job import Job, JobStatus
from datafab.core.services import Services
from datafab.flows.registry import localise
from datafab.sandbox.archives import COPY, Sandbox, Timings
from datafab.sandbox.control import Control, Fault, serving
from datafab.sandbox.entrepot import deliver, entrepot
from datafab.settings import child_environment
from tests.servers.celery import Cluster, until
from tests.servers.http import Answer, Site
from tests.servers.redis import PREFIX, RedisServer
from tests.workers.conftest import Bench
from webhook import create_app
from workers.app import jobs, services
from workers.canvas import start

EXTENT = {"type": "Polygon", "coordinates": [[[1.0, 44.0], [2.0, 44.0], [2.0, 45.0], [1.0, 44.0]]]}


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with entrepot() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory, running: Sandbox) -> Iterator[Bench]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        settings = {
            "DATAFAB_ENTREPOT_URL": running.url,
            "DATAFAB_ENTREPOT_TOKEN_URL": running.token_url,
            "DATAFAB_ENTREPOT_DATASTORE": running.datastore,
            "DATAFAB_ENTREPOT_CLIENT_ID": running.client_id,
            "DATAFAB_ENTREPOT_CLIENT_SECRET": running.client_secret,
            "DATAFAB_ENTREPOT_LOGIN": running.login,
            "DATAFAB_ENTREPOT_PASSWORD": running.password,
            "DATAFAB_POLL_DELAY": "0.2",
            "DATAFAB_ALLOW_PRIVATE_HOSTS": "127.0.0.1/32",
        }
        cluster = Cluster(server.url, Path(tmp_path_factory.mktemp("cluster")), app="workers", **settings)
        yield Bench(cluster, server)
        cluster.stop()


@pytest.fixture
def bench(standing: Bench) -> Bench:
    standing.mend()
    return standing


@pytest.fixture
def sandbox(running: Sandbox) -> Sandbox:
    """The entrepôt, as good as new."""
    control: Control = running.control
    control.forget()
    control.faults.clear()
    running.timings, running.ends, running.becomes = Timings(), "SUCCESS", "GENERATED"
    running.failing, running.logs = set(), ["lu", "écrit"]
    for kind in (running.uploads, running.executions, running.stored, running.tokens):
        kind.clear()
    return running


def planned(folder: Path, **changes: object) -> Path:
    (folder / "CANTON.zip").write_bytes(b"PK canton")
    (folder / "__notes.txt").write_bytes(b"for us only")
    integration = {
        "name": "CANTON_2026",
        "description": "cantons, édition 2026",
        "srs": "EPSG:2154",
        "files": ["CANTON.zip", "__notes.txt"],
        "output": {"name": "CANTON"},
        "edition": {"from": "2026-01-01", "to": "2026-12-31"},
        "extent": EXTENT,
    }
    plan = folder / "plan.json"
    plan.write_text(json.dumps({"integrations": [integration | changes]}), encoding="utf-8")
    return plan


def begun(plan: Path, **params: object) -> str:
    job, created = start("archive", localise("archive", {"plan": str(plan), **params}, services()))
    assert created
    return job.id


def failure(job: Job) -> tuple[str, str]:
    if job.error:
        return job.error.type, job.error.message
    (error,) = jobs().failures(job.id).values()
    return error.type, error.message


def made(sandbox: Sandbox) -> Counter[str]:
    """Return how often what changes something was asked for, and answered that it was done or not."""
    counted: Counter[str] = Counter()
    for each in sandbox.control.journal:
        if each["method"] != "GET" and each["path"] != "/token":
            counted[
                f"{each['method']} {each['path'].rpartition('/')[2] if each['method'] == 'POST' else ''}".strip()
            ] += 1
    return counted


#: What is asked for in a whole archive's life.
ONCE = dict.fromkeys(
    ("POST uploads", "POST data", "POST md5", "POST close", "POST executions", "POST launch", "PATCH", "DELETE"), 1
) | {"POST tags": 2}


def finished(sandbox: Sandbox, job: Job) -> None:
    """The archive is there once, whole and described, and its upload gone."""
    assert (job.status, job.counts.ok) == (JobStatus.SUCCEEDED, 1), failure(job)
    (upload,) = sandbox.uploads.values()
    (stored,) = sandbox.stored.values()
    assert len(sandbox.executions) == 1
    assert upload["state"] == "DELETED"
    assert list(upload["files"]) == ["data/CANTON.zip"]
    assert (stored["name"], stored["description"]) == ("CANTON", "cantons, édition 2026")
    assert (stored["edition"], stored["extent"]) == ({"from": "2026-01-01", "to": "2026-12-31"}, EXTENT)
    assert stored["tags"] == upload["tags"]
    assert set(stored["tags"]) == {"datafab", "datafab_content"}


def test_an_archive_is_delivered_made_described_and_tidied_up(bench: Bench, sandbox: Sandbox, tmp_path: Path):
    job = bench.end(begun(planned(tmp_path)))
    finished(sandbox, job)
    assert [stage.stage for stage in job.progress] == ["deliver", "execute", "describe", "tidy"]
    assert made(sandbox) == ONCE
    lines = [line["event"] for line in jobs().logs(job.id)]
    assert "not delivered: the entrepôt ignores such names" in lines


def test_a_file_at_a_url_is_fetched_and_an_upload_may_be_kept(bench: Bench, sandbox: Sandbox, tmp_path: Path):
    with Site({"/a/CANTON.zip?x=1": Answer(b"PK canton")}) as site:
        plan = planned(tmp_path, files=[site.url("/a/CANTON.zip?x=1")], keep_upload=True)
        assert bench.end(begun(plan)).counts.ok == 1
    (upload,) = sandbox.uploads.values()
    assert (upload["state"], list(upload["files"])) == ("CHECKING", ["data/CANTON.zip"])
    assert sandbox.state(upload) == "CLOSED"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "uploads"),
        ("POST", "tags"),
        ("POST", "data"),
        ("POST", "md5"),
        ("POST", "close"),
        ("POST", "executions"),
        ("POST", "launch"),
        ("PATCH", ""),
        ("DELETE", ""),
        ("GET", "checks"),
    ],
)
def test_an_answer_that_is_lost_makes_nothing_twice(
    bench: Bench, sandbox: Sandbox, tmp_path: Path, method: str, path: str
):
    # What only changes what is there is cut off, what makes something is answered with an error.
    lost = Fault(method=method, ends=path, status=503 if method == "POST" else 0, after=True)
    sandbox.control.faults.append(lost)
    finished(sandbox, bench.end(begun(planned(tmp_path))))
    assert lost.times == 0
    assert made(sandbox) == ONCE


@pytest.mark.parametrize(("method", "path"), [("POST", "data"), ("POST", "executions"), ("GET", "checks")])
def test_a_service_in_trouble_is_asked_again(bench: Bench, sandbox: Sandbox, tmp_path: Path, method: str, path: str):
    sandbox.control.faults += [
        Fault(method=method, ends=path, status=429, headers={"Retry-After": "0"}),
        Fault(method=method, ends=path, status=502),
    ]
    finished(sandbox, bench.end(begun(planned(tmp_path))))


@pytest.mark.parametrize(
    ("path", "phase"),
    [
        ("uploads", "deliver"),
        ("data", "deliver"),
        ("close", "deliver"),
        ("executions", "execute"),
        ("launch", "execute"),
        ("PATCH", "describe"),
        ("DELETE", "tidy"),
    ],
)
def test_a_worker_that_is_killed_makes_nothing_twice(
    bench: Bench, sandbox: Sandbox, tmp_path: Path, path: str, phase: str
):
    # The answer comes late, so that the kill falls between what is done and what is noted.
    method, ends = (path, "") if path.isupper() else ("POST", path)
    sandbox.control.faults.append(Fault(method=method, ends=ends, status=204, delay=3, after=True))
    job = begun(planned(tmp_path))
    until(lambda: _has(sandbox, path), 30)
    assert bench.job(job).stage == phase
    bench.cluster.parts["io"].kill()
    bench.mend()
    finished(sandbox, bench.end(job, 60))
    # What the killed one has asked for stands in the journal when it was answered, or not at all.
    counts = made(sandbox)
    assert {what: count for what, count in counts.items() if count > ONCE[what]} == {}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("which", [0, 1])
def test_a_worker_that_is_killed_while_it_tags_leaves_nothing_unclaimed(
    bench: Bench, sandbox: Sandbox, tmp_path: Path, which: int, *, after: bool
):
    """The first tag is the upload's, the second that of the stored data; it was set when the worker died, or not."""
    fault = Fault(method="POST", ends="tags", skip=which, status=503, delay=3, after=after)
    sandbox.control.faults.append(fault)
    job = begun(planned(tmp_path))
    until(lambda: fault.times == 0, 30)
    bench.cluster.parts["io"].kill()
    bench.mend()
    finished(sandbox, bench.end(job, 60))
    counts = made(sandbox)
    assert {what: counts[what] for what in ("POST uploads", "POST executions")} == {
        "POST uploads": 1,
        "POST executions": 1,
    }


def _has(sandbox: Sandbox, path: str) -> bool:
    uploads, executions = list(sandbox.uploads.values()), list(sandbox.executions.values())
    seen = {
        "uploads": bool(uploads),
        "data": any(upload["files"] for upload in uploads),
        "close": any("closed" in upload for upload in uploads),
        "executions": bool(executions),
        "launch": any("launched" in execution for execution in executions),
        "PATCH": any("edition" in stored for stored in list(sandbox.stored.values())),
        "DELETE": any(upload["state"] == "DELETED" for upload in uploads),
    }
    return seen[path]


def test_a_token_that_ends_is_replaced(bench: Bench, sandbox: Sandbox, tmp_path: Path):
    sandbox.timings.wait = 2.0
    job = begun(planned(tmp_path))
    until(lambda: any("launched" in each for each in list(sandbox.executions.values())), 30)
    sandbox.tokens.clear()
    finished(sandbox, bench.end(job))
    assert 401 in {each["status"] for each in sandbox.control.journal}


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"failing": {"Vérification archive"}}, "entrepot_check", "failed Vérification archive: contrôle commencé"),
        (
            {"ends": "FAILURE", "logs": ["lu", "disque plein"]},
            "entrepot_execution",
            "FAILURE, its output is UNSTABLE: lu /",
        ),
        ({"ends": "ABORTED"}, "entrepot_execution", "ended ABORTED"),
        ({"becomes": "UNSTABLE"}, "entrepot_execution", "ended SUCCESS, its output is UNSTABLE"),
    ],
)
def test_what_fails_says_why_and_keeps_the_upload(
    bench: Bench, sandbox: Sandbox, tmp_path: Path, *, changes, code, said
):
    for name, value in changes.items():
        setattr(sandbox, name, value)
    job = bench.end(begun(planned(tmp_path)))
    assert (job.counts.failed, failure(job)[0]) == (1, code)
    assert (job.status, job.error.message) == (JobStatus.FAILED, failure(job)[1])
    assert said in failure(job)[1]
    (upload,) = sandbox.uploads.values()
    assert upload["state"] != "DELETED"


def test_success_is_not_taken_for_done_before_the_output_is_there(bench: Bench, sandbox: Sandbox, tmp_path: Path):
    sandbox.timings.lag = 1.5
    finished(sandbox, bench.end(begun(planned(tmp_path))))


def test_an_execution_that_hangs_is_aborted_in_time(bench: Bench, sandbox: Sandbox, tmp_path: Path):
    sandbox.ends = "WAITING"
    job = bench.end(begun(planned(tmp_path), patience=1))
    code, said = failure(job)
    assert (code, "WAITING CREATED for more than 1 s; aborted: " in said) == ("timed_out", True), said
    assert [sandbox.status(each) for each in sandbox.executions.values()] == ["ABORTED"]


def test_notes_of_the_version_before_are_read_from_redis(bench: Bench, sandbox: Sandbox, tmp_path: Path):
    """It kept the runner's notes among the stage's own: here an item whose time has not come, after five failures."""
    sandbox.ends = "WAITING"
    job = begun(planned(tmp_path))
    until(lambda: any("launched" in each for each in list(sandbox.executions.values())), 30)
    bench.cluster.parts["io"].kill()
    key = f"{PREFIX}job:{job}:done:execute:-"
    until(lambda: bench.redis.hexists(key, "m:0"), 10)
    memo = json.loads(bench.redis.hget(key, "m:0"))
    former = {"_since": time.time(), "_due": time.time() + 0.5, "_failures": 5, "_why": "busy"}
    bench.redis.hset(key, "m:0", json.dumps(memo | former))
    bench.redis.hdel(key, "r:0")
    ((kept, waiting),) = jobs().notes(job, "execute", None).values()
    assert (kept, waiting) == (memo | former, None)
    bench.mend()
    until(lambda: bench.redis.hexists(key, "r:0"), 60)
    ((kept, waiting),) = jobs().notes(job, "execute", None).values()
    assert not former.keys() & kept.keys()
    assert waiting
    assert waiting["since"] == former["_since"]
    sandbox.ends = "SUCCESS"
    finished(sandbox, bench.end(job, 60))


def test_a_callback_is_a_hint_to_look_now(bench: Bench, sandbox: Sandbox, tmp_path: Path):
    # Looks are an hour apart: without the callback it would not end.
    settings = bench.settings.model_copy(update={"public_url": "http://127.0.0.1:1", "poll_delay": 0.2})
    app = create_app(settings, Services(settings, jobs=jobs()), start, bench.ledger.wake)
    with serving(app) as url:
        bench.cluster.env |= {"DATAFAB_PUBLIC_URL": url, "DATAFAB_POLL_DELAY": "3600"}
        sandbox.timings.ask = sandbox.timings.check = 0.0
        bench.cluster.parts["io"].kill()
        bench.mend()
        try:
            job = begun(planned(tmp_path))
            until(lambda: bench.job(job).status == JobStatus.WAITING, 30)
            assert bench.ledger.wake(job) == 1  # the checks, of which nobody tells
            until(lambda: any("launched" in each for each in list(sandbox.executions.values())), 30)
            (execution,) = sandbox.executions.values()
            for key, status in (("wrong", 401), ("", 401)):
                headers = {"X-Datafab-Key": key}
                answer = requests.post(f"{url}/hooks/entrepot/{job}", json={}, headers=headers, timeout=5)
                assert answer.status_code == status
            assert execution["callback"]["headers"]["X-Datafab-Key"] not in str(bench.job(job).dump())
            until(lambda: sandbox.status(execution) == "SUCCESS", 10)
            until(lambda: bench.job(job).status == JobStatus.WAITING, 30)
            assert deliver(sandbox) == [202]
            finished(sandbox, bench.end(job))
            assert deliver(sandbox) == [401]  # late: its key went with the job
        finally:
            bench.cluster.env |= {"DATAFAB_POLL_DELAY": "0.2"}
            del bench.cluster.env["DATAFAB_PUBLIC_URL"]
            bench.cluster.parts["io"].kill()


def test_a_status_that_nobody_knows_is_waited_for(bench: Bench, sandbox: Sandbox, tmp_path: Path):
    sandbox.ends = "REQUEUED"
    job = begun(planned(tmp_path))
    until(lambda: any("unknown status" in line["event"] for line in jobs().logs(job)), 30)
    sandbox.ends = "SUCCESS"
    finished(sandbox, bench.end(job))


def test_an_output_of_that_name_is_not_overwritten(bench: Bench, sandbox: Sandbox, tmp_path: Path):
    assert bench.end(begun(planned(tmp_path))).counts.ok == 1
    sandbox.control.forget()
    code, said = failure(bench.end(begun(planned(tmp_path, name="CANTON_2027"))))
    (stored,) = sandbox.stored.values()
    assert (code, stored["_id"] in said, "is the one of another plan" in said) == ("entrepot_output", True, True), said
    assert not made(sandbox)


def test_a_plan_that_has_succeeded_sends_nothing_again(bench: Bench, sandbox: Sandbox, tmp_path: Path):
    finished(sandbox, bench.end(begun(planned(tmp_path))))
    sandbox.control.forget()
    assert bench.end(begun(planned(tmp_path))).counts.ok == 1
    assert not made(sandbox)
    # Its files have changed since: nothing is written over, and nothing sent either.
    plan = planned(tmp_path)
    (tmp_path / "CANTON.zip").write_bytes(b"PK CANTON")
    code, said = failure(bench.end(begun(plan)))
    assert (code, "by an earlier run of this plan from other files: delete them" in said) == ("entrepot_output", True)
    assert not made(sandbox)


def test_a_description_is_mended_by_another_run(bench: Bench, sandbox: Sandbox, tmp_path: Path):
    assert bench.end(begun(planned(tmp_path, description="cantns"))).counts.ok == 1
    sandbox.control.forget()
    finished(sandbox, bench.end(begun(planned(tmp_path))))
    assert made(sandbox) == {"PATCH": 1}


def others(sandbox: Sandbox, state: str, kind: str = "ARCHIVE", **tags: str) -> dict:
    """Put an upload there that somebody else has made, of the plan's name and with its description."""
    given = {"name": "CANTON_2026", "description": "cantons, édition 2026", "type": kind, "srs": "EPSG:2154"}
    upload = sandbox.create_upload(given)
    upload["tags"] |= tags
    if state != "empty":
        digest = hashlib.md5(b"PK CANTON", usedforsecurity=False).hexdigest()
        upload["files"] = {"data/CANTON.zip": (len(b"PK CANTON"), digest)}
        upload["md5"] = {"CANTON.md5": f"{digest if state != 'UNSTABLE' else 0}  data/CANTON.zip\n"}
    if state in {"CLOSED", "UNSTABLE"}:
        sandbox.close(upload)
        sandbox.control.clock.advance(60)
        assert sandbox.state(upload) == state
    return upload


@pytest.mark.parametrize(
    ("state", "kind", "tags"),
    [
        ("empty", "ARCHIVE", {}),
        ("empty", "VECTOR", {}),
        ("OPEN", "ARCHIVE", {}),
        ("OPEN", "VECTOR", {}),
        ("CLOSED", "ARCHIVE", {}),
        ("UNSTABLE", "ARCHIVE", {}),
        ("UNSTABLE", "VECTOR", {}),
        ("OPEN", "ARCHIVE", {"datafab": "another-plan", "datafab_content": "x"}),
        ("OPEN", "ARCHIVE", {"datafab_content": "x", "tuto": "oui"}),
    ],
)
def test_an_upload_of_somebody_else_is_left_as_it_is(
    bench: Bench, sandbox: Sandbox, tmp_path: Path, *, state: str, kind: str, tags: dict
):
    upload = others(sandbox, state, kind, **tags)
    before = copy.deepcopy(upload)
    code, said = failure(bench.end(begun(planned(tmp_path))))
    assert code == "entrepot_upload", said
    for part in ("'CANTON_2026'", upload["_id"], kind, sandbox.state(upload), "delete it, or give this integration"):
        assert part in said
    assert upload == before
    assert not made(sandbox)


@pytest.mark.parametrize("launched", [False, True])
def test_stored_data_of_somebody_else_are_left_as_they_are(
    bench: Bench, sandbox: Sandbox, tmp_path: Path, *, launched: bool
):
    upload = others(sandbox, "CLOSED")
    upload["name"] = "another"
    output = {"stored_data": {"name": "CANTON"}}
    execution = sandbox.create_execution({"processing": COPY, "inputs": {"upload": [upload["_id"]]}, "output": output})
    if launched:
        sandbox.launch(execution)
        sandbox.control.clock.advance(60)
    before = copy.deepcopy((upload, execution, sandbox.stored))
    code, said = failure(bench.end(begun(planned(tmp_path))))
    status = "GENERATED" if launched else "CREATED"
    assert (code, execution["output"] in said, status in said) == ("entrepot_output", True, True), said
    assert (upload, execution, sandbox.stored) == before
    assert not made(sandbox)


def test_an_upload_whose_mark_somebody_takes_off_is_kept(bench: Bench, sandbox: Sandbox, tmp_path: Path):
    sandbox.timings.run = 1.0
    job = begun(planned(tmp_path))
    until(lambda: any("launched" in each for each in list(sandbox.executions.values())), 30)
    (upload,) = sandbox.uploads.values()
    upload["tags"].clear()
    assert bench.end(job).counts.ok == 1
    assert sandbox.state(upload) == "CLOSED"
    assert any("the upload is kept" in line["event"] for line in jobs().logs(job))


def test_jobs_of_one_plan_make_one_archive(bench: Bench, sandbox: Sandbox, tmp_path: Path):
    """Both have two integrations, in the opposite order: neither waits for what the other holds."""
    plan = json.loads(planned(tmp_path).read_text(encoding="utf-8"))
    (first,) = plan["integrations"]
    second = first | {"name": "A_2026", "output": {"name": "A"}}
    begun_jobs = []
    for number in range(4):
        path = tmp_path / f"plan-{number}.json"
        path.write_text(json.dumps({"integrations": [first, second][:: 1 if number % 2 else -1]}), encoding="utf-8")
        begun_jobs.append(begun(path))
    assert [bench.end(job, 120).counts.ok for job in begun_jobs] == [2, 2, 2, 2]
    assert made(sandbox) == {what: 2 * count for what, count in ONCE.items()}


def test_a_job_that_was_away_does_not_go_on_beside_the_next_one(bench: Bench, sandbox: Sandbox, tmp_path: Path):
    """A parked job holds no name; when somebody tries it again, another job may be at work on what it had begun."""
    sandbox.timings.check = 3600.0
    job = begun(planned(tmp_path))
    until(lambda: made(sandbox)["POST close"] == 1, 60)
    bench.redis.hset(f"{PREFIX}job:another", "status", "running")
    bench.redis.set(f"{PREFIX}gate:entrepot:{sandbox.datastore}:output:CANTON", "another")
    sandbox.timings.check = 0.1

    def why() -> list[str]:
        return [str(waiting) for _, waiting in jobs().notes(job, "deliver", None).values()]

    until(lambda: [each for each in why() if "job another is working on the output 'CANTON'" in each], 60)
    assert not sandbox.executions
    bench.redis.delete(f"{PREFIX}job:another")
    finished(sandbox, bench.end(job, 120))


SCATTERED = 40


@pytest.mark.parametrize("scattered", [True, False])
def test_failed_looks_do_not_add_up(bench: Bench, sandbox: Sandbox, tmp_path: Path, *, scattered: bool):
    """Every other look at an execution fails, or all of them for a while."""
    sandbox.ends = "WAITING"
    at_once = {"Retry-After": "0"}
    faults = [
        Fault(path=f"/api/datastores/{sandbox.datastore}/processings/executions/", method="GET", status=503)
        for _ in range(SCATTERED)
    ]
    for number, fault in enumerate(faults, 1):
        fault.headers, fault.skip = at_once, number if scattered else 1
    job = begun(planned(tmp_path))
    until(lambda: any("launched" in each for each in list(sandbox.executions.values())), 30)
    sandbox.control.faults += faults
    until(lambda: bench.ledger.wake(job) is not None and not any(fault.times for fault in faults), 120)
    assert not bench.job(job).final
    sandbox.ends = "SUCCESS"
    until(lambda: (bench.ledger.wake(job), bench.job(job).final)[1], 60)
    finished(sandbox, bench.end(job, 60))


@pytest.mark.parametrize("file", [(3, "half"), (9, "another of its size")])
def test_what_was_broken_off_is_gone_on_with(bench: Bench, sandbox: Sandbox, tmp_path: Path, file: tuple[int, str]):
    """A job before this one delivered something else, and its checks failed."""
    sandbox.failing.add("Vérification standard")
    assert bench.end(begun(planned(tmp_path))).counts.failed == 1
    sandbox.failing.clear()
    (upload,) = sandbox.uploads.values()
    upload["files"] |= {"data/CANTON.zip": file, "data/formerly.zip": (1, "x")}
    finished(sandbox, bench.end(begun(planned(tmp_path))))
    assert made(sandbox)["POST uploads"] == 1


@pytest.mark.parametrize("listed", [True, False])
def test_files_of_before_are_no_part_of_an_open_upload(bench: Bench, sandbox: Sandbox, tmp_path: Path, *, listed: bool):
    """A job before this one was cancelled, with or without its md5 list; its file had the same size."""
    plan = planned(tmp_path)
    (tmp_path / "CANTON.zip").write_bytes(b"PK CANTON")
    sandbox.failing.add("Vérification archive")
    assert bench.end(begun(plan)).counts.failed == 1
    sandbox.failing.clear()
    (upload,) = sandbox.uploads.values()
    upload["state"] = "OPEN"
    upload["files"]["data/formerly.zip"] = (1, "x")
    if not listed:
        upload["md5"].clear()
    finished(sandbox, bench.end(begun(planned(tmp_path))))
    assert made(sandbox)["POST uploads"] == 1


@pytest.mark.parametrize("state", ["OPEN", "CLOSED", "UNSTABLE"])
def test_an_upload_of_ours_with_the_md5_list_of_somebody_else_is_left_as_it_is(
    bench: Bench, sandbox: Sandbox, tmp_path: Path, state: str
):
    sandbox.ends = "FAILURE"
    assert bench.end(begun(planned(tmp_path))).counts.failed == 1
    sandbox.control.forget()
    (upload,) = sandbox.uploads.values()
    ((_, digest),) = upload["files"].values()
    upload["md5"] = {"CANTON.md5": f"{digest if state == 'CLOSED' else 0}  data/CANTON.zip\n"}
    if state == "OPEN":
        upload["state"] = "OPEN"
    assert sandbox.state(upload) == state
    before = copy.deepcopy(upload)
    sandbox.stored.clear()
    code, said = failure(bench.end(begun(planned(tmp_path))))
    assert (code, "delete it, or give this integration" in said) == ("entrepot_upload", True), said
    assert upload == before
    assert not made(sandbox)


def test_an_upload_that_was_closed_with_other_files_is_not_taken_for_this_one(
    bench: Bench, sandbox: Sandbox, tmp_path: Path
):
    sandbox.ends = "FAILURE"
    assert bench.end(begun(planned(tmp_path))).counts.failed == 1
    plan = planned(tmp_path)
    (tmp_path / "CANTON.zip").write_bytes(b"PK CANTON")
    code, said = failure(bench.end(begun(plan)))
    assert (code, "holds other files: delete it, or give" in said) == ("entrepot_upload", True), said
    # With its own files it is; then it fails as the one before has, and says how to go on.
    code, said = failure(bench.end(begun(planned(tmp_path))))
    assert (code, "delete the stored data" in said) == ("entrepot_execution", True), said
    assert (made(sandbox)["POST uploads"], made(sandbox)["POST executions"]) == (1, 1)


def test_checks_that_fail_after_a_lost_answer_are_not_asked_for_again(bench: Bench, sandbox: Sandbox, tmp_path: Path):
    sandbox.failing.add("Vérification archive")
    sandbox.control.faults.append(Fault(method="POST", ends="close", status=503, after=True))
    assert failure(bench.end(begun(planned(tmp_path))))[0] == "entrepot_check"
    assert made(sandbox)["POST close"] == 1
    assert "POST open" not in made(sandbox)


def test_checks_that_hang_are_given_up_in_time(bench: Bench, sandbox: Sandbox, tmp_path: Path):
    sandbox.timings.check = 3600.0
    code, said = failure(bench.end(begun(planned(tmp_path), patience=1)))
    assert (code, "checks: CHECKING for more than 1 s" in said) == ("timed_out", True), said
    assert not sandbox.executions


def test_wrong_credentials_fail_at_once_and_stay_secret(bench: Bench, sandbox: Sandbox, tmp_path: Path):
    right, sandbox.password = sandbox.password, "another"
    try:
        # A worker that has a token keeps it: a fresh one has to ask.
        bench.cluster.parts["io"].kill()
        bench.mend()
        job = bench.end(begun(planned(tmp_path)))
    finally:
        sandbox.password = right
    code, said = failure(job)
    assert (code, "DATAFAB_ENTREPOT_CLIENT_ID, _LOGIN" in said) == ("entrepot_login", True), said
    assert len(sandbox.control.asked("POST", "/token")) == 1


def test_password_secret_and_tokens_are_found_nowhere(bench: Bench, sandbox: Sandbox, tmp_path: Path):
    finished(sandbox, bench.end(begun(planned(tmp_path))))
    everything = bench.everything()
    everything += "".join(path.read_text(errors="replace") for path in bench.cluster.folder.rglob("*.log"))
    assert "CANTON_2026" in everything
    for secret in (sandbox.password, sandbox.client_secret, *sandbox.tokens):
        assert secret not in everything


def test_a_job_can_be_followed_from_elsewhere(bench: Bench, sandbox: Sandbox, tmp_path: Path):
    job = begun(planned(tmp_path))

    def watch(watched: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "datafab", "archive", "watch", watched, "--json"]
        env = child_environment(bench.settings)
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)

    told = watch(job)
    ended = json.loads(told.stdout)
    assert (ended["id"], ended["status"], told.returncode) == (job, "succeeded", 0)
    assert "no job 'absent'" in watch("absent").stderr


#: Jobs that wait at once; `make soak` has a thousand of them.
WAITING = int(os.environ.get("DATAFAB_ARCHIVES", "60"))


@pytest.mark.timeout(900)
def test_archives_that_wait_hold_no_worker_and_no_message(bench: Bench, sandbox: Sandbox, tmp_path: Path):
    sandbox.ends = "WAITING"
    begun_jobs = [
        begun(planned(tmp_path, name=f"canton {n}", files=["CANTON.zip"], output={"name": f"canton {n}"}))
        for n in range(WAITING)
    ]
    limit = 60 + WAITING / 2
    until(lambda: sum("launched" in each for each in list(sandbox.executions.values())) == WAITING, limit)
    until(lambda: {bench.job(job).status for job in begun_jobs} == {JobStatus.WAITING}, limit, 0.5)
    # Some look now and then, less and less often; so a moment comes in which no message of theirs is anywhere.
    bench.settle(limit)
    sandbox.ends = "SUCCESS"
    assert {bench.end(job, limit).status for job in begun_jobs} == {JobStatus.SUCCEEDED}
    assert len(sandbox.executions) == WAITING
