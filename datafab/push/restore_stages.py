"""Put the former table of a CKAN resource back, where a load that was to replace it has not come to its end.

``ckan_restore`` follows the load, for items that have failed. ``ckan_recover`` belongs to the flow that follows a push
however that ended, and so also acts where no later stage ran: after a cancel, a deadline, or workers that died.
"""

from __future__ import annotations

from datafab.core.backoff import RetryPolicy
from datafab.core.item import Item, ItemError, Status
from datafab.core.stage import Context, Stage
from datafab.errors import DatafabError, Fatal, Wait
from datafab.push.ckan import Ckan
from datafab.push.datapusher import UNRESTORED
from datafab.push.former_table import Former, name_of

#: Seconds between two looks at a resource that another job is loading.
BUSY = 2.0


def ckan_restore(item: Item, ctx: Context) -> Item:
    """Put the former table back where a load has failed."""
    said = _restored(item, ctx, ctx.job)
    if said is None or item.error is None:
        return item
    return item.evolve(error=item.error.evolve(message=f"{item.error.message}; {said}"))


def ckan_recover(item: Item, ctx: Context) -> Item:
    """Put the former table back where a push has ended in the middle of its load."""
    of = str(ctx.params["of"])
    if item.ckan is None or _former(item, ctx).head() is None:
        return item
    gate = f"ckan:{item.ckan.resource}"
    holder = ctx.services.locks.acquire(gate, ctx.job)
    if holder is not None:
        # That one either loads all, or puts back what is kept.
        raise Wait(f"job {holder} is loading the resource {item.ckan.resource}", delay=BUSY)
    _restored(item, ctx, of)
    ctx.services.locks.release(gate, ctx.job)
    return item


def _former(item: Item, ctx: Context) -> Former:
    assert item.ckan is not None
    return Former(ctx.services.store(ctx.services.settings.store), item.ckan.url, item.ckan.resource)


def _restored(item: Item, ctx: Context, job: str) -> str | None:
    """Put the former table back, if there is one to be put back; return what was done."""
    if item.ckan is None or (head := _former(item, ctx).head()) is None:
        return None
    former = _former(item, ctx)
    with Ckan.at(ctx.services, former.url, ctx.services.secrets.get(job, "api_key")) as ckan:
        if _is_gone(ckan, former):
            former.forget()
            return "the resource is no longer in CKAN, and its table went with it"
        if not former.debris(ckan, head):
            former.forget()
            return "the table was loaded by somebody else meanwhile, and is left as it is"
        former.restore(ckan, head, ctx.check)
    said = f"the table was restored: {head.before}"
    ctx.log.info(said)
    return said


def _is_gone(ckan: Ckan, former: Former) -> bool:
    try:
        ckan.resource_show(former.resource)
    except Fatal as error:
        if error.code == "ckan_404":
            return True
        raise
    return False


def _unrestored(item: Item, error: DatafabError) -> Item:
    """Return an item whose former table could not be put back: with both errors, its own first."""
    assert item.ckan is not None
    before = f"{item.error.message}; " if item.error else ""
    kept = f"its rows are kept in the store as {name_of(item.ckan.url, item.ckan.resource)}.jsonl.gz"
    msg = f"{before}the former table could not be restored: {error.message}; {kept} until a push of it succeeds"
    kind = item.error.type if item.error else UNRESTORED
    return item.evolve(status=Status.FAILED, error=ItemError(type=kind, message=msg, field=error.field))


STAGES = (
    Stage(
        name="ckan_restore",
        params=frozenset(),
        queue="io",
        run=ckan_restore,
        failed=_unrestored,
        wants=frozenset({Status.FAILED}),
        retry=RetryPolicy(retries=5),
    ),
    Stage(
        name="ckan_recover",
        params=frozenset({"of"}),
        queue="io",
        run=ckan_recover,
        failed=_unrestored,
        retry=RetryPolicy(retries=5),
    ),
)
