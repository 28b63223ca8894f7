"""All chains on two hosts, while everything is killed, stalled, frozen and filled up: nothing lost, nothing doubled.

One host reaches Redis through a proxy, has a home of its own, and a clock that is wrong. What comes of the jobs is
counted outside, at those who receive it. ``make test`` runs about a minute of it; ``make soak`` 20,000 jobs
(DATAFAB_CHAOS_JOBS) and at least ten minutes of faults (DATAFAB_CHAOS=seconds). All choices follow from the seed, which
is printed (DATAFAB_CHAOS_SEED).
"""

from __future__ import annotations

import math
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from datafab.embedded.broker import find_mosquitto
from datafab.store.scratch import sweep_work_folders
from tests.servers.celery import Cluster, Process, until
from tests.servers.clocks import clock_ahead
from tests.servers.redis import PREFIX, RedisServer
from tests.servers.tcp_proxy import TcpProxy
from tests.workers.conftest import Bench
from tests.workers.toys import app
from tests.workers.traffic import Receivers, Traffic, receivers
from workers.app import settings, use

SECONDS = float(os.environ.get("DATAFAB_CHAOS", "20"))
JOBS = int(os.environ.get("DATAFAB_CHAOS_JOBS", "60"))
SEED = int(os.environ.get("DATAFAB_CHAOS_SEED", str(time.time_ns() % 10_000)))
#: Jobs that may be under way at the same time.
WINDOW = 200
HERE, THERE = ("io", "cpu", "control", "beat", "listener", "webhook"), ("io2", "cpu2", "control2")
#: How often each fault is drawn.
FAULTS = {"child": 8, "host": 6, "beat": 2, "listener": 2, "webhook": 2}
FAULTS |= {"redis": 1, "stall": 2, "reset": 3, "freeze": 3}
#: A full Redis ends workers as long as they do not wait for it: DATAFAB_CHAOS_FULL=1 fills it too.
if os.environ.get("DATAFAB_CHAOS_FULL"):
    FAULTS["full"] = 2
#: The clock of the other host is so many seconds ahead.
AHEAD = 3 * 3600


class Hosts:
    """Two hosts and their Redis."""

    def __init__(self, bench: Bench, proxy: TcpProxy, outside: Receivers) -> None:
        self.bench, self.proxy, self.outside = bench, proxy, outside
        self.parts = bench.cluster.parts
        #: all process groups that there ever were
        self.groups: set[int] = set()

    def start(self, name: str) -> None:
        """Start a part, on the host to which it belongs."""
        cluster = self.bench.cluster
        if name == "webhook":
            bind = ("--bind", self.outside.webhook, "--threads", "4", "--no-control-socket")
            process = Process(name, "gunicorn", "webhook.wsgi:app", *bind, env=cluster.env, log=cluster.folder)
            self.parts[name] = process
        elif name == "listener":
            self.parts[name] = Process(name, "workers.listener", env=cluster.env, log=cluster.folder)
        elif name in THERE:
            url = f"redis://127.0.0.1:{self.proxy.port}/0"
            home = cluster.folder / "other"
            cluster.start(name, DATAFAB_REDIS_URL=url, DATAFAB_HOME=str(home), **clock_ahead(AHEAD))
        else:
            cluster.start(name)
        self.groups.add(self.parts[name].pid)

    def mend(self) -> None:
        """Start again what has ended."""
        for name in (*HERE, *THERE):
            if not self.parts[name].alive:
                self.start(name)


class Chaos:
    """Makes one fault after another, and sees how long it takes until others go on with what was lost."""

    def __init__(self, hosts: Hosts, seed: int) -> None:
        self.hosts = hosts
        self.random = random.Random(seed)
        self.faults: Counter[str] = Counter()
        #: (row, attempt) -> when its holder was killed
        self.orphans: dict[tuple[str, int], float] = {}
        self.recovered: list[float] = []
        #: what ends a fault that lasts, and when
        self.ends: list[tuple[float, Callable[[], object]]] = []

    def strike(self) -> None:
        what = self.random.choices(list(FAULTS), list(FAULTS.values()))[0]
        self.faults[what] += 1
        getattr(self, what)()

    def child(self) -> None:
        children = [pid for name in ("cpu", "cpu2") for pid in self.hosts.parts[name].children()]
        if children:
            victim = self.random.choice(children)
            with suppress(ProcessLookupError):
                self._note({victim})
                os.kill(victim, signal.SIGKILL)

    def host(self) -> None:
        self._kill(self.random.choice(["io", "io2", "cpu", "cpu2", "control", "control2"]))

    def beat(self) -> None:
        self._kill("beat")

    def listener(self) -> None:
        self._kill("listener")

    def webhook(self) -> None:
        self._kill("webhook")

    def redis(self) -> None:
        self.hosts.bench.server.restart(killed=True)

    def stall(self) -> None:
        self.hosts.proxy.stall()
        self._later(self.random.uniform(0.5, 5), self.hosts.proxy.flow)

    def reset(self) -> None:
        self.hosts.proxy.reset()

    def freeze(self) -> None:
        part = self.hosts.parts[self.random.choice(["io", "io2", "cpu", "cpu2", "control"])]
        if part.alive:
            self._note({part.pid, *part.children()})
            os.killpg(part.pid, signal.SIGSTOP)
            self._later(self.random.uniform(1, 6), lambda: _go_on(part))

    def full(self) -> None:
        self._limit(1)
        self._later(self.random.uniform(0.5, 3), lambda: self._limit(0))

    def _limit(self, size: int) -> None:
        with self.hosts.bench.server.client() as client:
            client.config_set("maxmemory", size)

    def _kill(self, name: str) -> None:
        part = self.hosts.parts[name]
        self._note({part.pid, *part.children()})
        part.kill()
        self.hosts.start(name)

    def _later(self, seconds: float, end: Callable[[], object]) -> None:
        self.ends.append((time.monotonic() + seconds, end))

    def look(self, *, last: bool = False) -> None:
        """End the faults whose time has come, or all of them; see which orphans have been taken up."""
        for due, end in self.ends[:]:
            if last or time.monotonic() >= due:
                self.ends.remove((due, end))
                end()
        with suppress(RedisError):
            for (row, attempt), since in list(self.orphans.items()):
                state, fence = self.hosts.bench.redis.hmget(f"{PREFIX}row:{row}", "state", "fence")
                if state is None or (int(fence) > attempt and state == "run"):
                    del self.orphans[row, attempt]
                    self.recovered.append(time.monotonic() - since)

    def _note(self, pids: set[int]) -> None:
        """Note the rows that these processes hold."""
        redis = self.hosts.bench.redis
        with suppress(RedisError):
            for row in redis.zrange(f"{PREFIX}due", 0, -1):
                state, holder, fence = redis.hmget(f"{PREFIX}row:{row}", "state", "by", "fence")
                if state == "run" and int(holder.split(":")[1]) in pids:
                    self.orphans.setdefault((row, int(fence)), time.monotonic())


def _go_on(part: Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(part.pid, signal.SIGCONT)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "other").mkdir()
    with receivers(tmp_path) as outside, RedisServer(tmp_path / "redis") as server, TcpProxy(server.port) as proxy:
        environment = outside.settings() | {"TMPDIR": str(tmp_path / "tmp")}
        bench = Bench(Cluster(server.url, tmp_path, **environment), server)
        before = settings()
        use(bench.settings)
        hosts = Hosts(bench, proxy, outside)
        try:
            for name in (*HERE, *THERE):
                hosts.start(name)
            bench.cluster.ready(app, "io", "cpu", "control", *THERE, timeout=60)
            yield hosts
        finally:
            proxy.flow()
            for part in hosts.parts.values():
                part.kill()
            use(before)


@pytest.mark.skipif(find_mosquitto() is None, reason="no mosquitto: run tests/servers/install")
@pytest.mark.timeout(2400 + 10 * SECONDS + JOBS)  # each job may take longer than other tests
def test_chaos(hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    print(f"DATAFAB_CHAOS_SEED={SEED}", flush=True)
    traffic, chaos = Traffic(hosts.outside, SEED, hosts.bench.redis), Chaos(hosts, SEED)
    until(lambda: '"listening"' in hosts.parts["listener"].log.read_text(encoding="utf-8"), 20)
    run(traffic, chaos)
    limit = 120 + JOBS / 10
    until(lambda: _settled(traffic, chaos), limit, 0.5)
    print(
        dict(chaos.faults),
        dict(traffic.asked),
        f"recovery of {len(chaos.recovered)} tasks: {_percentiles(chaos.recovered)}",
        flush=True,
    )
    assert traffic.failed() == []
    assert traffic.made() == traffic.expected
    assert traffic.amiss() == {}
    assert not chaos.orphans
    if "DATAFAB_CHAOS" in os.environ:  # in a test run the machine is busy with other tests
        assert _percentiles(chaos.recovered)[95] <= 60
    nothing_is_left(hosts, tmp_path, monkeypatch)


def run(traffic: Traffic, chaos: Chaos) -> None:
    """Ask for jobs while faults are made, at least for so many seconds; then let all faults end."""
    end = time.monotonic() + SECONDS
    while traffic.asked.total() < JOBS or time.monotonic() < end:
        pause = chaos.random.uniform(0.3, 1.5)
        strike_at = time.monotonic() + pause
        for _ in range(min(_room(traffic), math.ceil(JOBS / SECONDS * pause * chaos.random.uniform(0, 2)))):
            traffic.ask()
        while time.monotonic() < strike_at:
            chaos.look()
            chaos.hosts.mend()
            time.sleep(0.1)
        chaos.strike()
    chaos.look(last=True)


def _room(traffic: Traffic) -> int:
    """Return how many jobs may be asked for now."""
    with suppress(RedisError):
        return max(0, min(JOBS - traffic.asked.total(), WINDOW - traffic.unended()))
    return 0


def _settled(traffic: Traffic, chaos: Chaos) -> bool:
    chaos.hosts.mend()
    chaos.look()
    return traffic.made() == traffic.expected and not traffic.unended() and not chaos.orphans


def _percentiles(seconds: list[float]) -> dict[int, float]:
    ordered = sorted(seconds) or [0.0]
    return {part: round(ordered[min(len(ordered) - 1, len(ordered) * part // 100)], 1) for part in (50, 95, 100)}


def nothing_is_left(hosts: Hosts, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No row, no note, no message, no secret, no process, no temporary file."""
    redis = hosts.bench.redis
    hosts.bench.settle()
    until(lambda: not redis.zcard(f"{PREFIX}due"), 20)
    assert not [key for pattern in ("row:*", "job:*:done:*", "secret:*") for key in redis.keys(PREFIX + pattern)]
    lasting = {key.removeprefix(PREFIX).partition(":")[0] for key in redis.keys(f"{PREFIX}job:*") if redis.ttl(key) < 0}
    assert lasting == set()
    for part in hosts.parts.values():
        part.stop()
    until(lambda: not [group for group in hosts.groups if _runs(group)], 10)
    # A killed worker leaves its work folder to the next one that starts a day later.
    monkeypatch.setattr("tempfile.tempdir", str(folder / "tmp"))
    sweep_work_folders(time.time() + 1)
    assert [path.name for path in (folder / "tmp").iterdir() if not path.name.startswith("pymp-")] == []
    stray = [path for path in hosts.outside.collections.rglob("*") if path.name.startswith(".") or "tmp" in path.name]
    assert stray == []


def _runs(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
