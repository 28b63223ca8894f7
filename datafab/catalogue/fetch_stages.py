"""The stages ``check`` and ``fetch``: find out whether a file has changed, and download it.

If a link-proxy is configured, it fetches and keeps the file, and notifies subscribers. Its webhook
(``/hooks/link-proxy``) wakes the job; without one the job polls. If link-proxy is down, or cannot or may not fetch the
file, it is fetched from its own URL.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import PurePosixPath

from datafab.catalogue.datagouv import Datagouv
from datafab.catalogue.dataset import SOURCE_PREFIX, bypasses_linkproxy, is_fetchable, is_unchanged
from datafab.catalogue.linkproxy import LinkProxy
from datafab.catalogue.linkproxy_checks import Check, Download, Outcome, download_order, name_parts, parse_downloads
from datafab.catalogue.rate_limit import HostRateLimiter
from datafab.catalogue.revisit import REVISIT_PARAM
from datafab.catalogue.source_state import SourceState, url_digest
from datafab.catalogue.sourcejobs import enqueue
from datafab.catalogue.sources import SourceRegistry
from datafab.core.item import CatalogueFacts, Item, Status
from datafab.core.stage import Context, Stage
from datafab.errors import Fatal, Retriable, Skippable, Wait
from datafab.fetch.filename import filename, media_type
from datafab.fetch.result import FetchResult
from datafab.fetch.session import Fetcher
from datafab.urls import url_parts, without_credentials

#: Delay before link-proxy is polled for the first time, growth of the delay, and its maximum.
FIRST_POLL_SECONDS, POLL_FACTOR, MAX_POLL_SECONDS = 2.0, 2.0, 600.0
#: Time that a file waits for link-proxy's check; then it is fetched directly.
MAX_CHECK_SECONDS = 6 * 3600.0
#: Consecutive failures of link-proxy after which a file is fetched directly.
MAX_OUTAGES = 3
#: Statuses after which nothing is sent to a server for as long as its Retry-After says.
PAUSE_STATUSES = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
#: Pause after a 429 without a Retry-After, and number of 429s after which the file fails.
DEFAULT_PAUSE_SECONDS, MAX_REFUSALS = 60.0, 5
#: Statuses after which the catalogue is asked for the current URL of a file.
GONE_STATUSES = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})


def check(item: Item, ctx: Context) -> Item:
    """Let link-proxy check a file, if it is configured and may fetch the file; wait for the check."""
    if item.url is None or ctx.services.settings.linkproxy_url is None or bypasses_linkproxy(item.url):
        return item
    if item.catalogue is not None and item.catalogue.part:
        return item
    try:
        done = _check_with_linkproxy(item, item.url, ctx)
    except (Retriable, Fatal) as error:
        away = ctx.memo["away"] = ctx.memo.get("away", 0) + 1
        if "link" in ctx.memo and isinstance(error, Retriable) and away < MAX_OUTAGES:
            raise Wait(error.message, delay=_poll_delay(away - 1), looked=False, code=error.code) from error
        ctx.log.warning("fetched without link-proxy", reason=error.message)
        done = item
    if "link" in ctx.memo:
        ctx.services.get(SourceRegistry).remove_waiting_job(ctx.memo["link"], ctx.job)
    return done


def _poll_delay(polls: int) -> float:
    return min(FIRST_POLL_SECONDS * POLL_FACTOR ** min(polls, 32), MAX_POLL_SECONDS)


def _check_with_linkproxy(item: Item, url: str, ctx: Context) -> Item:
    """Return the item with the outcome of link-proxy's check.

    Raises:
        Wait: the check is not finished.
    """
    link = _submit(url, ctx)
    # Before the poll: a check that ends after it notifies this job.
    ctx.services.get(SourceRegistry).add_waiting_job(link, ctx.job)
    found = ctx.services.get(LinkProxy).latest(link)
    if ctx.memo.get("away"):
        ctx.memo["away"] = 0
    latest, before = Check.parse(found or {}), Check.parse(ctx.memo["before"])
    if latest is None or not latest.is_later_than(before) or latest.outcome is Outcome.WAIT:
        if ctx.services.clock.now() - ctx.memo["since"] > MAX_CHECK_SECONDS:
            raise Fatal(
                f"{url}: link-proxy has not checked it within {MAX_CHECK_SECONDS:.0f} s",
                code="linkproxy_slow",
                field=url,
            )
        polls = ctx.memo["looks"] = ctx.memo.get("looks", 0) + 1
        raise Wait("link-proxy has not checked it yet", delay=_poll_delay(polls - 1))
    if latest.outcome is Outcome.DIRECT:
        ctx.log.info("fetched without link-proxy", reason=latest.reason)
        return item
    ctx.log.info(latest.reason)
    return _use_downloads(item, parse_downloads(ctx.services.get(LinkProxy).link(link) or {}), ctx)


def _submit(url: str, ctx: Context) -> str:
    """Submit a URL, once per job, and return its link; the memo holds the latest check before that."""
    memo = ctx.memo
    if "before" not in memo:
        known = ctx.services.get(LinkProxy).find(url)
        memo["since"] = ctx.services.clock.now()
        memo["before"] = (ctx.services.get(LinkProxy).latest(known) if known else None) or {}
    if "link" not in memo:
        # If the catalogue reports a change, a recent check of link-proxy may be older than the change.
        memo["link"] = ctx.services.get(LinkProxy).submit(url, no_cache=not ctx.params.get(REVISIT_PARAM))
    return str(memo["link"])


def _use_downloads(item: Item, found: Sequence[Download], ctx: Context) -> Item:
    """Return the item with the download to fetch; enqueue a job for each other download of its URL."""
    if not found:
        ctx.log.info("fetched without link-proxy", reason="it keeps nothing of this file")
        return item
    facts = item.catalogue or CatalogueFacts()
    version = _digest(sorted(f"{each.name} {each.type} {each.version}" for each in found))
    known = ctx.services.get(SourceRegistry).state(item.source)
    facts = facts.evolve(downloads=version, parts=known.parts)
    item = item.evolve(catalogue=facts)
    own = min(found, key=download_order)
    parts = dict(name_parts(item.source, [each for each in found if each is not own]))
    for source, other in parts.items():
        params = {"source": source, "url": other.url, "fingerprint": _digest([other.version]), "part": True}
        params |= {"priority": ctx.params.get("priority", 0)}
        params |= {"dataset": item.dataset.dump()} if item.dataset else {}
        if ctx.services.get(SourceRegistry).state(source).fingerprint != params["fingerprint"]:
            # Even if nothing has changed: the last job on the part may not have ended.
            enqueue(ctx.services.jobs, ctx.services.get(SourceRegistry), ctx.enqueue, params, ctx.created)
    if known.downloads == version and (kept := _unchanged_item(item, known, ctx)):
        return kept
    names = "\n".join(source.removeprefix(f"{item.source}/") for source in parts)
    return item.evolve(catalogue=facts.evolve(download=own.url, parts=names or None))


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode(errors="surrogatepass")).hexdigest()[:32]


def _unchanged_item(item: Item, known: SourceState, ctx: Context) -> Item | None:
    """Return the item with the content of the last look; None if the store no longer has it."""
    root = ctx.services.settings.store
    size = ctx.services.store(root).size(known.sha256) if known.sha256 else None
    if size is None:
        return None
    name = filename({}, item.url or "")
    kept = item.evolve(store=root, sha256=known.sha256, size=size, media_type=known.media_type, filename=name)
    return kept.evolve(status=Status.UNCHANGED)


def fetch(item: Item, ctx: Context) -> Item:
    """Fetch a file into the store, unless it has not changed since the last look."""
    if item.url is None:
        raise Fatal("the item has no URL: a file cannot be fetched without one", code="missing_url", field="url")
    # A job that waited for the rate limit of the new host must not start at the old URL again.
    item = item.evolve(url=ctx.memo.get("moved", item.url))
    facts = item.catalogue or CatalogueFacts()
    url = facts.download or str(item.url)
    known = ctx.services.get(SourceRegistry).state(item.source)
    kept = _unchanged_item(item, known, ctx)
    if kept is not None and known.address != url_digest(url):
        kept = None
    if not facts.download:
        _wait_for_rate_limit(url, ctx)
    fetched = _request(item, url, known if kept else SourceState(), kept.size if kept else None, ctx)
    if kept is not None and fetched.refusal is not None and fetched.refusal.code == "http_304":
        return kept.evolve(catalogue=facts.evolve(etag=known.etag, modified=known.modified))
    if fetched.refusal is not None and facts.download:
        # E.g. a private address: link-proxy may be trusted, the URLs of its downloads are not.
        ctx.log.warning("fetched without link-proxy", reason=fetched.refusal.message)
        return fetch(item.evolve(catalogue=facts.evolve(download=None, downloads=None)), ctx)
    if fetched.sha256 is None:
        moved = _relocate(item, fetched, ctx)
        if moved is not None:
            return fetch(moved, ctx)
        raise fetched.error(without_credentials(fetched.url), transient=("firewall",))
    facts = facts.evolve(
        etag=_resendable_header(fetched, "etag"), modified=_resendable_header(fetched, "last-modified")
    )
    status = Status.UNCHANGED if fetched.sha256 == known.sha256 else Status.OK
    if ctx.params.get(REVISIT_PARAM) and status is Status.OK and facts.modified:
        # The file has changed since the catalogue, or its server, gave the recorded date.
        facts = facts.evolve(dated=None)
    return item.evolve(
        store=ctx.services.settings.store,
        sha256=fetched.sha256,
        size=fetched.size,
        media_type=media_type(fetched.headers),
        filename=filename(fetched.headers, fetched.url),
        catalogue=facts,
        status=status,
    )


def _wait_for_rate_limit(url: str, ctx: Context) -> None:
    """Wait until the rate limit of the server allows this request."""
    slot = ctx.memo.get("turn")
    if slot is None:
        urgent = not ctx.params.get("priority", 0)
        slot = ctx.memo["turn"] = ctx.services.clock.now() + ctx.services.get(HostRateLimiter).reserve(
            url, urgent=urgent
        )
    left = slot - ctx.services.clock.now()
    if left > 0:
        raise Wait("waiting for the rate limit of its server", delay=left, looked=False, code="turn")


def _request(item: Item, url: str, known: SourceState, size: int | None, ctx: Context) -> FetchResult:
    """Fetch a file, conditionally if its state is known; pause requests to a server that asks for it."""
    conditions = {"If-None-Match": known.etag, "If-Modified-Since": known.modified}
    fetched = ctx.services.get(Fetcher).fetch(
        url,
        ctx.services.store(ctx.services.settings.store),
        accept_html=False,
        headers={name: value for name, value in conditions.items() if value},
        is_known=lambda headers: is_unchanged(known.etag, known.modified, size, headers),
        max_bytes=_max_bytes(item, ctx),
    )
    if fetched.status not in PAUSE_STATUSES:
        return fetched
    pause = fetched.pause
    if pause is None and fetched.status != HTTPStatus.TOO_MANY_REQUESTS:
        return fetched
    ctx.services.get(HostRateLimiter).pause(url, DEFAULT_PAUSE_SECONDS if pause is None else pause)
    refused = ctx.memo["refused"] = ctx.memo.get("refused", 0) + 1
    ctx.memo["turn"] = None
    if fetched.status == HTTPStatus.TOO_MANY_REQUESTS and refused <= MAX_REFUSALS:
        delay = ctx.services.get(HostRateLimiter).reserve(url, urgent=True)
        raise Wait(
            f"{without_credentials(url)}: its server asks for a pause", delay=delay, looked=False, code="host_rests"
        )
    return fetched


def _max_bytes(item: Item, ctx: Context) -> int | None:
    """Return the maximum size of a file of this format; None if there is no limit of its own."""
    settings = ctx.services.settings
    if item.source.removeprefix(SOURCE_PREFIX) in settings.catalogue_large:
        return None
    suffix = PurePosixPath(url_parts(item.url).path).suffix.removeprefix(".")
    return settings.catalogue_largest.get(str(ctx.params.get("format") or suffix).lower())


def _relocate(item: Item, fetched: FetchResult, ctx: Context) -> Item | None:
    """Return the item with the catalogue's current URL, if the file is gone from its old one; else None.

    Raises:
        Skippable: the catalogue no longer has the resource.
    """
    name = item.source.removeprefix(SOURCE_PREFIX)
    if fetched.status not in GONE_STATUSES or name == item.source or (item.catalogue and item.catalogue.part):
        return None
    try:
        url = Datagouv.at(ctx.services, ctx.params.get("catalogue")).file_url(name)
    except (Retriable, Fatal) as error:
        ctx.log.warning("the catalogue does not give the current URL of the file", reason=error.message)
        return None
    if url is None:
        raise Skippable(
            f"{without_credentials(fetched.url)}: gone, and the catalogue has it no longer", code="withdrawn"
        )
    if not is_fetchable(url) or url == item.url:
        return None
    ctx.log.info("it has moved", to=without_credentials(url))
    ctx.memo["moved"], ctx.memo["turn"] = url, None
    return item.evolve(url=url)


def _resendable_header(fetched: FetchResult, name: str) -> str | None:
    """Return a header that can be sent back unchanged; None if there is none."""
    value = fetched.header(name)
    return value if value and value.isascii() and value.isprintable() else None


STAGES = (
    Stage(
        name="check",
        params=frozenset({REVISIT_PARAM, "catalogue", "format", "priority"}),
        queue="io",
        run=check,
        requires=frozenset({"url", "catalogue"}),
        provides=frozenset({"catalogue"}),
    ),
    Stage(
        name="fetch",
        params=frozenset({REVISIT_PARAM, "catalogue", "format", "priority"}),
        queue="io",
        run=fetch,
        requires=frozenset({"url"}),
        provides=frozenset({"store", "sha256", "size", "media_type", "filename"}),
    ),
)
