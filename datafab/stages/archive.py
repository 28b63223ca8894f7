"""Archive: the integrations of a plan, each delivered, executed, described and tidied up after.

Each stage looks up how far things are in the entrepôt, does the next step, and waits: whatever answer was lost, nothing
is made twice. What is looked up is found by its name, so names are what an integration is known by.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from datafab.clients.delivery import Open, empty, fill, weighed
from datafab.clients.entrepot import Datastore
from datafab.domain.backoff import pause
from datafab.domain.delivery import Content, Part
from datafab.domain.integration import (
    HOOK_KEY,
    File,
    Integration,
    Outcome,
    delivered,
    description,
    executed,
    refused_by_checks,
)
from datafab.domain.payload import EntrepotFacts, Item
from datafab.errors import Fatal, FlowError, Retriable, Wait
from datafab.stage import Context, Stage

#: Seconds between two looks at checks and at executions, at most; the first is a setting.
CHECKS, EXECUTIONS = 30.0, 60.0
#: Seconds that something may stay in one status, unless the job's parameter ``patience`` says otherwise.
PATIENCE = 6 * 3600.0
#: Lines of a log that a message quotes.
QUOTED = 5


def deliver(item: Item, ctx: Context) -> Item:
    """Send the files of an archive, and wait for their checks."""
    facts, integration, store = _of(item, ctx)
    upload = _upload(integration, store, ctx)
    name, status = str(upload["_id"]), str(upload.get("status"))
    item = item.evolve(entrepot=facts.evolve(upload=name))
    if status == "UNSTABLE" and not ctx.memo.get("closed"):
        # By a job before this one: what was wrong may have been mended, and may be any of its files.
        ctx.memo["anew"] = True
        store.open_upload(name)
        status = "OPEN"
    if status in {"OPEN", "CREATED"}:
        if ctx.memo.get("anew"):
            empty(store, name)
            ctx.memo["anew"] = False
        content, sources = _content(integration, ctx)
        fill(store, name, content, sources, lambda done: ctx.progress(done, len(sources), "files"))
        # Noted before it is done, as the answer may be lost.
        ctx.memo["closed"] = True
        store.close_upload(name)
        raise _look(ctx, "CHECKING", f"{integration.name}: checks", CHECKS)
    if status in {"CHECKING", "CLOSED"} and not ctx.memo.get("closed"):
        _recognised(integration, name, store, ctx)
        ctx.memo["closed"] = True
    checks = store.checks(name)
    match delivered(status, checks):
        case Outcome.DONE:
            return item
        case Outcome.FAILED:
            lines = [line for each in checks["failed"] for line in store.check_log(str(each["_id"]))]
            names = [str(each.get("check", {}).get("name")) for each in checks["failed"]]
            raise refused_by_checks(names, lines[-QUOTED:])
        case Outcome.UNKNOWN:
            ctx.log.warning("an upload has a status that is not known", status=status)
    raise _look(ctx, status, f"{integration.name}: checks", CHECKS)


def _upload(integration: Integration, store: Datastore, ctx: Context) -> Mapping[str, Any]:
    """Return the integration's upload; one that was begun before is gone on with."""
    known = store.upload(str(ctx.memo["upload"])) if "upload" in ctx.memo else None
    if known is None:
        found = store.uploads(integration.name)
        known = found[0] if found else store.create_upload(integration.name, integration.description, integration.srs)
        known = known if "status" in known else store.upload(str(known["_id"])) or known
        ctx.memo["upload"] = str(known["_id"])
    return known


def _content(integration: Integration, ctx: Context) -> tuple[Content, dict[Part, Open]]:
    """Return what is to be delivered, and how each file is opened; those at URLs are fetched."""
    for file in integration.files:
        if file not in integration.delivered:
            ctx.log.info("passed over: the entrepôt ignores such names", file=file.name)
    sources: dict[Part, Open] = {}
    for number, file in enumerate(integration.delivered):
        ctx.progress(number, len(integration.delivered), "files")
        root, sha256 = _place(file, ctx)
        if ctx.services.store(root).size(sha256) is None:
            raise Fatal(f"{file.name}: no resource {sha256} in {root}", code="missing_resource", field="files")
        opened = partial(ctx.services.store(root).open, sha256)
        sources[weighed(file.name, opened)] = opened
    return Content(tuple(sources)), sources


def _place(file: File, ctx: Context) -> tuple[str, str]:
    """Return the store and the digest of a file; what was fetched for this job is not fetched again."""
    if file.sha256:
        return str(file.store), file.sha256
    root, url, fetched = ctx.services.settings.store, str(file.url), dict(ctx.memo.get("fetched") or {})
    if url not in fetched:
        came = ctx.services.fetcher.fetch(url, ctx.services.store(root), html=False)
        if came.sha256 is None:
            raise came.error("files")
        fetched[url] = came.sha256
        ctx.memo["fetched"] = fetched
    return root, fetched[url]


def _recognised(integration: Integration, upload: str, store: Datastore, ctx: Context) -> None:
    """Raise unless an upload that somebody has closed holds what is to be delivered."""
    content, _ = _content(integration, ctx)
    if not content.held(store.tree(upload)):
        msg = (
            f"an upload called {integration.name!r} is there already ({upload}) and holds other files: "
            "delete it, or give this integration another name"
        )
        raise Fatal(msg, code="entrepot_upload", field="name")


def execute(item: Item, ctx: Context) -> Item:
    """Have an archive made of an upload, and wait for it."""
    facts, integration, store = _of(item, ctx)
    execution = _execution(integration, facts, store, ctx)
    name, output = str(execution["_id"]), str(execution["output"]["stored_data"]["_id"])
    status = str(execution.get("status"))
    if status == "CREATED":
        _launch(name, store)
        raise _look(ctx, "WAITING", f"{integration.name}: execution", EXECUTIONS)
    stored = str((store.stored_data(output) or {"status": "DELETED"}).get("status"))
    match executed(status, stored):
        case Outcome.DONE:
            return item.evolve(entrepot=facts.evolve(execution=name, stored_data=output))
        case Outcome.FAILED:
            lines = store.execution_log(name)[-QUOTED:]
            msg = (
                f"execution {name} ended {status}, its output is {stored}: {' / '.join(lines)}; the upload is kept; "
                f"delete the stored data {output} before another try"
            )
            raise Fatal(msg, code="entrepot_execution", field="processing")
        case Outcome.UNKNOWN:
            ctx.log.warning("an execution has a status that is not known", status=status, output=stored)
    try:
        wait = _look(ctx, f"{status} {stored}", f"{integration.name}: execution", EXECUTIONS)
    except Fatal as late:
        done = "aborted" if status in {"WAITING", "PROGRESS"} and _aborted(name, store) else "not aborted"
        lines = store.execution_log(name)[-QUOTED:]
        raise Fatal(f"{late.message}; {done}: {' / '.join(lines)}", code=late.code, field=late.field) from late
    raise wait


def _aborted(execution: str, store: Datastore) -> bool:
    """Abort an execution; False: it cannot be.

    Raises:
        Wait: it has ended meanwhile.
    """
    try:
        store.abort(execution)
    except Fatal as error:
        if error.code != "entrepot_409":
            raise
        found = store.execution(execution)
        if found is not None and found.get("status") not in {"WAITING", "PROGRESS"}:
            raise Wait(f"execution {execution} has ended just now", delay=0.0) from error
        return False
    return True


def _execution(integration: Integration, facts: EntrepotFacts, store: Datastore, ctx: Context) -> Mapping[str, Any]:
    """Return the execution that makes this archive of this upload; there is one, whatever answers were lost."""
    known = store.execution(str(ctx.memo["execution"])) if "execution" in ctx.memo else None
    if known is None:
        others = []
        for stored in store.stored_data_named(integration.output.name):
            mine = [each for each in store.executions_of(str(stored["_id"])) if _made_of(each, str(facts.upload))]
            known = mine[0] if mine else known
            others += [] if mine else [stored]
        if known is None and others:
            msg = (
                f"stored data called {integration.output.name!r} are there already ({others[0]['_id']}): "
                "delete them, or give this output another name"
            )
            raise Fatal(msg, code="entrepot_output", field="output.name")
        known = known or store.create_execution(_wanted(integration, facts) | _called_back(ctx))
        ctx.memo["execution"] = str(known["_id"])
    return known


def _wanted(integration: Integration, facts: EntrepotFacts) -> dict[str, Any]:
    output = {"name": integration.output.name, "storage_tags": list(integration.output.storage_tags)}
    inputs = {"upload": [facts.upload], "stored_data": []}
    return {"processing": integration.processing, "inputs": inputs, "output": {"stored_data": output}}


def _called_back(ctx: Context) -> dict[str, Any]:
    """Return how the entrepôt may say that it is ready, where it can reach us; nothing depends on it."""
    public = ctx.services.settings.public_url
    if public is None:
        return {}
    try:
        key = ctx.services.secrets.get(ctx.job, HOOK_KEY)
    except FlowError:
        key = secrets.token_urlsafe(32)
        ctx.services.secrets.put(ctx.job, {HOOK_KEY: key})
    url = f"{public.rstrip('/')}/hooks/entrepot/{ctx.job}"
    return {"callback": {"type": "api", "method": "POST", "url": url, "headers": {"X-Datafab-Key": key}}}


def _made_of(execution: Mapping[str, Any], upload: str) -> bool:
    return any(each.get("_id") == upload for each in execution.get("inputs", {}).get("upload") or ())


def _launch(execution: str, store: Datastore) -> None:
    """Launch an execution; one that is under way was launched by an answer that was lost."""
    try:
        store.launch(execution)
    except Fatal as error:
        found = store.execution(execution) if error.code == "entrepot_409" else None
        if found is None or found.get("status") == "CREATED":
            raise


def describe(item: Item, ctx: Context) -> Item:
    """Say of an archive what it is: description, edition, extent."""
    facts, integration, store = _of(item, ctx)
    wanted = description(integration, integration.extent)
    stored = store.stored_data(str(facts.stored_data))
    if stored is None:
        raise Fatal(f"the stored data {facts.stored_data} are gone", code="entrepot_output", field="output.name")
    if not _says(stored, wanted):
        store.patch_stored_data(str(facts.stored_data), wanted)
        stored = store.stored_data(str(facts.stored_data)) or {}
    if not _says(stored, wanted):
        missing = [key for key, value in wanted.items() if stored.get(key) != value]
        msg = f"{integration.name}: {', '.join(missing)} of the stored data did not become what was asked for"
        raise Retriable(msg, code="entrepot_patch", field=missing[0])
    return item


def _says(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(stored.get(key) == value for key, value in wanted.items())


def tidy(item: Item, ctx: Context) -> Item:
    """Delete an upload of which an archive was made."""
    facts, integration, store = _of(item, ctx)
    if not integration.keep_upload and store.upload(str(facts.upload)) is not None:
        store.delete_upload(str(facts.upload))
    return item


def _of(item: Item, ctx: Context) -> tuple[EntrepotFacts, Integration, Datastore]:
    """Return an item's facts, what is planned for it, and where."""
    facts = item.entrepot
    if facts is None:
        raise Fatal("an item without entrepot is no archive: begin with `integrations`", code="no_archive")
    text = ctx.services.store(ctx.services.settings.store).read_list(facts.plan)
    return facts, Integration.model_validate_json(text), ctx.services.entrepot.at(facts.datastore)


def _look(ctx: Context, status: str, what: str, most: float) -> Wait:
    """Return when to look again: soon after a change, then ever later; give up what does not change.

    Raises:
        Fatal: it has had this status for too long.
    """
    seen = ctx.memo.get("seen") or {}
    now = time.time()
    if seen.get("status") != status:
        seen = {"status": status, "since": now, "looks": 0}
    patience = float(ctx.params.get("patience") or PATIENCE)
    if now - seen["since"] > patience:
        raise Fatal(f"{what}: {status} for more than {patience:.0f} s", code="timed_out", field="patience")
    delay = pause(seen["looks"], ctx.services.settings.poll_delay, most)
    ctx.memo["seen"] = {**seen, "looks": seen["looks"] + 1}
    return Wait(f"{what}: {status}", delay=delay / 2 + random.uniform(0, delay / 2))  # noqa: S311 - spreads looks


STAGES = (
    Stage(
        name="deliver",
        params=frozenset({"patience"}),
        queue="io",
        run=deliver,
        requires=frozenset({"entrepot"}),
        provides=frozenset({"entrepot"}),
        retries=5,
    ),
    Stage(
        name="execute",
        params=frozenset({"patience"}),
        queue="io",
        run=execute,
        requires=frozenset({"entrepot"}),
        deadline=300.0,
        retries=5,
    ),
    Stage(
        name="describe",
        params=frozenset({"patience"}),
        queue="io",
        run=describe,
        requires=frozenset({"entrepot"}),
        deadline=300.0,
        retries=5,
    ),
    Stage(
        name="tidy",
        params=frozenset({"patience"}),
        queue="io",
        run=tidy,
        requires=frozenset({"entrepot"}),
        deadline=300.0,
        retries=5,
    ),
)
