"""Push: a tabular file into the datastore of a CKAN resource, as CKAN's DataPusher does it. Up to the file's bytes.

Parameters of a job: ``metadata`` with ``resource_id``, ``ckan_url``, ``ignore_hash`` and ``set_url_type`` (the words of
CKAN's own submit) and ``date_order``, or these five by themselves; the secret ``api_key``. The stages ``ckan_types``,
``datastore`` and ``ckan_hash`` (``datastore_stages.py``) follow. An item that comes from elsewhere with its bytes, such
as a collected one, begins with ``ckan_resource``: ``then = ["analyse", "push"]``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from datafab.analysis.day_order import date_order_preference
from datafab.core.item import CkanFacts, Item, Status
from datafab.core.stage import Context, Stage
from datafab.errors import Fatal, FlowError, Skippable, Wait
from datafab.fetch.filename import filename, media_type
from datafab.fetch.session import Fetcher, Transform
from datafab.push.ckan import Ckan, allowed
from datafab.push.datapusher import wanted
from datafab.push.former_table import Former
from datafab.urls import url_parts, without_credentials

#: Seconds between two looks at a resource that another job is loading.
BUSY = 2.0
#: Seconds after which a resource that is not there is looked for once more: CKAN submits a job before it has stored it.
SLOW = 5.0
BLOCK = 1024**2


def ckan_request(ctx: Context) -> Iterator[Item]:
    """Check what a push was asked for; yield its one item."""
    facts = _asked(ctx)
    yield Item(source=f"ckan:{urlsplit(facts.url).netloc}/{facts.resource}", ckan=facts)


def _asked(ctx: Context) -> CkanFacts:
    """Return which resource a job is to load, if it may."""
    facts = wanted(ctx.params)
    date_order_preference(ctx.params, ctx.services.settings.date_order)
    if not ctx.services.secrets.get(ctx.job, "api_key"):
        raise FlowError("No CKAN API key provided", code="bad_request", field="api_key")
    allowed(facts.url, ctx.services.settings)
    return facts


def ckan_resource(item: Item, ctx: Context) -> Item:
    """Ask CKAN for a resource, once this job is the only one that loads it."""
    facts = item.ckan or _asked(ctx)
    # From here to the job's end: what is fetched first must not be loaded last.
    holder = ctx.services.locks.enter(f"ckan:{facts.resource}", ctx.job)
    if holder is not None:
        raise Wait(f"job {holder} is loading the resource {facts.resource}", delay=BUSY, looked=False)
    resource = _shown(facts, ctx)
    if resource.get("url_type") == "datastore":
        raise Skippable("Dump files are managed with the Datastore API", code="datastore", field="url_type")
    # Where a load was cut short the hash says nothing of what is in the table.
    whole = Former(ctx.services.store(ctx.services.settings.store), facts.url, facts.resource).head() is None
    known = resource.get("hash") if whole and resource.get("datastore_active", True) else None
    # What a stage before found unchanged need not be what CKAN has.
    item = item.evolve(ckan=facts.evolve(hash=known or None), status=Status.OK)
    return item if item.sha256 else _located(item, resource)


def _shown(facts: CkanFacts, ctx: Context) -> dict[str, Any]:
    key = ctx.services.secrets.get(ctx.job, "api_key")
    with Ckan.at(ctx.services, facts.url, key) as ckan:
        try:
            resource = ckan.resource_show(facts.resource)
        except Fatal as error:
            if error.code != "ckan_404" or ctx.memo.get("looked"):
                raise
            ctx.memo["looked"] = True
            raise Wait(error.message, delay=SLOW, code=error.code) from error
        # A public resource is shown whatever the key: better told now than after the download.
        ckan.may_write(facts.resource)
        return resource


def _located(item: Item, resource: Mapping[str, Any]) -> Item:
    """Return the item with the address of the resource's file."""
    assert item.ckan is not None
    url = str(resource.get("url") or "")
    scheme = url_parts(url).scheme.lower()
    if scheme not in {"http", "https", "ftp"}:
        msg = f"{without_credentials(url)!r}: Only http, https, and ftp resources may be fetched."
        raise Fatal(msg, code="not_http", field=without_credentials(url))
    if scheme == "ftp":
        raise Fatal(
            f"{without_credentials(url)}: ftp is not supported yet: publish the file over https", code="unsupported"
        )
    facts = item.ckan
    if resource.get("url_type") == "upload" and "/dataset" in url:
        # CKAN writes its public address there; the file is where CKAN is reached.
        return item.evolve(url=facts.url + url[url.index("/dataset") :], ckan=facts.evolve(upload=True))
    return item.evolve(url=url)


def ckan_fetch(item: Item, ctx: Context) -> Item:
    """Fetch a resource's file into the store, with its md5, unless CKAN says that it is loaded already."""
    facts = item.ckan
    assert facts is not None
    if item.sha256 is None:
        item, md5 = _fetched(item, facts, ctx)
    else:
        md5 = _md5(item, ctx)
    item = item.evolve(ckan=facts.evolve(md5=md5))
    if facts.hash == md5 and not facts.ignore_hash:
        line = f"The file hash hasn't changed: {md5}."
        ctx.log.info(line)
        return item.evolve(status=Status.UNCHANGED)
    return item


def _fetched(item: Item, facts: CkanFacts, ctx: Context) -> tuple[Item, str]:
    if item.url is None:
        raise Fatal("an item without a URL or bytes cannot be pushed", code="missing_url", field="url")
    line = f"Fetching from: {without_credentials(item.url)}"
    ctx.log.info(line)
    root_url = ctx.services.settings.store
    digest = hashlib.md5(usedforsecurity=False)
    headers = {"Authorization": ctx.services.secrets.get(ctx.job, "api_key")} if facts.upload else {}
    fetched = ctx.services.get(Fetcher).fetch(
        item.url, ctx.services.store(root_url), transform=_hashing(digest), html=False, headers=headers
    )
    if fetched.sha256 is None:
        raise fetched.error(without_credentials(fetched.url))
    found = item.evolve(
        store=root_url,
        sha256=fetched.sha256,
        size=fetched.size,
        media_type=media_type(fetched.headers),
        filename=filename(fetched.headers, fetched.url),
    )
    return found, digest.hexdigest()


def _hashing(digest: Any) -> Transform:
    """Return a transform that changes nothing and hashes what passes."""

    def hashed(_type: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            digest.update(chunk)
            yield chunk

    return hashed


def _md5(item: Item, ctx: Context) -> str:
    """Return the md5 of bytes that are in a store already."""
    digest = hashlib.md5(usedforsecurity=False)
    with ctx.services.store(str(item.store)).open(str(item.sha256)) as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


STAGES = (
    Stage(name="ckan_request", queue="io", expand=ckan_request, provides=frozenset({"ckan"})),
    Stage(
        name="ckan_resource",
        queue="io",
        run=ckan_resource,
        provides=frozenset({"ckan", "url"}),
        wants=frozenset({Status.OK, Status.UNCHANGED}),
    ),
    Stage(
        name="ckan_fetch",
        queue="io",
        run=ckan_fetch,
        requires=frozenset({"ckan"}),
        provides=frozenset({"store", "sha256", "size", "media_type", "filename"}),
        retries=2,
    ),
)
