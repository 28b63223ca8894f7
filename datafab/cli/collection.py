"""``datafab collection``: the tables of a collection."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from datafab.cli import output
from datafab.cli.run_job import EndedJob
from datafab.collect.csv_tables import save_csv
from datafab.core.job import JobStatus
from datafab.core.services import Services
from datafab.errors import FlowError
from datafab.settings import load

#: Seconds that `collect --save-csv` waits for the tables.
SAVE_SECONDS = 3600.0
#: An option that is a flag or takes a value, like that of the original.
REFILL = "--refill-todays-logs"


class Collect(click.Command):
    """A command with an optional value: Click would take any following word for it, even the file to collect."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give the option its value if it is used as a flag."""
        given = list(args)
        end = args.index("--") if "--" in args else len(args)
        for n, word in enumerate(args[:end]):
            if word == REFILL and not any(map(_is_boolean, args[n + 1 : n + 2])):
                given[n] = f"{REFILL}=true"
        return super().parse_args(ctx, given)


def _is_boolean(word: str) -> bool:
    """Return whether Click accepts a word as a boolean."""
    try:
        click.BOOL.convert(word, None, None)
    except click.BadParameter:
        return False
    return True


@click.group()
def collection() -> None:
    """Maintain a collection in the form of digital-land."""


@collection.command("save-csv")
@click.argument("folder", metavar="DIR")
def save_csv_command(folder: str) -> None:
    """Update log.csv and resource.csv of DIR (a folder or a URL) from its logs, in this process."""
    _save(folder)


def check_saved(folder: str, ended: EndedJob, *, inline: bool) -> None:
    """Check that the job that follows a collection has updated the tables; update them here after an inline run.

    Raises:
        FlowError: the tables have not been updated.
    """
    job = ended.follow_up
    if inline:
        _save(folder)
    elif job is None or job.status is not JobStatus.SUCCEEDED or (job.counts and job.counts.failed):
        msg = (
            f"log.csv and resource.csv of {folder} are not up to date: see `datafab jobs show {job.id if job else '?'}`"
        )
        raise FlowError(msg, code="save_csv", field="collection")


def _save(folder: str) -> None:
    services = Services(load())
    try:
        done = save_csv(services.store(folder), datetime.now(UTC).date(), services.settings, warn=output.print_error)
    finally:
        services.close()
    text = f"log.csv {done.logs} rows, resource.csv {done.resources} rows; {done.read} logs read"
    output.stderr.print(text, highlight=False, soft_wrap=True, markup=False)
