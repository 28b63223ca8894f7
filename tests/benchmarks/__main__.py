"""Run all benchmarks and write docs/benchmarks.md: ``python -m tests.benchmarks``, ``make bench``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from datafab import log
from tests.benchmarks import analysing, chains, collecting, indexing, ledgers, memory, profiling, report, searching
from tests.benchmarks.rig import Rig
from tests.servers.celery import ROOT, Process
from tests.servers.elasticsearch import elasticsearch, missing

POOLS = {"prefork -c 2": ("prefork", 2), "threads -c 8": ("threads", 8)}
CONSOLE = Console()


def _chains(rig: Rig, results: report.Results, small: bool) -> Iterator[str]:
    sizes = {"single": 1, "many": 5, "rounds": 1} if small else {}
    for pool, (kind, size) in list(POOLS.items())[-1 if small else 0 :]:
        for turn, figures in enumerate(chains.measure(rig, kind, size, **sizes), 1):
            results.chains[pool] = figures
            latency, rate = report.ratios(figures)
            yield f"{pool}, round {turn}: latency {latency:.2f}, throughput {rate:.2f} of bare Celery"


def _collect(rig: Rig, results: report.Results, small: bool) -> Iterator[str]:
    sizes = {"count": 40, "plain": 5, "rounds": 1} if small else {}
    for turn, figures in enumerate(collecting.measure(rig, **sizes), 1):
        results.collect = figures
        yield f"round {turn}: {figures.ours[-1] * figures.count:.2f} s, {figures.ratio:.1f} times as quick"
    results.shares = profiling.shares(rig, 20 if small else 500)
    yield "profiled"


def _ledger(rig: Rig, results: report.Results, small: bool) -> Iterator[str]:
    results.waiting = ledgers.waiting(rig, 50 if small else 10_000)
    yield f"idle tick {results.waiting.idle * 1000:.2f} ms, {results.waiting.resent:.0f} rows a second re-sent"
    results.locked = ledgers.locked(rig, 1 if small else 10)
    yield f"interpreter lock held for {results.locked.seconds} s: began {results.locked.starts} time(s)"


def _memory(rig: Rig, results: report.Results, small: bool) -> Iterator[str]:
    results.memory = memory.measure(rig, 100 if small else 1000, 0.0 if small else 2.0)
    yield ", ".join(f"{name} {one.own:.0f} MB" for name, one in results.memory.idle.items())


def _searching(rig: Rig, results: report.Results, small: bool) -> Iterator[str]:
    sizes = (200, 16) if small else (100_000, 200)
    results.searching["SQLite"] = searching.sqlite_figures(rig.memory, *sizes)
    why = "not in a small run" if small else missing()
    if why is None:
        with elasticsearch(rig.folder / "elasticsearch", options="") as server:
            results.indexing = indexing.measure(f"{server.url}/indexing", sizes[0])
            yield f"documents into Elasticsearch: {results.indexing.ratio:.2f} of its own helper"
            results.searching["Elasticsearch"] = searching.elastic_figures(f"{server.url}/searching", *sizes)
    yield ", ".join(f"{name} p95 {one.ratio(95):.2f} of by hand" for name, one in results.searching.items())
    if why:
        yield f"no Elasticsearch: {why}"


def _analysing(rig: Rig, results: report.Results, small: bool) -> Iterator[str]:
    if small:
        results.analysing.append(analysing.measure(rig.folder, "A", 100, ("csv-detective", "exact")))
        yield "100 rows"
        return
    for kind, rows in ((kind, rows) for rows in (1000, 100_000, 1_000_000) for kind in "AB"):
        figures = analysing.measure(rig.folder, kind, rows, analysing.WAYS)
        results.analysing.append(figures)
        yield f"{kind}, {rows:,} rows: {figures.ratio('exact'):.1f} times csv-detective"
    results.analysing.append(analysing.measure(rig.folder, "A", 1_000_000, ("exact", "reading"), times=10))
    yield "10,000,000 rows"


SECTIONS: dict[str, Callable[[Rig, report.Results, bool], Iterator[str]]] = {
    "five no-op tasks": _chains,
    "2,000 endpoints": _collect,
    "ledger": _ledger,
    "memory": _memory,
    "searching": _searching,
    "analysing": _analysing,
}


@click.command()
@click.option("--small", is_flag=True, help="Only show that everything runs; the figures mean nothing.")
@click.option("--output", type=click.Path(path_type=Path), default=ROOT / "docs" / "benchmarks.md")
def main(*, small: bool, output: Path) -> None:
    """Measure and write."""
    began, results = time.monotonic(), report.Results()
    Process.forks = small  # what shares its pages has no memory to measure
    log.configure("ERROR")
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Rig() as rig, Progress(*columns, console=CONSOLE) as progress:
        results.redis = str(rig.redis.info("server")["redis_version"])
        for name, section in SECTIONS.items():
            task = progress.add_task(name, total=None)
            for said in section(rig, results, small):
                progress.console.print(f"{name}: {said}", highlight=False)
            progress.update(task, total=1, completed=1)
    results.seconds = time.monotonic() - began
    output.parent.mkdir(exist_ok=True)
    output.write_text(report.markdown(results))
    CONSOLE.print(f"written: {output}", highlight=False)


if __name__ == "__main__":
    main()
