"""Code shared by the stages of the flow ``archive``: plan, claims, and delays between polls."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from datafab.archive.claims import Claims
from datafab.archive.entrepot import Entrepot
from datafab.archive.integration import Integration
from datafab.archive.mark import Mark
from datafab.core.backoff import RetryPolicy, pause_seconds
from datafab.core.item import EntrepotFacts, Item
from datafab.core.stage import Context, Stage
from datafab.errors import Fatal, Wait

#: Longest delays between two polls of checks and of executions; the first delay is a setting.
MAX_CHECK_DELAY_SECONDS, MAX_EXECUTION_DELAY_SECONDS = 30.0, 60.0
#: How long an entity may stay in one status; the job's parameter ``patience`` overrides it.
MAX_STATUS_SECONDS = 6 * 3600.0
#: Delay between two attempts to lock a name that another job holds.
LOCK_POLL_SECONDS = 5.0
#: Lines of a log that an error message quotes.
QUOTED_LINES = 5
_REQUIRED_FIELDS = frozenset({"entrepot"})


def load_plan(item: Item, ctx: Context) -> tuple[EntrepotFacts, Integration, Claims]:
    """Return the facts of an item, its integration, and its claims."""
    facts = item.entrepot
    if facts is None:
        raise Fatal("the item has no `entrepot`, so it is not an archive: start with `integrations`", code="no_archive")
    text = ctx.services.store(ctx.services.settings.store).read_list(facts.plan)
    integration = Integration.model_validate_json(text)
    store = ctx.services.get(Entrepot).at(facts.datastore)
    # Locked before, unless the job was parked: another job may have locked its names since.
    lock_names(store.name, [integration], ctx)
    return facts, integration, Claims(store, Mark.of(store.name, integration))


def lock_names(datastore: str, integrations: Iterable[Integration], ctx: Context) -> None:
    """Lock the name of each upload and output of integrations.

    All names are locked before anything is created, and by all jobs in the same order, so that no two jobs wait for
    each other.

    Raises:
        Wait: another job has locked one of the names.
    """
    names = {pair for each in integrations for pair in (("upload", each.name), ("output", each.output.name))}
    for kind, name in sorted(names):
        holder = ctx.services.locks.acquire(f"entrepot:{datastore}:{kind}:{name}", ctx.job)
        if holder is not None:
            msg = (
                f"job {holder} is working on the {kind} {name!r} of this datastore; this one starts when that has ended"
            )
            raise Wait(msg, delay=LOCK_POLL_SECONDS, looked=False)


def next_poll(ctx: Context, status: str, what: str, max_delay: float) -> Wait:
    """Return the wait until the next poll: short after a change of the status, then longer and longer.

    Raises:
        Fatal: the status has not changed for too long.
    """
    seen = ctx.memo.get("seen") or {}
    now = ctx.services.clock.now()
    if seen.get("status") != status:
        seen = {"status": status, "since": now, "looks": 0}
    patience = float(ctx.params.get("patience") or MAX_STATUS_SECONDS)
    if now - seen["since"] > patience:
        raise Fatal(f"{what}: {status} for more than {patience:.0f} s", code="timed_out", field="patience")
    delay = pause_seconds(seen["looks"], ctx.services.settings.poll_delay, max_delay)
    ctx.memo["seen"] = {**seen, "looks": seen["looks"] + 1}
    return Wait(f"{what}: {status}", delay=delay / 2 + random.uniform(0, delay / 2))  # noqa: S311 - jitter


def archive_stage(
    name: str, run: Callable[[Item, Context], Item], *, deadline: float = 300.0, provides: frozenset[str] = frozenset()
) -> Stage:
    """Return a stage of the flow ``archive``."""
    return Stage(
        name=name,
        params=frozenset({"patience"}),
        queue="io",
        run=run,
        requires=_REQUIRED_FIELDS,
        provides=provides,
        retry=RetryPolicy(deadline=deadline, retries=None),
        # Retries are limited by the parameter ``patience``, as all waits here.
    )
