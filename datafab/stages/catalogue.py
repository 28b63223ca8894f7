"""A pass over a udata catalogue such as data.gouv.fr: what may have changed is enqueued, one job a source.

Parameters of a job of the flow ``catalogue``:

| name | holds |
| --- | --- |
| ``url`` | root of the API of another catalogue than that of ``DATAFAB_CATALOGUE_URL`` |
| ``since`` | a date, or a moment, to go back to; else where the last pass began, less ``DATAFAB_CATALOGUE_OVERLAP`` |
| ``limit`` | stop after so many sources that may have changed; such a pass does not count as the last one |
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from datafab.clients.jobs import RedisJobs
from datafab.domain.catalogue import Page, Walk, excluded, fetchable, fingerprint, moment, resources, until
from datafab.domain.job import JobStatus
from datafab.domain.payload import CatalogueFacts, Dataset, Item, Status
from datafab.errors import FlowError, Skippable
from datafab.stage import Context, Outcome, Stage

#: How far the first pass goes back, as the original's does.
FIRST = timedelta(days=1)
#: Bytes of a source's parameters, of the 4 KB that those of a job may have.
MAX_PARAMS = 3000
MAX_TITLE = 200


class PassParams(BaseModel):
    """What the flow ``catalogue`` may be given; other parameters are none of its business."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    url: str | None = Field(default=None, min_length=1)
    since: str | None = None
    limit: int | None = Field(default=None, ge=1)


@dataclass(slots=True)
class _Pass:
    """A pass in the hands of one attempt. What an earlier one has read is kept, page by page, in the store."""

    ctx: Context
    params: PassParams
    #: where it begins again after an attempt that died or failed
    notes: dict[str, Any]
    #: why resources were left out
    left_out: dict[str, int] = field(default_factory=dict)

    def run(self) -> None:
        """Read page after page."""
        ctx = self.ctx
        catalogue = ctx.services.catalogue(self.params.url)
        back = self.notes.get("until")
        walk = Walk(back and moment(back), self.notes.get("walk"))
        while not walk.over and not self.full:
            ctx.check()
            page: Page = catalogue.page(walk.url)
            items = [item for dataset in walk.take(page) for item in self._items(dataset)]
            self._keep(walk, self._changed(items))
            ctx.progress(self.notes["pages"], None, "pages")
        if not walk.settled:
            ctx.log.warning("the catalogue changed too much while it was read: the next pass goes back as far")
        if self.full or not walk.settled:
            self.notes["whole"] = False
        said = ", ".join(f"{count} {why}" for why, count in sorted(self.left_out.items()))
        ctx.log.info("read", pages=self.notes["pages"], changed=self.notes["found"], left_out=said or "nothing")

    @property
    def full(self) -> bool:
        """Whether as much was found as was asked for."""
        return self.params.limit is not None and self.notes["found"] >= self.params.limit

    def items(self) -> Iterator[Item]:
        """Yield what was found, each source once: pages are read again when rows move."""
        store = self.ctx.services.store(self.ctx.services.settings.store)
        seen: set[str] = set()
        for digest in self.notes["lists"]:
            for found in json.loads(store.read_list(digest)):
                if found["source"] not in seen and len(seen) != self.params.limit:
                    seen.add(found["source"])
                    yield Item.model_validate(found)

    def _items(self, dataset: Mapping[str, Any]) -> Iterator[Item]:
        """Yield the resources of a dataset that may be looked at."""
        patterns = self.ctx.services.settings.catalogue_exclude
        for resource in resources(dataset):
            url = resource.url
            if url is None or not fetchable(url):
                self._leave("not http")
            elif excluded(url, patterns):
                self._leave("excluded")
            else:
                title = resource.dataset_title and resource.dataset_title[:MAX_TITLE]
                yield Item(
                    source=f"datagouv:{resource.id}",
                    url=url,
                    dataset=Dataset(id=resource.dataset, title=title),
                    catalogue=CatalogueFacts(fingerprint=fingerprint(resource)),
                )

    def _changed(self, items: list[Item]) -> list[Item]:
        known = self.ctx.services.sources.fingerprints([item.source for item in items])
        changed = [item for item in items if item.catalogue and item.catalogue.fingerprint != known[item.source]]
        if len(changed) < len(items):
            self._leave("unchanged", len(items) - len(changed))
        return changed

    def _leave(self, why: str, count: int = 1) -> None:
        self.left_out[why] = self.left_out.get(why, 0) + count

    def _keep(self, walk: Walk, items: list[Item]) -> None:
        """Keep what a page gave and where the next one is, both or neither."""
        notes = self.notes
        if items:
            store = self.ctx.services.store(self.ctx.services.settings.store)
            text = json.dumps([item.dump() for item in items], ensure_ascii=False)
            notes["lists"].append(store.write_list(text.encode(errors="surrogatepass")))
        notes |= {"walk": walk.state(), "pages": notes["pages"] + 1, "found": notes["found"] + len(items)}
        self.ctx.memo["pass"] = notes


def discover(ctx: Context) -> Iterator[Item]:
    """Read the catalogue's pages, the last updated first; yield the files that may have changed."""
    params = ctx.given(PassParams)
    notes = ctx.memo.get("pass") or _beginning(ctx, params)
    this = _Pass(ctx, params, notes)
    this.run()
    if notes["whole"]:
        ctx.services.sources.began(ctx.services.catalogue(params.url).url, ctx.job, ctx.created)
    yield from this.items()


def _beginning(ctx: Context, params: PassParams) -> dict[str, Any]:
    """Return the notes of a pass that begins: how far it goes back, and whether that is as far as the last one."""
    since = moment(params.since)
    if params.since is not None and since is None:
        msg = f"since={params.since!r}: a date such as 2026-11-20 or 2026-11-20T08:00:00+01:00 is needed"
        raise FlowError(msg, code="bad_request", field="since")
    known = ctx.services.sources.cursor(ctx.services.catalogue(params.url).url)
    cursor = None if known is None else datetime.fromtimestamp(known, UTC)
    overlap = timedelta(hours=ctx.services.settings.catalogue_overlap)
    first = datetime.fromtimestamp(ctx.created, UTC) - FIRST
    back = since or until(cursor, overlap) or first
    whole = cursor is None or back <= cursor
    return {"until": back.isoformat(), "whole": whole, "walk": None, "lists": [], "pages": 0, "found": 0}


def enqueue_source(items: list[Item], ctx: Context) -> Iterator[Outcome]:
    """Enqueue a job for each file, unless there is one for this state of it."""
    for item in items:
        assert item.catalogue is not None
        params = {"url": item.url, "dataset": item.dataset and item.dataset.dump()}
        params |= {"source": item.source, "fingerprint": item.catalogue.fingerprint}
        if len(json.dumps(params)) > MAX_PARAMS:
            yield Skippable("its address is too long for a job", code="too_long", field="url")
        else:
            _enqueue(item, params, ctx)
            yield item


def _enqueue(item: Item, params: dict[str, Any], ctx: Context) -> None:
    key = f"source:{item.source.removeprefix('datagouv:')}:{params['fingerprint']}"
    job = _jobs(ctx).get(ctx.enqueue("source", params, key))
    # One of an earlier pass that came to no end, so that nothing was remembered: the key is taken from it.
    if not job.final or job.status is JobStatus.PARKED or job.created > ctx.created:
        return
    if ctx.services.sources.facts(item.source).fingerprint != params["fingerprint"]:
        _jobs(ctx).release_key(job.id, key)
        ctx.enqueue("source", params, key)


def _jobs(ctx: Context) -> RedisJobs:
    jobs = ctx.services.jobs
    assert isinstance(jobs, RedisJobs), "without a cluster nothing is enqueued"
    return jobs


def ended_pass(ctx: Context) -> Iterator[Item]:
    """Find the pass that has ended; yield it."""
    of = str(ctx.params["of"])
    job = _jobs(ctx).get(of)
    if not job.final:
        raise FlowError(f"job {of} has not ended: there is nothing to conclude yet", code="not_ended", field="of")
    well = job.status is JobStatus.SUCCEEDED and not (job.counts and job.counts.failed)
    url = ctx.services.catalogue(job.params.get("url")).url
    item = Item(source=f"job:{of}", url=url)
    why = f"the pass did not end well ({job.error.message if job.error else job.status}): the next one goes back as far"
    yield item if well else item.failed(Skippable(why, code="pass_failed"), Status.SKIPPED)


def save_cursor(item: Item, ctx: Context) -> Item:
    """Move the catalogue's cursor to where a pass began, if that ended well."""
    well = item.status is Status.OK
    assert item.url is not None
    ctx.services.sources.ended(item.url, str(ctx.params["of"]), well=well)
    return item


STAGES = (
    # Its tries are those of a whole pass, which may be hundreds of pages.
    Stage(
        name="discover",
        queue="io",
        expand=discover,
        provides=frozenset({"url", "dataset", "catalogue"}),
        retries=9,
    ),
    Stage(
        name="enqueue_source", queue="io", run_many=enqueue_source, requires=frozenset({"url", "dataset", "catalogue"})
    ),
    Stage(name="ended_pass", queue="io", expand=ended_pass, provides=frozenset({"url"})),
    Stage(
        name="save_cursor", queue="io", run=save_cursor, requires=frozenset({"url"}), wants=frozenset(Status), retries=9
    ),
)
