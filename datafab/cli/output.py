"""Print progress bars, tables and lines of JSON on a terminal."""

from __future__ import annotations

import json
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
from datafab.urls import hide_secrets

#: People read stderr while a script reads stdout.
stderr = Terminal(stderr=True)
stdout = Terminal()

KILO = 1000
#: Control characters that JSON need not escape, but that a terminal may execute.
_CONTROLS = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}
#: Words for the items of a job and for their success, by the job's last requested stage.
WORDS = {"collect": ("endpoints", "collected")}
#: Columns of a file that are printed.
MAX_COLUMNS = 8

COLOURS = {
    JobStatus.SUCCEEDED: "green",
    JobStatus.FAILED: "red",
    JobStatus.PARKED: "red",
    JobStatus.CANCELLED: "yellow",
}


def print_json_lines(objects: Iterable[Value | Mapping[str, Any]]) -> None:
    """Print the API's objects as JSON, one per line."""
    for each in objects:
        text = json.dumps(each.dump() if isinstance(each, Value) else each, ensure_ascii=False)
        click.echo(text.translate(_CONTROLS))


class JobProgress:
    """The progress bars of a job, one for each of its stages."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, Any] = {}

    def __call__(self, job: Job) -> None:
        """Update the bars from the job's present state."""
        for stage in job.progress:
            if stage.stage not in self._tasks:
                self._tasks[stage.stage] = self._bars.add_task(stage.stage, total=job.total, facts="")
            self._bars.update(
                self._tasks[stage.stage], completed=stage.done, total=job.total, facts=describe_progress(stage)
            )


def describe_progress(stage: Stage) -> str:
    """Return the text beside a stage's bar."""
    facts = [f"{getattr(stage, name)} {name}" for name in ("failed", "unchanged", "skipped") if getattr(stage, name)]
    if stage.bytes:
        facts.append(_size(stage.bytes))
    if stage.bytes_per_second:
        facts.append(f"{_size(stage.bytes_per_second)}/s")
    return ", ".join(facts)


@contextmanager
def follow_job() -> Iterator[JobProgress]:
    """Show progress bars while a job runs, if stderr is a terminal."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[facts]}"),
    )
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal) as bars:
        yield JobProgress(bars)


@contextmanager
def follow_start() -> Iterator[Any]:
    """Show which parts of a cluster are ready while it starts."""
    states: dict[str, State] = {}
    with stderr.status("starting a cluster on this host") as status:

        def on_state(name: str, state: State) -> None:
            states[name] = state
            parts = " ".join(f"[green]{part}[/]" if now == State.READY else part for part, now in states.items())
            status.update(f"starting a cluster on this host: {parts}")

        yield on_state


def print_jobs(jobs: Sequence[Job]) -> None:
    """Print jobs, one per line, each with its error below it."""
    for job in jobs:
        main = job.main
        items = f"{main.done if main else 0}/{'?' if job.total is None else job.total}"
        count = job.counts.failed if job.counts else main.failed if main else 0
        failed = f", {count} failed" if count else ""
        status = f"[{COLOURS.get(job.status, 'default')}]{job.status.value:<9}[/]"
        created = _time(job.created)
        caller = f"  {escape(job.caller)}" if job.caller else ""
        stdout.print(
            f"{job.id}  {job.flow}  {status}  {items + failed:<14}  {created}{caller}", highlight=False, soft_wrap=True
        )
        if job.error:
            stdout.print(f"    {job.failed_in}: {escape(job.error.message)}", highlight=False, soft_wrap=True)
    if not jobs:
        stdout.print("no jobs")


def print_job(job: Job, failures: Mapping[str, ItemError], log: Sequence[Mapping[str, Any]]) -> None:
    """Print a job with its stages, failures and log."""
    print_jobs([job])
    if job.progress:
        table = Table("stage", "ok", "unchanged", "skipped", "failed", "not taken", "bytes", "per second", "left")
        for stage in job.progress:
            counts = (stage.ok, stage.unchanged, stage.skipped, stage.failed, stage.passed or 0)
            rate = f"{stage.items_per_second or 0:.1f}, {_size(stage.bytes_per_second or 0)}"
            left = "" if stage.eta is None else str(timedelta(seconds=stage.eta))
            table.add_row(stage.stage, *map(str, counts), _size(stage.bytes), rate, left)
        stdout.print(table)
    print_failures(failures)
    for line in log:
        facts = {key: value for key, value in line.items() if key not in {"at", "level", "stage", "event"}}
        text = " ".join(f"{key}={value}" for key, value in facts.items())
        stdout.print(f"{_time(line['at'])} {line['level']:<7} {line['stage']}: {line['event']} {text}", markup=False)


def print_failures(failures: Mapping[str, ItemError]) -> None:
    """Print the errors of failed items, then those of items that a ``then`` stage refused."""
    for stage in dict.fromkeys([None, *(error.stage for error in failures.values())]):
        errors = [error for error in failures.values() if error.stage == stage]
        if errors:
            table = Table(f"refused by {stage}" if stage else "failed", Column("kind", no_wrap=True))
            for error in errors:
                table.add_row(escape(error.message), error.type)
            stdout.print(table)


def print_counts(counts: Counts) -> None:
    """Print the sums over a job's items."""
    stdout.print(f"{_describe_counts(counts, 'ok')} · {_size(counts.bytes)}", highlight=False)


def print_summary(job: Job, counts: Counts) -> None:
    """Print the result of the job's last requested stage, then those of its ``then`` stages."""
    main = job.main
    if main is None or main.stage not in WORDS or not main.done:
        print_counts(counts)
        return
    items, collected = WORDS[main.stage]
    parts = [f"{main.done} {items if main.done > 1 else items[:-1]}: {_describe_counts(main, collected)}"]
    parts += filter(None, map(_describe_then_stage, job.progress[job.progress.index(main) + 1 :]))
    stdout.print(f"{'; '.join(parts)} · {_size(main.bytes)}", highlight=False, soft_wrap=True)


def _describe_counts(counts: Counts | Stage, ok: str) -> str:
    names = {"ok": ok, "unchanged": "unchanged", "skipped": "skipped", "failed": "failed"}
    parts = [f"{getattr(counts, name)} {word}" for name, word in names.items() if getattr(counts, name)]
    return ", ".join(parts or ["no items"])


def _describe_then_stage(stage: Stage) -> str:
    """Return the result of a ``then`` stage: that of `analyse` in full, of the others the number of failures."""
    done, skipped, failed = stage.ok + stage.unchanged, stage.skipped, stage.failed
    if stage.stage != "analyse":
        return f"{stage.stage}: {failed} failed" if failed else ""
    parts = [f"analysed {done}"]
    if skipped:
        parts.append("1 is no table" if skipped == 1 else f"{skipped} are no tables")
    if failed:
        parts.append(f"{failed} could not be analysed")
    return ", ".join(parts)


def print_files(found: Results) -> None:
    """Print files with their columns or errors."""
    table = Table("file", "rows", "columns (format), or the error")
    for hit in sorted(found.hits, key=lambda hit: (hit.error is not None, hit.title)):
        table.add_row(escape(hit.title), _rows(hit), _columns(hit))
    stdout.print(table)


def _rows(hit: Document) -> str:
    return "" if hit.total_lines is None else str(hit.total_lines)


def _columns(hit: Document) -> str:
    if hit.error:
        return f"[red]{escape(hit.error.message)}[/]"
    names = [
        escape(col.name) + (f" ([cyan]{col.format}[/])" if col.format and col.format != "string" else "")
        for col in hit.cols[:MAX_COLUMNS]
    ]
    more = [f"… {len(hit.cols) - MAX_COLUMNS} more"] if len(hit.cols) > MAX_COLUMNS else []
    return ", ".join(names + more)


def print_error(message: str) -> None:
    """Print an error message on stderr."""
    stderr.print(f"[red]error:[/] {escape(hide_secrets(message))}", highlight=False, soft_wrap=True)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _size(number: int) -> str:
    size = float(number)
    for unit in ("B", "KB", "MB", "GB"):
        if size < KILO:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= KILO
    return f"{size:.1f} TB"
