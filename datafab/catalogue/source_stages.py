"""The stages of the flow ``source``, one job per file of a catalogue, and of the flow ``withdraw``.

Parameters of a job of the flow ``source``: ``source`` and ``url``; ``dataset`` (``id``, ``title``, ``organisation``),
``title`` (of the file), ``fingerprint`` (of the catalogue's description), ``dated`` (modification date), ``format`` and
``part`` (one of several downloads of link-proxy), as the flow ``catalogue`` sets them; ``force``: look even if this
fingerprint has been looked at; ``again``: a revisit, without a reported change; ``catalogue``: root of the API, unless
it is the one of the settings. A job of ``withdraw`` has ``source`` and ``catalogue``.
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
from datafab.catalogue.dataset import SOURCE_PREFIX, describe_dataset, is_fetchable
from datafab.catalogue.resource_extras import Observation, resource_extras
from datafab.catalogue.revisit import REVISIT_PARAM, revisit_delay
from datafab.catalogue.source_state import Look, url_digest
from datafab.catalogue.sources import SourceRegistry
from datafab.core.backoff import RetryPolicy
from datafab.core.item import CatalogueFacts, Dataset, Item, Status
from datafab.core.jobs import RedisJobs
from datafab.core.roles import Role
from datafab.core.stage import Context, Stage
from datafab.errors import DatafabError, Fatal, FlowError, Retriable
from datafab.fetch.refusal import is_transient
from datafab.index.access import IndexAccess
from datafab.urls import has_login

#: Bytes read at a time.
BLOCK_BYTES = 1024 * 1024
#: Types of failures that tell nothing about the source.
OWN_FAILURES = frozenset({"internal", "parked", "index", "index_refused", "missing_list", "firewall", "turn"})


class SourceParams(BaseModel):
    """Parameters of the flow ``source``."""

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
    """Parameters of the flow ``withdraw``."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    source: str = Field(min_length=1)
    catalogue: str | None = Field(default=None, min_length=1)


def catalogue_source(ctx: Context) -> Iterator[Item]:
    """Yield the file that the parameters name."""
    params = ctx.read_params(SourceParams)
    if not is_fetchable(params.url):
        raise FlowError(
            f"url={params.url!r}: only URLs with http or https can be fetched", code="not_http", field="url"
        )
    described = {"title": params.title, "dated": params.dated}
    facts = CatalogueFacts(fingerprint=params.fingerprint, part=params.part, **described)
    item = Item(source=params.source, url=params.url, dataset=_described_dataset(params, ctx), catalogue=facts)
    known = ctx.services.get(SourceRegistry).state(params.source).fingerprint
    if known is not None and known == params.fingerprint and not params.force:
        # By an urgent job that overtook this one.
        ctx.log.info("another job has looked at it meanwhile")
        item = item.evolve(status=Status.UNCHANGED)
    yield item


def _described_dataset(params: SourceParams, ctx: Context) -> Dataset | None:
    """Return the dataset of a file. A pushed file comes with the id only; the catalogue is asked for the rest."""
    dataset = params.dataset
    if dataset is None or dataset.id is None or dataset.title is not None:
        return dataset
    try:
        found = Datagouv.at(ctx.services, ctx.params.get("catalogue")).dataset_description(dataset.id)
    except (Retriable, Fatal) as error:
        ctx.log.warning("the catalogue does not describe its dataset", reason=error.message)
        known = ctx.services.get(IndexAccess).reading.get(params.source)
        if known is None or known.dataset_id != dataset.id:
            return dataset
        return Dataset(id=dataset.id, title=known.dataset_title, organisation=known.organisation)
    return dataset if found is None else describe_dataset(found | {"id": dataset.id})


def remember(item: Item, ctx: Context) -> Item:
    """Record the state of a source, so that it is not fetched again until it changes; report it to the catalogue.

    This is one stage, as another task would cost each file more than the work itself. If the catalogue refuses the
    report, the item fails: the index keeps its document, and the next pass looks at the file again.
    """
    if "news" not in ctx.memo:
        if item.status is Status.UNCHANGED and item.sha256 is None:  # another job has looked at it instead
            return item
        reportable = _is_reportable(item, ctx)
        recorded = _record(item, ctx, reportable=reportable)
        if not (reportable and recorded):
            return item
        # Another attempt only has to report: by then the state no longer shows a change.
        ctx.memo["news"] = recorded
    recorded = ctx.memo["news"]
    if not ctx.services.get(SourceRegistry).is_latest(item.source, ctx.created):
        ctx.log.info("a later look reports to the catalogue instead")
        return item
    _report(item, float(recorded["changed"]), ctx)
    ctx.services.get(SourceRegistry).mark_reported(item.source, ctx.created, recorded["fingerprint"])
    return item


def _unreported(item: Item, error: DatafabError) -> Item:
    """Return an item that could not be recorded or reported; a failure of its own stays the first."""
    if item.status is not Status.FAILED or item.error is None:
        return item.failed(error)
    return item.evolve(error=item.error.evolve(message=f"{item.error.message}; {error.message}"))


def _is_reportable(item: Item, ctx: Context) -> bool:
    """Tell whether an item is to be reported to the catalogue, and the key for that is set."""
    if ctx.services.settings.catalogue_key is None or item.source == _resource_id(item) or _dataset_id(item) is None:
        return False
    if ctx.params.get("catalogue") or ctx.params.get("part") or item.status is Status.SKIPPED:
        return False
    if item.error is not None and item.error.type in OWN_FAILURES:
        return False
    if item.status is not Status.UNCHANGED or ctx.services.get(SourceRegistry).state(item.source).untold:
        return True
    looks = ctx.services.get(SourceRegistry).looks(item.source)
    return bool(looks and looks[0].status == Status.FAILED)


def _resource_id(item: Item) -> str:
    return item.source.removeprefix(SOURCE_PREFIX)


def _dataset_id(item: Item) -> str | None:
    return item.dataset.id if item.dataset else None


def _report(item: Item, changed: float, ctx: Context) -> None:
    """Write the extras of a file's resource into the catalogue.

    Raises:
        Retriable: the catalogue may accept them later.
        Fatal: the catalogue refuses them.
    """
    extras = resource_extras(item, _observe(item, changed, ctx))
    try:
        ctx.services.get(Datagouv).write_extras(_dataset_id(item) or "", _resource_id(item), extras)
    except Retriable as error:
        msg = f"the report to the catalogue failed: {error.message}"
        raise Retriable(msg, delay=error.delay, code="catalogue_untold", field=error.field) from error
    except Fatal as error:
        msg = f"the report to the catalogue failed: {error.message}"
        raise Fatal(msg, code="catalogue_untold", field=error.field) from error


def _observe(item: Item, changed: float, ctx: Context) -> Observation:
    """Return what the report needs besides the item; for a file that was not fetched, only the times."""
    if item.sha256 is None or item.store is None:
        return Observation(at=ctx.created, changed=changed)
    digest, jobs = hashlib.sha1(usedforsecurity=False), ctx.services.jobs
    with ctx.services.store(item.store).open(item.sha256) as file:
        while block := file.read(BLOCK_BYTES):
            ctx.check()
            digest.update(block)
    return Observation(
        at=ctx.created,
        changed=changed,
        sha1=digest.hexdigest(),
        parsed=jobs.stage_span(ctx.job, "analyse") if isinstance(jobs, RedisJobs) else None,
        cors=ctx.services.get(Cors).probe(item.url or ""),
    )


def _record(item: Item, ctx: Context, *, reportable: bool) -> dict[str, Any] | None:
    """Record the state of a source; return what ``mark_reported`` needs, or None if the source was withdrawn meanwhile.

    The fingerprint of a change to report is only recorded after the report.
    """
    seen = item.catalogue
    if seen is None or item.url is None:
        raise Fatal("the item is not a file of a catalogue: its state cannot be recorded", code="missing_catalogue")
    if item.error is not None and item.error.type == "withdrawn":
        withdraw(item, ctx)
        return None
    before = ctx.services.get(SourceRegistry).state(item.source)
    changed = float(before.changed or ctx.created)
    if item.sha256 is not None and item.sha256 != before.sha256:
        changed = ctx.created
    final = item.error is None or not (is_transient(item.error.type) or item.error.type in OWN_FAILURES)
    fingerprint = seen.fingerprint if seen.fingerprint and final else before.fingerprint
    facts = _content_fields(item, seen) | {"changed": f"{changed:.0f}", "catalogue": ctx.params.get("catalogue")}
    facts["login_url"] = item.url if has_login(item.url) else None
    # A report that is pending from an earlier look stays pending.
    pending = reportable or (before.untold is not None and ctx.services.settings.catalogue_key is not None)
    facts |= {"fingerprint": None if pending else fingerprint, "untold": "1" if pending else None}
    look = Look(ctx.created, item.status.value, ctx.job, item.error.type if item.error else None)
    recorded = ctx.services.get(SourceRegistry).record_look(item.source, look, **facts)
    if not recorded:
        ctx.log.info("the source was withdrawn meanwhile")
        ctx.services.get(IndexAccess).writing.delete(item.source, version=round(ctx.created * 1000))
    elif not seen.part:
        ctx.services.get(SourceRegistry).schedule_revisit(
            item.source, ctx.created + revisit_delay(ctx.created - changed)
        )
    if "parts" in facts:
        for part in sorted(_part_names(before.parts) - _part_names(seen.parts)):
            withdrawal.forget(
                ctx.services.get(SourceRegistry),
                ctx.services.get(IndexAccess).writing,
                f"{item.source}/{part}",
                ctx.created,
            )
    return {"changed": changed, "fingerprint": fingerprint} if recorded else None


def _content_fields(item: Item, seen: CatalogueFacts) -> dict[str, str | None]:
    """Return the fields of the state that describe the content; none for a file that was not fetched."""
    if item.sha256 is None or item.url is None:
        return {}
    facts = {"address": url_digest(seen.download or item.url), "sha256": item.sha256, "media_type": item.media_type}
    facts |= {"etag": seen.etag, "modified": seen.modified, "downloads": seen.downloads}
    return facts | ({"parts": seen.parts} if seen.downloads is not None else {})


def _part_names(parts: str | None) -> set[str]:
    return set((parts or "").splitlines())


def to_withdraw(ctx: Context) -> Iterator[Item]:
    """Yield the file to withdraw."""
    yield Item(source=ctx.read_params(WithdrawParams).source)


def withdraw(item: Item, ctx: Context) -> Item:
    """Withdraw a source from the index, with the other files at its URL; jobs that still run on it have no effect."""
    root = Datagouv.at(ctx.services, ctx.params.get("catalogue")).url
    withdrawal.withdraw(
        ctx.services.get(SourceRegistry), ctx.services.get(IndexAccess).writing, root, [item.source], ctx.created
    )
    return item


STAGES = (
    Stage(
        name="catalogue_source",
        params=frozenset(SourceParams.model_fields) | {"catalogue"},
        queue="io",
        expand=catalogue_source,
        provides=frozenset({"url", "dataset", "catalogue"}),
        # A file is withdrawn if its server and this catalogue say that it is gone.
        admin_params=frozenset({"catalogue"}),
    ),
    Stage(
        name="remember",
        params=frozenset({"catalogue", "part", REVISIT_PARAM}),
        queue="io",
        run=remember,
        failed=_unreported,
        requires=frozenset({"url", "catalogue"}),
        wants=frozenset(Status),
        retry=RetryPolicy(retries=9),  # within an hour, in which a catalogue can be restarted
    ),
    Stage(name="to_withdraw", params=frozenset(WithdrawParams.model_fields), queue="io", expand=to_withdraw),
    Stage(name="withdraw", params=frozenset({"catalogue"}), queue="io", run=withdraw, role=Role.ADMIN),
)
