"""What the stages of an archive share: its plan, its mark, and when to look again."""

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

#: Seconds between two looks at checks and at executions, at most; the first is a setting.
CHECKS, EXECUTIONS = 30.0, 60.0
#: Seconds that something may stay in one status, unless the job's parameter ``patience`` says otherwise.
PATIENCE = 6 * 3600.0
#: Seconds between two looks at whether another job has ended.
BUSY = 5.0
#: Lines of a log that a message quotes.
QUOTED = 5
_NEEDS = frozenset({"entrepot"})


def planned(item: Item, ctx: Context) -> tuple[EntrepotFacts, Integration, Claims]:
    """Return an item's facts, what is planned for it, and what is ours of it."""
    facts = item.entrepot
    if facts is None:
        raise Fatal("an item without entrepot is no archive: begin with `integrations`", code="no_archive")
    text = ctx.services.store(ctx.services.settings.store).read_list(facts.plan)
    integration = Integration.model_validate_json(text)
    store = ctx.services.get(Entrepot).at(facts.datastore)
    # Entered before, but for a job that was parked: its names may be another's by now.
    alone(store.name, [integration], ctx)
    return facts, integration, Claims(store, Mark.of(store.name, integration))


def alone(datastore: str, integrations: Iterable[Integration], ctx: Context) -> None:
    """Enter the gate of each name that this job makes something of.

    All gates are entered before anything is made, and in one order by all jobs, so that no two wait for each other.

    Raises:
        Wait: another job holds one of them.
    """
    names = {pair for each in integrations for pair in (("upload", each.name), ("output", each.output.name))}
    for kind, name in sorted(names):
        holder = ctx.services.locks.acquire(f"entrepot:{datastore}:{kind}:{name}", ctx.job)
        if holder is not None:
            msg = (
                f"job {holder} is working on the {kind} {name!r} of this datastore; this one begins when that has ended"
            )
            raise Wait(msg, delay=BUSY, looked=False)


def next_look(ctx: Context, status: str, what: str, most: float) -> Wait:
    """Return when to look again: soon after a change, then ever later; give up what does not change.

    Raises:
        Fatal: it has had this status for too long.
    """
    seen = ctx.memo.get("seen") or {}
    now = ctx.services.clock.now()
    if seen.get("status") != status:
        seen = {"status": status, "since": now, "looks": 0}
    patience = float(ctx.params.get("patience") or PATIENCE)
    if now - seen["since"] > patience:
        raise Fatal(f"{what}: {status} for more than {patience:.0f} s", code="timed_out", field="patience")
    delay = pause_seconds(seen["looks"], ctx.services.settings.poll_delay, most)
    ctx.memo["seen"] = {**seen, "looks": seen["looks"] + 1}
    return Wait(f"{what}: {status}", delay=delay / 2 + random.uniform(0, delay / 2))  # noqa: S311 - spreads looks


def archive_stage(
    name: str, run: Callable[[Item, Context], Item], *, deadline: float = 300.0, provides: frozenset[str] = frozenset()
) -> Stage:
    """Return a stage of the flow ``archive``."""
    return Stage(
        name=name,
        params=frozenset({"patience"}),
        queue="io",
        run=run,
        requires=_NEEDS,
        provides=provides,
        retry=RetryPolicy(deadline=deadline, retries=None),
        # An outage is waited for as long as anything else here: until the patience is over.
    )
