"""Check and fetch: whether a file has changed, asked of link-proxy where there is one, and its bytes.

link-proxy fetches a file itself, keeps it, and tells whoever subscribed: that is a hint (``/hooks/link-proxy``) upon
which the job looks, and without one it looks from time to time. Where link-proxy is away, cannot or may not fetch, the
file is fetched from its own address.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import PurePosixPath

from datafab.catalogue.datagouv import Datagouv
from datafab.catalogue.dataset import direct, fetchable, same
from datafab.catalogue.linkproxy import LinkProxy
from datafab.catalogue.linkproxy_checks import Check, Download, Outcome, downloads, parts_of, rank
from datafab.catalogue.rate_limit import Turns
from datafab.catalogue.sourcejobs import enqueue
from datafab.catalogue.sources import Facts, Sources, address
from datafab.core.backoff import retry_after
from datafab.core.item import CatalogueFacts, Item, Status
from datafab.core.stage import Context, Stage
from datafab.errors import Fatal, Retriable, Skippable, Wait
from datafab.fetch.filename import filename, media_type
from datafab.fetch.result import FetchResult
from datafab.fetch.session import Fetcher
from datafab.urls import url_parts, without_credentials

#: Seconds until link-proxy is asked for the first time, the factor by which the next waits grow, and the longest.
FIRST, FACTOR, LONGEST = 2.0, 2.0, 600.0
#: Seconds that a file waits for link-proxy; then it is fetched without.
ENOUGH = 6 * 3600.0
#: Failures of link-proxy in a row after which a file is fetched without.
MAX_AWAY = 3
#: Answers after which a server is left alone, for as long as it says; of the first of them so many seconds if it does
#: not, and for so often.
RESTS = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
PAUSE, MAX_REFUSED = 60.0, 5
#: Answers after which the catalogue is asked where a file lies by now.
GONE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})


def check(item: Item, ctx: Context) -> Item:
    """Have link-proxy look at a file, where there is one and it may; wait until it has."""
    if item.url is None or ctx.services.settings.linkproxy_url is None or direct(item.url):
        return item
    if item.catalogue is not None and item.catalogue.part:
        return item
    try:
        done = _looked(item, item.url, ctx)
    except (Retriable, Fatal) as error:
        away = ctx.memo["away"] = ctx.memo.get("away", 0) + 1
        if "link" in ctx.memo and isinstance(error, Retriable) and away < MAX_AWAY:
            raise Wait(error.message, delay=_delay(away - 1), looked=False, code=error.code) from error
        ctx.log.warning("fetched without link-proxy", reason=error.message)
        done = item
    if "link" in ctx.memo:
        ctx.services.get(Sources).leave_link(ctx.memo["link"], ctx.job)
    return done


def _delay(looks: int) -> float:
    return min(FIRST * FACTOR ** min(looks, 32), LONGEST)


def _looked(item: Item, url: str, ctx: Context) -> Item:
    """Return the item with what came of link-proxy's check.

    Raises:
        Wait: it is not over.
    """
    link = _submitted(url, ctx)
    # Before the look: whatever ends after it is told to a job that is known to wait.
    ctx.services.get(Sources).await_link(link, ctx.job)
    found = ctx.services.get(LinkProxy).latest(link)
    if ctx.memo.get("away"):
        ctx.memo["away"] = 0
    latest, before = Check.of(found or {}), Check.of(ctx.memo["before"])
    if latest is None or not latest.after(before) or latest.outcome is Outcome.WAIT:
        if ctx.services.clock.now() - ctx.memo["since"] > ENOUGH:
            raise Fatal(f"{url}: link-proxy has not checked it for {ENOUGH:.0f} s", code="linkproxy_slow", field=url)
        looks = ctx.memo["looks"] = ctx.memo.get("looks", 0) + 1
        raise Wait("link-proxy has not checked it yet", delay=_delay(looks - 1))
    if latest.outcome is Outcome.DIRECT:
        ctx.log.info("fetched without link-proxy", reason=latest.reason)
        return item
    ctx.log.info(latest.reason)
    return _downloaded(item, downloads(ctx.services.get(LinkProxy).link(link) or {}), ctx)


def _submitted(url: str, ctx: Context) -> str:
    """Return the link of a URL that was submitted; the memo has its latest check before that."""
    memo = ctx.memo
    if "before" not in memo:
        known = ctx.services.get(LinkProxy).find(url)
        memo["since"] = ctx.services.clock.now()
        memo["before"] = (ctx.services.get(LinkProxy).latest(known) if known else None) or {}
    if "link" not in memo:
        # Where the catalogue says that it has changed, that link-proxy has looked some days ago is no answer.
        memo["link"] = ctx.services.get(LinkProxy).submit(url, no_cache=not ctx.params.get("again"))
    return str(memo["link"])


def _downloaded(item: Item, found: Sequence[Download], ctx: Context) -> Item:
    """Return the item with the download that is to be fetched; the other files of its address get jobs of their own."""
    if not found:
        ctx.log.info("fetched without link-proxy", reason="it keeps nothing of this file")
        return item
    facts = item.catalogue or CatalogueFacts()
    version = _digest(sorted(f"{each.name} {each.type} {each.version}" for each in found))
    known = ctx.services.get(Sources).facts(item.source)
    facts = facts.evolve(downloads=version, parts=known.parts)
    item = item.evolve(catalogue=facts)
    own = min(found, key=rank)
    parts = dict(parts_of(item.source, [each for each in found if each is not own]))
    for source, other in parts.items():
        params = {"source": source, "url": other.url, "fingerprint": _digest([other.version]), "part": True}
        params |= {"priority": ctx.params.get("priority", 0)}
        params |= {"dataset": item.dataset.dump()} if item.dataset else {}
        if ctx.services.get(Sources).facts(source).fingerprint != params["fingerprint"]:
            # Also when nothing is new: the last job on it may have come to no end.
            enqueue(ctx.services.jobs, ctx.services.get(Sources), ctx.enqueue, params, ctx.created)
    if known.downloads == version and (kept := _kept(item, known, ctx)):
        return kept
    names = "\n".join(source.removeprefix(f"{item.source}/") for source in parts)
    return item.evolve(catalogue=facts.evolve(download=own.url, parts=names or None))


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode(errors="surrogatepass")).hexdigest()[:32]


def _kept(item: Item, known: Facts, ctx: Context) -> Item | None:
    """Return the item with the content that it had the last time; None: that is no longer there."""
    root = ctx.services.settings.store
    size = ctx.services.store(root).size(known.sha256) if known.sha256 else None
    if size is None:
        return None
    name = filename({}, item.url or "")
    kept = item.evolve(store=root, sha256=known.sha256, size=size, media_type=known.media_type, filename=name)
    return kept.evolve(status=Status.UNCHANGED)


def fetch(item: Item, ctx: Context) -> Item:
    """Fetch a file into the store, unless it is the same as the last time."""
    if item.url is None:
        raise Fatal("an item without a URL cannot be fetched", code="missing_url", field="url")
    # So that whoever waits for a turn there does not begin at the old address again, and with another turn.
    item = item.evolve(url=ctx.memo.get("moved", item.url))
    facts = item.catalogue or CatalogueFacts()
    url = facts.download or str(item.url)
    known = ctx.services.get(Sources).facts(item.source)
    kept = _kept(item, known, ctx)
    if kept is not None and known.address != address(url):
        kept = None
    if not facts.download:
        _take_turn(url, ctx)
    fetched = _asked(item, url, known if kept else Facts(), kept.size if kept else None, ctx)
    if kept is not None and fetched.refusal is not None and fetched.refusal.code == "http_304":
        return kept.evolve(catalogue=facts.evolve(etag=known.etag, modified=known.modified))
    if fetched.refusal is not None and facts.download:
        # Such as a private address: that link-proxy is a neighbour does not make what it names one.
        ctx.log.warning("fetched without link-proxy", reason=fetched.refusal.message)
        return fetch(item.evolve(catalogue=facts.evolve(download=None, downloads=None)), ctx)
    if fetched.sha256 is None:
        moved = _moved(item, fetched, ctx)
        if moved is not None:
            return fetch(moved, ctx)
        raise fetched.error(without_credentials(fetched.url), transient=("firewall",))
    facts = facts.evolve(etag=_header(fetched, "etag"), modified=_header(fetched, "last-modified"))
    status = Status.UNCHANGED if fetched.sha256 == known.sha256 else Status.OK
    if ctx.params.get("again") and status is Status.OK and facts.modified:
        # It has changed since the catalogue gave a date, or since its server gave the one that was noted.
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


def _take_turn(url: str, ctx: Context) -> None:
    """Wait for this file's turn at its server; it has one for each host."""
    turn = ctx.memo.get("turn")
    if turn is None:
        urgent = not ctx.params.get("priority", 0)
        turn = ctx.memo["turn"] = ctx.services.clock.now() + ctx.services.get(Turns).take(url, urgent=urgent)
    left = turn - ctx.services.clock.now()
    if left > 0:
        raise Wait("its server has others to serve first", delay=left, looked=False, code="turn")


def _asked(item: Item, url: str, known: Facts, size: int | None, ctx: Context) -> FetchResult:
    """Ask for a file, for what is known of it only if that has changed; let a server rest that asks for it."""
    conditions = {"If-None-Match": known.etag, "If-Modified-Since": known.modified}
    fetched = ctx.services.get(Fetcher).fetch(
        url,
        ctx.services.store(ctx.services.settings.store),
        accept_html=False,
        headers={name: value for name, value in conditions.items() if value},
        is_known=lambda headers: same(known.etag, known.modified, size, headers),
        max_bytes=_limit(item, ctx),
    )
    if fetched.status not in RESTS:
        return fetched
    pause = retry_after(fetched.header("retry-after"), ctx.services.clock.utc())
    if pause is None and fetched.status != HTTPStatus.TOO_MANY_REQUESTS:
        return fetched
    ctx.services.get(Turns).rest(url, PAUSE if pause is None else pause)
    refused = ctx.memo["refused"] = ctx.memo.get("refused", 0) + 1
    ctx.memo["turn"] = None
    if fetched.status == HTTPStatus.TOO_MANY_REQUESTS and refused <= MAX_REFUSED:
        delay = ctx.services.get(Turns).take(url, urgent=True)
        raise Wait(
            f"{without_credentials(url)}: its server asks for a pause", delay=delay, looked=False, code="host_rests"
        )
    return fetched


def _limit(item: Item, ctx: Context) -> int | None:
    """Return how large a file of its format may be."""
    settings = ctx.services.settings
    if item.source.removeprefix("datagouv:") in settings.catalogue_large:
        return None
    suffix = PurePosixPath(url_parts(item.url).path).suffix.removeprefix(".")
    return settings.catalogue_largest.get(str(ctx.params.get("format") or suffix).lower())


def _moved(item: Item, fetched: FetchResult, ctx: Context) -> Item | None:
    """Return the item at the address that the catalogue has for it by now, where it is gone from its own.

    Raises:
        Skippable: the catalogue has it no longer.
    """
    name = item.source.removeprefix("datagouv:")
    if fetched.status not in GONE or name == item.source or (item.catalogue and item.catalogue.part):
        return None
    try:
        url = Datagouv.at(ctx.services, ctx.params.get("catalogue")).address(name)
    except (Retriable, Fatal) as error:
        ctx.log.warning("the catalogue does not say where it is now", reason=error.message)
        return None
    if url is None:
        raise Skippable(
            f"{without_credentials(fetched.url)}: gone, and the catalogue has it no longer", code="withdrawn"
        )
    if not fetchable(url) or url == item.url:
        return None
    ctx.log.info("it has moved", to=without_credentials(url))
    ctx.memo["moved"], ctx.memo["turn"] = url, None
    return item.evolve(url=url)


def _header(fetched: FetchResult, name: str) -> str | None:
    """Return a header that can be sent back as it came; None: there is none."""
    value = fetched.header(name)
    return value if value and value.isascii() and value.isprintable() else None


STAGES = (
    Stage(
        name="check",
        params=frozenset({"again", "catalogue", "format", "priority"}),
        queue="io",
        run=check,
        requires=frozenset({"url", "catalogue"}),
        provides=frozenset({"catalogue"}),
    ),
    Stage(
        name="fetch",
        params=frozenset({"again", "catalogue", "format", "priority"}),
        queue="io",
        run=fetch,
        requires=frozenset({"url"}),
        provides=frozenset({"store", "sha256", "size", "media_type", "filename"}),
    ),
)
