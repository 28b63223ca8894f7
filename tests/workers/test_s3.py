"""Two hosts without a common disk: what they share is Redis and a bucket."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from datafab.store.scratch import LOCK_NAME
from tests.servers.celery import Cluster, until
from tests.servers.http import Answer, Site, table
from tests.servers.moto import KEYS, Moto
from tests.servers.redis import RedisServer
from tests.workers.conftest import Bench
from tests.workers.toys import app
from workers.app import use

PORTS, EACH = 8, 4
#: keys of a log that say when it was, or which run wrote it
PASSING = {"entry-date", "elapsed"}


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    with Moto(tmp_path_factory.mktemp("moto")) as server:
        server.bucket("partage")
        yield server


@pytest.fixture
def hosts(moto: Moto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Bench, Cluster]]:
    """Two clusters of processes with a folder each; the first has beat and control, and takes what a dead one held."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with RedisServer(tmp_path / "redis") as server:
        clusters = []
        for name in ("hier", "dort"):
            folder = tmp_path / name
            (folder / "tmp").mkdir(parents=True)
            left = folder / "tmp" / "datafab-work-left"
            left.mkdir()
            os.utime(left, (1, 1))
            shared = {"DATAFAB_STORE_URL": "s3://partage/store", "DATAFAB_S3_ENDPOINT": moto.url}
            own = {"TMPDIR": str(folder / "tmp"), "DATAFAB_ALLOW_PRIVATE_HOSTS": "127.0.0.1"}
            clusters.append(Cluster(server.url, folder, **shared, **own))
        bench = Bench(clusters[0], server)
        use(bench.settings)
        try:
            for name in ("io1", "cpu1", "control", "beat"):
                clusters[0].start(name)
            clusters[1].start("io2")
            clusters[0].ready(app, "io1", "control")
            clusters[1].ready(app, "io2")
            yield bench, clusters[1]
        finally:
            for cluster in clusters:
                cluster.stop()


def logs_of(files: dict[str, bytes]) -> dict[str, dict[str, str]]:
    """Return the logs without what differs between two runs."""
    read = {name: json.loads(data) for name, data in files.items()}
    return {name: {key: value for key, value in log.items() if key not in PASSING} for name, log in read.items()}


def analyses(files: dict[str, bytes]) -> dict[str, dict[str, object]]:
    """Return the analyses but for the time that they took."""
    found = {name: json.loads(data) for name, data in files.items() if name.startswith("analysis/")}
    return {name: {key: each[key] for key in ("status", "header", "total_lines")} for name, each in found.items()}


def test_two_hosts_and_a_bucket_collect_what_a_folder_gets_though_one_is_killed(
    hosts: tuple[Bench, Cluster], moto: Moto, tmp_path: Path
):
    bench, other = hosts
    # What killed processes left goes when a worker starts, wherever collections begin.
    assert not any((cluster.folder / "tmp" / "datafab-work-left").exists() for cluster in (bench.cluster, other))
    # One in eight is large enough to go through a temporary file.
    sizes = {f"/{n}": 300_000 if n % 8 == 0 else 500 for n in range(PORTS * EACH)}
    with Site(router=lambda path, _: Answer(table(path, sizes[path]), delay=0.4), ports=PORTS) as site:
        urls = [f"http://127.0.0.1:{site.ports[n % PORTS]}/{n}" for n in range(PORTS * EACH)]
        (tmp_path / "endpoint.csv").write_text("endpoint,endpoint-url\n" + "".join(f",{url}\n" for url in urls))
        given = {"endpoints": str(tmp_path / "endpoint.csv"), "then": ["analyse"]}
        job = bench.start("collect", collection="s3://partage/collection", **given)
        until(lambda: "datafab.collect" in other.parts["io2"].log.read_text(), 60)
        until(lambda: moto.objects("partage", "collection/log"), 60)
        other.parts["io2"].kill()
        ended = bench.end(job, 120)
        assert ended.counts
        assert (ended.counts.ok, ended.counts.failed) == (len(urls), 0)
        assert [stage.stage for stage in ended.progress] == ["collect", "analyse"]
        stage = ended.progress[0]
        assert stage.items_per_second
        assert stage.bytes_per_second
        assert stage.eta is None

        again = bench.run("collect", 60, collection=str(tmp_path / "folder"), **given)
        assert again.counts
        assert again.counts.ok == len(urls)
    root = tmp_path / "folder"
    folder = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    keys = moto.objects("partage", "collection/")
    bucket = {key.removeprefix("collection/"): moto.get("partage", key) for key in keys}
    days = {name.split("/")[1] for name in [*folder, *bucket] if name.startswith("log/")}
    assert len(days) in {1, 2}  # two around midnight

    def undated(files: dict[str, bytes], folder: str) -> dict[str, bytes]:
        return {Path(name).name: data for name, data in files.items() if name.startswith(folder)}

    assert len(bucket) == len(folder) == 3 * len(urls)
    assert undated(bucket, "resource/") == undated(folder, "resource/")
    assert logs_of(undated(bucket, "log/")) == logs_of(undated(folder, "log/"))
    assert analyses(bucket) == analyses(folder)
    # Each process that lives has a folder with its lock; `pymp-` is that of Celery's pool.
    kept = [path for path in (bench.cluster.folder / "tmp").rglob("*") if path.is_file() and path.name != LOCK_NAME]
    assert [path for path in kept if not path.parent.name.startswith("pymp-")] == []
