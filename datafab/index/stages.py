"""Stage ``index``: index the state of sources, including failed ones."""

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
    """Put a document for each item into the index; its version is the time at which the job was created."""
    version = round(ctx.created * 1000)
    documents = [build_document(item, ctx.services, version) for item in items]
    try:
        put = iter(
            ctx.services.get(IndexAccess).writing.put_many(one for one in documents if isinstance(one, Document))
        )
    except Retriable as error:
        yield from (error for _ in items)
        return
    for item, one in zip(items, documents, strict=True):
        result = next(put) if isinstance(one, Document) else one
        yield result if isinstance(result, DatafabError) else item


def build_document(item: Item, services: Services, version: int) -> Document | Fatal | None:
    """Return the document of an item; None if an earlier job has indexed all that is known."""
    if item.status is Status.UNCHANGED and item.sha256 is None:  # unchanged, and not in the store
        return None
    try:
        return document(item, _read_analysis(item, services), version)
    except (ValueError, TypeError, AttributeError) as error:
        return Fatal(f"the analysis of {item.sha256} cannot be read: {error}", code="bad_analysis")


def _read_analysis(item: Item, services: Services) -> dict[str, Any] | None:
    if item.analysis is None or item.sha256 is None or item.store is None:
        return None
    stored = services.store(item.store).read(analysis_name(item.sha256, item.sheet))
    analysis: dict[str, Any] | None = json.loads(stored) if stored else None
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
        # restarting Elasticsearch takes minutes
    ),
)
