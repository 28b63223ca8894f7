"""The tables ``log.csv`` and ``resource.csv`` of a collection, written after a job with ``save_csv`` collected into it.

A flow of its own, run whenever such a job has ended, successfully or not: the tables have what was logged until then.
"""

from __future__ import annotations

from collections.abc import Iterator

from datafab.collect.csv_tables import save_csv as save
from datafab.core.item import Item
from datafab.core.jobs import RedisJobs
from datafab.core.stage import Context, Stage
from datafab.errors import Fatal, FlowError
from datafab.store.store import root_of


def ended_collect(ctx: Context) -> Iterator[Item]:
    """Find the job that has ended; yield its collection."""
    of = str(ctx.params["of"])
    jobs = ctx.services.jobs
    assert isinstance(jobs, RedisJobs), "without a cluster no flow follows another"
    job = jobs.get(of)
    if not job.final:
        raise FlowError(f"job {of} has not ended: its logs are not complete yet", code="not_ended", field="of")
    root = job.params.get("collection")
    if not isinstance(root, str):
        msg = f"job {of} (flow {job.flow!r}) has no collection: `of` is the id of a job that has collected"
        raise FlowError(msg, code="not_a_collection", field="of")
    yield Item(source=f"job:{of}", store=root_of(root))


def save_csv(item: Item, ctx: Context) -> Item:
    """Bring log.csv and resource.csv of a collection up to date with its logs."""
    if item.store is None:
        raise Fatal("an item without a store has no tables", code="not_a_collection")
    today = ctx.services.clock.utc().date()
    on_progress = lambda count: ctx.progress(count, None, "logs")  # noqa: E731
    saved = save(
        ctx.services.store(item.store), today, ctx.services.settings, warn=ctx.log.warning, on_progress=on_progress
    )
    ctx.log.info("saved log.csv and resource.csv", logs=saved.logs, resources=saved.resources, read=saved.read)
    return item


STAGES = (
    Stage(
        name="ended_collect", params=frozenset({"of"}), queue="io", expand=ended_collect, provides=frozenset({"store"})
    ),
    Stage(name="save_csv", params=frozenset(), queue="io", run=save_csv, requires=frozenset({"store"})),
)
