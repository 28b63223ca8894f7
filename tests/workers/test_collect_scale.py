"""Many endpoints: killed hosts, memory, and how they are shared out.

``DATAFAB_ENDPOINTS`` says how many (``make soak``); a few hundred otherwise.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from datafab.collect.endpoint import endpoint_hash
from datafab.core.job import JobStatus
from tests.benchmarks.processes import memory
from tests.servers.celery import Cluster, Process, until
from tests.servers.http import Answer, Site, table
from tests.servers.redis import RedisServer
from tests.workers.conftest import Bench
from tests.workers.toys import app
from workers.app import use

COUNT = int(os.environ.get("DATAFAB_ENDPOINTS", "300"))
#: from here on it is a long test
MANY = 10_000
PORTS, SIZE = 40, 500
WORKERS = ("io1", "io2")
#: threads of a worker: what each may have in hand when it is killed
THREADS = 8
MB = 1024 * 1024
LARGE = 2 * 1024 * MB


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Two workers, with control and beat."""
    folder = tmp_path_factory.mktemp("many")
    environment = {"DATAFAB_ALLOW_PRIVATE_HOSTS": "127.0.0.1", "DATAFAB_BATCH_SIZE": "50"}
    environment |= {"DATAFAB_MAX_BYTES": str(LARGE)}
    if COUNT >= MANY:
        # Thousands of messages lie in a queue for longer than the tests' usual four seconds, and would be doubted.
        environment |= {"DATAFAB_LEASE": "10", "DATAFAB_HEARTBEAT": "2", "DATAFAB_VISIBILITY_TIMEOUT": "30"}
    with RedisServer(folder / "redis") as server:
        bench = Bench(Cluster(server.url, folder, **environment), server)
        use(bench.settings)
        try:
            # `cpu` takes what a killed process of threads had in hand.
            for name in (*WORKERS, "cpu", "control", "beat"):
                bench.cluster.start(name)
            bench.cluster.ready(app, *WORKERS, "control")
            yield bench
        finally:
            bench.cluster.stop()


def write_list(folder: Path, site: Site, count: int) -> list[str]:
    """Write an endpoint.csv of addresses on all ports of a site."""
    urls = [f"http://127.0.0.1:{site.ports[n % PORTS]}/{n}.csv" for n in range(count)]
    folder.mkdir()
    (folder / "endpoint.csv").write_text("endpoint-url,endpoint\n" + "".join(f"{url},\n" for url in urls))
    return urls


def check(folder: Path, urls: list[str]) -> None:
    """Every endpoint has one log, of a resource that is whole; nothing else is there."""
    logs = sorted(folder.glob("log/*/*"))
    assert Counter(path.stem for path in logs) == Counter(map(endpoint_hash, urls))
    resources = {json.loads(path.read_bytes())["resource"] for path in logs}
    kept = {path.name for path in (folder / "resource").iterdir()}
    assert resources == kept
    assert len(kept) == len(urls)
    for path in (folder / "resource").iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


@pytest.mark.soak
def test_two_gigabytes_add_little_to_a_worker(many: Bench, tmp_path: Path):
    folder = tmp_path / "large"
    parts = [many.cluster.parts[name] for name in WORKERS]
    with Site({"/0.csv": Answer(fault="endless")}, ports=PORTS) as site:
        write_list(folder, site, 1)
        before = [highest(part) for part in parts]
        ended = many.run("collect", 600, endpoints=str(folder / "endpoint.csv"), collection=str(folder), then=[])
    assert ended.counts
    assert (ended.counts.failed, ended.counts.total) == (1, 1)
    (log,) = folder.glob("log/*/*")
    assert json.loads(log.read_bytes())["exception"] == "TooLarge"
    grown = [highest(part) - mb for part, mb in zip(parts, before, strict=True)]
    print(f"{LARGE // MB} MB came: the workers grew by {grown} MB", flush=True)
    assert max(grown) < 64


def test_killed_hosts_lose_nothing_double_nothing_and_fetch_only_what_is_missing(many: Bench, tmp_path: Path):
    count = min(COUNT, 5000)
    kills = 2 if count < 1000 else 8
    folder = tmp_path / "collection"
    with Site(router=lambda path, _: Answer(table(path, SIZE), delay=0.05), ports=PORTS) as site:
        urls = write_list(folder, site, count)
        job = many.start("collect", endpoints=str(folder / "endpoint.csv"), collection=str(folder), then=[])
        for kill in range(kills):
            asked = count * (kill + 1) // (kills + 2)
            until(lambda asked=asked: len(site.hits) >= asked or many.job(job).final, 300, 0.02)
            victim = WORKERS[kill % 2]
            many.cluster.parts[victim].kill()
            many.cluster.start(victim)
        ended = many.end(job, 300)
        hits = Counter(site.hits)
    assert ended.status is JobStatus.SUCCEEDED, ended.error
    assert ended.counts
    assert (ended.counts.ok, ended.counts.total) == (count, count)
    check(folder, urls)
    assert set(hits) == {f"/{n}.csv" for n in range(count)}
    assert hits.total() <= count + kills * THREADS


@pytest.mark.soak
def test_a_hundred_thousand_are_shared_out_and_cost_little(many: Bench, tmp_path: Path):
    said: dict[int, dict[str, float]] = {}
    with Site(router=lambda path, _: Answer(table(path, SIZE)), ports=PORTS) as site:
        for count in (COUNT // 100, COUNT):
            folder = tmp_path / str(count)
            write_list(folder, site, count)
            parts = {name: many.cluster.parts[name] for name in WORKERS}
            taken = {name: took(part) for name, part in parts.items()}
            used = many.redis.info("memory")["used_memory"]
            began, peak = time.monotonic(), 0.0
            job = many.start("collect", endpoints=str(folder / "endpoint.csv"), collection=str(folder), then=[])
            while not many.job(job).final:
                peak = max(peak, (many.redis.info("memory")["used_memory"] - used) / MB)
                time.sleep(0.25)
            ended = many.end(job, 3600)
            assert ended.counts
            assert (ended.counts.ok, ended.counts.total) == (count, count)
            said[count] = {
                "seconds": round(time.monotonic() - began, 1),
                "Redis, MB at its peak": round(peak, 1),
                "Redis, MB after": round((many.redis.info("memory")["used_memory"] - used) / MB, 2),
            } | {f"{name}, MB": round(memory(part.pid).own) for name, part in parts.items()}
            shares = {name: took(part) - taken[name] for name, part in parts.items()}
            print(f"{count} endpoints: {said[count]}, batches: {shares}", flush=True)
            assert min(shares.values()) > sum(shares.values()) / 4
            site.requests.clear()
    small, large = said.values()
    assert large["Redis, MB at its peak"] < 12 * COUNT / 10_000
    assert large["Redis, MB after"] < 3
    for name in WORKERS:
        assert large[f"{name}, MB"] < small[f"{name}, MB"] + 3 * COUNT / 10_000 + 30


@pytest.mark.soak
def test_as_many_servers_are_split_and_joined(many: Bench, tmp_path: Path):
    """None of them is asked: each endpoint has ended. What is left is the way of a job with 2,000 batches."""
    file = tmp_path / "endpoint.csv"
    rows = "".join(f"http://serveur-{n}.example/,,2020-01-01\n" for n in range(COUNT))
    file.write_text("endpoint-url,endpoint,end-date\n" + rows)
    used, began = many.redis.info("memory")["used_memory"], time.monotonic()
    job = many.start("collect", endpoints=str(file), collection=str(tmp_path), then=[])
    peak = 0.0
    while not many.job(job).final:
        peak = max(peak, (many.redis.info("memory")["used_memory"] - used) / MB)
        time.sleep(0.25)
    ended = many.end(job, 3600)
    print(f"{COUNT} servers: {time.monotonic() - began:.0f} s, Redis, MB at its peak: {peak:.1f}", flush=True)
    assert ended.counts
    assert (ended.counts.skipped, ended.counts.total) == (COUNT, COUNT)
    assert peak < 8 * COUNT / 10_000


def highest(part: Process) -> int:
    """Return the most memory that a worker has ever had, in MB."""
    lines = Path(f"/proc/{part.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) // 1024


def took(part: Process) -> int:
    """Return how many batches a worker has ended."""
    return len(re.findall(r"Task datafab\.collect\[\S+\] succeeded", part.log.read_text()))
