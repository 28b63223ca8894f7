"""2,000 endpoints on 20 slow servers: our workers against one after another with ``requests``."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import requests

from datafab.collect.endpoint import endpoint_hash
from datafab.core.job import JobStatus
from tests.benchmarks.processes import cpu
from tests.benchmarks.rig import Rig
from tests.servers.celery import ROOT, Process, until
from workers.app import jobs
from workers.canvas import start

#: servers, seconds before each answer, bytes of a body
PORTS, DELAY, SIZE = 20, 0.05, 20_000


@contextmanager
def servers(delay: float = DELAY) -> Iterator[tuple[list[int], int]]:
    """Run the servers in a process of their own; give their ports and its id."""
    command = ["-m", "tests.servers.http", "--ports", str(PORTS), "--delay", str(delay), "--size", str(SIZE)]
    with subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["ports"], process.pid
        process.stdin.close()


def addresses(ports: Sequence[int], count: int) -> list[str]:
    """Return URLs, one server after another."""
    return [f"http://127.0.0.1:{ports[number % len(ports)]}/fichier-{number}.csv" for number in range(count)]


def write_list(folder: Path, urls: Sequence[str]) -> str:
    """Write an endpoint.csv into a new folder; return its path."""
    folder.mkdir()
    path = folder / "endpoint.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["endpoint", "endpoint-url", "plugin", "parameters", "end-date"])
        rows.writerows([endpoint_hash(url), url, "", "", ""] for url in urls)
    return str(path)


def one_after_another(urls: Sequence[str], folder: Path) -> float:
    """Collect by the original's algorithm, without its checks; return the seconds."""
    (folder / "resource").mkdir(parents=True)
    began = time.perf_counter()
    for url in urls:
        now = datetime.now(UTC).replace(tzinfo=None)
        asked = time.perf_counter()
        answer = requests.get(url, timeout=120)
        digest = hashlib.sha256(answer.content).hexdigest()
        (folder / "resource" / digest).write_bytes(answer.content)
        log = {
            "endpoint-url": url,
            "entry-date": now.isoformat(),
            "ssl-verify": True,
            "elapsed": str(round(time.perf_counter() - asked, 3)),
            "status": str(answer.status_code),
            "request-headers": dict(answer.request.headers),
            "response-headers": dict(answer.headers),
            "resource": digest,
        }
        path = folder / "log" / f"{now:%Y-%m-%d}" / f"{endpoint_hash(url)}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(log, sort_keys=True, separators=(",", ":")))
    return time.perf_counter() - began


@dataclass
class Figures:
    """What was measured: seconds an endpoint, a value for each round."""

    count: int
    plain: int
    #: of the queue ``io``, with as many threads as the settings say
    workers: int
    #: one after another
    sequential: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    #: one after another and ours, of servers that answer at once
    at_once: list[tuple[float, float]] = field(default_factory=list)
    #: CPU of each process
    cpu: dict[str, list[float]] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """How many times as quick we are, from the medians."""
        return median(self.sequential) / median(self.ours)

    @property
    def ratio_at_once(self) -> float:
        """The same of servers that answer at once."""
        plain, ours = zip(*self.at_once, strict=True)
        return median(plain) / median(ours)


def measure(rig: Rig, *, count: int = 2000, plain: int = 100, rounds: int = 3) -> Iterator[Figures]:
    """Measure both in turn; yields what is known after each round.

    Args:
        rig: the cluster.
        count: endpoints of a job.
        plain: endpoints that are fetched one after another.
        rounds: how often both are measured.
    """
    figures = Figures(count, plain, rig.settings.io_processes)
    io = [f"io{number if number > 1 else ''}" for number in range(1, rig.settings.io_processes + 1)]
    with servers() as (ports, server), servers(0) as (quick, _), rig.workers(*io, "control", "beat") as parts:
        urls = addresses(ports, count)
        _ours(rig, urls[: plain or 1], "warm-up")
        for turn in range(rounds):
            figures.sequential.append(one_after_another(urls[:plain], rig.memory / f"plain-{turn}") / plain)
            before = _cpu(rig, parts, server)
            figures.ours.append(_ours(rig, urls, f"ours-{turn}") / count)
            for name, spent in _cpu(rig, parts, server).items():
                figures.cpu.setdefault(name, []).append((spent - before[name]) / count)
            urls_at_once = addresses(quick, count)
            direct = one_after_another(urls_at_once[: plain * 5], rig.memory / f"plain-at-once-{turn}") / (plain * 5)
            figures.at_once.append((direct, _ours(rig, urls_at_once, f"ours-at-once-{turn}") / count))
            yield figures


def _cpu(rig: Rig, parts: dict[str, Process], server: int) -> dict[str, float]:
    io = [part for name, part in parts.items() if name.startswith("io")]
    ours = {
        "workers of io": rig.cpu(*io),
        "worker of control": rig.cpu(parts["control"]),
        "beat": rig.cpu(parts["beat"]),
    }
    return ours | {"Redis": rig.cpu(), "the 20 servers": cpu([server])}


def _ours(rig: Rig, urls: Sequence[str], name: str) -> float:
    """Collect as a job; return the seconds from its enqueueing to its end."""
    folder = rig.memory / name
    params = {"endpoints": write_list(folder, urls), "collection": str(folder), "then": []}
    began = time.perf_counter()
    job, _ = start("collect", params)
    until(lambda: jobs().get(job.id).final, 300, 0.02)
    took = time.perf_counter() - began
    found = jobs().get(job.id)
    assert found.status == JobStatus.SUCCEEDED, found
    assert found.counts is not None
    assert found.counts.ok == len(urls), found
    assert len(list((folder / "resource").iterdir())) == len(urls)
    return took
