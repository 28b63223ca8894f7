"""A login or a token in the address of a file is shown nowhere, whatever becomes of the file."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from datafab.core.job import JobStatus
from datafab.index.access import IndexAccess
from tests.servers.celery import until
from tests.servers.http import Answer, Site, redirect
from tests.workers.conftest import Bench
from webhook import create_app
from workers.app import jobs, services
from workers.canvas import start

PLANTED = "planted5f2c"
TOKEN = f"access_token={PLANTED}"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    answers = {f"/a.csv?{TOKEN}": Answer(b"id;nom\n1;Paris\n2;Lyon\n"), f"/broken.csv?{TOKEN}": Answer(fault="garbage")}
    with Site(answers) as running:
        answers = {
            f"/moved.csv?{TOKEN}": redirect(running.url(f"/gone.csv?{TOKEN}").replace("://", f"://u:{PLANTED}@"))
        }
        running.answers |= answers
        yield running


def with_login(site: Site, path: str) -> str:
    return site.url(f"{path}?{TOKEN}").replace("://", f"://user:{PLANTED}@")


def shown(bench: Bench, job: str) -> str:
    """Return all that people and programs are shown of a job."""
    http = create_app(bench.settings).test_client()
    paths = [f"/api/jobs/{job}?log=1000", "/api/jobs?limit=500", f"/api/check-url/{job}", "/datapusher/job"]
    found = [http.get(path).text for path in paths]
    found += [repr(jobs().logs(job)), repr(jobs().failures(job)), json.dumps(jobs().get(job).dump())]
    found += [part.log.read_text() for part in bench.cluster.parts.values()]
    found += [document.model_dump_json() for document in services().get(IndexAccess).reading.documents()]
    return "\n".join(found)


def test_what_is_collected_and_indexed(bench: Bench, site: Site, tmp_path: Path):
    urls = [with_login(site, path) for path in ("/a.csv", "/missing.csv", "/broken.csv", "/moved.csv")]
    urls += [f"http://user:{PLANTED}@[::1/x?token={PLANTED}", f"ftp://user:{PLANTED}@127.0.0.1/x"]
    (tmp_path / "endpoint.csv").write_text("endpoint,endpoint-url\n" + "".join(f",{url}\n" for url in urls))
    given = {"endpoints": str(tmp_path / "endpoint.csv"), "collection": str(tmp_path), "then": ["analyse", "index"]}
    job, _ = start("collect", given)
    ended = bench.end(job.id, 60)
    assert ended.counts
    assert (ended.counts.ok, ended.counts.failed) == (1, 5)
    text = shown(bench, job.id)
    assert "/missing.csv" in text
    # The index keeps the query of a published address, but no login.
    assert f"/a.csv?{TOKEN}" in text
    assert PLANTED not in text.replace(TOKEN, "").replace(f"token={PLANTED}", "")
    assert PLANTED not in repr(jobs().failures(job.id)) + repr(jobs().logs(job.id))


@pytest.mark.parametrize("path", ["/a.csv", "/missing.csv", "/broken.csv", "/moved.csv"])
def test_what_is_checked(bench: Bench, site: Site, path: str):
    job, _ = start("check_url", {"url": with_login(site, path)})
    assert bench.end(job.id, 60).status == JobStatus.SUCCEEDED
    http = create_app(bench.settings).test_client()
    texts = [http.get(path).text for path in (f"/api/check-url/{job.id}", f"/api/jobs/{job.id}?log=100", "/api/jobs")]
    assert path in texts[0]
    assert PLANTED not in "".join(texts)


def test_what_flower_is_told(bench: Bench, site: Site):
    """An exception of another library quotes the address in its traceback."""
    told: list[str] = []
    with bench.redis.pubsub() as events:
        events.psubscribe("*celeryev*")
        job = bench.start("quoting", url=with_login(site, "/a.csv"))

        def failed() -> bool:
            message = events.get_message(ignore_subscribe_messages=True, timeout=1)
            if message:
                told.append(base64.b64decode(json.loads(message["data"])["body"]).decode())
            return "task-failed" in "".join(told)

        until(failed, 20, 0)
    bench.end(job)
    assert "InvalidURL" in "".join(told)
    assert PLANTED not in "".join(told)
    # The index keeps queries, also those of other tests.
    assert PLANTED not in shown(bench, job).replace(TOKEN, "").replace(f"token={PLANTED}", "")
