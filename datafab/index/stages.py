"""Index what is known of sources, what failed included."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from datafab.core.backoff import RetryPolicy
from datafab.core.document import Document, analysis_name, document
from datafab.core.item import Item, Status
from datafab.core.services import Services
from datafab.core.stage import Context, Outcome, Stage
from datafab.errors import DatafabError, Fatal, Retriable
from datafab.index.access import IndexAccess


def index(items: list[Item], ctx: Context) -> Iterator[Outcome]:
    """Put what is known of each item into the index, as of the time at which the job was made."""
    version = round(ctx.created * 1000)
    made = [document_of(item, ctx.services, version) for item in items]
    try:
        put = iter(ctx.services.get(IndexAccess).writing.put_many(one for one in made if isinstance(one, Document)))
    except Retriable as error:
        yield from (error for _ in items)
        return
    for item, one in zip(items, made, strict=True):
        became = next(put) if isinstance(one, Document) else one
        yield became if isinstance(became, DatafabError) else item


def document_of(item: Item, services: Services, version: int) -> Document | Fatal | None:
    """Return what the index is to know of an item; None: an earlier job has said all there is to say."""
    if item.status is Status.UNCHANGED and item.sha256 is None:  # nothing new, and nothing in the store
        return None
    try:
        return document(item, _analysis(item, services), version)
    except (ValueError, TypeError, AttributeError) as error:
        return Fatal(f"the analysis of {item.sha256} cannot be read: {error}", code="bad_analysis")


def _analysis(item: Item, services: Services) -> dict[str, Any] | None:
    if item.analysis is None or item.sha256 is None or item.store is None:
        return None
    kept = services.store(item.store).read(analysis_name(item.sha256))
    analysis: dict[str, Any] | None = json.loads(kept) if kept else None
    return analysis


STAGES: tuple[Stage, ...] = (
    Stage(
        name="index",
        params=frozenset(),
        queue="io",
        run_many=index,
        requires=frozenset({"source"}),
        wants=frozenset({Status.OK, Status.UNCHANGED, Status.FAILED}),
        retry=RetryPolicy(deadline=600.0, retries=10),
        # an Elasticsearch that is started again takes minutes
    ),
)
