"""A file of a catalogue, as a job of its own: which it is, and how it was seen, for the next time.

Parameters of a job of the flow ``source``: ``source`` and ``url``; ``dataset`` (``id``, ``title``, ``organisation``),
``fingerprint`` (of what the catalogue said), ``dated`` (when it was modified) and ``part`` (one of several files of
link-proxy's) as the flow ``catalogue`` gives them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from datafab.clients.refusal import may_pass
from datafab.clients.sources import address
from datafab.domain.catalogue import fetchable
from datafab.domain.payload import CatalogueFacts, Dataset, Item, Status
from datafab.errors import Fatal, FlowError
from datafab.stage import Context, Stage

#: Failures that say nothing of the source.
OURS = frozenset({"internal", "parked", "index", "missing_list"})


class SourceParams(BaseModel):
    """What the flow ``source`` may be given."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    source: str = Field(min_length=1)
    url: str = Field(min_length=1)
    dataset: Dataset | None = None
    fingerprint: str | None = None
    dated: datetime | None = None
    part: bool = False


def catalogue_source(ctx: Context) -> Iterator[Item]:
    """Yield the file that a job names."""
    params = ctx.given(SourceParams)
    if not fetchable(params.url):
        raise FlowError(f"url={params.url!r}: only http and https are fetched", code="not_http", field="url")
    facts = CatalogueFacts(fingerprint=params.fingerprint, dated=params.dated, part=params.part)
    yield Item(source=params.source, url=params.url, dataset=params.dataset, catalogue=facts)


def remember(item: Item, ctx: Context) -> Item:
    """Remember how a source was seen, so that it is left alone until it changes."""
    seen, facts = item.catalogue, {}
    if seen is None or item.url is None:
        raise Fatal("an item that is of no catalogue cannot be remembered", code="missing_catalogue")
    if item.sha256 is not None:
        facts = {"address": address(seen.download or item.url), "sha256": item.sha256, "media_type": item.media_type}
        facts |= {"etag": seen.etag, "modified": seen.modified, "downloads": seen.downloads}
    if item.error is None or not (may_pass(item.error.type) or item.error.type in OURS):
        facts["fingerprint"] = seen.fingerprint
    if facts:
        ctx.services.sources.remember(item.source, ctx.created, **facts)
    return item


STAGES = (
    Stage(
        name="catalogue_source",
        queue="io",
        expand=catalogue_source,
        provides=frozenset({"url", "dataset", "catalogue"}),
    ),
    Stage(
        name="remember",
        queue="io",
        run=remember,
        requires=frozenset({"url", "catalogue"}),
        wants=frozenset(Status),
    ),
)
