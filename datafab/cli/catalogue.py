"""``datafab catalogue``: passes over a udata catalogue such as data.gouv.fr."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import click

from datafab import api
from datafab.catalogue.datagouv import Datagouv
from datafab.catalogue.sources import Sources
from datafab.cli import output
from datafab.core.item import Counts
from datafab.core.job import Job
from datafab.errors import NotFound
from workers import app

SOME_FAILED = 3
#: Jobs that ``status`` looks at.
LOOKED_AT = 1000

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print the API's objects, one a line.")
at_url = click.option("--url", help="Root of its API; that of DATAFAB_CATALOGUE_URL if not given.")


@click.group()
def catalogue() -> None:
    """Read a catalogue of open data, and fetch, analyse and index the files that have changed."""


@catalogue.command()
@at_url
@click.option("--since", help="Go back to this date, instead of to the last pass (at first: one day).")
@click.option("--full", is_flag=True, help="Read all of it, and withdraw from the index what it no longer has.")
@click.option("--limit", type=click.IntRange(1), help="Stop after so many files that may have changed.")
@click.option("--wait", is_flag=True, help="Wait for the files' jobs too.")
@as_json_option
def run(wait: bool, as_json: bool, **given: Any) -> None:
    """Make a pass over the catalogue; enqueue a job for each file that may have changed."""
    api.connect()
    handle = api.enqueue("catalogue", **{name: value for name, value in given.items() if value not in {None, False}})
    with output.follow_job() as on_progress:
        this = handle.wait(on_progress=on_progress)
    ended = [_ended(job) for job in _files(this)] if wait else []
    counts = Counts(job=this.id)
    for job in ended:
        counts = counts.plus(job.counts) if job.counts else counts.evolve(failed=counts.failed + 1)
    if as_json:
        output.print_json_lines([this, *ended])
    else:
        for line in handle.logs:
            if line["event"] == "read":
                said = f"pages read: {line['pages']}, files enqueued: {line['changed']}, left out: {line['left_out']}"
                output.stdout.print(said, highlight=False, soft_wrap=True)
        if wait:
            output.print_counts(counts)
    if counts.failed:
        click.get_current_context().exit(SOME_FAILED)


@catalogue.command()
@at_url
@as_json_option
def status(url: str | None, as_json: bool) -> None:
    """Say how far the catalogue was read, and how its files' jobs stand."""
    api.connect()
    services = app.services()
    root = Datagouv.at(services, url).url
    cursor, known = services.get(Sources).cursor(root), services.get(Sources).seen(root)
    jobs = app.jobs()
    files = Counter(job.status.value for job in jobs.newest(flow="source", limit=LOOKED_AT))
    last = next((job for job in jobs.newest(flow="catalogue") if (job.params.get("url") or root) == root), None)
    read = None if cursor is None else _at(cursor)
    if as_json:
        output.print_json_lines(
            [{"url": root, "cursor": read, "sources": known, "pass": last and last.dump(), "files": dict(files)}]
        )
        return
    output.stdout.print(f"{root}: {f'read up to {read}' if read else 'never read to the end'}", highlight=False)
    output.stdout.print(f"files known: {known}", highlight=False)
    if last is not None:
        output.stdout.print(f"last pass: {last.id} {last.status}", highlight=False)
    said = ", ".join(f"{count} {name}" for name, count in sorted(files.items()))
    output.stdout.print(f"files' jobs: {said or 'none'}", highlight=False)


@catalogue.command()
@click.argument("source")
@as_json_option
def history(source: str, as_json: bool) -> None:
    """Say how a file (datagouv:ID) was found by the last looks at it, and when the next one is."""
    api.connect()
    sources = app.services().get(Sources)
    looks, due = sources.looks(source), sources.due_at(source)
    if not looks:
        msg = f"no source {source!r} has been looked at; `datafab search` names those that are indexed"
        raise NotFound(msg, field="source")
    if as_json:
        output.print_json_lines([{"source": source, "looks": [look._asdict() for look in looks], "next": due}])
        return
    for look in looks:
        said = f"{_at(look.at)}  {look.status}  job {look.job}{f': {look.error}' if look.error else ''}"
        output.stdout.print(said, highlight=False, soft_wrap=True)
    if sources.facts(source).untold:
        output.stdout.print("the last look has not reached the catalogue: see its job", highlight=False)
    output.stdout.print(
        f"next look: {_at(due) if due else 'when the catalogue says that it has changed'}", highlight=False
    )


def _at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _files(this: Job) -> list[Job]:
    return app.jobs().made_after(this.created, "source")


def _ended(job: Job) -> Job:
    """Wait for a job, however it ends."""
    try:
        return api.JobHandle(job.id).wait()
    except api.JobFailed as failed:
        return failed.job
