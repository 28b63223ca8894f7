"""Check and fetch: whether a file has changed, asked of link-proxy where there is one, and its bytes.

link-proxy fetches a file itself, keeps it, and tells whoever subscribed: that is a hint (``/hooks/link-proxy``) upon
which the job looks, and without one it looks from time to time. Where link-proxy is away, cannot or may not fetch, the
file is fetched from its own address.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence

from datafab.clients.fetch import Fetched
from datafab.clients.refusal import shown
from datafab.clients.sources import Facts, address
from datafab.domain.catalogue import direct
from datafab.domain.filename import filename, media_type
from datafab.domain.linkproxy import Check, Download, Outcome, downloads
from datafab.domain.payload import CatalogueFacts, Item, Status
from datafab.errors import Fatal, Retriable, Wait
from datafab.stage import Context, Stage

#: Seconds until link-proxy is asked for the first time, the factor by which the next waits grow, and the longest.
FIRST, FACTOR, LONGEST = 2.0, 2.0, 600.0
#: Seconds that a file waits for link-proxy; then it is fetched without.
ENOUGH = 6 * 3600.0
#: Failures of link-proxy in a row after which a file is fetched without.
MAX_AWAY = 3
#: Of several files at one address the first by name of the first of these types is the source's own.
TYPES = ("csv", "xls")


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
            raise Wait(error.message, delay=_delay(away - 1), code=error.code) from error
        ctx.log.warning("fetched without link-proxy", reason=error.message)
        done = item
    if "link" in ctx.memo:
        ctx.services.sources.leave_link(ctx.memo["link"], ctx.job)
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
    ctx.services.sources.await_link(link, ctx.job)
    found = ctx.services.linkproxy.latest(link)
    if ctx.memo.get("away"):
        ctx.memo["away"] = 0
    latest, before = Check.of(found or {}), Check.of(ctx.memo["before"])
    if latest is None or not latest.after(before) or latest.outcome is Outcome.WAIT:
        if time.time() - ctx.memo["since"] > ENOUGH:
            raise Fatal(f"{url}: link-proxy has not checked it for {ENOUGH:.0f} s", code="linkproxy_slow", field=url)
        looks = ctx.memo["looks"] = ctx.memo.get("looks", 0) + 1
        raise Wait("link-proxy has not checked it yet", delay=_delay(looks - 1))
    if latest.outcome is Outcome.DIRECT:
        ctx.log.info("fetched without link-proxy", reason=latest.reason)
        return item
    ctx.log.info(latest.reason)
    return _downloaded(item, downloads(ctx.services.linkproxy.link(link) or {}), ctx)


def _submitted(url: str, ctx: Context) -> str:
    """Return the link of a URL that was submitted; the memo has its latest check before that."""
    memo = ctx.memo
    if "before" not in memo:
        known = ctx.services.linkproxy.find(url)
        memo["since"] = time.time()
        memo["before"] = (ctx.services.linkproxy.latest(known) if known else None) or {}
    if "link" not in memo:
        # The catalogue says that it has changed: that link-proxy has looked some days ago is no answer.
        memo["link"] = ctx.services.linkproxy.submit(url, no_cache=True)
    return str(memo["link"])


def _downloaded(item: Item, found: Sequence[Download], ctx: Context) -> Item:
    """Return the item with the download that is to be fetched; the other files of its address get jobs of their own."""
    if not found:
        ctx.log.info("fetched without link-proxy", reason="it keeps nothing of this file")
        return item
    facts = item.catalogue or CatalogueFacts()
    version = _digest(sorted(f"{each.name} {each.type} {each.version}" for each in found))
    known = ctx.services.sources.facts(item.source)
    facts = facts.evolve(downloads=version, parts=known.parts)
    item = item.evolve(catalogue=facts)
    if known.downloads == version:
        kept = _kept(item, known, ctx)
        if kept is not None:
            return kept
    own = min(found, key=_rank)
    parts = dict(_parts(item, [each for each in found if each is not own]))
    for source, other in parts.items():
        params = {"source": source, "url": other.url, "fingerprint": _digest([other.version]), "part": True}
        params |= {"priority": ctx.params.get("priority", 0)}
        params |= {"dataset": item.dataset.dump()} if item.dataset else {}
        if ctx.services.sources.facts(source).fingerprint != params["fingerprint"]:
            key = f"source:{source.removeprefix('datagouv:')}:{params['fingerprint']}"
            ctx.enqueue("source", params, key)
    names = "\n".join(source.removeprefix(f"{item.source}/") for source in parts)
    return item.evolve(catalogue=facts.evolve(download=own.url, parts=names or None))


def _rank(one: Download) -> tuple[int, str]:
    """Order files so that it is the same one each time that is the source's own."""
    return TYPES.index(one.type) if one.type in TYPES else len(TYPES), one.name or ""


def _parts(item: Item, found: Sequence[Download]) -> Iterator[tuple[str, Download]]:
    """Yield files with sources of their own, named after them; where names repeat, the later ones are numbered."""
    seen: dict[str, int] = {}
    for each in sorted(found, key=lambda one: (one.name or "", one.type or "")):
        name = " ".join((each.name or each.type or "file").split())
        seen[name] = seen.get(name, 0) + 1
        yield f"{item.source}/{name}" + (f"/{seen[name]}" if seen[name] > 1 else ""), each


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
    """Fetch a file into the store, unless its server says that it is the same as the last time."""
    if item.url is None:
        raise Fatal("an item without a URL cannot be fetched", code="missing_url", field="url")
    facts = item.catalogue or CatalogueFacts()
    url = facts.download or item.url
    known = ctx.services.sources.facts(item.source)
    kept = _kept(item, known, ctx)
    headers = {}
    if kept is not None and known.address == address(url):
        conditions = {"If-None-Match": known.etag, "If-Modified-Since": known.modified}
        headers = {name: value for name, value in conditions.items() if value}
    root = ctx.services.settings.store
    fetched = ctx.services.fetcher.fetch(url, ctx.services.store(root), html=False, headers=headers)
    if fetched.refusal is not None and facts.download:
        # Such as a private address: that link-proxy is a neighbour does not make what it names one.
        ctx.log.warning("fetched without link-proxy", reason=fetched.refusal.message)
        return fetch(item.evolve(catalogue=facts.evolve(download=None, downloads=None)), ctx)
    if kept is not None and headers and fetched.refusal is not None and fetched.refusal.code == "http_304":
        return kept.evolve(catalogue=facts.evolve(etag=known.etag, modified=known.modified))
    if fetched.sha256 is None:
        raise fetched.error(shown(fetched.url))
    facts = facts.evolve(etag=_header(fetched, "etag"), modified=_header(fetched, "last-modified"))
    return item.evolve(
        store=root,
        sha256=fetched.sha256,
        size=fetched.size,
        media_type=media_type(fetched.headers),
        filename=filename(fetched.headers, fetched.url),
        catalogue=facts,
        status=Status.UNCHANGED if fetched.sha256 == known.sha256 else Status.OK,
    )


def _header(fetched: Fetched, name: str) -> str | None:
    """Return a header that can be sent back as it came; None: there is none."""
    value = fetched.header(name)
    return value if value and value.isascii() and value.isprintable() else None


STAGES = (
    Stage(
        name="check", queue="io", run=check, requires=frozenset({"url", "catalogue"}), provides=frozenset({"catalogue"})
    ),
    Stage(
        name="fetch",
        queue="io",
        run=fetch,
        requires=frozenset({"url"}),
        provides=frozenset({"store", "sha256", "size", "media_type", "filename"}),
    ),
)
