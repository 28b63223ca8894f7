"""``datafab collection``: what a collection's folder holds besides logs and resources."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from datafab.cli import output
from datafab.cli.run_job import Ended
from datafab.collect.csv_tables import save_csv
from datafab.core.job import JobStatus
from datafab.core.services import Services
from datafab.errors import FlowError
from datafab.settings import load

#: Seconds that `collect --save-csv` waits for the tables.
PATIENCE = 3600.0
#: An option that is a flag, and may have a value, as the original's has.
REFILL = "--refill-todays-logs"


class Collect(click.Command):
    """Click takes whatever follows an option of this kind for its value, be it the file to collect."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give the plain flag its value."""
        given = list(args)
        end = args.index("--") if "--" in args else len(args)
        for n, word in enumerate(args[:end]):
            if word == REFILL and not any(map(_truth, args[n + 1 : n + 2])):
                given[n] = f"{REFILL}=true"
        return super().parse_args(ctx, given)


def _truth(word: str) -> bool:
    """Tell whether a word is true or false, in any way that Click knows."""
    try:
        click.BOOL.convert(word, None, None)
    except click.BadParameter:
        return False
    return True


@click.group()
def collection() -> None:
    """Look after a collection of digital-land's form."""


@collection.command("save-csv")
@click.argument("folder", metavar="DIR")
def save_csv_command(folder: str) -> None:
    """Bring log.csv and resource.csv of DIR (a folder or a URL) up to date with its logs, in this process."""
    _save(folder)


def saved(folder: str, ended: Ended, *, inline: bool) -> None:
    """See to it that the tables are there when a command that collected ends.

    Raises:
        FlowError: they are not.
    """
    job = ended.followed
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
        done = save_csv(services.store(folder), datetime.now(UTC).date(), warn=output.print_error)
    finally:
        services.close()
    text = f"log.csv {done.logs} rows, resource.csv {done.resources} rows; {done.read} logs read"
    output.stderr.print(text, highlight=False, soft_wrap=True, markup=False)
