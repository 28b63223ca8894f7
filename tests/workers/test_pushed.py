"""What udata pushes, on real workers and a real Redis: looked at before all that a pass has enqueued, or withdrawn."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator

import pytest
import requests

from datafab.clients.jobs import RedisJobs, connect
from datafab.sandbox.control import serving
from datafab.services import Services
from tests.servers.celery import Cluster, until
from tests.servers.http import Answer, Site
from tests.servers.redis import RedisServer
from tests.workers.conftest import Bench
from webhook import create_app
from workers.canvas import start
from workers.cluster import jobs, services

KEY = "planted-key-51c0"
TABLE = b"siren;nom\n732829320;Un\n552100554;Deux\n"


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        env = {"DATAFAB_ALLOW_PRIVATE_HOSTS": "127.0.0.1/32", "DATAFAB_CATALOGUE_PUSH_KEY": KEY}
        cluster = Cluster(server.url, tmp_path_factory.mktemp("cluster"), app="workers", **env)
        yield Bench(cluster, server)
        cluster.stop()


@pytest.fixture
def bench(standing: Bench) -> Bench:
    standing.mend()
    return standing


class Udata:
    """udata as it pushes."""

    def __init__(self, url: str) -> None:
        self.url = url

    def push(self, method: str, resource: str = "", key: str = KEY, **document: object) -> requests.Response:
        url = f"{self.url}/hydra/api/resources" + (f"/{resource}" if method != "POST" else "")
        told = {"id": resource, "title": "a.csv", "extras": {}, "filesize": None, "checksum_type": None} | document
        body = {"resource_id": resource, "dataset_id": "d1", "document": told}
        sent = {} if method == "DELETE" else {"json": body}
        return requests.request(method, url, headers={"Authorization": f"Bearer {key}"}, timeout=20, **sent)


@pytest.fixture
def udata(bench: Bench) -> Iterator[Udata]:
    own = Services(bench.settings, jobs=RedisJobs(bench.settings, connect(bench.server.url)))
    with serving(create_app(bench.settings, own, start)) as url:
        yield Udata(url)
    own.close()


@pytest.fixture
def portal() -> Iterator[Site]:
    with Site({"/a.csv": Answer(TABLE)}) as site:
        yield site


def test_a_pushed_resource_is_looked_at_and_withdrawn(bench: Bench, udata: Udata, portal: Site):
    name = str(uuid.uuid4())
    answer = udata.push("POST", name, url=portal.url("/a.csv"), last_modified="2026-11-20T05:12:00")
    assert (answer.status_code, answer.json()["message"]) == (201, "created")
    bench.end(answer.json()["job"])
    assert services().index.get(f"datagouv:{name}").sha256 == hashlib.sha256(TABLE).hexdigest()
    # The same again is looked at again, for whoever tells has a reason.
    again = udata.push("PUT", name, url=portal.url("/a.csv"), last_modified="2026-11-20T05:12:00")
    assert (again.status_code, again.json()["message"]) == (200, "updated")
    assert bench.end(again.json()["job"]).counts.unchanged == 1
    assert portal.hits["/a.csv"] == 2
    told = requests.get(f"{udata.url}/api/sources", {"id": f"datagouv:{name}"}, timeout=20).json()
    assert [look["status"] for look in told["looks"]] == ["unchanged", "ok"]
    assert [look["job"] for look in told["looks"]] == [again.json()["job"], answer.json()["job"]]
    assert told["facts"]["sha256"] == told["document"]["sha256"]
    gone = udata.push("DELETE", name)
    assert gone.status_code == 200
    bench.end(gone.json()["job"])
    assert services().index.get(f"datagouv:{name}") is None
    assert requests.get(f"{udata.url}/api/sources", {"id": f"datagouv:{name}"}, timeout=20).status_code == 404
    back = udata.push("POST", name, url=portal.url("/a.csv"))
    bench.end(back.json()["job"])
    assert services().index.get(f"datagouv:{name}")


def test_a_pushed_resource_is_not_looked_at_twice(bench: Bench, udata: Udata, portal: Site):
    name = str(uuid.uuid4())
    bench.cluster.parts["io"].kill()
    document = {"url": portal.url("/a.csv"), "last_modified": "2026-11-20T05:12:00"}
    pushed = udata.push("PUT", name, **document).json()["job"]
    assert udata.push("PUT", name, **document).json()["job"] == pushed  # it is still on its way
    bench.mend()
    assert bench.end(pushed, 60).counts.ok == 1
    # What a pass had enqueued of it before finds that it was looked at meanwhile.
    seen = jobs().get(pushed).params["fingerprint"]
    crawled = bench.run("source", source=f"datagouv:{name}", url=document["url"], fingerprint=seen, priority=9)
    assert crawled.counts.unchanged == 1
    assert portal.hits["/a.csv"] == 1


def test_a_job_that_ends_after_its_source_was_withdrawn_leaves_nothing(bench: Bench, udata: Udata, portal: Site):
    name = str(uuid.uuid4())
    bench.cluster.parts["cpu"].kill()  # so that it stops before its analysis
    late = udata.push("POST", name, url=portal.url("/a.csv")).json()["job"]
    until(lambda: portal.hits["/a.csv"], 20)
    bench.end(udata.push("DELETE", name).json()["job"])
    bench.mend()
    bench.end(late, 60)
    assert services().index.get(f"datagouv:{name}") is None
    assert services().sources.facts(f"datagouv:{name}").fingerprint is None
    assert any("withdrawn meanwhile" in line["event"] for line in jobs().logs(late))


@pytest.mark.parametrize("key", ["", "wrong", KEY[:-1], KEY + "é".encode().decode("latin-1")])
def test_without_the_key_nothing_is_taken(bench: Bench, udata: Udata, key: str):
    before = len(jobs().newest(limit=500))
    answers = [udata.push(method, "r1", key=key, url="http://x/") for method in ("POST", "PUT", "DELETE")]
    assert {answer.status_code for answer in answers} == {401}
    assert len(jobs().newest(limit=500)) == before
    assert not any(KEY in answer.text for answer in answers)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "resource_id"),
        ({"resource_id": "../x", "dataset_id": "d", "document": {"url": "http://x/"}}, "resource_id"),
        ({"resource_id": "r", "dataset_id": "d"}, "document"),
        ({"resource_id": "r", "dataset_id": "d", "document": None}, "document"),
        ({"resource_id": "r", "dataset_id": "d", "document": {"url": "ftp://x/"}}, "document.url"),
        ({"resource_id": "r", "dataset_id": "d", "document": {"url": "x" * 3000}}, "document.url"),
        ({"resource_id": "other", "dataset_id": "d", "document": {"url": "http://x/"}}, "resource_id"),
    ],
)
def test_a_push_that_is_no_good_is_refused_by_field(udata: Udata, body: dict, field: str):
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = requests.put(f"{udata.url}/hydra/api/resources/r", json=body, headers=headers, timeout=20)
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)
