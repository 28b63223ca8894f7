"""A real CKAN with its own datapusher plugin, which takes us for the DataPusher."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import requests
from werkzeug.serving import make_server

from datafab.core.job import JobStatus
from datafab.core.jobs import RedisJobs
from datafab.core.redis import connect
from datafab.core.services import Services
from tests.servers.celery import Cluster, until
from tests.servers.ckan import RealCkan, missing, real_ckan
from tests.servers.http import Answer, Site
from tests.servers.redis import RedisServer
from tests.workers.conftest import Bench
from webhook import create_app
from workers.app import jobs
from workers.canvas import start


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Workers."""
    if why := missing():
        assert os.environ.get("CI") != "true", why
        pytest.skip(why)
    with RedisServer(tmp_path / "redis") as redis:
        cluster = Cluster(redis.url, tmp_path, app="workers", DATAFAB_ALLOW_PRIVATE_HOSTS="127.0.0.1/32")
        bench = Bench(cluster, redis)
        bench.mend()
        yield bench
        cluster.stop()


@pytest.fixture
def ckan(bench: Bench) -> Iterator[RealCkan]:
    """A CKAN that submits to our webhook."""
    services = Services(bench.settings, jobs=RedisJobs(bench.settings, connect(bench.settings)))
    server = make_server("127.0.0.1", 0, create_app(bench.settings, services, start), threaded=True)
    Thread(target=server.serve_forever, daemon=True).start()
    with real_ckan(f"http://127.0.0.1:{server.server_port}/datapusher/") as ckan:
        yield ckan
    server.shutdown()
    server.server_close()
    services.close()


def ask(ckan: RealCkan, action: str, **given: Any) -> Any:
    headers = {"Authorization": ckan.token}
    answer = requests.post(f"{ckan.url}/api/3/action/{action}", json=given, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


def ended(ckan: RealCkan, resource: str, state: str) -> dict[str, Any]:
    def status() -> dict[str, Any] | None:
        found = ask(ckan, "datapusher_status", resource_id=resource)
        return found if found["status"] == state else None

    return until(status, 30, 0.3)


def test_ckan_submits_by_itself_is_called_back_and_shows_the_log(ckan: RealCkan):
    with Site({"/a.csv": Answer("code;ville\n01004;Ambérieu\n".encode())}) as portal:
        package = ask(ckan, "package_create", name=f"p-{uuid.uuid4().hex}")["id"]
        made = ask(ckan, "resource_create", package_id=package, url=portal.url("/a.csv"), format="CSV")
        told = ended(ckan, made["id"], "complete")
        assert told["task_info"]["status"] == "complete"
        lines = [line["message"] for line in told["task_info"]["logs"]]
        assert f'Successfully pushed 1 entries to "{made["id"]}".' in lines
        found = ask(ckan, "datastore_search", resource_id=made["id"])
        assert [(row["code"], row["ville"]) for row in found["records"]] == [("01004", "Ambérieu")]
        portal.answers["/months.csv"] = Answer(b"month,v\n01/01/2020,1\n02/01/2020,2\n")
        months = ask(ckan, "resource_create", package_id=package, url=portal.url("/months.csv"), format="CSV")
        lines = ended(ckan, months["id"], "complete")["task_info"]["logs"]
        (warning,) = [line["message"] for line in lines if line["level"] == "WARNING"]
        assert warning.startswith("column 'month': dates such as '01/01/2020' can be read day first or month first")
        found = ask(ckan, "datastore_search", resource_id=months["id"], sort="_id")
        assert [row["month"] for row in found["records"]] == ["01/01/2020", "02/01/2020"]
        gone = ask(ckan, "resource_create", package_id=package, url=portal.url("/gone.csv"), format="CSV")
        told = ended(ckan, gone["id"], "error")
        assert "the server answered 404" in told["task_info"]["error"]["message"]


def rows(ckan: RealCkan, resource: str) -> list[dict[str, Any]]:
    answer = requests.get(f"{ckan.url}/api/3/action/datastore_search", {"resource_id": resource}, timeout=60)
    return answer.json()["result"]["records"] if answer.status_code == 200 else []


def test_a_worker_is_killed_and_the_push_cancelled_in_its_load(ckan: RealCkan, bench: Bench):
    lines = b"".join(b"%06d;%d\n" % (n, n) for n in range(30_000))
    # No name that CKAN takes for a CSV, or it would submit the resource itself.
    with Site({"/long": Answer(b"code;n\n" + lines)}) as portal:
        package = ask(ckan, "package_create", name=f"p-{uuid.uuid4().hex}")["id"]
        made = ask(ckan, "resource_create", package_id=package, url=portal.url("/long"), format="")["id"]
        given = {"resource_id": made, "force": True, "fields": [{"id": "a", "type": "text", "info": {"label": "A"}}]}
        ask(ckan, "datastore_create", **given, records=[{"a": "old"}, {"a": None}], primary_key=["a"])
        params = {"ckan_url": ckan.url, "resource_id": made}
        job, _ = start("push", {"metadata": params}, secrets={"api_key": ckan.token})
        until(lambda: any("code" in row for row in rows(ckan, made)), 30, 0.02)
        bench.cluster.parts["io"].kill()
        bench.cluster.start("io")
        until(lambda: not any("code" in row for row in rows(ckan, made)), 60, 0.02)
        until(lambda: any("code" in row for row in rows(ckan, made)), 60, 0.02)
        assert jobs().end(job.id, JobStatus.CANCELLED)
        until(lambda: [row.get("a") for row in rows(ckan, made)] == ["old", None], 60)
        assert ask(ckan, "resource_show", id=made)["datastore_active"]
        (field,) = ask(ckan, "datastore_info", id=made)["fields"]
        assert (field["type"], field["info"]) == ("text", {"label": "A"})
