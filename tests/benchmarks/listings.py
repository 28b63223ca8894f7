"""What listing jobs costs with 100,000 of them, against a cluster without jobs and one with a single page of them.

``python -m tests.benchmarks.listings --output docs/benchmarks-listings.md``
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import click
import requests

from datafab import log
from datafab.catalogue.source_state import Look
from datafab.catalogue.sources import SourceRegistry
from datafab.core.jobs import RedisJobs
from datafab.core.redis import connect
from datafab.core.services import Services
from datafab.embedded import free_port
from datafab.settings import Settings, child_environment, load
from tests.benchmarks.rig import Rig
from tests.benchmarks.searching import percentile
from tests.kept_jobs import fill
from tests.servers.celery import ROOT, Process, until

#: Routes by how they are shown; ``{deep}`` is a job of the middle.
ROUTES = {
    "/api/jobs": "/api/jobs",
    "the same, a page in the middle": "/api/jobs?after={deep}",
    "?status=": "/api/jobs?status=failed",
    "?flow=": "/api/jobs?flow=collect",
    "?caller=": "/api/jobs?caller=harvester",
    "all three, a page in the middle": "/api/jobs?status=failed&flow=push&caller=harvester&after={deep}",
    "/datapusher/status": "/datapusher/status",
    "/datapusher/job": "/datapusher/job",
    "the same, in the middle": "/datapusher/job?_status=complete&_offset={half}",
    "/metrics": "/metrics",
    "/api/sources": "/api/sources?id=endpoint:bench",
}
COMMANDS = {"datafab jobs list": ("jobs", "list", "--status", "failed"), "datafab doctor": ("doctor", "--json")}
#: Jobs of a single page.
PAGE = 500


@dataclass
class Figures:
    """What was measured.

    Attributes:
        jobs: how many were kept.
        p95: seconds of a request, by name, and ``p50`` the median.
        each: bytes in Redis for each of the jobs, and ``lists`` those of them that the lists take.
    """

    jobs: int
    p95: dict[str, float] = field(default_factory=dict)
    p50: dict[str, float] = field(default_factory=dict)
    each: float = 0.0
    lists: float = 0.0


@contextmanager
def webhook(settings: Settings, folder: Path) -> Iterator[str]:
    """Run the webhook as ``datafab up`` does; give its address."""
    port = free_port()
    command = ("gunicorn", "webhook.wsgi:app", "--bind", f"127.0.0.1:{port}", "--threads", "4", "--log-level", "error")
    process = Process(f"webhook{port}", *command, env=child_environment(settings), log=folder)
    root = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.alive, process.log.read_text()[-2000:]
        try:
            return requests.get(f"{root}/health", timeout=5).ok
        except requests.RequestException:
            return False

    try:
        until(answers, 30)
        yield root
    finally:
        process.stop()


def measure(rig: Rig, counts: list[int], asked: int) -> list[Figures]:
    """Ask each route of clusters with these numbers of kept jobs, in turn."""
    found = [Figures(count) for count in counts]
    clusters = [_settings(rig, one) for one in found]
    filled = [_fill(rig, settings, one) for settings, one in zip(clusters, found, strict=True)]
    with ExitStack() as stack:
        session = stack.enter_context(requests.Session())
        roots = [stack.enter_context(webhook(settings, rig.folder)) for settings in clusters]
        for name, route in ROUTES.items():
            urls = [root + _path(route, ids) for root, ids in zip(roots, filled, strict=True)]
            _time(name, found, [partial(_ask, session, url) for url in urls], asked)
    for name, command in COMMANDS.items():
        _time(name, found, [partial(_run, settings, command) for settings in clusters], max(3, asked // 10))
    return found


def _settings(rig: Rig, figures: Figures) -> Settings:
    return load({}, redis_url=rig.server.url, home=rig.folder / "home", key_prefix=f"kept{figures.jobs}")


def _path(route: str, ids: list[str]) -> str:
    """Return a route in the middle of these jobs; without jobs there is no middle."""
    if not ids:
        route = re.sub(r"[?&]after=\{deep\}", "", route)
    return route.format(deep=ids[len(ids) // 2] if ids else "", half=len(ids) // 10)


def _fill(rig: Rig, settings: Settings, figures: Figures) -> list[str]:
    """Write jobs, and a source."""
    client = connect(settings, patience=5)
    services = Services(settings, jobs=RedisJobs(settings, client))
    services.get(SourceRegistry).record_look("endpoint:bench", Look(1.0, "ok", "0" * 32))
    before = rig.used()
    ids = fill(client, figures.jobs)
    if ids:
        figures.each = (rig.used() - before) / len(ids)
        names = [name for kind in ("list", "keyed") for name in client.scan_iter(f"{client.prefix}{kind}:*")]
        figures.lists = sum(client.memory_usage(name, samples=0) or 0 for name in names) / len(ids)
    services.close()
    return ids


def _time(name: str, found: list[Figures], requests_of: list[Callable[[], None]], asked: int) -> None:
    times: list[list[float]] = [[] for _ in found]
    for number in range(asked + 2):
        for one, request in zip(times, requests_of, strict=True):
            began = time.perf_counter()
            request()
            if number >= 2:  # the first ones load what is needed
                one.append(time.perf_counter() - began)
    for figures, one in zip(found, times, strict=True):
        figures.p95[name] = percentile(one, 95)
        figures.p50[name] = percentile(one, 50)


def _ask(session: requests.Session, url: str) -> None:
    answer = session.get(url, timeout=60)
    assert answer.status_code == 200, f"{url}: {answer.text}"


def _run(settings: Settings, arguments: Sequence[str]) -> None:
    command = [sys.executable, "-m", "datafab", *arguments]
    subprocess.run(command, cwd=ROOT, env=child_environment(settings), capture_output=True, check=False)


def written(found: list[Figures]) -> str:
    """Return docs/benchmarks-listings.md."""
    empty, page, many = found
    rows = [
        f"| {name} | {empty.p95[name] * 1e3:.1f} | {page.p95[name] * 1e3:.1f} | {many.p95[name] * 1e3:.1f} "
        f"| {many.p95[name] / empty.p95[name]:.2f} | {many.p95[name] / page.p95[name]:.2f} "
        f"| {many.p50[name] / empty.p50[name]:.2f} |"
        for name in many.p95
    ]
    return f"""\
# Listing jobs, measured

Written by `python -m tests.benchmarks.listings`: p95 in milliseconds of requests to the webhook (gunicorn) and of
commands, start included, asked of three clusters in turn. *0 jobs* answers empty pages; *{page.jobs} jobs*
fills the same pages as {many.jobs:,}.

| | 0 jobs | {page.jobs:,} jobs | {many.jobs:,} jobs | of 0 | of {page.jobs} | p50, of 0 |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
{chr(10).join(rows)}

A kept job of one item takes {many.each:.0f} bytes in Redis, without its log; {many.lists:.0f} of them are its places in
lists.
"""


@click.command()
@click.option("--jobs", default=100_000)
@click.option("--asked", default=100)
@click.option("--output", type=click.Path(path_type=Path))
def main(jobs: int, asked: int, output: Path | None) -> None:
    """Measure and write."""
    log.configure("ERROR")
    with Rig() as rig:
        found = measure(rig, [0, min(PAGE, jobs), jobs], asked)
    for one in found:
        click.echo(json.dumps(asdict(one)))
    if output:
        output.write_text(written(found))


if __name__ == "__main__":
    main()
