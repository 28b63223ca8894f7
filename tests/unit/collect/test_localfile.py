"""``file:`` endpoints: below one folder only."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from datafab.collect.endpoint import endpoint_hash
from datafab.collect.localfile import is_file, read_file
from datafab.core.item import Batch, Status
from datafab.core.lease import Lease
from datafab.core.memory_jobs import MemoryJobs
from datafab.core.runner import Attempt, expand, run_stage
from datafab.core.services import Services
from datafab.flows.chains import STAGES
from datafab.settings import Settings
from datafab.store.store import Store

HEADERS = {"User-Agent": "ours"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "files"
    (root / "été").mkdir(parents=True)
    (root / "été" / "a b.csv").write_bytes(b"id;nom\n1;x\n")
    (root / "empty.csv").touch()
    (root / "large.csv").write_bytes(b"x" * 1001)
    (tmp_path / "secret.csv").write_text("of others")
    (root / "out.csv").symlink_to(tmp_path / "secret.csv")
    (root / "in.csv").symlink_to(root / "été" / "a b.csv")
    os.mkfifo(root / "pipe")
    return root


def read(root: Path | None, url: str):
    base = root.parent if root else Path("unused")
    settings = Settings(home=base, file_root=root, max_bytes=1000)
    return read_file(url, Store(str(base / "store")), settings, HEADERS)


@pytest.mark.parametrize(
    "url",
    [
        "file:///%C3%A9t%C3%A9/a%20b.csv",
        "file:/été/a b.csv",
        "FILE:été/a%20b.csv",
        "file://localhost//été/a b.csv",
        "file:///in.csv",
    ],
)
def test_a_file_below_the_folder(root, url):
    assert is_file(url)
    got = read(root, url)
    assert (got.status, got.size, got.refusal) == (200, 11, None)
    assert (root.parent / "store" / "resource" / str(got.sha256)).read_bytes() == b"id;nom\n1;x\n"
    assert got.headers["Content-Length"] == "11"
    assert got.headers["Date"].endswith("GMT")
    assert got.request_headers == HEADERS


@pytest.mark.parametrize(
    ("url", "status", "code", "exception"),
    [
        ("file:///absent.csv", 404, "http_404", None),
        ("file:///../secret.csv", 404, "http_404", None),
        ("file:///%2e%2e/secret.csv", 404, "http_404", None),
        ("file:///..%2Fsecret.csv", 404, "http_404", None),
        ("file:///in.csv%00", 404, "http_404", None),
        ("file:///out.csv", 404, "http_404", None),
        ("file:///etc/hostname", 404, "http_404", None),
        ("file:///été", 400, "http_400", None),
        ("file:///", 400, "http_400", None),
        ("file:///pipe", 400, "http_400", None),
        ("file:///empty.csv", 200, "empty", None),
        ("file:///large.csv", 200, "too_large", "TooLarge"),
        ("file://server/in.csv", None, "other_host", "ValueError"),
    ],
)
def test_what_is_refused(root, url, status, code, exception):
    got = read(root, url)
    assert (got.status, got.refusal.code, got.refusal.exception) == (status, code, exception)
    assert got.sha256 is None
    assert not list((root.parent / "store").glob("resource/*"))
    assert "secret" not in got.refusal.message.replace(url, "")


def opened() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("url", ["file:///", "file:///pipe", "file:///in.csv", "file:///large.csv"])
def test_nothing_stays_open(root, url):
    read(root, url)
    before = opened()
    for _ in range(10):
        read(root, url)
    assert opened() <= before


def test_without_a_folder_there_are_none(root):
    got = read(None, "file:///in.csv")
    assert (got.status, got.refusal.code) == (None, "no_file_root")
    assert "DATAFAB_FILE_ROOT, which is not set" in got.refusal.message


def test_what_may_not_be_read(root, monkeypatch):
    def refused(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("datafab.collect.localfile.os.open", refused)  # root may read all
    got = read(root, "file:///in.csv")
    assert (got.status, got.refusal.code) == (403, "http_403")


def test_an_endpoint_and_its_log(root, tmp_path):
    good, bad = "file:///in.csv", "file:///absent.csv"
    (tmp_path / "endpoint.csv").write_text(f"endpoint,endpoint-url\n,{good}\n,{bad}\n")
    services = Services(Settings(home=tmp_path / "home", file_root=root), jobs=MemoryJobs())
    params = {"endpoints": str(tmp_path / "endpoint.csv"), "collection": str(tmp_path / "c")}
    attempt, items = Attempt(Lease(job_created=time.time())), []
    for batch in expand(STAGES["endpoints"], Batch(job="j", flow="collect", params=params), services, attempt):
        items += run_stage(STAGES["collect"], batch, services, attempt)
    services.close()
    first, second = items
    assert (first.status, first.filename) == (Status.OK, "in.csv")
    assert (second.status, second.collect.http_status) == (Status.FAILED, 404)
    (path,) = (tmp_path / "c" / "log").glob(f"*/{endpoint_hash(good)}.json")
    log = json.loads(path.read_bytes())
    keys = {"elapsed", "endpoint-url", "entry-date", "request-headers", "resource", "response-headers", "ssl-verify"}
    assert log.keys() == keys | {"status"}
