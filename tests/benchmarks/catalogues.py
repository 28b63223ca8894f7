"""A catalogue of 60,000 datasets: what a pass costs that finds nothing, and a day on which 10,000 files have changed.

``python -m tests.benchmarks.catalogues --output docs/benchmarks-catalogue.md``
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import click
import requests
import structlog

from datafab import log
from datafab.catalogue.datagouv import MASK, PAGE_DATASETS
from datafab.catalogue.dataset import fingerprint
from datafab.catalogue.source_state import Look
from datafab.catalogue.sources import SourceRegistry
from datafab.catalogue.stages import discover
from datafab.core.jobs import RedisJobs
from datafab.core.redis import connect
from datafab.core.services import Services
from datafab.core.stage import Context
from datafab.sandbox.many import Many
from tests.benchmarks.collecting import servers
from tests.benchmarks.rig import Rig
from tests.servers.celery import ROOT, until
from tests.servers.redis import PREFIX
from workers.app import jobs
from workers.canvas import start

#: Seconds in which a day's change must be through.
LIMIT = 3600


@dataclass
class Pass:
    """A pass that finds nothing new.

    Attributes:
        resources: that were looked at.
        bare: CPU seconds for downloading and parsing the same pages with ``requests``.
        ours: CPU seconds of the pass.
        redis: of its Redis.
        seconds: of the clock.
        early: megabytes of the process at their highest when a tenth was read, and ``late`` at the end.
        each: bytes in Redis for each source.
    """

    resources: int = 0
    bare: float = 0.0
    ours: float = 0.0
    redis: float = 0.0
    seconds: float = 0.0
    early: float = 0.0
    late: float = 0.0
    each: float = 0.0

    @property
    def ratio(self) -> float:
        """How many times the bare cost it is."""
        return self.ours / self.bare


@dataclass
class Day:
    """Files that have changed, on their way through a cluster.

    Attributes:
        files: how many.
        seconds: from the pass's beginning to the last file's end.
        reading: to the end of the pass.
        cpu: seconds by part.
        kept: bytes in Redis of each job, once it has ended.
        urgent: seconds that an urgent one took which came in the middle, and ``others`` the median of the rest.
    """

    files: int = 0
    seconds: float = 0.0
    reading: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)
    urgent: float = 0.0
    others: float = 0.0
    kept: float = 0.0


@contextmanager
def udata(datasets: int, *options: str) -> Iterator[str]:
    """Run the catalogue in a process of its own; give the root of its API."""
    command = [sys.executable, "-m", "datafab", "sandbox", "catalogue", "--datasets", str(datasets), *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip().partition("=")[2]
        finally:
            process.terminate()


def quiet(rig: Rig, datasets: int) -> Pass:
    """Make a pass in this process over a catalogue of which all is known."""
    found = Pass()
    rig.redis.flushall()
    with udata(datasets) as url:
        services = Services(rig.settings.model_copy(update={"catalogue_url": url}), jobs=_jobs(rig))
        try:
            before = rig.used()
            found.resources = _know(services, url, datasets)
            found.each = (rig.used() - before) / found.resources
            found.bare = _bare(url)
            heights: list[float] = []
            began, cpu, redis = time.monotonic(), time.process_time(), rig.cpu()
            list(discover(_context(services, heights)))
            found.ours, found.seconds = time.process_time() - cpu, time.monotonic() - began
            found.redis = rig.cpu() - redis
            found.early, found.late = heights[len(heights) // 10], heights[-1]
        finally:
            services.close()
    return found


def _jobs(rig: Rig) -> RedisJobs:
    return RedisJobs(rig.settings, connect(rig.settings, patience=5))


def _context(services: Services, heights: list[float]) -> Context:
    def progress(*_: object) -> None:
        heights.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)

    return Context(
        services=services,
        params={"full": True},
        job=uuid.uuid4().hex,
        created=time.time(),
        log=structlog.get_logger(),
        check=lambda: None,
        progress=progress,
        memo={},
    )


def _know(services: Services, url: str, datasets: int) -> int:
    """Let every source be known as it is, each with five looks, as in the long run; return how many there are."""
    count = 0
    for first in range(0, datasets, PAGE_DATASETS):
        listed, _ = Many(count=datasets).some("-last_update", first, first + PAGE_DATASETS)
        for one in (each for dataset in listed for each in dataset["resources"]):
            source = f"datagouv:{one['id']}"
            facts = {"fingerprint": fingerprint(one), "address": "0" * 16, "sha256": "0" * 64}
            facts |= {"etag": '"5f1d7a84-4e20"', "modified": "Thu, 01 Jan 2026 05:12:00 GMT", "media_type": "text/csv"}
            for look in range(5 if count < 1000 else 1):
                services.get(SourceRegistry).record_look(
                    source, Look(1.0 + look, "ok", uuid.uuid4().hex), **facts, changed="1795246247"
                )
            services.get(SourceRegistry).schedule_revisit(source, 1795246247.5)
            count += 1
        services.get(SourceRegistry).mark_seen(
            url, [f"datagouv:{each['id']}" for one in listed for each in one["resources"]], 1.5
        )
    return count


def _bare(url: str) -> float:
    """Return the CPU seconds for downloading and parsing all pages."""
    mask = {"X-Fields": f"data{{{MASK}}},next_page,total"}
    page: str | None = f"{url}/datasets/?sort=-last_update&page=1&page_size={PAGE_DATASETS}"
    cpu = time.process_time()
    with requests.Session() as session:
        while page:
            page = session.get(page, headers=mask, timeout=60).json()["next_page"]
    return time.process_time() - cpu


def busy(rig: Rig, files: int) -> Day:
    """Let a cluster do a day's change; ask for one more file when half of it is done."""
    day = Day(files=files)
    rig.redis.flushall()
    parts = ("io", "cpu", "control", "beat")
    free = {"catalogue_hosts_free": ("127.0.0.1",), "catalogue_backlog": 2 * files}
    with (
        servers(0.0) as (ports, _),
        udata(files // 5, "--files", f"http://127.0.0.1:{ports[0]}", "--changed", str(files)) as url,
        rig.workers(*parts, catalogue_url=url, **free) as running,
    ):
        before = {name: rig.cpu(part) for name, part in running.items()} | {"Redis": rig.cpu()}
        used = rig.used()
        began = time.time()
        this, _new = start("catalogue", {"full": True})
        until(lambda: jobs().get(this.id).final, LIMIT, 0.2)
        day.reading = time.time() - began
        until(lambda: rig.redis.zcard(f"{PREFIX}deadlines") <= files // 2, LIMIT, 0.2)
        asked, _new = start("source", {"source": "datagouv:urgent", "url": f"http://127.0.0.1:{ports[1]}/urgent.csv"})
        until(lambda: not rig.redis.zcard(f"{PREFIX}deadlines"), LIMIT, 0.2)
        day.seconds = time.time() - began
        day.kept = (rig.used() - used) / files
        after = {name: rig.cpu(part) for name, part in running.items()} | {"Redis": rig.cpu()}
        day.cpu = {name: after[name] - before[name] for name in after}
        took = {job.id: (job.ended or 0) - job.created for job in jobs().created_after(began - 1, "source")}
        day.urgent = took.pop(asked.id)
        day.others = median(took.values())
        assert len(took) == files, len(took)
        assert {job.status for job in jobs().newest(flow="source", limit=100)} == {"succeeded"}
    return day


def written(found: Pass, day: Day) -> str:
    """Return the page."""
    thousand = found.resources / 1000
    most = max(day.cpu, key=lambda name: day.cpu[name])
    lines = [
        "# A catalogue of any size, measured",
        "",
        "Written by `python -m tests.benchmarks.catalogues`, on the sandbox's catalogue, with 5 files a dataset.",
        "",
        f"## A pass over {found.resources:,} files that finds nothing new",
        "",
        "|  |  |",
        "| --- | ---: |",
        f"| downloading and parsing its pages with requests, CPU for 1,000 | {1000 * found.bare / thousand:.1f} ms |",
        f"| the pass, CPU for 1,000 | {1000 * found.ours / thousand:.1f} ms |",
        f"| times as much | {found.ratio:.2f} |",
        f"| its Redis, CPU for 1,000 | {1000 * found.redis / thousand:.1f} ms |",
        f"| the whole pass | {found.seconds:.0f} s |",
        f"| highest memory of the process at a tenth | {found.early:.0f} MB |",
        f"| at the end | {found.late:.0f} MB |",
        f"| a source in Redis: how it was seen, and when to look again | {found.each:.0f} bytes |",
        "",
        f"## A day on which {day.files:,} files of 20 KB have changed",
        "",
        f"From the pass to the index in {day.seconds:.0f} s, {day.files / day.seconds:.1f} a second on two cores.",
        f"The pass itself took {day.reading:.0f} s. The narrowest place is `{most}`:",
        "",
        "|  | CPU s | ms a file |",
        "| --- | ---: | ---: |",
        *(f"| {name} | {used:.1f} | {1000 * used / day.files:.1f} |" for name, used in day.cpu.items()),
        "",
        f"In Redis each file has taken {day.kept:.0f} bytes in the end, most of them for its job.",
        "",
        f"A file that somebody asked for while {day.files // 2:,} others waited was there after {day.urgent:.2f} s,",
        f"the others after {day.others:.1f} s (median): {day.urgent / day.others:.4f} of it.",
        "",
    ]
    return "\n".join(lines)


@click.command()
@click.option("--datasets", default=60_000)
@click.option("--files", default=10_000)
@click.option("--output", type=click.Path(path_type=Path), default=ROOT / "docs" / "benchmarks-catalogue.md")
def main(datasets: int, files: int, output: Path) -> None:
    """Measure and write."""
    log.configure("ERROR")
    with Rig() as rig:
        found = quiet(rig, datasets)
        click.echo(json.dumps(vars(found) | {"ratio": found.ratio}))
        day = busy(rig, files) if files else Day(1, 1, cpu={"": 0}, others=1)
        click.echo(json.dumps(vars(day)))
    if files:
        output.write_text(written(found, day), encoding="utf-8")


if __name__ == "__main__":
    main()
