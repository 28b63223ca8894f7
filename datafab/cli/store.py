"""``datafab store``: remove files that nothing refers to any more."""

from __future__ import annotations

import click

from datafab import api
from datafab.cli import output
from datafab.cli.run_job import as_json_option
from datafab.core.redis import connect
from datafab.errors import FlowError
from datafab.index.access import IndexAccess
from datafab.ops.prune import find_unreferenced
from datafab.store.store import Store, root_of
from workers import app

DAY_SECONDS = 24 * 3600


@click.group()
def store() -> None:
    """Maintain the files of a store."""


@store.command("prune")
@click.option("--days", type=click.IntRange(1), help="Minimum age of removed files; default: DATAFAB_RETENTION_DAYS.")
@click.option("--store", "root", help="Folder or URL of the store; default: DATAFAB_STORE_URL.")
@click.option("--yes", is_flag=True, help="Remove the files; without it they are only listed.")
@as_json_option
def prune(days: int | None, root: str | None, yes: bool, as_json: bool) -> None:
    """Remove the resources that no log, job, document or source refers to, and their analyses.

    Files younger than two job deadlines are always kept. Wait for `--inline` runs to end: they are not taken into
    account.
    """
    settings = api.connect()
    here = Store(root_of(root), settings.s3_endpoint) if root else app.services().store(settings.store)
    _check_idle(here)
    age = max((days or settings.retention_days) * DAY_SECONDS, 2 * settings.job_deadline)
    before = app.services().clock.now() - age
    count = size = 0
    client = connect(settings)
    for old in find_unreferenced(here, client, app.services().get(IndexAccess).reading, before):
        if yes:
            _check_idle(here)
            if not here.remove(old.name, before):
                continue
        count, size = count + 1, size + old.size
        if as_json:
            output.print_json_lines([old._asdict()])
    if not as_json:
        output.stdout.print(f"{count} files, {size} bytes, {'removed' if yes else 'can be removed with --yes'}")


def _check_idle(here: Store) -> None:
    """Raise FlowError if jobs are running and the store cannot tell which of its files were just written again."""
    if here.touches:
        return
    if n := app.jobs().count_unended():
        msg = f"{n} jobs have not ended: they may need files in {here.root} that nothing refers to yet; wait for them"
        raise FlowError(msg, code="busy", field="DATAFAB_STORE_URL")
