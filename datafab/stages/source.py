"""A file of a catalogue, as a job of its own: which it is, and how it was seen, for the next time.

Parameters of a job of the flow ``source``: ``source`` and ``url``; ``dataset`` (``id``, ``title``, ``organisation``),
``fingerprint`` (of what the catalogue said), ``dated`` (when it was modified), ``format`` and ``part`` (one of several
files of link-proxy's) as the flow ``catalogue`` gives them; ``force``: look although this fingerprint has been looked
at; ``again``: nobody says that it has changed; ``catalogue``: root of the API, if it is not that of the settings. A job
of ``withdraw`` has ``source`` and ``catalogue``.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from datafab.clients.refusal import may_pass
from datafab.clients.sources import Look, address
from datafab.domain.again import next_look
from datafab.domain.catalogue import fetchable
from datafab.domain.extras import extras
from datafab.domain.payload import CatalogueFacts, Dataset, Item, Status
from datafab.errors import DatafabError, Fatal, FlowError
from datafab.stage import Context, Stage

SOURCE = "datagouv:"
#: Failures that say nothing of the source.
OURS = frozenset({"internal", "parked", "index", "missing_list", "firewall"})


class SourceParams(BaseModel):
    """What the flow ``source`` may be given."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    source: str = Field(min_length=1)
    url: str = Field(min_length=1)
    dataset: Dataset | None = None
    fingerprint: str | None = None
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
    params = ctx.given(SourceParams)
    if not fetchable(params.url):
        raise FlowError(f"url={params.url!r}: only http and https are fetched", code="not_http", field="url")
    facts = CatalogueFacts(fingerprint=params.fingerprint, dated=params.dated, part=params.part)
    item = Item(source=params.source, url=params.url, dataset=params.dataset, catalogue=facts)
    known = ctx.services.sources.facts(params.source).fingerprint
    if known is not None and known == params.fingerprint and not params.force:
        # By an urgent job that went ahead of this one.
        ctx.log.info("looked at meanwhile")
        item = item.evolve(status=Status.UNCHANGED)
    yield item


def write_back(item: Item, ctx: Context) -> Item:
    """Tell the catalogue what has become of its file, where a key is set and there is something new to tell."""
    name = item.source.removeprefix(SOURCE)
    dataset = item.dataset.id if item.dataset else None
    elsewhere = ctx.params.get("catalogue") or name == item.source or ctx.params.get("part")
    if ctx.services.settings.catalogue_key is None or elsewhere or dataset is None:
        return item
    looks = ctx.services.sources.looks(item.source)
    if item.status is Status.UNCHANGED and looks and looks[0].status != Status.FAILED:
        return item
    if not ctx.services.datagouv.tell(dataset, name, extras(item, ctx.created)):
        ctx.log.warning("the catalogue does not know this resource any more, so it was told nothing")
    return item


def _as_it_was(item: Item, _error: DatafabError) -> Item:
    """What a catalogue thinks of being told is no failure of its file."""
    return item


def remember(item: Item, ctx: Context) -> Item:
    """Remember how a source was seen, so that it is left alone until it changes."""
    seen, facts = item.catalogue, {}
    if seen is None or item.url is None:
        raise Fatal("an item that is of no catalogue cannot be remembered", code="missing_catalogue")
    if item.error is not None and item.error.type == "withdrawn":
        return withdraw(item, ctx)
    gone: set[str] = set()
    before = ctx.services.sources.facts(item.source)
    changed = float(before.changed or ctx.created)
    if item.sha256 is not None and item.sha256 != before.sha256:
        changed = ctx.created
    if item.sha256 is not None and seen.downloads is not None:
        facts = {"parts": seen.parts}
        gone = _names(before.parts) - _names(seen.parts)
    if item.sha256 is not None:
        facts |= {"address": address(seen.download or item.url), "sha256": item.sha256, "media_type": item.media_type}
        facts |= {"etag": seen.etag, "modified": seen.modified, "downloads": seen.downloads}
    if seen.fingerprint and (item.error is None or not (may_pass(item.error.type) or item.error.type in OURS)):
        facts["fingerprint"] = seen.fingerprint
    facts["changed"] = f"{changed:.0f}"
    look = Look(ctx.created, item.status.value, ctx.job, item.error.type if item.error else None)
    if not ctx.services.sources.remember(item.source, look, **facts):
        ctx.log.info("it was withdrawn meanwhile")
        ctx.services.index.delete(item.source)
    elif not seen.part:
        ctx.services.sources.look_at(item.source, ctx.created + next_look(ctx.created - changed))
    for part in sorted(gone):
        _withdraw(f"{item.source}/{part}", ctx)
    return item


def _names(parts: str | None) -> set[str]:
    return set((parts or "").splitlines())


def to_withdraw(ctx: Context) -> Iterator[Item]:
    """Yield the file that is to be withdrawn."""
    yield Item(source=ctx.given(WithdrawParams).source)


def withdraw(item: Item, ctx: Context) -> Item:
    """Take a source out of the index, with the further files at its address; a job on it that still runs too late."""
    for part in sorted(_names(ctx.services.sources.facts(item.source).parts)):
        _withdraw(f"{item.source}/{part}", ctx)
    _withdraw(item.source, ctx)
    return item


def _withdraw(source: str, ctx: Context) -> None:
    root = ctx.services.catalogue(ctx.params.get("catalogue")).url
    # Before the index: a job that ends in between sees that it came too late.
    ctx.services.sources.forget(root, [source], ctx.created)
    ctx.services.index.delete(source)


STAGES = (
    Stage(
        name="catalogue_source",
        queue="io",
        expand=catalogue_source,
        provides=frozenset({"url", "dataset", "catalogue"}),
    ),
    Stage(
        name="write_back",
        queue="io",
        run=write_back,
        requires=frozenset({"url", "catalogue"}),
        wants=frozenset({Status.OK, Status.UNCHANGED, Status.FAILED}),
        failed=_as_it_was,
    ),
    Stage(
        name="remember",
        queue="io",
        run=remember,
        requires=frozenset({"url", "catalogue"}),
        wants=frozenset(Status),
    ),
    Stage(name="to_withdraw", queue="io", expand=to_withdraw),
    Stage(name="withdraw", queue="io", run=withdraw),
)
