"""Files of a catalogue that are to be looked at again although it says nothing new of them.

Parameter of a job of the flow ``again``: ``limit``, so many files at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from datafab.catalogue.sources import Sources
from datafab.core.item import Dataset, Item, Status
from datafab.core.jobs import RedisJobs
from datafab.core.stage import Context, Stage
from datafab.errors import Skippable
from datafab.index.access import IndexAccess

#: How urgent it is (0 is the most).
PRIORITY = 9


class AgainParams(BaseModel):
    """What the flow ``again`` may be given."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    limit: int = Field(default=2000, ge=1, le=10_000)


def due_sources(ctx: Context) -> Iterator[Item]:
    """Yield the files that are due, those first that have been for the longest time."""
    jobs, limit = ctx.services.jobs, ctx.read_params(AgainParams).limit
    room = ctx.services.settings.catalogue_backlog - (jobs.count_unended() if isinstance(jobs, RedisJobs) else 0)
    if room < limit:
        ctx.log.info("there are enough jobs already", room=max(room, 0))
    for source in ctx.services.get(Sources).due(ctx.services.clock.now(), max(0, min(limit, room))):
        yield Item(source=source)


def look_again(item: Item, ctx: Context) -> Item:
    """Enqueue a look at a file, unless there has been one meanwhile."""
    sources = ctx.services.get(Sources)
    due = sources.due_at(item.source)
    if due is None or due > ctx.services.clock.now():
        return item.evolve(status=Status.UNCHANGED)
    known = ctx.services.get(IndexAccess).reading.get(item.source)
    if known is None or known.resource_url is None:
        sources.look_at(item.source, None)
        raise Skippable("the index does not know it", code="not_indexed")
    dataset = Dataset(id=known.dataset_id, title=known.dataset_title, organisation=known.organisation)
    params: dict[str, Any] = {"source": item.source, "url": known.resource_url, "dataset": dataset.dump()}
    params |= {"title": known.title} | ({"dated": known.modified.isoformat()} if known.modified else {})
    catalogue = sources.facts(item.source).catalogue
    params |= {"catalogue": catalogue} if catalogue else {}
    ctx.enqueue("source", params | {"force": True, "again": True, "priority": PRIORITY}, f"again:{item.source}:{due!r}")
    # The job says when the next look is; should it come to no end, there is one nevertheless.
    sources.look_at(item.source, ctx.services.clock.now() + ctx.services.settings.job_deadline)
    return item


STAGES = (
    Stage(name="due_sources", params=frozenset(AgainParams.model_fields), queue="io", expand=due_sources),
    Stage(name="look_again", params=frozenset(), queue="io", run=look_again),
)
