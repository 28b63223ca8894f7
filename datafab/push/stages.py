"""The first stages of the flow ``push``, which find and fetch the file of a CKAN resource, as CKAN's DataPusher does.

Parameters of a job: ``metadata`` with ``resource_id``, ``ckan_url``, ``ignore_hash`` and ``set_url_type`` (the names in
CKAN's own submission), ``date_order``, ``sheet`` and ``bad_rows``, or these seven at the top level; the secret
``api_key``. The stages ``ckan_types``, ``datastore`` and ``ckan_hash`` (``datastore_stages.py``) follow. An item of
another flow that already has its bytes, such as a collected one, starts with ``ckan_resource``: ``then = ["analyse",
"push"]``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from datafab.analysis.bad_rows import bad_rows_policy
from datafab.analysis.day_order import date_order_preference
from datafab.analysis.sheet_choice import requested_sheet
from datafab.core.backoff import RetryPolicy
from datafab.core.item import CkanFacts, Item, Status
from datafab.core.stage import Context, Stage
from datafab.errors import Fatal, FlowError, Skippable, Wait
from datafab.fetch.answer import Transform
from datafab.fetch.filename import filename, media_type
from datafab.fetch.session import Fetcher
from datafab.push.ckan import Ckan, ckan_root, require_allowed
from datafab.push.datapusher import requested_resource
from datafab.push.former_table import FormerTable
from datafab.urls import url_parts, without_credentials

#: Delay between two attempts to lock a resource that another job is loading.
LOCK_POLL_SECONDS = 2.0
#: Delay until a missing resource is looked up once more: CKAN submits a job before it has stored the resource.
RECHECK_SECONDS = 5.0
BLOCK_BYTES = 1024**2


def ckan_request(ctx: Context) -> Iterator[Item]:
    """Check the parameters of a push; yield its only item."""
    facts = _requested(ctx)
    yield Item(source=f"ckan:{urlsplit(facts.url).netloc}/{facts.resource}", ckan=facts)


def _requested(ctx: Context) -> CkanFacts:
    """Return the resource that a job loads; raise unless that is allowed."""
    facts = requested_resource(ctx.params)
    date_order_preference(ctx.params, ctx.services.settings.date_order)
    bad_rows_policy(ctx.params, ctx.services.settings.bad_rows)
    requested_sheet(ctx.params)
    if not ctx.services.secrets.get(ctx.job, "api_key"):
        raise FlowError("No CKAN API key provided", code="bad_request", field="api_key")
    require_allowed(ckan_root(facts.url), ctx.services.settings)
    return facts


def ckan_resource(item: Item, ctx: Context) -> Item:
    """Get a resource from CKAN, once no other job loads it."""
    facts = item.ckan or _requested(ctx)
    # The lock is held until the job ends: a file that is fetched first must not be loaded last.
    holder = ctx.services.locks.acquire(f"ckan:{facts.resource}", ctx.job)
    if holder is not None:
        raise Wait(f"job {holder} is loading the resource {facts.resource}", delay=LOCK_POLL_SECONDS, looked=False)
    resource = _show_resource(facts, ctx)
    if resource.get("url_type") == "datastore":
        raise Skippable("Dump files are managed with the Datastore API", code="datastore", field="url_type")
    known = resource.get("hash") if resource.get("datastore_active", True) else None
    former = FormerTable(ctx.services.store(ctx.services.settings.store), facts.url, facts.resource)
    if known and not former.describes_table(str(known)):
        known = None
    # An item that is unchanged for an earlier stage may still be new to CKAN.
    sheet = requested_sheet(ctx.params) or requested_sheet(resource)
    item = item.evolve(ckan=facts.evolve(hash=known or None), sheet=sheet, status=Status.OK)
    return item if item.sha256 else _with_url(item, resource)


def _show_resource(facts: CkanFacts, ctx: Context) -> dict[str, Any]:
    key = ctx.services.secrets.get(ctx.job, "api_key")
    with Ckan.at(ctx.services, facts.url, key) as ckan:
        try:
            resource = ckan.resource_show(facts.resource)
        except Fatal as error:
            if error.code != "ckan_404" or ctx.memo.get("looked"):
                raise
            ctx.memo["looked"] = True
            raise Wait(error.message, delay=RECHECK_SECONDS, code=error.code) from error
        # A public resource is shown with any key: check the key now, before the download.
        ckan.require_write_access(facts.resource)
        return resource


def _with_url(item: Item, resource: Mapping[str, Any]) -> Item:
    """Return the item with the URL of the resource's file."""
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
        # The URL has CKAN's public root; the file is fetched from the root at which we reach CKAN.
        return item.evolve(url=facts.url + url[url.index("/dataset") :], ckan=facts.evolve(upload=True))
    return item.evolve(url=url)


def ckan_fetch(item: Item, ctx: Context) -> Item:
    """Fetch a resource's file into the store; the item is unchanged if CKAN has loaded this content already."""
    facts = item.ckan
    assert facts is not None
    if item.sha256 is None:
        item, md5 = _fetch(item, facts, ctx)
    else:
        md5 = _md5(item, ctx)
    item = item.evolve(ckan=facts.evolve(md5=md5))
    if facts.hash == md5 and not facts.ignore_hash:
        line = f"The file hash hasn't changed: {md5}."
        ctx.log.info(line)
        return item.evolve(status=Status.UNCHANGED)
    return item


def _fetch(item: Item, facts: CkanFacts, ctx: Context) -> tuple[Item, str]:
    if item.url is None:
        raise Fatal("an item without a URL or bytes cannot be pushed", code="missing_url", field="url")
    line = f"Fetching from: {without_credentials(item.url)}"
    ctx.log.info(line)
    root_url = ctx.services.settings.store
    digest = hashlib.md5(usedforsecurity=False)
    headers = {"Authorization": ctx.services.secrets.get(ctx.job, "api_key")} if facts.upload else {}
    fetched = ctx.services.get(Fetcher).fetch(
        item.url, ctx.services.store(root_url), transform=_hash_chunks(digest), accept_html=False, headers=headers
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


def _hash_chunks(digest: Any) -> Transform:
    """Return a transform that hashes the chunks and passes them on unchanged."""

    def hashed(_type: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            digest.update(chunk)
            yield chunk

    return hashed


def _md5(item: Item, ctx: Context) -> str:
    """Return the md5 of a file in a store."""
    digest = hashlib.md5(usedforsecurity=False)
    with ctx.services.store(str(item.store)).open(str(item.sha256)) as file:
        while block := file.read(BLOCK_BYTES):
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
        retry=RetryPolicy(retries=2),
    ),
)
