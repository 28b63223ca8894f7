"""``datafab store``: remove what nothing names any more."""

from __future__ import annotations

import time

import click

from datafab import api
from datafab.cli import output
from datafab.cli.run_job import as_json_option
from datafab.core.jobs import connect
from datafab.errors import FlowError
from datafab.index.access import IndexAccess
from datafab.ops.prune import unnamed
from datafab.store.store import Store, root_of
from workers import app

DAY = 24 * 3600


@click.group()
def store() -> None:
    """Look after the files in a store."""


@store.command("prune")
@click.option("--days", type=click.IntRange(1), help="Least age; DATAFAB_RETENTION_DAYS if not given.")
@click.option("--store", "root", help="Folder or URL; DATAFAB_STORE_URL if not given.")
@click.option("--yes", is_flag=True, help="Remove them; else they are only told.")
@as_json_option
def prune(days: int | None, root: str | None, yes: bool, as_json: bool) -> None:
    """Remove the resources that no log, job, document or source names, and their analyses.

    Younger ones stay, and whatever is younger than two jobs' deadlines. `--inline` runs are not known: let them end.
    """
    settings = api.connect()
    here = Store(root_of(root), settings.s3_endpoint) if root else app.services().store(settings.store)
    _idle(here)
    before = time.time() - max((days or settings.retention_days) * DAY, 2 * settings.job_deadline)
    count = size = 0
    client = connect(str(settings.redis_url))
    for old in unnamed(here, client, app.services().get(IndexAccess).reading, before):
        if yes:
            _idle(here)
            if not here.remove(old.name, before):
                continue
        count, size = count + 1, size + old.size
        if as_json:
            output.print_json_lines([old._asdict()])
    if not as_json:
        output.stdout.print(f"{count} files, {size} bytes, {'removed' if yes else 'could go: --yes removes them'}")


def _idle(here: Store) -> None:
    """Raise FlowError while jobs run on a store that cannot say which of its files came in again just now."""
    if here.renews:
        return
    if n := app.jobs().unended():
        msg = f"{n} jobs have not ended: in {here.root} they may need what nothing names yet; wait"
        raise FlowError(msg, code="busy", field="DATAFAB_STORE_URL")
