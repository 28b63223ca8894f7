"""``datafab index``: migrate an index, or rebuild it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import click
from rich.console import Console

from datafab import api
from datafab.cli import output
from datafab.cli.run_job import SOME_FAILED
from datafab.core.document import Document
from datafab.core.services import Services
from datafab.errors import Fatal, FlowError
from datafab.index import open_index
from datafab.index.access import IndexAccess
from datafab.ops import rebuild
from datafab.store.store import root_of
from workers import app


@click.group()
def index() -> None:
    """Migrate or rebuild the index of DATAFAB_INDEX_URL."""


@index.command()
@click.option("--force", is_flag=True, help="Migrate even if nothing has changed.")
def migrate(force: bool) -> None:
    """Give an Elasticsearch index the mapping of this version, without downtime; repeat it if it is interrupted.

    SQLite is migrated when it is opened.
    """
    settings = app.settings()
    with closing(open_index(settings.index, settings)) as found:
        if settings.index.startswith("sqlite:"):
            found.ping()
            output.stdout.print("SQLite is up to date")
            return
        from datafab.index.elastic import ElasticIndex  # noqa: PLC0415 - it takes a second
        from datafab.index.elastic_migration import migrate as migrated  # noqa: PLC0415 - as above

        assert isinstance(found, ElasticIndex)
        with output.stderr.status("migrating") as status:
            done = migrated(found, lambda part, all_: status.update(f"{part} of {all_} documents"), force=force)
    if done.old == done.new:
        output.stdout.print(f"{done.new} is up to date", highlight=False)
    else:
        more = f", {done.known} existed" if done.known else ""
        output.stdout.print(
            f"{done.new}: {done.copied} documents copied{more}; {done.old} may be deleted", highlight=False
        )


@index.command("rebuild")
@click.option("--store", "stores", multiple=True, help="Root of a further store whose log/ is read; repeatable.")
@click.option("--from", "other", help="URL of another index whose documents are copied, instead of jobs and stores.")
def rebuild_command(stores: tuple[str, ...], other: str | None) -> None:
    """Fill the index from jobs, stores or another index; repeat it if it is interrupted."""
    settings = app.settings() if other else api.connect()
    with closing(Services(settings)) as services, output.stderr.status("reading") as status:
        if (owner := services.get(IndexAccess).owner) is not None:
            owner.claim(move=True)

        def on_progress(done: rebuild.RebuildCounts) -> None:
            status.update(f"{done.ok} documents indexed, {done.stale} existed")

        done = rebuild.put(services.get(IndexAccess).reading, _documents(services, stores, other), on_progress)
        services.get(IndexAccess).reading.refresh()
        status.update("looking for missing files of catalogues")
        missing = 0 if other else rebuild.schedule_missing(services)
    _report(done, output.stdout)
    if missing:
        msg = f"{missing} files of catalogues are known by name only: `datafab catalogue run --full` checks them"
        output.stdout.print(msg, highlight=False, soft_wrap=True)
    if done.refused:
        click.get_current_context().exit(SOME_FAILED)


def _documents(services: Services, stores: tuple[str, ...], other: str | None) -> Iterator[Document | Fatal]:
    if other is not None:
        if other == services.settings.index:
            msg = "--from names the index that is to be filled: give the URL of another one"
            raise FlowError(msg, field="--from")
        with closing(open_index(other, services.settings)) as found:
            yield from found.documents()
        return
    yield from rebuild.from_jobs(services, app.jobs())
    for root in dict.fromkeys([services.settings.store, *map(root_of, stores)]):
        yield from rebuild.from_logs(services, root)


def _report(done: rebuild.RebuildCounts, out: Console) -> None:
    out.print(f"{done.ok} documents indexed, {done.stale} existed in a newer version", highlight=False)
    if done.refused:
        out.print(f"{done.refused} refused; first error: {done.reason}", highlight=False, markup=False)
