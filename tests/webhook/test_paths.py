"""Callers over HTTP name nothing outside DATAFAB_COLLECTIONS, and are told nothing of what is there."""

from __future__ import annotations

import io
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datafab.collect.endpoints_stage import query_folder
from datafab.core.job import Job
from datafab.core.services import Services
from datafab.settings import load
from tests.servers.redis import RedisServer
from webhook import api as views
from webhook import create_app
from webhook.paths import confine_paths, store_uploads

PLANTED = "AWS_SECRET_ACCESS_KEY=geheim"
CSV = b"endpoint,endpoint-url\n,https://example.org/a.csv\n"


class Site:
    """An application whose queue takes note of what is enqueued."""

    def __init__(self, home: Path, server: RedisServer, **changes: Any) -> None:
        self.settings = load({}, home=home / "home", redis_url=server.url, **changes)
        self.services = Services(self.settings, patience=1)
        self.started: list[dict[str, Any]] = []
        self.http = create_app(self.settings, self.services, self.start).test_client()
        self.root = home / "home" / "collections"

    def start(self, flow: str, params: dict[str, Any], key: str | None = None, **_: Any) -> tuple[Job, bool]:
        self.started.append(params)
        return Job(id="j", flow=flow, params=params, created=1, deadline=2), True

    def post(self, flow: str, **params: Any) -> Any:
        return self.http.post("/api/jobs", json={"flow": flow, "params": params})

    def kept(self, name: str) -> bytes:
        return self.services.store(self.settings.store).read_list(name.removeprefix("list:").partition("#")[0])


@pytest.fixture
def site(tmp_path: Path, shared_redis: RedisServer) -> Iterator[Site]:
    site = Site(tmp_path, shared_redis)
    (site.root / "land").mkdir(parents=True)
    (site.root / "land" / "endpoint.csv").write_bytes(CSV)
    (tmp_path / "secret.csv").write_text(PLANTED + "\n")
    (site.root / "out.csv").symlink_to(tmp_path / "secret.csv")
    (site.root / "out").symlink_to(tmp_path)
    (site.root / "loop").symlink_to(site.root / "loop")
    yield site
    site.services.close()


OUTSIDE = [
    "/proc/self/environ", "/etc/passwd", "/dev/zero", "../../secret.csv", "land/../../../secret.csv", "out.csv",
    "out/secret.csv", "file:///etc/passwd", "FILE:/etc/passwd", "file:../../secret.csv",
    "file:///%2e%2e/etc/passwd", "file://127.0.0.2/etc/passwd", "http://127.0.0.1/x", "s3://bucket/x", "gopher://x/y",
    "list:" + "0" * 64, "list:" + "0" * 64 + "#/etc/passwd", "", "\0", "land/\0", "/", "..",
    5, True, ["/etc/passwd"], {"a": "/etc/passwd"}, None,
]  # fmt: skip


@pytest.mark.parametrize("given", OUTSIDE, ids=lambda given: repr(given)[-20:])
@pytest.mark.parametrize("field", ["endpoints", "collection"])
def test_a_path_outside_the_root_is_refused_without_a_word_of_what_is_there(site: Site, field: str, given: Any):
    params = {"endpoints": "land/endpoint.csv", "collection": "c", field: given}
    text = json.dumps({"flow": "collect", "params": params})
    answer = site.http.post("/api/jobs", data=text, content_type="application/json")
    assert answer.status_code in {400, 404}
    assert answer.json["error"]["field"] == field
    assert "geheim" not in answer.text
    assert "root:" not in answer.text
    assert site.started == []


@pytest.mark.parametrize(
    ("flow", "field"),
    [("push", "collection"), ("check_url", "collection"), ("push", "endpoints"), ("publish", "endpoints")],
)
def test_a_path_is_confined_in_a_flow_that_does_not_read_it(site: Site, flow: str, field: str):
    # Another flow may: `collection` takes its folder from the parameters of the job that it is given.
    answer = site.post(flow, url="http://127.0.0.1/", **{field: "/etc/passwd"})
    assert (answer.status_code, answer.json["error"]["field"]) == (400, field)
    assert site.started == []


@pytest.mark.parametrize("given", ["loop", "loop/x", "x" * 5000, "land", "land/endpoint.csv/x", "nothing"])
def test_a_file_that_cannot_be_opened_is_refused(site: Site, given: str):
    answer = site.post("collect", endpoints=given, collection="c")
    assert answer.status_code in {400, 404}
    assert answer.json["error"]["field"] == "endpoints"


@pytest.mark.parametrize(
    "given", ["land/endpoint.csv", "land/../land/endpoint.csv", "./land/endpoint.csv", "absolute", "url"]
)
def test_a_file_below_the_root_is_copied_to_the_store(site: Site, given: str):
    file = site.root / "land" / "endpoint.csv"
    given = {"absolute": str(file), "url": file.as_uri()}.get(given, given)
    assert site.post("collect", endpoints=given, collection="land").status_code == 202
    (params,) = site.started
    assert site.kept(params["endpoints"]) == CSV
    assert params["endpoints"].endswith(f"#{file}")
    assert params["collection"] == str(site.root / "land")


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "large"])
def test_only_a_regular_file_of_some_size_is_read(site: Site, kind: str, monkeypatch: pytest.MonkeyPatch):
    path = site.root / kind
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "large":
        with path.open("wb") as file:
            file.truncate(2**40)
    monkeypatch.chdir(site.root)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "socket":
            listener.bind(kind)
        answer = site.post("collect", endpoints=kind, collection="c")
    assert answer.status_code == 400
    told = {"folder": "a folder", "pipe": "a pipe", "socket": "a socket", "large": "more than 134217728 bytes"}[kind]
    assert told in answer.json["error"]["message"]


def test_a_file_may_be_uploaded_with_its_job(site: Site):
    form = {"job": json.dumps({"flow": "collect", "params": {"collection": "new"}, "key": "k"})}
    answer = site.http.post("/api/jobs", data=form | {"endpoints": (io.BytesIO(CSV), "../../etc/endpoint.csv")})
    assert answer.status_code == 202
    (params,) = site.started
    assert site.kept(params["endpoints"]) == CSV
    assert params["endpoints"].partition("#")[2] == "endpoint.csv"
    assert params["collection"] == str(site.root / "new")


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("endpoint.csv", "endpoint.csv"),
        ("mes données.csv", "mes données.csv"),
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("C:\\Windows\\..\\endpoint.csv", "endpoint.csv"),
        ("C:endpoint.csv", "C_endpoint.csv"),
        ("file:%2Fetc%2Fendpoint.csv", "file__2Fetc_2Fendpoint.csv"),
        ("list:" + "0" * 64, "list_" + "0" * 64),
        ("a#/etc/b.csv", "b.csv"),
        ("a#b.csv", "a_b.csv"),
        ("a/..", "endpoints"),
        ("..", "endpoints"),
        (".", "endpoints"),
        ("a/", "endpoints"),
        (" . ", "endpoints"),
        ("a\x00b\x1b[31m.csv", "a_b_[31m.csv"),
        ("x" * 5000 + ".csv", "x" * 100),
    ],
)
def test_the_name_of_an_upload_is_no_path(site: Site, name: str, kept: str):
    params = store_uploads("collect", {"endpoints": (name, CSV)}, site.services)
    assert params["endpoints"].partition("#")[2] == kept
    assert site.kept(params["endpoints"]) == CSV
    # No files of the host belong to it, such as queries that its endpoints name.
    assert query_folder(params) is None


@pytest.mark.parametrize(
    ("job", "files", "field"),
    [
        ({"flow": "collect", "params": {"collection": "/etc"}}, {"endpoints": CSV}, "collection"),
        ({"flow": "collect", "params": {}}, {"collection": CSV}, "collection"),
        ({"flow": "archive", "params": {}}, {"plan": b"{}"}, "plan"),
        ({"params": {}}, {"endpoints": CSV}, "flow"),
    ],
)
def test_an_upload_that_is_none_is_refused(site: Site, job: Any, files: dict[str, bytes], field: str | None):
    form: dict[str, Any] = {name: (io.BytesIO(data), "file") for name, data in files.items()}
    form["job"] = json.dumps(job)
    answer = site.http.post("/api/jobs", data=form, content_type="multipart/form-data")
    assert answer.status_code == 400
    assert answer.json["error"]["field"] == field
    assert site.started == []


def test_a_form_without_a_job_is_none(site: Site):
    answer = site.http.post("/api/jobs", data={"flow": "collect", "endpoints": (io.BytesIO(CSV), "endpoint.csv")})
    assert answer.status_code == 415
    assert site.started == []


def test_an_upload_has_a_limit(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(views, "MAX_UPLOAD_BYTES", 1000)
    form = {"job": '{"flow": "collect", "params": {"collection": "c"}}'}
    assert site.http.post("/api/jobs", data=form | {"endpoints": (io.BytesIO(b"x" * 400), "e")}).status_code == 202
    answer = site.http.post("/api/jobs", data=form | {"endpoints": (io.BytesIO(b"x" * 2000), "e")})
    assert answer.status_code == 413


@pytest.mark.parametrize("store", ["/etc", "file:///etc", "../..", "out", "s3://other/x", 5, {}])
def test_the_plan_of_an_archive_names_no_store_of_others(site: Site, store: Any):
    file = {"path": "x", "store": store, "sha256": "0" * 64}
    plan = {"integrations": [{"name": "a", "files": [file], "output": {"name": "a"}}]}
    answer = site.post("archive", plan=plan)
    assert answer.status_code == 400
    assert answer.json["error"]["field"] == "plan.store"
    file["store"] = "land"
    assert site.post("archive", plan=plan).status_code == 202
    assert site.started[0]["plan"]["integrations"][0]["files"][0]["store"] == str(site.root / "land")


@pytest.mark.parametrize(("flow", "field"), [("archive", "plan"), ("publish", "event")])
def test_a_document_is_sent_and_not_named(site: Site, flow: str, field: str):
    for given in ("/etc/passwd", "list:" + "0" * 64, 7, ["x"]):
        answer = site.post(flow, **{field: given})
        assert (answer.status_code, answer.json["error"]["field"]) == (400, field)
    assert site.started == []


def test_what_a_flow_brings_along_is_its_operators(site: Site, tmp_path: Path, shared_redis: RedisServer):
    config = tmp_path / "datafab.toml"
    given = f'endpoints = "{tmp_path}/secret.csv", collection = "{tmp_path}"'
    config.write_text(f'[[flow]]\nname = "own"\nsource = "collect"\nwith = {{ {given} }}\n')
    own = Site(tmp_path, shared_redis, config=config)
    assert own.post("own").status_code == 202
    assert own.started == [{}]
    assert own.post("own", endpoints=f"{tmp_path}/secret.csv").status_code == 400


@pytest.mark.parametrize("given", ["land", "a/b", "s3://bucket/data/land"])
def test_a_root_in_a_bucket_has_folders_of_that_bucket(tmp_path: Path, given: str):
    services = Services(load({}, home=tmp_path, collections="s3://bucket/data"))
    rest = given.removeprefix("s3://bucket/data/")
    assert confine_paths("collect", {"collection": given}, services) == {"collection": f"s3://bucket/data/{rest}"}


@pytest.mark.parametrize(
    "given", ["s3://bucket/other", "s3://bucket/database", "s3://bucket/data/../x", "../x", "/etc", "a//b", ".", "a?b"]
)
def test_and_no_others(tmp_path: Path, given: str, shared_redis: RedisServer):
    site = Site(tmp_path, shared_redis, collections="s3://bucket/data")
    assert site.post("collect", endpoints="e", collection=given).status_code == 400
    answer = site.post("collect", endpoints="e.csv", collection="c")
    assert "upload" in answer.json["error"]["message"]
