"""A collection whose store cannot be written to: one clear error, nothing torn, nothing of what was under way."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from datafab.core.item import Batch
from datafab.core.lease import Lease
from datafab.core.memory_jobs import MemoryJobs
from datafab.core.runner import Attempt, expand, run_stage
from datafab.core.services import Services
from datafab.errors import FlowError
from tests.servers.http import Answer, Site, table
from tests.servers.moto import KEYS
from tests.unit.collect.test_stages import COLLECT, SOURCE, Collection, row
from tests.unit.store.test_store import room_for

BODY = 40_000


@pytest.fixture
def collection(tmp_path) -> Collection:
    return Collection(tmp_path)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site(router=lambda path, _: Answer(table(path, 500 if path.startswith("/small") else BODY))) as site:
        yield site


@pytest.fixture
def disk(collection) -> Iterator[Path]:
    """A disk of 128 KB where the collection goes."""
    collection.folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "datafab-test", str(collection.folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no right to mount a disk here: {mounted.stderr.decode()}")
    try:
        yield collection.folder
    finally:
        subprocess.run(["umount", "-l", str(collection.folder)], check=True)


def left_under_way(folder: Path) -> list[Path]:
    return list((folder / "tmp").glob("*"))


def test_files_that_the_system_refuses_end_the_job_and_the_next_one_goes_on(collection, site):
    rows = [row(site.url(path)) for path in ("/small1", "/large", "/small2")]
    with room_for(20_000), pytest.raises(FlowError, match=r"collection/tmp/.*File too large; the store needs room"):
        collection.run(*rows)
    collection.check_files()
    assert len(collection.logs()) == 1
    assert left_under_way(collection.folder) == []
    assert [item.collect.status for item in collection.run(*rows)] == ["ALREADY_FETCHED", "OK", "OK"]


def test_a_full_disk_ends_the_job_and_the_next_one_goes_on(collection, site, disk):
    rows = [row(site.url(f"/{n}")) for n in range(4)]
    with pytest.raises(FlowError, match=r"collection/.*No space left on device; the store needs room"):
        collection.run(*rows)
    collection.check_files()
    assert 1 <= len(collection.logs()) < len(rows)
    assert left_under_way(disk) == []
    subprocess.run(["mount", "-o", "remount,size=1m", str(disk)], check=True)
    assert {item.collect.status for item in collection.run(*rows)} == {"OK", "ALREADY_FETCHED"}


def test_a_disk_that_is_read_only_ends_the_job_before_anybody_is_asked(collection, site, disk):
    before = site.hits.total()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(FlowError, match=r"collection/tmp: Read-only file system; the store needs .* right to write"):
        collection.run(row(site.url("/1")))
    assert site.hits.total() == before


@contextmanager
def nobody(folder: Path) -> Iterator[None]:
    """Be a user who may read a folder and write beside it only: root may write everywhere."""
    if os.geteuid():
        yield
        return
    for above in folder.parents:
        if not above.stat().st_mode & 0o001:
            above.chmod(0o711)
    folder.parent.chmod(0o777)
    folder.chmod(0o555)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_without_the_right_to_write_ends_the_job_before_anybody_is_asked(collection, site):
    before = site.hits.total()
    collection.folder.mkdir(mode=0o500)
    said = r"collection/tmp: Permission denied; the store needs .* right to write"
    with nobody(collection.folder), pytest.raises(FlowError, match=said):
        collection.run(row(site.url("/1")))
    assert site.hits.total() == before


def test_an_object_store_that_does_not_answer_ends_the_job_before_anybody_is_asked(collection, site, monkeypatch):
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tempfile, "tempdir", str(collection.csv.parent))
    collection.settings = collection.settings.model_copy(update={"s3_endpoint": "http://127.0.0.1:9"})
    before = site.hits.total()
    with pytest.raises(FlowError, match=r"s3://nirgends/x/tmp/.*Could not connect to the endpoint"):
        collection.run(row(site.url("/1")), collection="s3://nirgends/x")
    assert site.hits.total() == before


def test_a_folder_that_is_not_the_one_of_the_host_that_began_is_refused_before_anybody_is_asked(collection, site):
    """As a second host has it that does not share the folder: its name is there, and nothing in it."""
    before = site.hits.total()
    collection.write(row(site.url("/small")))
    services = Services(collection.settings, jobs=MemoryJobs())
    given = {"endpoints": str(collection.csv), "collection": str(collection.folder)}
    (batch,) = expand(
        SOURCE, Batch(job="j", flow="collect", params=given), services, Attempt(Lease(job_created=time.time()))
    )
    shutil.rmtree(collection.folder)
    collection.folder.mkdir()
    with pytest.raises(FlowError, match=r"collection on .* is not the folder in which the job started: all hosts must"):
        run_stage(COLLECT, batch, services, Attempt(Lease(job_created=time.time())))
    assert site.hits.total() == before
    assert list(collection.folder.iterdir()) == []
