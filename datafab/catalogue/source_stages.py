"""A file of a catalogue, as a job of its own: which it is, and how it was seen, for the next time.

Parameters of a job of the flow ``source``: ``source`` and ``url``; ``dataset`` (``id``, ``title``, ``organisation``),
``title`` (of the file), ``fingerprint`` (of what the catalogue said), ``dated`` (when it was modified), ``format`` and
``part`` (one of several files of link-proxy's) as the flow ``catalogue`` gives them; ``force``: look although this
fingerprint has been looked at; ``again``: nobody says that it has changed; ``catalogue``: root of the API, if it is not
that of the settings. A job of ``withdraw`` has ``source`` and ``catalogue``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from datafab.catalogue import withdrawal
from datafab.catalogue.cors import Cors
from datafab.catalogue.datagouv import Datagouv
from datafab.catalogue.dataset import described, fetchable
from datafab.catalogue.resource_extras import Seen, extras
from datafab.catalogue.revisit import next_look
from datafab.catalogue.sources import Look, Sources, address
from datafab.core.backoff import RetryPolicy
from datafab.core.item import CatalogueFacts, Dataset, Item, Status
from datafab.core.jobs import RedisJobs
from datafab.core.stage import Context, Stage
from datafab.errors import DatafabError, Fatal, FlowError, Retriable
from datafab.fetch.refusal import is_transient
from datafab.index.access import IndexAccess

SOURCE = "datagouv:"
#: Bytes of a file that are read at once.
BLOCK = 1024 * 1024
#: Failures that say nothing of the source.
OURS = frozenset({"internal", "parked", "index", "index_refused", "missing_list", "firewall", "turn"})


class SourceParams(BaseModel):
    """What the flow ``source`` may be given."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    source: str = Field(min_length=1)
    url: str = Field(min_length=1)
    dataset: Dataset | None = None
    fingerprint: str | None = None
    title: str | None = None
    dated: datetime | None = None
    part: bool = False
    force: bool = False


class WithdrawParams(BaseModel):
    """What the flow ``withdraw`` may be given."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    source: str = Field(min_length=1)
    catalogue: str | None = Field(default=None, min_length=1)


def catalogue_source(ctx: Context) -> Iterator[Item]:
    """Yield the file that a job names."""
    params = ctx.read_params(SourceParams)
    if not fetchable(params.url):
        raise FlowError(f"url={params.url!r}: only http and https are fetched", code="not_http", field="url")
    told = {"title": params.title, "dated": params.dated}
    facts = CatalogueFacts(fingerprint=params.fingerprint, part=params.part, **told)
    item = Item(source=params.source, url=params.url, dataset=_described(params, ctx), catalogue=facts)
    known = ctx.services.get(Sources).facts(params.source).fingerprint
    if known is not None and known == params.fingerprint and not params.force:
        # By an urgent job that went ahead of this one.
        ctx.log.info("looked at meanwhile")
        item = item.evolve(status=Status.UNCHANGED)
    yield item


def _described(params: SourceParams, ctx: Context) -> Dataset | None:
    """Return the dataset of a file. Who pushes a file tells its id only; the rest is the catalogue's to say."""
    dataset = params.dataset
    if dataset is None or dataset.id is None or dataset.title is not None:
        return dataset
    try:
        told = Datagouv.at(ctx.services, ctx.params.get("catalogue")).about(dataset.id)
    except (Retriable, Fatal) as error:
        ctx.log.warning("the catalogue does not describe its dataset", reason=error.message)
        known = ctx.services.get(IndexAccess).reading.get(params.source)
        if known is None or known.dataset_id != dataset.id:
            return dataset
        return Dataset(id=dataset.id, title=known.dataset_title, organisation=known.organisation)
    return dataset if told is None else described(told | {"id": dataset.id})


def remember(item: Item, ctx: Context) -> Item:
    """Remember how a source was seen, so that it is left alone until it changes; tell the catalogue, if it wants that.

    One stage for both: a task more would cost each file more than all that it does. What the catalogue does not take
    fails the item: what was indexed stays, and the next pass looks at the file again.
    """
    if "news" not in ctx.memo:
        if item.status is Status.UNCHANGED and item.sha256 is None:  # another job has looked, this one has not
            return item
        news = _is_news(item, ctx)
        kept = _remember(item, ctx, news=news)
        if not (news and kept):
            return item
        # So that another attempt only tells: by then nothing is new any more.
        ctx.memo["news"] = kept
    kept = ctx.memo["news"]
    if not ctx.services.get(Sources).is_last(item.source, ctx.created):
        ctx.log.info("a later look has told the catalogue, or will")
        return item
    _tell(item, float(kept["changed"]), ctx)
    ctx.services.get(Sources).told(item.source, ctx.created, kept["fingerprint"])
    return item


def _untold(item: Item, error: DatafabError) -> Item:
    """Return an item that could not be remembered, or of which the catalogue was not told; its own failure stays."""
    if item.status is not Status.FAILED or item.error is None:
        return item.failed(error)
    return item.evolve(error=item.error.evolve(message=f"{item.error.message}; {error.message}"))


def _is_news(item: Item, ctx: Context) -> bool:
    """Whether there is something to tell the catalogue, and somebody has given its key for that."""
    if ctx.services.settings.catalogue_key is None or item.source == _name(item) or _dataset(item) is None:
        return False
    if ctx.params.get("catalogue") or ctx.params.get("part") or item.status is Status.SKIPPED:
        return False
    if item.error is not None and item.error.type in OURS:
        return False
    if item.status is not Status.UNCHANGED or ctx.services.get(Sources).facts(item.source).untold:
        return True
    looks = ctx.services.get(Sources).looks(item.source)
    return bool(looks and looks[0].status == Status.FAILED)


def _name(item: Item) -> str:
    return item.source.removeprefix(SOURCE)


def _dataset(item: Item) -> str | None:
    return item.dataset.id if item.dataset else None


def _tell(item: Item, changed: float, ctx: Context) -> None:
    """Write the extras of a file's resource into the catalogue.

    Raises:
        Retriable: it may take them later.
        Fatal: it does not take them.
    """
    told = extras(item, _seen(item, changed, ctx))
    try:
        ctx.services.get(Datagouv).tell(_dataset(item) or "", _name(item), told)
    except Retriable as error:
        msg = f"the catalogue was not told: {error.message}"
        raise Retriable(msg, delay=error.delay, code="catalogue_untold", field=error.field) from error
    except Fatal as error:
        msg = f"the catalogue was not told: {error.message}"
        raise Fatal(msg, code="catalogue_untold", field=error.field) from error


def _seen(item: Item, changed: float, ctx: Context) -> Seen:
    """Return what is to be told besides the item; of a file that did not come, nothing but the times."""
    if item.sha256 is None or item.store is None:
        return Seen(at=ctx.created, changed=changed)
    digest, jobs = hashlib.sha1(usedforsecurity=False), ctx.services.jobs
    with ctx.services.store(item.store).open(item.sha256) as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return Seen(
        at=ctx.created,
        changed=changed,
        sha1=digest.hexdigest(),
        parsed=jobs.stage_span(ctx.job, "analyse") if isinstance(jobs, RedisJobs) else None,
        cors=ctx.services.get(Cors).probe(item.url or ""),
    )


def _remember(item: Item, ctx: Context, *, news: bool) -> dict[str, Any] | None:
    """Keep how a source was seen; return what is settled once the catalogue was told.

    None: it was withdrawn meanwhile. Of news the fingerprint is kept only when they were told.
    """
    seen = item.catalogue
    if seen is None or item.url is None:
        raise Fatal("an item that is of no catalogue cannot be remembered", code="missing_catalogue")
    if item.error is not None and item.error.type == "withdrawn":
        withdraw(item, ctx)
        return None
    before = ctx.services.get(Sources).facts(item.source)
    changed = float(before.changed or ctx.created)
    if item.sha256 is not None and item.sha256 != before.sha256:
        changed = ctx.created
    final = item.error is None or not (is_transient(item.error.type) or item.error.type in OURS)
    fingerprint = seen.fingerprint if seen.fingerprint and final else before.fingerprint
    facts = _content(item, seen) | {"changed": f"{changed:.0f}", "catalogue": ctx.params.get("catalogue")}
    # What is owed from an earlier look stays owed, whatever this one is about.
    owed = news or (before.untold is not None and ctx.services.settings.catalogue_key is not None)
    facts |= {"fingerprint": None if owed else fingerprint, "untold": "1" if owed else None}
    look = Look(ctx.created, item.status.value, ctx.job, item.error.type if item.error else None)
    kept = ctx.services.get(Sources).remember(item.source, look, **facts)
    if not kept:
        ctx.log.info("it was withdrawn meanwhile")
        ctx.services.get(IndexAccess).writing.delete(item.source, version=round(ctx.created * 1000))
    elif not seen.part:
        ctx.services.get(Sources).look_at(item.source, ctx.created + next_look(ctx.created - changed))
    if "parts" in facts:
        for part in sorted(_names(before.parts) - _names(seen.parts)):
            withdrawal.forget(
                ctx.services.get(Sources), ctx.services.get(IndexAccess).writing, f"{item.source}/{part}", ctx.created
            )
    return {"changed": changed, "fingerprint": fingerprint} if kept else None


def _content(item: Item, seen: CatalogueFacts) -> dict[str, str | None]:
    """Return what is to be remembered of a file's content; of one that did not come, nothing."""
    if item.sha256 is None or item.url is None:
        return {}
    facts = {"address": address(seen.download or item.url), "sha256": item.sha256, "media_type": item.media_type}
    facts |= {"etag": seen.etag, "modified": seen.modified, "downloads": seen.downloads}
    return facts | ({"parts": seen.parts} if seen.downloads is not None else {})


def _names(parts: str | None) -> set[str]:
    return set((parts or "").splitlines())


def to_withdraw(ctx: Context) -> Iterator[Item]:
    """Yield the file that is to be withdrawn."""
    yield Item(source=ctx.read_params(WithdrawParams).source)


def withdraw(item: Item, ctx: Context) -> Item:
    """Take a source out of the index, with the further files at its address; a job on it that still runs too late."""
    root = Datagouv.at(ctx.services, ctx.params.get("catalogue")).url
    withdrawal.withdraw(
        ctx.services.get(Sources), ctx.services.get(IndexAccess).writing, root, [item.source], ctx.created
    )
    return item


STAGES = (
    Stage(
        name="catalogue_source",
        params=frozenset(SourceParams.model_fields) | {"catalogue"},
        queue="io",
        expand=catalogue_source,
        provides=frozenset({"url", "dataset", "catalogue"}),
    ),
    Stage(
        name="remember",
        params=frozenset({"catalogue", "part", "again"}),
        queue="io",
        run=remember,
        failed=_untold,
        requires=frozenset({"url", "catalogue"}),
        wants=frozenset(Status),
        retry=RetryPolicy(retries=9),  # in an hour: as long as it takes to bring a catalogue up again
    ),
    Stage(name="to_withdraw", params=frozenset(WithdrawParams.model_fields), queue="io", expand=to_withdraw),
    Stage(name="withdraw", params=frozenset({"catalogue"}), queue="io", run=withdraw),
)
