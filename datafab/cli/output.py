"""What the command line puts on the screen: progress, tables, JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from datafab.cli.terminal import Terminal
from datafab.core.document import Document, Results
from datafab.core.item import Counts, ItemError, Value
from datafab.core.job import Job, JobStatus
from datafab.core.job import Progress as Stage
from datafab.embedded import State

#: People read stderr while a script reads stdout.
screen = Terminal(stderr=True)
out = Terminal()

KILO = 1000
#: Characters that a terminal may obey, and that JSON need not escape.
_CONTROLS = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}
#: What the items are, and what they are once it is done, by the last stage that was asked for.
WORDS = {"collect": ("endpoints", "collected")}
#: Columns of a table that are named.
COLUMNS = 8

COLOURS = {
    JobStatus.SUCCEEDED: "green",
    JobStatus.FAILED: "red",
    JobStatus.PARKED: "red",
    JobStatus.CANCELLED: "yellow",
}


def lines(objects: Iterable[Value | Mapping[str, Any]]) -> None:
    """Print the API's objects as JSON, one a line."""
    for one in objects:
        said = json.dumps(one.dump() if isinstance(one, Value) else one, ensure_ascii=False)
        click.echo(said.translate(_CONTROLS))


class JobProgress:
    """Bars that follow a job, one for each of its stages."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, Any] = {}

    def __call__(self, job: Job) -> None:
        """Show the job as it is now."""
        for stage in job.progress:
            if stage.stage not in self._tasks:
                self._tasks[stage.stage] = self._bars.add_task(stage.stage, total=job.total, facts="")
            self._bars.update(self._tasks[stage.stage], completed=stage.done, total=job.total, facts=pace(stage))


def pace(stage: Stage) -> str:
    """Return what is told beside a stage's bar."""
    said = [f"{getattr(stage, name)} {name}" for name in ("failed", "unchanged", "skipped") if getattr(stage, name)]
    if stage.bytes:
        said.append(_size(stage.bytes))
    if stage.bytes_per_second:
        said.append(f"{_size(stage.bytes_per_second)}/s")
    return ", ".join(said)


@contextmanager
def following() -> Iterator[JobProgress]:
    """Show bars while a job runs; nothing where nobody looks."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[facts]}"),
    )
    with Progress(*columns, console=screen, disable=not screen.is_terminal) as bars:
        yield JobProgress(bars)


@contextmanager
def starting() -> Iterator[Any]:
    """Show which parts of a cluster are up."""
    states: dict[str, State] = {}
    with screen.status("starting a cluster on this host") as status:

        def told(name: str, state: State) -> None:
            states[name] = state
            parts = " ".join(f"[green]{part}[/]" if now == State.READY else part for part, now in states.items())
            status.update(f"starting a cluster on this host: {parts}")

        yield told


def jobs(found: Sequence[Job]) -> None:
    """Print jobs, a line each, and below it why it failed."""
    for job in found:
        main = job.main
        items = f"{main.done if main else 0}/{'?' if job.total is None else job.total}"
        bad = job.counts.failed if job.counts else main.failed if main else 0
        failed = f", {bad} failed" if bad else ""
        status = f"[{COLOURS.get(job.status, 'default')}]{job.status.value:<9}[/]"
        began = _time(job.created)
        out.print(f"{job.id}  {job.flow}  {status}  {items + failed:<14}  {began}", highlight=False, soft_wrap=True)
        if job.error:
            out.print(f"    {job.failed_in}: {escape(job.error.message)}", highlight=False, soft_wrap=True)
    if not found:
        out.print("no jobs")


def job(one: Job, failures: Mapping[str, ItemError], log: Sequence[Mapping[str, Any]]) -> None:
    """Print one job with everything that is known of it."""
    jobs([one])
    if one.progress:
        table = Table("stage", "ok", "unchanged", "skipped", "failed", "not taken", "bytes", "a second", "left")
        for stage in one.progress:
            counts = (stage.ok, stage.unchanged, stage.skipped, stage.failed, stage.passed or 0)
            rate = f"{stage.items_per_second or 0:.1f}, {_size(stage.bytes_per_second or 0)}"
            left = "" if stage.eta is None else str(timedelta(seconds=stage.eta))
            table.add_row(stage.stage, *map(str, counts), _size(stage.bytes), rate, left)
        out.print(table)
    failed(failures)
    for line in log:
        facts = {key: value for key, value in line.items() if key not in {"at", "level", "stage", "event"}}
        told = " ".join(f"{key}={value}" for key, value in facts.items())
        out.print(f"{_time(line['at'])} {line['level']:<7} {line['stage']}: {line['event']} {told}", markup=False)


def failed(failures: Mapping[str, ItemError]) -> None:
    """Print why items failed, then what stages that follow could not use."""
    for stage in dict.fromkeys([None, *(error.stage for error in failures.values())]):
        mine = [error for error in failures.values() if error.stage == stage]
        if mine:
            table = Table(f"refused by {stage}" if stage else "failed", Column("kind", no_wrap=True))
            for error in mine:
                table.add_row(escape(error.message), error.type)
            out.print(table)


def counts(sums: Counts) -> None:
    """Print the sums of a job."""
    out.print(f"{_sums(sums, 'ok')} · {_size(sums.bytes)}", highlight=False)


def summary(one: Job, sums: Counts) -> None:
    """Print what became of what was asked for, then what the stages that follow did."""
    main = one.main
    if main is None or main.stage not in WORDS or not main.done:
        counts(sums)
        return
    items, collected = WORDS[main.stage]
    said = [f"{main.done} {items if main.done > 1 else items[:-1]}: {_sums(main, collected)}"]
    said += filter(None, map(_followed, one.progress[one.progress.index(main) + 1 :]))
    out.print(f"{'; '.join(said)} · {_size(main.bytes)}", highlight=False, soft_wrap=True)


def _sums(sums: Counts | Stage, ok: str) -> str:
    names = {"ok": ok, "unchanged": "unchanged", "skipped": "skipped", "failed": "failed"}
    said = [f"{getattr(sums, name)} {word}" for name, word in names.items() if getattr(sums, name)]
    return ", ".join(said or ["no items"])


def _followed(stage: Stage) -> str:
    """Return what a stage did that follows what was asked for; of others than `analyse`, what failed."""
    done, other, bad = stage.ok + stage.unchanged, stage.skipped, stage.failed
    if stage.stage != "analyse":
        return f"{stage.stage}: {bad} failed" if bad else ""
    said = [f"analysed {done}"]
    if other:
        said.append("1 is no table" if other == 1 else f"{other} are no tables")
    if bad:
        said.append(f"{bad} could not be analysed")
    return ", ".join(said)


def files(found: Results) -> None:
    """Print what became of the files of a job."""
    table = Table("file", "rows", "columns (format), or what is wrong")
    for hit in sorted(found.hits, key=lambda hit: (hit.error is not None, hit.title)):
        table.add_row(escape(hit.title), _rows(hit), _columns(hit))
    out.print(table)


def _rows(hit: Document) -> str:
    return "" if hit.total_lines is None else str(hit.total_lines)


def _columns(hit: Document) -> str:
    if hit.error:
        return f"[red]{escape(hit.error.message)}[/]"
    names = [
        escape(col.name) + (f" ([cyan]{col.format}[/])" if col.format and col.format != "string" else "")
        for col in hit.cols[:COLUMNS]
    ]
    more = [f"… {len(hit.cols) - COLUMNS} more"] if len(hit.cols) > COLUMNS else []
    return ", ".join(names + more)


def error(message: str) -> None:
    """Print an error for people."""
    screen.print(f"[red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)


def is_terminal() -> bool:
    """Say whether somebody looks at stdout."""
    return sys.stdout.isatty()


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _size(number: int) -> str:
    size = float(number)
    for unit in ("B", "KB", "MB", "GB"):
        if size < KILO:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= KILO
    return f"{size:.1f} TB"
