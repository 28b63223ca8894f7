"""The stages of the flow ``archive`` after ``deliver``: execute, describe and tidy up.

Each stage looks up the state of its entities in the entrepôt, does the next step, and waits. So nothing is created
twice, even if an answer is lost. Entities are looked up by name, and only used with this plan's mark (``mark.py``).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from datafab.archive.claims import Claims
from datafab.archive.entrepot import Datastore
from datafab.archive.integration import HOOK_KEY, Integration, Outcome, description, execution_outcome
from datafab.archive.mark import content_of, foreign_output
from datafab.archive.stage import (
    MAX_EXECUTION_DELAY_SECONDS,
    QUOTED_LINES,
    archive_stage,
    load_plan,
    next_poll,
)
from datafab.core.hosts_allowed import PublicHosts
from datafab.core.item import EntrepotFacts, Item
from datafab.core.stage import Context
from datafab.errors import Fatal, FlowError, Retriable, Wait

#: Attempts to set a description that the entrepôt accepts but does not store.
MAX_PATCHES = 5


def execute(item: Item, ctx: Context) -> Item:
    """Create an archive from an upload by an execution, and wait for it."""
    facts, integration, claims = load_plan(item, ctx)
    if facts.stored_data and not facts.execution:
        return item  # created by an earlier run
    store = claims.store
    execution = _execution(integration, facts, claims, ctx)
    name, output = str(execution["_id"]), str(execution["output"]["stored_data"]["_id"])
    status = str(execution.get("status"))
    if status == "CREATED":
        _launch(name, store)
        raise next_poll(ctx, "WAITING", f"{integration.name}: execution", MAX_EXECUTION_DELAY_SECONDS)
    stored = str((store.stored_data(output) or {"status": "DELETED"}).get("status"))
    match execution_outcome(status, stored):
        case Outcome.DONE:
            return item.evolve(entrepot=facts.evolve(execution=name, stored_data=output))
        case Outcome.FAILED:
            lines = store.execution_log(name)[-QUOTED_LINES:]
            msg = (
                f"execution {name} ended {status}, its output is {stored}: {' / '.join(lines)}; the upload is kept; "
                f"delete the stored data {output} before you retry"
            )
            raise Fatal(msg, code="entrepot_execution", field="processing")
        case Outcome.UNKNOWN:
            ctx.log.warning("the execution has an unknown status", status=status, output=stored)
    try:
        wait = next_poll(ctx, f"{status} {stored}", f"{integration.name}: execution", MAX_EXECUTION_DELAY_SECONDS)
    except Fatal as late:
        done = "aborted" if status in {"WAITING", "PROGRESS"} and _abort(name, store) else "not aborted"
        lines = store.execution_log(name)[-QUOTED_LINES:]
        raise Fatal(f"{late.message}; {done}: {' / '.join(lines)}", code=late.code, field=late.field) from late
    raise wait


def _abort(execution: str, store: Datastore) -> bool:
    """Abort an execution; return False if the entrepôt cannot abort it.

    Raises:
        Wait: the execution has ended meanwhile.
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


def _execution(integration: Integration, facts: EntrepotFacts, claims: Claims, ctx: Context) -> Mapping[str, Any]:
    """Return the execution that creates this archive from our upload; find or create it."""
    store = claims.store
    known = store.execution(str(ctx.memo["execution"])) if "execution" in ctx.memo else None
    if known is None:
        upload = claims.known_upload(str(facts.upload))
        if upload is None:
            msg = f"the upload {facts.upload} was deleted before an archive was created from it: run this plan again"
            raise Fatal(msg, code="entrepot_upload", field="name")
        known = claims.execution(integration, upload, requested=ctx.memo.get("asked") == facts.upload)
        if known is None:
            # Recorded before the request, as its answer may be lost.
            ctx.memo["asked"] = facts.upload
            known = store.create_execution(_execution_body(integration, facts) | _callback_body(ctx))
        ctx.memo["execution"] = str(known["_id"])
        ctx.memo["content"] = content_of(upload)
    if not ctx.memo.get("tagged"):
        stored = store.stored_data(str(known["output"]["stored_data"]["_id"]))
        if stored is not None:
            claims.tagged_output(stored, str(ctx.memo.get("content", "")))
        ctx.memo["tagged"] = True
    return known


def _execution_body(integration: Integration, facts: EntrepotFacts) -> dict[str, Any]:
    output = {"name": integration.output.name, "storage_tags": list(integration.output.storage_tags)}
    inputs = {"upload": [facts.upload], "stored_data": []}
    return {"processing": integration.processing, "inputs": inputs, "output": {"stored_data": output}}


def _callback_body(ctx: Context) -> dict[str, Any]:
    """Return the callback of an execution, if we have a public URL; polling works without it."""
    public = PublicHosts.of(ctx.services.settings.public_url).root
    if public is None:
        return {}
    try:
        key = ctx.services.secrets.get(ctx.job, HOOK_KEY)
    except FlowError:
        key = secrets.token_urlsafe(32)
        ctx.services.secrets.put(ctx.job, {HOOK_KEY: key})
    url = f"{public}/hooks/entrepot/{ctx.job}"
    return {"callback": {"type": "api", "method": "POST", "url": url, "headers": {"X-Datafab-Key": key}}}


def _launch(execution: str, store: Datastore) -> None:
    """Launch an execution, unless an earlier request whose answer was lost has launched it."""
    try:
        store.launch(execution)
    except Fatal as error:
        found = store.execution(execution) if error.code == "entrepot_409" else None
        if found is None or found.get("status") == "CREATED":
            raise


def describe(item: Item, ctx: Context) -> Item:
    """Set the description, edition and extent of an archive."""
    facts, integration, claims = load_plan(item, ctx)
    store = claims.store
    wanted = description(integration, integration.extent)
    stored = store.stored_data(str(facts.stored_data))
    if stored is None:
        raise Fatal(f"the stored data {facts.stored_data} were deleted", code="entrepot_output", field="output.name")
    if not claims.mark.on(stored):
        raise foreign_output(stored, claims.mark)
    if not _has_values(stored, wanted):
        store.patch_stored_data(str(facts.stored_data), wanted)
        stored = store.stored_data(str(facts.stored_data)) or {}
    if not _has_values(stored, wanted):
        missing = [key for key, value in wanted.items() if stored.get(key) != value]
        msg = f"{integration.name}: {', '.join(missing)} of the stored data did not change to the values of the plan"
        raise Retriable(msg, retries=MAX_PATCHES, code="entrepot_patch", field=missing[0])
    return item


def _has_values(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(stored.get(key) == value for key, value in wanted.items())


def tidy(item: Item, ctx: Context) -> Item:
    """Delete an upload from which an archive was created."""
    facts, integration, claims = load_plan(item, ctx)
    upload = claims.store.upload(facts.upload) if facts.upload and not integration.keep_upload else None
    if upload is None:
        return item
    if claims.mark.on(upload):
        claims.store.delete_upload(str(upload["_id"]))
    else:
        ctx.log.warning("the upload is kept: it no longer has the tag of this plan", upload=facts.upload)
    return item


STAGES = (
    archive_stage("execute", execute),
    archive_stage("describe", describe),
    archive_stage("tidy", tidy),
)
