from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datafab.collect.csv_tables import save_csv
from datafab.collect.endpoint import endpoint_hash
from datafab.core.item import Batch, Status
from datafab.core.lease import Lease
from datafab.core.memory_jobs import MemoryJobs
from datafab.core.runner import Attempt, expand, run_stage
from datafab.core.services import Services
from datafab.errors import Fatal, FlowError, SettingError, Wait
from datafab.settings import load
from datafab.store.bucket import PART_BYTES
from datafab.store.store import MEMORY_BYTES, Store
from tests.servers.http import Answer, Site
from tests.servers.moto import KEYS, Moto
from tests.servers.scratch import temporary_files
from tests.unit.collect.test_stages import COLLECT, SOURCE, Collection, row

ROOTS = ("folder", "url", "s3")


@pytest.fixture(params=ROOTS)
def store(request, tmp_path) -> Store:
    """The same promises for a folder and for a bucket."""
    if request.param == "s3":
        return request.getfixturevalue("bucket")
    folder = tmp_path / "données ouvertes"
    return Store(str(folder) if request.param == "folder" else folder.as_uri())


@pytest.fixture(scope="module")
def s3(tmp_path_factory) -> Iterator[Moto]:
    with Moto(tmp_path_factory.mktemp("moto")) as moto:
        moto.bucket("essai")
        yield moto


@pytest.fixture
def bucket(s3, tmp_path, monkeypatch) -> Store:
    """A prefix of a bucket for each test, and a folder for what is under way."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    host(tmp_path, monkeypatch)
    return Store(f"s3://essai/données ouvertes/{tmp_path.name}", s3.url)


def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a folder for temporary files of our own."""
    (tmp_path / "passing").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "passing"))


@pytest.fixture
def folder(tmp_path) -> Store:
    return Store(str(tmp_path))


def put(store: Store, *chunks: bytes) -> tuple[str, int]:
    with store.new_resource() as resource:
        for chunk in chunks:
            resource.write(chunk)
        return resource.commit()


def content(store: Store, sha256: str) -> bytes:
    with store.open(sha256) as file:
        return file.read()


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Make the system refuse files above this size, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@given(chunks=st.lists(st.binary(max_size=300), max_size=6), big=st.booleans())
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60, deadline=None
)
def test_a_resource_has_the_digest_and_the_bytes_of_what_came(store, chunks, big):
    chunks = [*chunks, b"\xe9" * (MEMORY_BYTES + 1)] if big else chunks
    whole = b"".join(chunks)
    sha256, size = put(store, *chunks)
    assert (sha256, size) == (hashlib.sha256(whole).hexdigest(), len(whole))
    assert content(store, sha256) == whole
    assert store.has(sha256)
    assert store.size(sha256) == len(whole)


def test_resources_lie_where_digital_land_looks_for_them(tmp_path):
    store = Store((tmp_path / "données").as_uri())
    sha256, _ = put(store, b"id;nom\n")
    assert store.path(sha256) == tmp_path / "données" / "resource" / sha256
    assert store.path(sha256).read_bytes() == b"id;nom\n"


def leftovers(root: Path) -> list[Path]:
    return list((root / "tmp").glob("*"))


@pytest.mark.parametrize("size", [10, MEMORY_BYTES * 2 + 1])
def test_nothing_is_left_of_what_was_not_committed(folder, tmp_path, size):
    with folder.new_resource() as resource:
        resource.write(b"x" * size)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("size", [10, MEMORY_BYTES * 2 + 1])
def test_a_resource_is_written_once(folder, tmp_path, size):
    sha256, _ = put(folder, b"x" * size)
    before = folder.path(sha256).stat()
    assert put(folder, b"x" * size)[0] == sha256
    after = folder.path(sha256).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert leftovers(tmp_path) == []


def test_a_resource_cut_short_by_a_crash_is_written_again(folder):
    """Defect 5: the original's truncated file stays under the full hash for ever."""
    sha256, _ = put(folder, b"whole")
    folder.path(sha256).write_bytes(b"who")
    put(folder, b"whole")
    assert content(folder, sha256) == b"whole"


@pytest.mark.parametrize("size", [1200, MEMORY_BYTES + 1])
def test_a_full_disk_names_the_path_and_leaves_nothing(folder, tmp_path, size):
    with room_for(1000), pytest.raises(FlowError, match=r"tmp/.*File too large.*room"):
        put(folder, b"x" * size)
    with room_for(1000), pytest.raises(FlowError, match="File too large"):
        folder.write("log/2026-11-20/a.json", b"x" * size)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_root_that_is_a_file_is_named(tmp_path):
    (tmp_path / "plain").write_text("")
    store = Store(str(tmp_path / "plain"))
    for call in (store.ping, lambda: put(store, b"x"), lambda: store.write("log/a", b"x")):
        with pytest.raises(FlowError, match=r"plain/tmp: Not a directory"):
            call()


def test_ping_makes_the_root_and_leaves_nothing_in_it(store, tmp_path):
    store.ping()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_names_are_written_over(store):
    assert store.read("log/2026-11-20/a.json") is None
    assert not store.exists("log/2026-11-20/a.json")
    store.write("log/2026-11-20/a.json", b"{}")
    store.write("log/2026-11-20/a.json", b'{"status":"200"}')
    assert store.read("log/2026-11-20/a.json") == b'{"status":"200"}'
    assert store.exists("log/2026-11-20/a.json")


def test_readers_of_logs_never_see_a_part(folder, tmp_path):
    """The readers take ``log/*/*.json`` while it is written."""
    stop = threading.Event()
    whole = b"y" * 100_000

    def rewrite() -> None:
        while not stop.is_set():
            folder.write("log/2026-11-20/a.json", whole)

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        seen = set()
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            for path in tmp_path.glob("log/*/*"):
                seen.add((path.name, len(path.read_bytes())))
    finally:
        stop.set()
        writer.join()
    assert seen == {("a.json", len(whole))}


def test_many_may_bring_the_same_resource_at_once(folder, tmp_path):
    body = b"z" * (MEMORY_BYTES + 7)
    writers = [threading.Thread(target=put, args=(folder, body)) for _ in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [path.read_bytes() for path in (tmp_path / "resource").iterdir()] == [body]
    assert leftovers(tmp_path) == []


def test_files_are_told_with_their_age_and_removed_only_when_they_are_old(store):
    sha256, _ = put(store, b"1234")
    name = f"resource/{sha256}"
    ((told, size, written),) = store.files_with_age("resource")
    assert (told, size) == (name, 4)
    assert abs(written - time.time()) < 3600
    assert not store.remove(name, written)
    assert store.remove(name, written + 1)
    assert not store.remove(name, written + 1)
    assert list(store.files_with_age("resource")) == []


def test_lists_too_long_for_a_message(store):
    sha256 = store.write_list(b"[1, 2]")
    assert store.write_list(b"[1, 2]") == sha256
    assert store.read_list(sha256) == b"[1, 2]"


def test_a_list_that_is_not_there_says_where_to_look(folder):
    with pytest.raises(FlowError, match="DATAFAB_STORE_URL"):
        folder.read_list("0" * 64)


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "0" * 63, "A" * 64, "0" * 64 + "\n"])
def test_only_digests_are_names(folder, name):
    with pytest.raises(FlowError, match="not a sha256"):
        folder.read_list(name)
    for call in (folder.open, folder.has, folder.path, folder.size):
        with pytest.raises(Fatal, match="not a sha256"):
            call(name)


def test_a_resource_that_is_not_there_fails_its_item_only(store):
    assert not store.has("0" * 64)
    with pytest.raises(Fatal, match="collect it again") as caught:
        store.open("0" * 64)
    assert caught.value.code == "missing_resource"


def test_old_temporary_files_are_swept(folder, tmp_path, monkeypatch):
    host(tmp_path, monkeypatch)
    old, new = tmp_path / "tmp" / "old", tmp_path / "tmp" / "new"
    old.parent.mkdir()
    for path in (old, new):
        path.write_text("half")
    os.utime(old, (time.time() - 90_000,) * 2)
    assert folder.sweep() == 1
    assert list((tmp_path / "tmp").iterdir()) == [new]
    assert Store(str(tmp_path / "nothing")).sweep() == 0
    os.utime(new, (time.time() - 90_000,) * 2)
    assert folder.sweep() == 1
    assert not old.parent.exists()


def test_a_folder_that_many_tidy_up_is_written_to_all_the_same(tmp_path):
    """Each write may find the folder for files under way gone, between any two of its steps."""
    folder, over = Store(str(tmp_path)), threading.Event()

    def tidy() -> None:
        while not over.is_set():
            folder.tidy()

    tidiers = [threading.Thread(target=tidy) for _ in range(2)]
    for thread in tidiers:
        thread.start()
    try:
        for number in range(300):
            folder.write(f"log/2026-11-20/{number}.json", b"x")
            put(folder, b"%d" % number * MEMORY_BYTES)
    finally:
        over.set()
        for thread in tidiers:
            thread.join()
    folder.tidy()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "resource"]
    assert len(list((tmp_path / "log" / "2026-11-20").iterdir())) == 300


def test_a_folder_that_goes_while_it_is_made_is_made_again(tmp_path, monkeypatch):
    """``makedirs`` finds the folder, and then not: another process has removed it between two system calls."""
    made, whole = [], os.makedirs

    def makedirs(path: str, **options: bool) -> None:
        made.append(path)
        if len(made) == 1:
            raise FileExistsError(errno.EEXIST, "File exists", path)
        whole(path, **options)

    folder = Store(str(tmp_path))
    monkeypatch.setattr("datafab.store.folder.os.makedirs", makedirs)
    folder.write("log/2026-11-20/a.json", b"x")
    assert folder.read("log/2026-11-20/a.json") == b"x"
    folder.tidy()
    (tmp_path / "tmp").write_text("a file where the folder should be")
    with pytest.raises(FlowError, match="tmp: File exists; the store needs room"):
        folder.write("log/2026-11-20/b.json", b"x")


def test_a_store_is_recognised_by_those_who_have_not_begun_it(tmp_path):
    folder = Store(str(tmp_path / "store"))
    with pytest.raises(FlowError, match="all hosts must share it"):
        folder.require_marked()
    folder.ping()
    folder.require_marked()
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["resource"]


def test_a_bucket_has_no_local_paths(bucket):
    with pytest.raises(FlowError, match="not on this host"):
        bucket.path("0" * 64)


@pytest.mark.parametrize("size", [7, MEMORY_BYTES + 1, 2 * PART_BYTES + 5])
def test_a_resource_of_a_bucket_is_where_digital_land_syncs_it_to_and_nothing_stays_here(bucket, s3, tmp_path, size):
    body = bytes(range(256)) * (size // 256 + 1)
    sha256, kept = put(bucket, body[:size])
    key = f"données ouvertes/{tmp_path.name}/resource/{sha256}"
    assert s3.objects("essai", key) == {key: kept}
    assert s3.get("essai", key) == body[:size]
    assert content(bucket, sha256) == body[:size]
    with bucket.local(sha256) as path:
        assert path.read_bytes() == body[:size]
    assert temporary_files(tmp_path) == []


def test_a_resource_is_a_file_here_for_as_long_as_it_is_read(store, tmp_path):
    sha256, _ = put(store, b"id;nom\n")
    with store.local(sha256) as path:
        assert path.read_bytes() == b"id;nom\n"
    assert store.has(sha256)
    with pytest.raises(Fatal, match="collect it again"), store.local("0" * 64):
        pass


def test_the_tables_of_a_collection_in_a_bucket_are_those_of_a_folder(bucket, tmp_path):
    here = Store(str(tmp_path / "c"))
    for store in (here, bucket):
        for day in range(10, 13):
            url = f"https://a.example/{day}"
            endpoint = endpoint_hash(url)
            log = {"endpoint-url": url, "entry-date": f"2026-11-{day}T", "resource": "a" * 64}
            store.write(f"log/2026-11-{day}/{endpoint}.json", json.dumps(log).encode())
            store.write("source.csv", f"organisation,endpoint\no,{endpoint}\n".encode())
            assert save_csv(store, date(2026, 11, 20), load({}), warn=lambda _: None).logs == day - 9
    assert sorted(here.names("log")) == sorted(bucket.names("log"))
    for name in ("log.csv", "resource.csv"):
        assert here.read(name) == bucket.read(name)
    assert not temporary_files(tmp_path / "passing")


def test_a_file_that_is_written_piece_by_piece_is_there_when_it_is_whole(store):
    store.write("a.csv", b"before")
    with suppress(ValueError), store.writer("a.csv") as file:
        file.write(b"x")
        raise ValueError
    assert store.read("a.csv") == b"before"
    with store.writer("a.csv") as file:
        file.write(b"after")
    assert store.read("a.csv") == b"after"
    with store.local_file("a.csv") as path, store.local_file("b.csv") as none:
        assert (path.read_bytes(), none) == (b"after", None)


#: Writes half a file, says so, and waits.
HALF = """
import sys, time
from datafab.store.store import Store
with Store(sys.argv[1]).writer("log.csv") as file:
    file.write(b"half")
    file.flush()
    print("half", flush=True)
    time.sleep(60)
"""


def test_a_process_that_is_killed_while_it_writes_leaves_the_file_before(folder, tmp_path, monkeypatch):
    host(tmp_path, monkeypatch)
    folder.write("log.csv", b"before")
    with subprocess.Popen([sys.executable, "-c", HALF, str(tmp_path)], stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"half\n"
        child.kill()
    assert folder.read("log.csv") == b"before"
    (left,) = (tmp_path / "tmp").iterdir()
    os.utime(left, (time.time() - 90_000,) * 2)
    assert folder.sweep() == 1


def test_an_upload_that_is_broken_off_leaves_nothing(bucket, s3, tmp_path, monkeypatch):
    """The folder that it comes from has gone, and so has the server in the middle of it."""
    dead = Store(bucket.root, "http://127.0.0.1:9")
    with pytest.raises(Wait, match=r"s3://essai/.*Could not connect"):
        put(dead, b"x" * (MEMORY_BYTES + 1))
    with pytest.raises(FlowError, match="Could not connect"):
        dead.ping()
    assert temporary_files(tmp_path) == []


def test_a_bucket_that_is_not_there_says_so(bucket, s3):
    absent = Store("s3://nirgends/x", s3.url)
    for call in (absent.ping, lambda: put(absent, b"x"), lambda: put(absent, b"x" * 3 * PART_BYTES), absent.sweep):
        with pytest.raises(FlowError, match=r"s3://nirgends/x/.*no such bucket; create it"):
            call()
    with pytest.raises(FlowError, match="no such bucket"):
        absent.read("log/2026-11-20/a.json")


def test_a_key_that_is_not_known_says_so(bucket, s3, tmp_path):
    sha256, _ = put(bucket, b"x")
    s3.ask_for_keys(ask=True)
    try:
        for call in (bucket.ping, lambda: put(bucket, b"y" * (MEMORY_BYTES + 1)), lambda: bucket.read("log/a")):
            with pytest.raises(FlowError, match=r"s3://essai/données ouvertes/.*check AWS_ACCESS_KEY_ID"):
                call()
        with pytest.raises(
            FlowError, match="AWS_ACCESS_KEY_ID, and that it may list"
        ):  # HEAD: an answer without a word
            bucket.size(sha256)
    finally:
        s3.ask_for_keys(ask=False)
    assert temporary_files(tmp_path) == []


def test_no_key_at_all_says_what_to_set(s3, tmp_path, monkeypatch):
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(FlowError, match="set AWS_ACCESS_KEY_ID and"):
        Store("s3://essai/x", s3.url).ping()


def test_a_full_folder_for_temporary_files_is_named(bucket, tmp_path):
    with room_for(1000), pytest.raises(FlowError, match=r"passing/.*File too large.*room"):
        put(bucket, b"x" * (MEMORY_BYTES + 1))
    sha256, _ = put(bucket, b"x" * (MEMORY_BYTES + 1))
    with room_for(1000), pytest.raises(FlowError, match=r"passing.*File too large.*room"), bucket.local(sha256):
        pass
    assert temporary_files(tmp_path) == []


def test_what_killed_uploads_left_is_swept(bucket, s3, tmp_path):
    key = f"données ouvertes/{tmp_path.name}/resource/half"
    s3.client.create_multipart_upload(Bucket="essai", Key=key)
    old = tmp_path / "passing" / "datafab-work-old"
    old.write_text("half")
    os.utime(old, (1, 1))
    tree = tmp_path / "passing" / "datafab-work-tree"
    tree.mkdir()
    os.utime(tree, (1, 1))
    (tmp_path / "passing" / "datafab-demo-x").mkdir()
    assert bucket._files.sweep("tmp", 1) == 0
    assert bucket.sweep() == 3  # every upload was begun in 2010, says moto
    assert [path.name for path in (tmp_path / "passing").iterdir()] == ["datafab-demo-x"]
    assert s3.client.list_multipart_uploads(Bucket="essai").get("Uploads", []) == []


@pytest.mark.parametrize(
    ("root", "says"),
    [("", "no root"), ("nosuch://x", "nosuch"), ("s3:///x", "s3://bucket"), ("s3://[x", "s3://bucket")],
)
def test_a_root_that_cannot_be(root, says):
    with pytest.raises(SettingError, match=says):
        Store(root)


def test_a_relative_root_stays_where_it_was(tmp_path, request):
    here = Path.cwd()
    request.addfinalizer(lambda: os.chdir(here))
    os.chdir(tmp_path)
    store = Store("collection")
    os.chdir("/")
    sha256, _ = put(store, b"x")
    assert (tmp_path / "collection" / "resource" / sha256).exists()


def test_lists_of_a_bucket_are_forgotten(bucket, s3, tmp_path):
    kept = bucket.write_list(b"[1]")
    assert bucket.remove_lists(time.time() - 60) == 0
    assert bucket.read_list(kept) == b"[1]"
    assert bucket.remove_lists(time.time() + 60) == 1
    assert s3.objects("essai", f"données ouvertes/{tmp_path.name}/") == {}


def test_lists_are_forgotten_when_no_job_has_needed_them_for_long(tmp_path):
    store = Store(str(tmp_path))
    old, new = store.write_list(b"[1]"), store.write_list(b"[2]")
    os.utime(tmp_path / "batch" / old, (1, 1))
    os.utime(tmp_path / "batch" / new, (1, 1))
    store.write_list(b"[2]")  # a job of today needs the same list
    assert store.remove_lists(time.time() - 60) == 1
    assert store.read_list(new) == b"[2]"
    with pytest.raises(FlowError, match="no list"):
        store.read_list(old)


def test_a_collection_waits_for_a_bucket_that_is_away(bucket, s3, tmp_path):
    collection = Collection(tmp_path)
    jobs, params = MemoryJobs(), {"endpoints": str(collection.csv), "collection": bucket.root}

    def services(endpoint: str) -> Services:
        return Services(collection.settings.model_copy(update={"s3_endpoint": endpoint}), jobs=jobs)

    with Site({"/a.csv": Answer(b"id\n1\n")}) as site:
        collection.write(row(site.url("/a.csv")))
        whole = Batch(job="j", flow="collect", params=params)
        (batch,) = expand(SOURCE, whole, services(s3.url), Attempt(Lease(job_created=time.time())))
        with pytest.raises(Wait, match=r"s3://essai/.*Could not connect"):
            run_stage(COLLECT, batch, services("http://127.0.0.1:9"), Attempt(Lease(job_created=time.time())))
        assert site.hits.total() == 0
        attempt = Attempt(Lease(job_created=time.time(), attempt=1, woken=True))
        (item,) = run_stage(COLLECT, batch, services(s3.url), attempt)
    assert item.status is Status.OK
    assert bucket.has(item.sha256)
