"""docs/benchmarks.md, from what was measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from textwrap import fill

from tests.benchmarks import analysing, chains, collecting, indexing, ledgers, memory, profiling, searching

#: factors against bare Celery, and against one endpoint after another: (what must be, what is aimed at)
LATENCY, THROUGHPUT, COLLECT, AT_ONCE = (1.6, 1.4), (0.5, 0.7), (15, 30), (1, 1.5)
#: p95 of searches against the query written by hand
SEARCH = (1.5, 1.2)
#: documents a second, against the bulk helper of Elasticsearch's client
INDEX = (0.9, 1)
#: CPU of an analysis against csv-detective's: by rows, exact; without filters; of a sample, by rows
EXACT, UNFILTERED, SAMPLE = (
    {1000: (3, 4), 100_000: (6, 12), 1_000_000: (6, 12)},
    (2, 3),
    {100_000: (15, 25), 1_000_000: (30, 50)},
)
#: MB of memory that an exact analysis may have, by rows
ANALYSIS_MB = {1_000_000: (700, 600), 10_000_000: (1000, 900)}
KB, MB, US, MS = 1e3, 1e6, 1e6, 1e3

HEAD = """\
# Benchmarks

Written by `make bench`; run it on a machine that does nothing else. What counts are the ratios: both sides of each
were measured in the same run, in turn, and every figure is a median. All of it ran on real processes with the
settings of production: Redis (append-only, on disk), the worker in question, the control worker, beat; events on.
"""


@dataclass
class Results:
    """What has been measured so far."""

    chains: dict[str, dict[str, chains.Figures]] = field(default_factory=dict)
    collect: collecting.Figures | None = None
    shares: dict[str, float] = field(default_factory=dict)
    waiting: ledgers.Waiting | None = None
    locked: ledgers.Locked | None = None
    memory: memory.Figures | None = None
    searching: dict[str, searching.Figures] = field(default_factory=dict)
    indexing: indexing.Figures | None = None
    analysing: list[analysing.Figures] = field(default_factory=list)
    seconds: float = 0.0
    redis: str = ""


def markdown(results: Results) -> str:
    """Return the whole document."""
    parts = [HEAD, *_machine(results), *_targets(results), *_chains(results), *_collect(results)]
    return "\n".join([*parts, *_ledger(results), *_memory(results), *_searching(results), *_analysing(results)])


def _said(*sentences: str) -> list[str]:
    return [fill(" ".join(sentences), 118), ""]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return [*("| " + " | ".join(line) + " |" for line in lines), ""]


def _machine(results: Results) -> list[str]:
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    packages = ("celery", "kombu", "redis", "requests", "urllib3", "pydantic")
    return _said(
        f"Measured on {datetime.now(UTC):%Y-%m-%d} in {results.seconds:.0f} s:",
        f"{os.cpu_count()} cores ({_processor()}), {platform.system()} {platform.release().partition('-')[0]},",
        f"Python {platform.python_version()}, Redis {results.redis};",
        ", ".join(f"{name} {version(name)}" for name in packages) + ".",
        f"Load averages at the end: {load}.",
    )


def _processor() -> str:
    """Return the model of the processor."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _targets(results: Results) -> list[str]:
    rows = []
    for pool, figures in results.chains.items():
        latency, rate = ratios(figures)
        rows += [
            _target(f"chain of 5, {pool}: p50 latency", latency, LATENCY, less=True),
            _target(f"chain of 5, {pool}: throughput", rate, THROUGHPUT),
        ]
    if results.collect:
        rows.append(_target("collecting, against one after another", results.collect.ratio, COLLECT))
        rows.append(_target("the same, of servers that answer at once", results.collect.ratio_at_once, AT_ONCE))
    if results.indexing:
        rows.append(_target("documents into Elasticsearch", results.indexing.ratio, INDEX))
    rows += [
        _target(f"search, {name}: p95", one.ratio(95), SEARCH, less=True) for name, one in results.searching.items()
    ]
    rows += [row for one in results.analysing for row in _analysis_targets(one)]
    return ["## Targets", "", *_table(["factor", "measured", "target (aim)", ""], rows)]


def _target(name: str, value: float, limits: tuple[float, float], *, less: bool = False) -> list[str]:
    must, aim = limits
    sign = -1 if less else 1
    verdict = "**missed**" if sign * value < sign * must else "met" if sign * value < sign * aim else "met, and the aim"
    return [name, f"{value:.2f}", f"{'at most' if less else 'at least'} {must} ({aim})", verdict]


def ratios(figures: dict[str, chains.Figures], kind: str = "stages") -> tuple[float, float]:
    """Return latency and throughput of a kind of chain, as factors of the bare chain's."""
    mine, bare = figures[kind], figures["bare"]
    return mine.latency / bare.latency, mine.rate / bare.rate


def _chains(results: Results) -> list[str]:
    lines = ["## Five no-op tasks", ""]
    lines += _said(
        "*bare*: a chain of plain Celery tasks. *ledger*: the same under the ledger. *stages*: a chain of our stages, as",
        "a branch of a fan-out runs it; its job and first row are written before it is published, as for every job. All",
        "three carry the same batch, use the same app, worker and queue, and have ended when Celery has published the",
        "last result. *job*: a whole job with source and report, seven tasks, from enqueueing to its end. Latency: one",
        f"at a time. Throughput: sent at once ({_sent(results)}), until the last has ended. CPU: of the workers and of",
        "Redis, an average over the tasks.",
    )
    for pool, figures in results.chains.items():
        rows = [_chain(kind.name, figures) for kind in chains.KINDS]
        lines += [f"### {pool}", "", *_table(["", *CHAIN_COLUMNS], rows), *_costs(figures)]
    return lines


CHAIN_COLUMNS = ("p50 latency", "of bare", "a second", "of bare", "worker us/task", "Redis us/task")
SHOWN = {"kept": "ledger"}


def _chain(name: str, figures: dict[str, chains.Figures]) -> list[str]:
    mine, (latency, rate) = figures[name], ratios(figures, name)
    cpu = (f"{median(spent) * US:.0f}" for spent in (mine.worker, mine.redis))
    return [
        SHOWN.get(name, name),
        f"{mine.latency * MS:.1f} ms",
        f"{latency:.2f}",
        f"{mine.rate:.1f}",
        f"{rate:.2f}",
        *cpu,
    ]


def _costs(figures: dict[str, chains.Figures]) -> list[str]:
    worker = {name: median(one.worker) * US for name, one in figures.items()}
    redis = {name: median(one.redis) * US for name, one in figures.items()}
    return _said(
        f"CPU a task: {worker['kept'] - worker['bare']:+.0f} us in the worker and",
        f"{redis['kept'] - redis['bare']:+.0f} us in Redis for the ledger;",
        f"{worker['stages'] - worker['kept']:+.0f} us and {redis['stages'] - redis['kept']:+.0f} us for the runner,",
        "which keeps what is done of a batch and counts it.",
    )


def _sent(results: Results) -> str:
    figures = next(iter(results.chains.values()))
    counts = ", ".join(f"{one.sent} {SHOWN.get(name, name)}" for name, one in figures.items())
    return f"{counts}; rounds: {len(figures['bare'].rates)}"


def _collect(results: Results) -> list[str]:
    found = results.collect
    if found is None:
        return []
    plain, ours = median(found.sequential), median(found.ours)
    times = [
        ["one after another", f"{plain * found.count:.1f}", f"{plain * MS:.1f}"],
        ["ours", f"{ours * found.count:.2f}", f"{ours * MS:.2f}"],
    ]
    lines = [f"## {found.count:,} endpoints", ""]
    lines += _said(
        f"{collecting.SIZE / KB:.0f} KB each, on {collecting.PORTS} servers of this host (one process) that answer after",
        f"{collecting.DELAY * MS:.0f} ms. *ours*: `collect` with `then = []`, from enqueueing to the job's end, by as many workers of",
        f"`io` as `datafab up` starts on this host: {found.workers}. *one after",
        "another*: the original's algorithm: `requests.get`, whole body, sha256, resource and log written; measured on",
        f"{found.plain} endpoints and scaled up. Both write into memory (`/dev/shm`): for minutes after many files were",
        "deleted, by the run before or by tests, ext4 takes 0.1-0.3 ms for each new one, which would be measured.",
    )
    lines += _table(["", "seconds", "ms an endpoint"], times)
    lines += _said(
        f"{found.ratio:.1f} times as quick; {found.ratio_at_once:.2f} times where the servers answer at once:",
        "nothing is to be gained by waiting for many then, but by a second core. CPU an endpoint:",
    )
    lines += _table(["", "us"], [[name, f"{median(spent) * US:.0f}"] for name, spent in found.cpu.items()])
    return lines + _shares(results)


def _shares(results: Results) -> list[str]:
    client = sum(share for name, share in results.shares.items() if name in profiling.CLIENT)
    lines = _said(
        "Where that of `io` goes, by cProfile of the stage in one thread, without Redis. On top comes what threads",
        f"cost each other when they hand on the interpreter lock. {client:.0%} and more is the HTTP client, in pure Python.",
    )
    return lines + _table(["", "share"], [[name, f"{share:.0%}"] for name, share in results.shares.items()])


def _ledger(results: Results) -> list[str]:
    found, locked = results.waiting, results.locked
    if found is None or locked is None:
        return []
    rows = [
        [f"a tick with {found.rows:,} rows that wait, none due", f"{found.idle * MS:.2f} ms"],
        [f"re-sending {found.rows:,} due rows, one process", f"{found.resent:,.0f} a second"],
        ["a job with a row that waits, in Redis", f"{found.whole:,.0f} bytes"],
        ["its row alone", f"{found.row:,} bytes"],
        ["the signature in it, a chain of 5", f"{found.signature:,} bytes"],
    ]
    return [
        "## The ledger",
        "",
        *_table(["", ""], rows),
        *_said(
            f"A call into C that holds the interpreter lock for {locked.seconds} s lets no heartbeat through. With a lease of",
            f"{locked.lease:g} s on the queue `cpu` (four times the setting, as in production, where it is 120 s) its task began",
            f"{locked.starts} time{'s' * (locked.starts != 1)} and the job {locked.status}.",
        ),
    ]


def _memory(results: Results) -> list[str]:
    found = results.memory
    if found is None or results.waiting is None:
        return []
    rows = [
        [name, str(one.processes), f"{one.resident:.0f}", f"{one.own:.0f}"] for name, one in sorted(found.idle.items())
    ]
    queued = found.queued
    lines = [
        "## Memory",
        "",
        *_said("Idle, all processes of a part together; *own*: pages that they share count once (PSS)."),
    ]
    lines += _table(["", "processes", "resident MB", "own MB"], rows)
    return lines + _said(
        f"Redis: {found.empty / MB:.1f} MB when empty. {queued.items:,} endpoints of one job, queued as {queued.messages}",
        f"messages, add {queued.used / MB:.2f} MB. 1,000 jobs of one item each that wait: {results.waiting.whole / KB:.1f} MB.",
    )


def _searching(results: Results) -> list[str]:
    if not results.searching:
        return []
    (count,) = {one.documents for one in results.searching.values()}
    rows = [
        [
            name,
            *(f"{searching.percentile(times, at) * MS:.1f}" for times in (one.ours, one.raw) for at in (50, 95)),
            f"{one.ratio(95):.2f}",
            f"{searching.percentile(one.counted, 95) * MS:.1f}",
        ]
        for name, one in results.searching.items()
    ]
    asked = len(next(iter(results.searching.values())).ours)
    return [
        "",
        f"## Searching {count:,} documents",
        "",
        *_said(
            f"{asked} questions of eight kinds (words, phrases, fields, a format, a number of rows, `OR` and `NOT`), each asked",
            "of `search` and of the index by a query written by hand, in turn, once both had found the same number. Words are",
            "as frequent as in a language. Both give the number of results and the best twenty; only ours reads the query,",
            "checks the documents and tells what matched. *facets*: the same with the counts of all results by all facets.",
        ),
        *_table(["ms", "p50", "p95", "by hand p50", "by hand p95", "p95, ratio", "with facets p95"], rows),
        *_indexing(results.indexing),
    ]


def _indexing(figures: indexing.Figures | None) -> list[str]:
    if figures is None:
        return []
    ours, raw = median(figures.ours), median(figures.raw)
    return _said(
        f"Into Elasticsearch went {ours:,.0f} documents a second by `put_many`, and {raw:,.0f} by its own client's bulk",
        f"helper with bodies that were ready: in {len(figures.ours)} rounds, in turns, {figures.ratio:.2f} times as many.",
    )


def _analysis_targets(one: analysing.Figures) -> list[list[str]]:
    name = f"analysis, {one.kind}, {one.rows:,} rows"
    rows = []
    if "csv-detective" in one.costs and one.rows in EXACT:
        rows.append(_target(f"{name}: exact", one.ratio("exact"), EXACT[one.rows]))
        rows.append(_target(f"{name}: exact, no filter hits", one.ratio("unfiltered"), UNFILTERED))
    if "csv-detective" in one.costs and one.rows in SAMPLE:
        rows.append(_target(f"{name}: sample", one.ratio("sample"), SAMPLE[one.rows]))
    if one.rows in ANALYSIS_MB:
        rows.append(_target(f"{name}: MB", one.costs["exact"].megabytes, ANALYSIS_MB[one.rows], less=True))
    return rows


def _analysing(results: Results) -> list[str]:
    if not results.analysing:
        return []
    rows = [
        [f"{one.kind}, {one.rows:,}", f"{one.megabytes:.2f}", *(_cost(one.costs.get(way)) for way in analysing.WAYS)]
        for one in results.analysing
    ]
    return [
        "",
        "## Analysing tables",
        "",
        *_said(
            "CPU seconds of one process, imports not counted, and the most memory that it had, in MB, imports included.",
            "*csv-detective*: its own `routine` over all rows with its profile, told encoding and separator. *exact*: ours, with",
            "the same figures, repeated rows and load types. *unfiltered*: the same, asking csv-detective for each distinct value.",
            "*sample*: formats of 2,000 rows. *reading*: finding encoding, separator and header and reading all rows, the limit.",
            "Kind A has SIREN, SIRET, postcode, date, coordinates, email, URL, number and text, kind B UUID, address, commune,",
            "département, decimal comma, time, phone, yes or no, country and text. Ten million rows are a million, ten times.",
        ),
        *_table(["kind, rows", "MB", *analysing.WAYS], rows),
    ]


def _cost(cost: analysing.Cost | None) -> str:
    return f"{cost.seconds:.2f} s, {cost.megabytes:.0f} MB" if cost else "not run"
