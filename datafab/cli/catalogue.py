"""``datafab catalogue``: passes over a udata catalogue such as data.gouv.fr."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import click

from datafab import api
from datafab.catalogue.datagouv import Datagouv
from datafab.catalogue.sources import SourceRegistry
from datafab.cli import output
from datafab.core.item import Counts
from datafab.core.job import Job
from datafab.errors import NotFound
from datafab.urls import without_credentials
from workers import app

SOME_FAILED = 3
#: Number of jobs that ``status`` counts.
MAX_JOBS = 1000

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print the API's objects as JSON, one per line.")
url_option = click.option("--url", help="Root URL of its API; default: DATAFAB_CATALOGUE_URL.")


@click.group()
def catalogue() -> None:
    """Read a catalogue of open data, then fetch, analyse and index the files that have changed."""


@catalogue.command()
@url_option
@click.option("--since", help="Read changes since this date instead of the last pass (first pass: one day).")
@click.option(
    "--full", is_flag=True, help="Read the whole catalogue, and withdraw files from the index that it no longer has."
)
@click.option("--limit", type=click.IntRange(1), help="Stop after this number of files that may have changed.")
@click.option("--wait", is_flag=True, help="Wait for the jobs of the files too.")
@as_json_option
def run(wait: bool, as_json: bool, **given: Any) -> None:
    """Read the catalogue once, and enqueue a job for each file that may have changed."""
    if wait:
        api.connect()  # over HTTP the jobs of a pass are not known
    handle = api.enqueue("catalogue", **{name: value for name, value in given.items() if value not in {None, False}})
    with output.follow_job() as on_progress:
        pass_job = handle.wait(on_progress=on_progress)
    ended = [_wait(job) for job in _file_jobs(pass_job)] if wait else []
    counts = Counts(job=pass_job.id)
    for job in ended:
        counts = counts.plus(job.counts) if job.counts else counts.evolve(failed=counts.failed + 1)
    if as_json:
        output.print_json_lines([pass_job, *ended])
    else:
        for line in handle.logs:
            if line["event"] == "read":
                text = f"pages read: {line['pages']}, files enqueued: {line['changed']}, left out: {line['left_out']}"
                output.stdout.print(text, highlight=False, soft_wrap=True)
        if wait:
            output.print_counts(counts)
    if counts.failed:
        click.get_current_context().exit(SOME_FAILED)


@catalogue.command()
@url_option
@as_json_option
def status(url: str | None, as_json: bool) -> None:
    """Show up to which date the catalogue was read, and the jobs of its files by status."""
    api.connect()
    services = app.services()
    root = Datagouv.at(services, url).url
    cursor, known = services.get(SourceRegistry).cursor(root), services.get(SourceRegistry).count(root)
    jobs = app.jobs()
    files = Counter(job.status.value for job in jobs.newest(flow="source", limit=MAX_JOBS))
    last = next((job for job in jobs.newest(flow="catalogue") if (job.params.get("url") or root) == root), None)
    read = None if cursor is None else _at(cursor)
    if as_json:
        output.print_json_lines(
            [
                {
                    "url": without_credentials(root),
                    "cursor": read,
                    "sources": known,
                    "pass": last and last.dump(),
                    "files": dict(files),
                }
            ]
        )
        return
    output.stdout.print(
        f"{without_credentials(root)}: {f'read up to {read}' if read else 'never read to the end'}", highlight=False
    )
    output.stdout.print(f"files known: {known}", highlight=False)
    if last is not None:
        output.stdout.print(f"last pass: {last.id} {last.status}", highlight=False)
    text = ", ".join(f"{count} {name}" for name, count in sorted(files.items()))
    output.stdout.print(f"files' jobs: {text or 'none'}", highlight=False)


@catalogue.command()
@click.argument("source")
@as_json_option
def history(source: str, as_json: bool) -> None:
    """Show the last checks of a file (datagouv:ID), and when it is checked next."""
    api.connect()
    sources = app.services().get(SourceRegistry)
    looks, due = sources.looks(source), sources.next_revisit(source)
    if not looks:
        msg = f"no source {source!r} has been checked; `datafab search` prints the sources in the index"
        raise NotFound(msg, field="source")
    if as_json:
        output.print_json_lines([{"source": source, "looks": [look._asdict() for look in looks], "next": due}])
        return
    for look in looks:
        text = f"{_at(look.at)}  {look.status}  job {look.job}{f': {look.error}' if look.error else ''}"
        output.stdout.print(text, highlight=False, soft_wrap=True)
    if sources.state(source).untold:
        output.stdout.print(
            "the result of the last check could not be written to the catalogue: see its job", highlight=False
        )
    output.stdout.print(f"next check: {_at(due) if due else 'when it changes in the catalogue'}", highlight=False)


def _at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _file_jobs(pass_job: Job) -> list[Job]:
    return app.jobs().created_after(pass_job.created, "source")


def _wait(job: Job) -> Job:
    """Wait until a job has ended, with any status."""
    try:
        return api.JobHandle(job.id).wait()
    except api.JobFailed as failed:
        return failed.job
