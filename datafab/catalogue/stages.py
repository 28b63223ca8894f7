"""A pass over a udata catalogue such as data.gouv.fr, which enqueues a job for each source that may have changed.

Parameters of a job of the flow ``catalogue``:

| name | holds |
| --- | --- |
| ``url`` | root of the API of another catalogue than that of ``DATAFAB_CATALOGUE_URL`` |
| ``since`` | date, or time, to go back to; default: start of the last pass, less ``DATAFAB_CATALOGUE_OVERLAP`` |
| ``full`` | read the whole catalogue, and withdraw from the index what it no longer has |
| ``export`` | in a full pass: URL of the catalogue's list of resources; default: ``DATAFAB_CATALOGUE_EXPORT`` |
| ``withdraw`` | in a full pass: largest share of the known sources that may be missing; default: 0.2 |
| ``limit`` | stop after this number of changed sources; such a pass does not count as the last one |
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
from datafab.catalogue.dataset import (
    MAX_TITLE_CHARS,
    SOURCE_PREFIX,
    RawResource,
    Resource,
    fingerprint,
    is_fetchable,
    matching_pattern,
    parse_moment,
    usable_resources,
)
from datafab.catalogue.pagination import CataloguePager, pass_horizon
from datafab.catalogue.sourcejobs import enqueue
from datafab.catalogue.sources import SourceRegistry
from datafab.catalogue.withdrawal import withdraw
from datafab.core.backoff import RetryPolicy
from datafab.core.item import CatalogueFacts, Item, Status
from datafab.core.jobs import RedisJobs
from datafab.core.stage import Context, Stage
from datafab.errors import FlowError, Skippable, Wait
from datafab.fetch.session import Fetcher
from datafab.index.access import IndexAccess

#: How far the first pass goes back; the same as in the original.
FIRST_PASS_PERIOD = timedelta(days=1)
#: Longest parameters of a source's job; those of any job are limited to 4 KB.
MAX_PARAMS_BYTES = 3000
#: Delay until a pass that waits for the backlog of jobs looks at it again.
BACKLOG_POLL_SECONDS = 30.0
#: Resources of an exported list that are processed together.
CHUNK_ROWS = 1000
#: Priorities of the jobs of new sources, which have no complete look yet, and of known ones (0 is the most urgent).
NEW_PRIORITY, KNOWN_PRIORITY = 6, 9
#: Number of sources that may always be missing, whatever their share.
TOLERATED_MISSING = 100
#: How much older than the catalogue an exported list may be. A source seen since then is not missing, one withdrawn
#: since then is gone, and a change since then is left to the next pass.
MAX_EXPORT_AGE_SECONDS = 48 * 3600.0


class PassParams(BaseModel):
    """Parameters of the flow ``catalogue``; others are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    url: str | None = Field(default=None, min_length=1)
    since: str | None = None
    limit: int | None = Field(default=None, ge=1)
    full: bool = False
    export: str | None = Field(default=None, min_length=1)
    withdraw: float = Field(default=0.2, ge=0, le=1)


@dataclass(slots=True)
class _CataloguePass:
    """One attempt of a pass. Its position is saved whenever what was read so far is enqueued."""

    ctx: Context
    params: PassParams
    #: root of the catalogue's API
    root: str
    #: of URLs that are excluded
    patterns: tuple[str, ...]
    #: saved position, where the next attempt continues
    notes: dict[str, Any]

    def run(self) -> None:
        """Read the catalogue, and enqueue the sources that may have changed."""
        export = self._export_url()
        self._wait_for_backlog()
        for found, position in self._read_pages() if export is None else self._read_export(export):
            self._enqueue_changed(found)
            self.notes |= position | {"pages": self.notes["pages"] + 1}
            self.ctx.memo["pass"] = self.notes
            self.ctx.progress(self.notes["pages"], None, "pages")
            if self._limit_reached:
                self.notes["whole"] = False
                break
            self._wait_for_backlog()
        left_out = ", ".join(f"{count} {why}" for why, count in sorted(self.notes["left_out"].items()))
        self.ctx.log.info(
            "read", pages=self.notes["pages"], changed=self.notes["found"], left_out=left_out or "nothing"
        )

    def _export_url(self) -> str | None:
        """Return the URL of the exported list to read; None: read the pages of the API."""
        if not self.params.full:
            return None
        return self.params.export or (None if self.params.url else self.ctx.services.settings.catalogue_export)

    @property
    def _limit_reached(self) -> bool:
        """Whether the limit of changed sources is reached."""
        return self.params.limit is not None and self.notes["found"] >= self.params.limit

    def _wait_for_backlog(self) -> None:
        """Wait while there are too many jobs in Redis."""
        self.ctx.check()
        jobs = self.ctx.services.jobs
        waiting = jobs.count_admitted() if isinstance(jobs, RedisJobs) else 0
        if waiting >= self.ctx.services.settings.catalogue_backlog:
            raise Wait(
                f"waiting while {waiting} jobs have not ended (DATAFAB_CATALOGUE_BACKLOG)",
                delay=BACKLOG_POLL_SECONDS,
                looked=False,
            )

    def _read_pages(self) -> Iterator[tuple[list[RawResource], dict[str, Any]]]:
        """Yield the resources on each page of the API, with the position after it."""
        horizon, catalogue = self.notes["until"], Datagouv.at(self.ctx.services, self.params.url)
        pager = CataloguePager(horizon and parse_moment(horizon), self.notes.get("walk"))
        while not pager.finished:
            found = [each for dataset in pager.accept(catalogue.page(pager.url)) for each in usable_resources(dataset)]
            yield found, {"walk": pager.state()}

    def _read_export(self, url: str) -> Iterator[tuple[list[RawResource], dict[str, Any]]]:
        """Yield chunks of the exported list of resources, with the position after each."""
        store = self.ctx.services.store(self.ctx.services.settings.store)
        if "list" not in self.notes:
            fetched = self.ctx.services.get(Fetcher).fetch(url, store, transform=export.condense, accept_html=False)
            if fetched.sha256 is None:
                raise fetched.error("DATAFAB_CATALOGUE_EXPORT" if self.params.export is None else "export")
            self.notes["list"] = fetched.sha256
        done = self.notes.get("rows", 0)
        with store.open(self.notes["list"]) as lines:
            rows = export.read_condensed(islice(lines, done, None))
            while chunk := list(islice(rows, CHUNK_ROWS)):
                done += len(chunk)
                yield chunk, {"rows": done}

    def _enqueue_changed(self, found: list[RawResource]) -> None:
        """Enqueue the resources that may have changed."""
        wanted = {f"{SOURCE_PREFIX}{str(raw[1]['id']).strip()}": raw for raw in found if self._is_wanted(raw[1])}
        created = self.ctx.created
        # An exported list may be older than what another pass has read from the pages.
        unless = {"unless_since": created - MAX_EXPORT_AGE_SECONDS} if "list" in self.notes else {}
        known = self.ctx.services.get(SourceRegistry).mark_seen(self.root, list(wanted), created, **unless)
        now = {name: fingerprint(resource) for name, (_, resource) in wanted.items()}
        changed = [name for name in wanted if name in known and now[name] != known[name]]
        if len(changed) < len(wanted):
            self._count_left_out("unchanged", len(wanted) - len(changed))
        for name in changed:
            if self._limit_reached:
                return
            self._enqueue(
                name, Resource.parse(*wanted[name]), now[name], NEW_PRIORITY if known[name] is None else KNOWN_PRIORITY
            )

    def _is_wanted(self, resource: Mapping[str, Any]) -> bool:
        url = resource.get("url")
        if not isinstance(url, str) or not is_fetchable(url.strip()):
            self._count_left_out("not http")
        elif matching_pattern(url, self.patterns):
            self._count_left_out("excluded")
        else:
            return True
        return False

    def _count_left_out(self, why: str, count: int = 1) -> None:
        self.notes["left_out"][why] = self.notes["left_out"].get(why, 0) + count

    def _enqueue(self, source: str, resource: Resource, fingerprint: str, priority: int) -> None:
        params: dict[str, Any] = {"url": resource.url, "source": source, "fingerprint": fingerprint}
        params |= {"dataset": resource.dataset.dump(), "priority": priority}
        dated = resource.last_modified and resource.last_modified.isoformat()
        optional = {"title": resource.title, "format": resource.format, "dated": dated, "catalogue": self.params.url}
        params |= {name: value and value[:MAX_TITLE_CHARS] for name, value in optional.items() if value is not None}
        if len(json.dumps(params, ensure_ascii=False).encode()) > MAX_PARAMS_BYTES:
            self._count_left_out("too long an address")
            return
        services = self.ctx.services
        enqueue(services.jobs, services.get(SourceRegistry), self.ctx.enqueue, params, self.ctx.created)
        self.notes["found"] += 1


def discover(ctx: Context) -> Iterator[Item]:
    """Read a catalogue, and enqueue a job for each file that may have changed; yield one item for the pass."""
    params = ctx.read_params(PassParams)
    root = Datagouv.at(ctx.services, params.url).url
    notes = ctx.memo.get("pass") or _start_notes(ctx, params, root)
    _CataloguePass(ctx, params, root, ctx.services.settings.catalogue_exclude, notes).run()
    as_of = ctx.created - (MAX_EXPORT_AGE_SECONDS if "list" in notes else 0)
    if params.full and notes["whole"]:
        _withdraw(ctx, root, params.withdraw, as_of)
    facts = CatalogueFacts(dated=datetime.fromtimestamp(as_of, UTC))
    item = Item(source=f"catalogue:{root}", url=root, catalogue=facts)
    why = "the pass did not read back to the start of the last one: the next pass goes back as far"
    yield item if notes["whole"] else item.failed(Skippable(why, code="not_whole"), Status.SKIPPED)


def _start_notes(ctx: Context, params: PassParams, root: str) -> dict[str, Any]:
    """Return the notes of a new pass: its horizon, and whether that is at least the start of the last pass."""
    since = parse_moment(params.since)
    if params.since is not None and since is None:
        msg = f"since={params.since!r}: give a date such as 2026-11-20 or 2026-11-20T08:00:00+01:00"
        raise FlowError(msg, code="bad_request", field="since")
    known = ctx.services.get(SourceRegistry).cursor(root)
    cursor = None if known is None else datetime.fromtimestamp(known, UTC)
    overlap = timedelta(hours=ctx.services.settings.catalogue_overlap)
    first = datetime.fromtimestamp(ctx.created, UTC) - FIRST_PASS_PERIOD
    horizon = None if params.full else since or pass_horizon(cursor, overlap) or first
    whole = horizon is None or cursor is None or horizon <= cursor
    return {"until": horizon and horizon.isoformat(), "whole": whole, "pages": 0, "found": 0, "left_out": {}}


def _withdraw(ctx: Context, root: str, share: float, since: float) -> None:
    """Withdraw the sources that neither this full pass nor a later one has seen."""
    sources = ctx.services.get(SourceRegistry)
    missing, total = sources.count_missing(root, since), sources.count(root)
    if missing > max(TOLERATED_MISSING, share * total):
        msg = f"{missing} of {total} sources are missing from the catalogue: if that is right, pass withdraw=1"
        raise FlowError(msg, code="many_vanished", field="withdraw")
    # As of now: jobs on them may have been created since the pass started. A source that comes back is seen again.
    while (at := ctx.services.clock.now()) and (batch := sources.missing(root, since)):
        ctx.check()
        withdraw(sources, ctx.services.get(IndexAccess).writing, root, batch, at)
    if missing:
        ctx.log.info("withdrawn", sources=missing)


def save_cursor(item: Item, ctx: Context) -> Item:
    """Advance the catalogue's cursor to the start of this pass, or to the earliest date of the exported list."""
    assert item.url is not None
    assert item.catalogue is not None
    assert item.catalogue.dated is not None
    ctx.services.get(SourceRegistry).advance_cursor(item.url, item.catalogue.dated.timestamp())
    return item


STAGES = (
    # Retries of a whole pass, which may read hundreds of pages and take hours.
    Stage(
        name="discover",
        params=frozenset(PassParams.model_fields),
        queue="io",
        expand=discover,
        provides=frozenset({"url", "catalogue"}),
        retry=RetryPolicy(retries=9),
        # These decide which documents are withdrawn: those missing from a list, or reported as deleted by a catalogue.
        admin_params=frozenset({"export", "url", "withdraw"}),
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
