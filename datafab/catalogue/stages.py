"""A pass over a udata catalogue such as data.gouv.fr: what may have changed is enqueued, one job a source.

Parameters of a job of the flow ``catalogue``:

| name | holds |
| --- | --- |
| ``url`` | root of the API of another catalogue than that of ``DATAFAB_CATALOGUE_URL`` |
| ``since`` | a date, or a moment, to go back to; else where the last pass began, less ``DATAFAB_CATALOGUE_OVERLAP`` |
| ``full`` | go back to the beginning, and withdraw from the index what the catalogue no longer has |
| ``export`` | of a full pass: URL of the catalogue's list of resources, else ``DATAFAB_CATALOGUE_EXPORT``, else pages |
| ``withdraw`` | of a full pass: largest share of the known sources that may have vanished, 0.2 unless it is said |
| ``limit`` | stop after so many sources that may have changed; such a pass does not count as the last one |
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from datafab.catalogue import export
from datafab.catalogue.datagouv import Datagouv
from datafab.catalogue.dataset import MAX_TITLE, Raw, Resource, excluded, fetchable, fingerprint, listed, moment
from datafab.catalogue.pagination import Walk, until
from datafab.catalogue.sourcejobs import SOURCE, enqueue
from datafab.catalogue.sources import Sources
from datafab.catalogue.withdrawal import withdraw
from datafab.core.backoff import RetryPolicy
from datafab.core.item import CatalogueFacts, Item, Status
from datafab.core.jobs import RedisJobs
from datafab.core.stage import Context, Stage
from datafab.errors import FlowError, Skippable, Wait
from datafab.fetch.session import Fetcher
from datafab.index.access import IndexAccess

#: How far the first pass goes back, as the original's does.
FIRST = timedelta(days=1)
#: Bytes of a source's parameters, of the 4 KB that those of a job may have.
MAX_PARAMS = 3000
#: Seconds until a pass looks again whether there is room for more jobs.
PAUSE = 30.0
#: Resources of an exported list that are looked at together.
CHUNK = 1000
#: How urgent the jobs of sources are that were never looked at to an end, and those of the others (0 is the most).
NEW, KNOWN = 6, 9
#: So many may vanish from a catalogue, whatever share of it they are.
FEW = 100
#: Seconds by which an exported list may be older than the catalogue: what was seen since has not vanished, what was
#: withdrawn since is not there, and what has changed since is for the next pass.
LAG = 48 * 3600.0


class PassParams(BaseModel):
    """What the flow ``catalogue`` may be given; other parameters are none of its business."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    url: str | None = Field(default=None, min_length=1)
    since: str | None = None
    limit: int | None = Field(default=None, ge=1)
    full: bool = False
    export: str | None = Field(default=None, min_length=1)
    withdraw: float = Field(default=0.2, ge=0, le=1)


@dataclass(slots=True)
class _Pass:
    """A pass in the hands of one attempt. Where it is, is noted when what was read so far is enqueued."""

    ctx: Context
    params: PassParams
    #: root of the catalogue's API
    root: str
    #: of URLs that are left out
    patterns: tuple[str, ...]
    #: where it begins again after an attempt that died, failed or waited
    notes: dict[str, Any]

    def run(self) -> None:
        """Read the catalogue, and enqueue what may have changed."""
        export = self._export()
        self._breathe()
        for found, position in self._pages() if export is None else self._rows(export):
            self._take(found)
            self.notes |= position | {"pages": self.notes["pages"] + 1}
            self.ctx.memo["pass"] = self.notes
            self.ctx.progress(self.notes["pages"], None, "pages")
            if self._full:
                self.notes["whole"] = False
                break
            self._breathe()
        said = ", ".join(f"{count} {why}" for why, count in sorted(self.notes["left_out"].items()))
        self.ctx.log.info("read", pages=self.notes["pages"], changed=self.notes["found"], left_out=said or "nothing")

    def _export(self) -> str | None:
        """Return the URL of the list that is to be read instead of the pages."""
        if not self.params.full:
            return None
        return self.params.export or (None if self.params.url else self.ctx.services.settings.catalogue_export)

    @property
    def _full(self) -> bool:
        """Whether as much was found as was asked for."""
        return self.params.limit is not None and self.notes["found"] >= self.params.limit

    def _breathe(self) -> None:
        """Wait while there are more jobs than it is good to have in Redis."""
        self.ctx.check()
        jobs = self.ctx.services.jobs
        waiting = jobs.count_unended() if isinstance(jobs, RedisJobs) else 0
        if waiting >= self.ctx.services.settings.catalogue_backlog:
            raise Wait(f"{waiting} jobs have not ended (DATAFAB_CATALOGUE_BACKLOG)", delay=PAUSE, looked=False)

    def _pages(self) -> Iterator[tuple[list[Raw], dict[str, Any]]]:
        """Yield what is on each page of the API, and where the next one is."""
        back, catalogue = self.notes["until"], Datagouv.at(self.ctx.services, self.params.url)
        walk = Walk(back and moment(back), self.notes.get("walk"))
        while not walk.over:
            found = [each for dataset in walk.take(catalogue.page(walk.url)) for each in listed(dataset)]
            yield found, {"walk": walk.state()}

    def _rows(self, url: str) -> Iterator[tuple[list[Raw], dict[str, Any]]]:
        """Yield chunks of the catalogue's list of resources, and how many rows that makes."""
        store = self.ctx.services.store(self.ctx.services.settings.store)
        if "list" not in self.notes:
            fetched = self.ctx.services.get(Fetcher).fetch(url, store, transform=export.condensed, accept_html=False)
            if fetched.sha256 is None:
                raise fetched.error("DATAFAB_CATALOGUE_EXPORT" if self.params.export is None else "export")
            self.notes["list"] = fetched.sha256
        done = self.notes.get("rows", 0)
        with store.open(self.notes["list"]) as lines:
            rows = export.listed(islice(lines, done, None))
            while chunk := list(islice(rows, CHUNK)):
                done += len(chunk)
                yield chunk, {"rows": done}

    def _take(self, found: list[Raw]) -> None:
        """Enqueue those that may have changed."""
        wanted = {f"{SOURCE}{str(raw[1]['id']).strip()}": raw for raw in found if self._wanted(raw[1])}
        created = self.ctx.created
        # A list may be older than what the pages have said since.
        but = {"but": created - LAG} if "list" in self.notes else {}
        known = self.ctx.services.get(Sources).saw(self.root, list(wanted), created, **but)
        now = {name: fingerprint(resource) for name, (_, resource) in wanted.items()}
        changed = [name for name in wanted if name in known and now[name] != known[name]]
        if len(changed) < len(wanted):
            self._leave("unchanged", len(wanted) - len(changed))
        for name in changed:
            if self._full:
                return
            self._enqueue(name, Resource.of(*wanted[name]), now[name], NEW if known[name] is None else KNOWN)

    def _wanted(self, resource: Mapping[str, Any]) -> bool:
        url = resource.get("url")
        if not isinstance(url, str) or not fetchable(url.strip()):
            self._leave("not http")
        elif excluded(url, self.patterns):
            self._leave("excluded")
        else:
            return True
        return False

    def _leave(self, why: str, count: int = 1) -> None:
        self.notes["left_out"][why] = self.notes["left_out"].get(why, 0) + count

    def _enqueue(self, source: str, resource: Resource, fingerprint: str, priority: int) -> None:
        params: dict[str, Any] = {"url": resource.url, "source": source, "fingerprint": fingerprint}
        params |= {"dataset": resource.dataset.dump(), "priority": priority}
        dated = resource.last_modified and resource.last_modified.isoformat()
        told = {"title": resource.title, "format": resource.format, "dated": dated, "catalogue": self.params.url}
        params |= {name: value and value[:MAX_TITLE] for name, value in told.items() if value is not None}
        if len(json.dumps(params, ensure_ascii=False).encode()) > MAX_PARAMS:
            self._leave("too long an address")
            return
        services = self.ctx.services
        enqueue(services.jobs, services.get(Sources), self.ctx.enqueue, params, self.ctx.created)
        self.notes["found"] += 1


def discover(ctx: Context) -> Iterator[Item]:
    """Read a catalogue and enqueue a job for each file that may have changed; yield the pass."""
    params = ctx.read_params(PassParams)
    root = Datagouv.at(ctx.services, params.url).url
    notes = ctx.memo.get("pass") or _beginning(ctx, params, root)
    _Pass(ctx, params, root, ctx.services.settings.catalogue_exclude, notes).run()
    as_of = ctx.created - (LAG if "list" in notes else 0)
    if params.full and notes["whole"]:
        _withdraw(ctx, root, params.withdraw, as_of)
    facts = CatalogueFacts(dated=datetime.fromtimestamp(as_of, UTC))
    this = Item(source=f"catalogue:{root}", url=root, catalogue=facts)
    why = "it was not read as far as the last time: the next pass goes back as far"
    yield this if notes["whole"] else this.failed(Skippable(why, code="not_whole"), Status.SKIPPED)


def _beginning(ctx: Context, params: PassParams, root: str) -> dict[str, Any]:
    """Return the notes of a pass that begins: how far it goes back, and whether that is as far as the last one."""
    since = moment(params.since)
    if params.since is not None and since is None:
        msg = f"since={params.since!r}: a date such as 2026-11-20 or 2026-11-20T08:00:00+01:00 is needed"
        raise FlowError(msg, code="bad_request", field="since")
    known = ctx.services.get(Sources).cursor(root)
    cursor = None if known is None else datetime.fromtimestamp(known, UTC)
    overlap = timedelta(hours=ctx.services.settings.catalogue_overlap)
    first = datetime.fromtimestamp(ctx.created, UTC) - FIRST
    back = None if params.full else since or until(cursor, overlap) or first
    whole = back is None or cursor is None or back <= cursor
    return {"until": back and back.isoformat(), "whole": whole, "pages": 0, "found": 0, "left_out": {}}


def _withdraw(ctx: Context, root: str, share: float, since: float) -> None:
    """Take out of the index what a full pass has not seen, nor any other since."""
    sources = ctx.services.get(Sources)
    gone, all_of_them = sources.vanished(root, since), sources.seen(root)
    if gone > max(FEW, share * all_of_them):
        msg = f"{gone} of {all_of_them} sources are no longer in the catalogue: is that so? withdraw=1 lets them go"
        raise FlowError(msg, code="many_vanished", field="withdraw")
    # Jobs on them may have been made since this pass began; those that come later have been seen since.
    while (at := ctx.services.clock.now()) and (some := sources.some_vanished(root, since)):
        ctx.check()
        withdraw(sources, ctx.services.get(IndexAccess).writing, root, some, at)
    if gone:
        ctx.log.info("withdrawn", sources=gone)


def save_cursor(item: Item, ctx: Context) -> Item:
    """Move the catalogue's cursor to where this pass began, or to when the list that it read may have been made."""
    assert item.url is not None
    assert item.catalogue is not None
    assert item.catalogue.dated is not None
    ctx.services.get(Sources).move(item.url, item.catalogue.dated.timestamp())
    return item


STAGES = (
    # Its tries are those of a whole pass, which may be hundreds of pages and of hours.
    Stage(
        name="discover",
        params=frozenset(PassParams.model_fields),
        queue="io",
        expand=discover,
        provides=frozenset({"url", "catalogue"}),
        retry=RetryPolicy(retries=9),
    ),
    Stage(
        name="save_cursor",
        params=frozenset(PassParams.model_fields),
        queue="io",
        run=save_cursor,
        requires=frozenset({"url", "catalogue"}),
        retry=RetryPolicy(retries=9),
    ),
)
