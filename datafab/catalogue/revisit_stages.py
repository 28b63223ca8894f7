"""The stages of the flow ``again``, which revisits files although their catalogue reports no change.

Parameter of a job: ``limit``, the largest number of files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from datafab.catalogue.revisit import REVISIT_PARAM
from datafab.catalogue.sources import SourceRegistry
from datafab.core.item import Dataset, Item, Status
from datafab.core.jobs import RedisJobs
from datafab.core.stage import Context, Stage
from datafab.errors import Skippable
from datafab.index.access import IndexAccess

#: Priority of a revisit (0 is the most urgent).
REVISIT_PRIORITY = 9


class RevisitParams(BaseModel):
    """Parameters of the flow ``again``."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    limit: int = Field(default=2000, ge=1, le=10_000)


def due_sources(ctx: Context) -> Iterator[Item]:
    """Yield the files whose revisit is due, the longest overdue first."""
    jobs, limit = ctx.services.jobs, ctx.read_params(RevisitParams).limit
    room = ctx.services.settings.catalogue_backlog - (jobs.count_admitted() if isinstance(jobs, RedisJobs) else 0)
    if room < limit:
        ctx.log.info("fewer revisits: the backlog of jobs is full", room=max(room, 0))
    for source in ctx.services.get(SourceRegistry).due_revisits(ctx.services.clock.now(), max(0, min(limit, room))):
        yield Item(source=source)


def enqueue_revisit(item: Item, ctx: Context) -> Item:
    """Enqueue a revisit of a file, unless there has been one meanwhile."""
    sources = ctx.services.get(SourceRegistry)
    due = sources.next_revisit(item.source)
    if due is None or due > ctx.services.clock.now():
        return item.evolve(status=Status.UNCHANGED)
    known = ctx.services.get(IndexAccess).reading.get(item.source)
    if known is None or known.resource_url is None:
        sources.schedule_revisit(item.source, None)
        raise Skippable("the index has no document for this source", code="not_indexed")
    dataset = Dataset(id=known.dataset_id, title=known.dataset_title, organisation=known.organisation)
    state = sources.state(item.source)
    url = state.login_url or known.resource_url
    params: dict[str, Any] = {"source": item.source, "url": url, "dataset": dataset.dump()}
    params |= {"title": known.title} | ({"dated": known.modified.isoformat()} if known.modified else {})
    params |= {"catalogue": state.catalogue} if state.catalogue else {}
    ctx.enqueue(
        "source",
        params | {"force": True, REVISIT_PARAM: True, "priority": REVISIT_PRIORITY},
        f"again:{item.source}:{due!r}",
    )
    # The job schedules the next revisit. If it does not end, there is one after its deadline nevertheless.
    sources.schedule_revisit(item.source, ctx.services.clock.now() + ctx.services.settings.job_deadline)
    return item


STAGES = (
    Stage(name="due_sources", params=frozenset(RevisitParams.model_fields), queue="io", expand=due_sources),
    Stage(name="look_again", params=frozenset(), queue="io", run=enqueue_revisit),
)
