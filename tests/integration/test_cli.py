"""The command line as a user has it: in a process of its own, against a real cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import datafab as package
from datafab import api
from datafab.core.services import Services
from datafab.embedded import Cluster
from datafab.errors import FlowError, NotFound
from datafab.index import Index
from datafab.sandbox.portal import FILES
from datafab.settings import load
from tests.integration.conftest import Run, printed
from tests.servers.celery import until
from webhook import create_app
from workers import app

FAILED = {"absent.csv": "http_404", "erreur.csv": "html", "page.csv": "html"}


def _stored(collection: Path) -> tuple[int, int]:
    logs = list(collection.glob("log/*/*.json"))
    resources = [path for path in (collection / "resource").iterdir() if path.is_file()]
    return len(logs), len(resources)


@pytest.mark.parametrize("how", ["cluster", "inline"])
def test_collect(datafab: Run, cluster: Cluster, collection: Path, how: str):
    options = ["--inline"] if how == "inline" else []
    (job,) = printed(datafab("collect", str(collection / "endpoint.csv"), "--json", *options, code=3))
    counts = {name: job["counts"][name] for name in ("ok", "unchanged", "skipped", "failed")}
    assert counts == {"ok": len(FILES) - len(FAILED) + 1, "unchanged": 0, "skipped": 0, "failed": len(FAILED) - 1}
    assert job["status"] == "succeeded"
    assert [stage["stage"] for stage in job["progress"]] == ["collect", "analyse", "index"]
    # A web page that says it is CSV is collected, as the original does; the analysis tells of it.
    assert [stage["failed"] for stage in job["progress"]] == [2, 1, 0]
    assert sorted(error["type"] for error in job["failures"].values()) == sorted(FAILED.values())
    assert _stored(collection) == (len(FILES), len(FILES) - 2)  # the 404 and the honest HTML page gave no resource


def test_a_second_run_of_the_day_fetches_nothing(datafab: Run, cluster: Cluster, collection: Path):
    file = str(collection / "endpoint.csv")
    datafab("collect", file, "--exit-zero")
    before = _stored(collection)
    (job,) = printed(datafab("collect", file, "--json", "--then", "none", code=3))
    # What failed today is not asked again, and stays failed: a scheduler's second try must not turn green.
    assert (job["counts"]["unchanged"], job["counts"]["failed"]) == (len(FILES) - 2, 2)
    assert [stage["stage"] for stage in job["progress"]] == ["collect"]
    assert _stored(collection) == before


def test_what_a_person_reads(datafab: Run, cluster: Cluster, collection: Path):
    said = datafab("collect", str(collection / "endpoint.csv"), code=3).stdout
    assert "/absent.csv: the server answered 404 Not Found" in said
    assert "8 endpoints: 6 collected, 2 failed; analysed 5, 1 could not be analysed" in said
    found = datafab("search", "format:siren").stdout
    assert "format:siren: 1 found" in found
    assert "siren (siren), dénomination" in found


def test_the_tables_of_a_collection(datafab: Run, cluster: Cluster, collection: Path):
    datafab("collect", str(collection / "endpoint.csv"), "--then", "none", "--save-csv", "--exit-zero")
    logs, resources = _stored(collection)
    tables = [(collection / name).read_bytes() for name in ("log.csv", "resource.csv")]
    assert [table.count(b"\r\n") - 1 for table in tables] == [logs, resources]
    (collection / "resource.csv").unlink()
    said = datafab("collection", "save-csv", str(collection)).stderr
    assert f"log.csv {logs} rows, resource.csv {resources} rows; {logs} logs read" in said
    assert [(collection / name).read_bytes() for name in ("log.csv", "resource.csv")] == tables
    (collection / "log.csv").write_text("colonne\n1\n")
    said = datafab("collection", "save-csv", str(collection), code=1).stderr.replace("\n", " ")
    assert "log.csv has no column 'endpoint': repair it, or remove it" in said


def test_an_address_is_checked_at_once(datafab: Run, cluster: Cluster, site: str, collection: Path):
    said = datafab("check-url", f"{site}/entreprises.csv").stdout
    assert f"{site}/entreprises.csv: can be collected\n" in said
    assert "siren" in said
    said = datafab("check-url", f"{site}/absent.csv", code=3).stdout
    assert "cannot be collected" in said
    assert "the server answered 404 Not Found" in said
    assert "not valid JSON" in datafab("check-url", site, "--parameters", "{", code=2).stderr


def test_an_address_is_checked_by_the_cluster(cluster: Cluster, site: str, collection: Path):
    services = Services(cluster.settings)
    client = create_app(cluster.settings, services).test_client()
    before = sorted(collection.rglob("*"))
    asked = client.post("/api/check-url", json={"url": f"{site}/entreprises.csv"}).json
    told = until(lambda: _ended(client.get(asked["url"]).json), 60)
    assert (told["status"], told["result"]["ok"], told["result"]["filename"]) == ("succeeded", True, "entreprises.csv")
    assert "siren" in told["result"]["table"]["columns"]
    assert sorted(collection.rglob("*")) == before
    assert services.store(cluster.settings.store).size(told["result"]["sha256"]) is None
    services.close()


def _ended(told: dict[str, Any]) -> dict[str, Any] | None:
    return told if told["status"] in {"succeeded", "failed", "parked"} else None


@pytest.mark.parametrize("name", ["api_key", "job_key", "token", "API-Key"])
def test_a_job_whose_parameters_hold_a_secret_is_refused(datafab: Run, cluster: Cluster, name: str):
    known = printed(datafab("jobs", "list", "--json"))
    # The flow `push` takes any parameter, so that nothing else refuses these.
    said = datafab("enqueue", "push", "-p", "resource_id=r", "-p", f"{name}=x", code=1).stderr
    assert f"'{name}' is a secret" in said.replace("\n", " ")
    assert printed(datafab("jobs", "list", "--json")) == known


def test_search_prints_json(datafab: Run, cluster: Cluster, collection: Path):
    datafab("collect", str(collection / "endpoint.csv"), "--exit-zero")
    (hit,) = printed(datafab("search", 'column:"mise en service"', "--json"))
    assert (hit["title"], hit["total_lines"], hit["compression"]) == ("bornes.csv.gz", 500, "gzip")
    (hit,) = printed(datafab("search", "societe", "dénomination", "--json")) or [None]
    assert hit is None or hit["title"] == "entreprises.csv"


def test_jobs_can_be_listed_shown_cancelled_and_retried(datafab: Run, cluster: Cluster, collection: Path):
    file = str(collection / "endpoint.csv")
    job = ("enqueue", "collect", "-p", f"endpoints={file}", "-p", f"collection={collection}", "--wait")
    (first,) = printed(datafab(*job, code=3))
    # All are asked already, and what failed today is still a failure.
    (done,) = printed(datafab(*job, "--then", "none", code=3))
    assert done["status"] == "succeeded"
    listed = printed(datafab("jobs", "list", "--json", "--flow", "collect", "--limit", "2"))
    assert [job["id"] for job in listed] == [done["id"], first["id"]]
    assert done["id"] in datafab("jobs", "list", "--status", "succeeded").stdout
    (shown,) = printed(datafab("jobs", "show", done["id"], "--json"))
    assert {error["type"] for error in shown["failures"].values()} <= {"html", "http_404"}
    assert datafab("jobs", "show", first["id"]).stdout
    (cancelled,) = printed(datafab("jobs", "cancel", done["id"], code=1))  # it has ended
    assert cancelled["status"] == "succeeded"
    (again,) = printed(datafab("jobs", "retry", done["id"]))
    assert again["id"] != done["id"]
    assert again["flow"] == "collect"
    assert datafab("jobs", "prune").stdout == "0 deleted\n"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["collect", "nowhere.csv"], 1, "nowhere.csv: no such file"),
        (["enqueue", "nothing"], 2, "'nothing' is not"),
        (["enqueue", "collect", "-p", "endpoints"], 2, "'endpoints' is not NAME=VALUE"),
        (["enqueue", "collect"], 1, "flow 'collect' needs the parameter 'collection'"),
        (["jobs", "show", "0000"], 1, "no job '0000'"),
        (["jobs", "retry", "0000"], 1, "no job '0000'"),
        (["collect", "x", "--nothing"], 2, "No such option"),
    ],
)
@pytest.mark.usefixtures("cluster")
def test_usage_errors(datafab: Run, arguments: list[str], code: int, says: str, tmp_path: Path):
    assert says in datafab(*arguments, code=code, cwd=tmp_path).stderr.replace("\n", " ")


def test_an_endpoint_csv_without_its_columns_fails_the_job(datafab: Run, cluster: Cluster, tmp_path: Path):
    (tmp_path / "endpoint.csv").write_text("endpoint;url\nx;y\n", encoding="utf-8")
    said = datafab("collect", str(tmp_path / "endpoint.csv"), code=1).stderr.replace("\n", " ")
    assert f"{tmp_path}/endpoint.csv has no column 'endpoint-url'; its first line must name endpoint and" in said
    assert "'url'" not in said  # what a file holds is quoted nowhere


def test_python(cluster: Cluster, collection: Path):
    app.use(cluster.settings)
    params = {"endpoints": collection / "endpoint.csv", "collection": collection}
    handle = package.enqueue("collect", key=str(collection), **params)
    ended = handle.wait(timeout=60)
    assert (handle.status, handle.result) == (ended.status, ended.counts)
    assert len(handle.failures) == len(FAILED)
    assert {line["level"] for line in handle.logs} >= {"warning"}
    assert package.enqueue("collect", key=str(collection), **params).id == handle.id
    with pytest.raises(FlowError, match="needs the parameter 'collection'"):
        package.enqueue("collect", endpoints=collection / "endpoint.csv")
    with pytest.raises(NotFound, match="no flow"):
        package.enqueue("nothing")


def test_a_job_that_fails_raises(cluster: Cluster, tmp_path: Path):
    app.use(cluster.settings)
    (tmp_path / "endpoint.csv").write_text("nothing\n", encoding="utf-8")
    handle = package.enqueue("collect", endpoints=tmp_path / "endpoint.csv", collection=tmp_path)
    with pytest.raises(package.JobFailed, match=r"failed in stage endpoints: .*endpoint.csv has no column 'endpoint'"):
        handle.wait(timeout=30)
    with pytest.raises(AttributeError):
        package.nothing  # noqa: B018 - the lookup is the test


def test_without_a_cluster(tmp_path: Path):
    with pytest.raises(NotFound, match="start one with `datafab up`"):
        api.connect(load(home=tmp_path, redis_url=None))


def test_an_index_is_filled_anew_and_moves_to_another_server(
    datafab: Run, cluster: Cluster, collection: Path, elastic_index: Index, monkeypatch: pytest.MonkeyPatch
):
    def documents(url: str | None) -> list[dict[str, Any]]:
        if url:
            monkeypatch.setenv("DATAFAB_INDEX_URL", url)
        hits = printed(datafab("search", "*", "--json"))
        assert all(hit.pop("version") for hit in hits)  # of the job, or of the log
        return sorted(hits, key=lambda hit: hit["source"])

    datafab("collect", str(collection / "endpoint.csv"), "--exit-zero")
    known = documents(None)
    assert len(known) == len(FILES)
    here, there = f"sqlite:///{collection}/new.db", elastic_index.display_url
    assert documents(here) == []
    assert "documents indexed" in datafab("index", "rebuild").stdout
    rebuilt = documents(here)
    assert [hit["source"] for hit in rebuilt] == [hit["source"] for hit in known]
    assert [hit for hit in rebuilt if hit["formats"]] == [hit for hit in known if hit["formats"]]
    assert "SQLite is up to date" in datafab("index", "migrate").stdout
    assert documents(there) == []
    assert f"{len(FILES)} documents indexed, 0 existed" in datafab("index", "rebuild", "--from", here).stdout
    assert documents(there) == rebuilt
    assert "-v1-000001 is up to date" in datafab("index", "migrate").stdout
    said = datafab("index", "migrate", "--force").stdout
    assert f"-v1-000002: {len(FILES)} documents copied" in said
    assert "-v1-000001 may be deleted" in said
    assert documents(there) == rebuilt
    assert "--from names the index that is to be filled" in datafab("index", "rebuild", "--from", there, code=1).stderr
    elastic_index.client.indices.delete(index=f"{elastic_index.name}-v1-000001")
