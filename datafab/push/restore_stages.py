"""The stages that restore the former table of a CKAN resource after an incomplete load.

``ckan_restore`` follows the load, for items that have failed. ``ckan_recover`` is part of the flow that follows each
push, whatever its outcome. So it also acts when no later stage has run: after a cancel, a deadline, or dead workers.
"""

from __future__ import annotations

from datafab.core.backoff import RetryPolicy
from datafab.core.item import Item, ItemError, Status
from datafab.core.stage import Context, Stage
from datafab.errors import DatafabError, Fatal, Wait
from datafab.push.ckan import Ckan
from datafab.push.datapusher import RESTORE_ERROR
from datafab.push.former_table import FormerTable, former_name

#: Delay between two attempts to lock a resource that another job is loading.
LOCK_POLL_SECONDS = 2.0


def ckan_restore(item: Item, ctx: Context) -> Item:
    """Restore the former table after a failed load."""
    outcome = _restore(item, ctx, ctx.job)
    if outcome is None or item.error is None:
        return item
    return item.evolve(error=item.error.evolve(message=f"{item.error.message}; {outcome}"))


def ckan_recover(item: Item, ctx: Context) -> Item:
    """Restore the former table of a push that has ended during its load."""
    of = str(ctx.params["of"])
    if item.ckan is None or _former(item, ctx).snapshot() is None:
        return item
    lock = f"ckan:{item.ckan.resource}"
    holder = ctx.services.locks.acquire(lock, ctx.job)
    if holder is not None:
        # That job either loads its table completely, or restores the saved one.
        raise Wait(f"job {holder} is loading the resource {item.ckan.resource}", delay=LOCK_POLL_SECONDS)
    _restore(item, ctx, of)
    ctx.services.locks.release(lock, ctx.job)
    return item


def _former(item: Item, ctx: Context) -> FormerTable:
    assert item.ckan is not None
    return FormerTable(ctx.services.store(ctx.services.settings.store), item.ckan.url, item.ckan.resource)


def _restore(item: Item, ctx: Context, job: str) -> str | None:
    """Restore the former table, if one is saved; return what was done."""
    if item.ckan is None or (snapshot := _former(item, ctx).snapshot()) is None:
        return None
    former = _former(item, ctx)
    with Ckan.at(ctx.services, former.url, ctx.services.secrets.get(job, "api_key")) as ckan:
        if _is_gone(ckan, former):
            former.forget()
            return "the resource was deleted from CKAN, and its table with it"
        if not former.is_partial_load(ckan, snapshot):
            former.forget()
            return "the table was loaded by somebody else meanwhile, and is left unchanged"
        former.restore(ckan, snapshot, ctx.check)
    outcome = f"the table was restored: {snapshot.before}"
    ctx.log.info(outcome)
    return outcome


def _is_gone(ckan: Ckan, former: FormerTable) -> bool:
    try:
        ckan.resource_show(former.resource)
    except Fatal as error:
        if error.code == "ckan_404":
            return True
        raise
    return False


def _report_unrestored(item: Item, error: DatafabError) -> Item:
    """Return an item whose former table could not be restored, with both errors, its own first."""
    assert item.ckan is not None
    before = f"{item.error.message}; " if item.error else ""
    kept = f"its rows are kept in the store as {former_name(item.ckan.url, item.ckan.resource)}.jsonl.gz"
    msg = (
        f"{before}the former table could not be restored: {error.message}; {kept} until a push of the resource succeeds"
    )
    kind = item.error.type if item.error else RESTORE_ERROR
    return item.evolve(status=Status.FAILED, error=ItemError(type=kind, message=msg, field=error.field))


STAGES = (
    Stage(
        name="ckan_restore",
        params=frozenset(),
        queue="io",
        run=ckan_restore,
        failed=_report_unrestored,
        wants=frozenset({Status.FAILED}),
        retry=RetryPolicy(retries=5),
    ),
    Stage(
        name="ckan_recover",
        params=frozenset({"of"}),
        queue="io",
        run=ckan_recover,
        failed=_report_unrestored,
        retry=RetryPolicy(retries=5),
    ),
)
