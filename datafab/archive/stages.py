"""Archive: the integrations of a plan, each delivered, executed, described and tidied up after.

Each stage looks up how far things are in the entrepôt, does the next step, and waits: whatever answer was lost, nothing
is made twice. Things are looked up by their names, and used only if they bear this plan's mark (``mark.py``).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from datafab.archive.claims import Claims
from datafab.archive.entrepot import Datastore
from datafab.archive.integration import HOOK_KEY, Integration, Outcome, description, executed
from datafab.archive.mark import content_of, foreign_output
from datafab.archive.stage import EXECUTIONS, QUOTED, archive_stage, next_look, planned
from datafab.core.hosts_allowed import PublicHosts
from datafab.core.item import EntrepotFacts, Item
from datafab.core.stage import Context
from datafab.errors import Fatal, FlowError, Retriable, Wait

#: How often a description is sent that the entrepôt accepts and does not keep.
PATCHES = 5


def execute(item: Item, ctx: Context) -> Item:
    """Have an archive made of an upload, and wait for it."""
    facts, integration, claims = planned(item, ctx)
    if facts.stored_data and not facts.execution:
        return item  # made by an earlier run
    store = claims.store
    execution = _execution(integration, facts, claims, ctx)
    name, output = str(execution["_id"]), str(execution["output"]["stored_data"]["_id"])
    status = str(execution.get("status"))
    if status == "CREATED":
        _launch(name, store)
        raise next_look(ctx, "WAITING", f"{integration.name}: execution", EXECUTIONS)
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
        wait = next_look(ctx, f"{status} {stored}", f"{integration.name}: execution", EXECUTIONS)
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


def _execution(integration: Integration, facts: EntrepotFacts, claims: Claims, ctx: Context) -> Mapping[str, Any]:
    """Return the execution that makes this archive of our upload; there is one, whatever answers were lost."""
    store = claims.store
    known = store.execution(str(ctx.memo["execution"])) if "execution" in ctx.memo else None
    if known is None:
        upload = claims.known_upload(str(facts.upload))
        if upload is None:
            msg = f"the upload {facts.upload} was deleted before an archive was made of it: run this plan again"
            raise Fatal(msg, code="entrepot_upload", field="name")
        known = claims.execution(integration, upload, asked=ctx.memo.get("asked") == facts.upload)
        if known is None:
            # Noted before it is done, as the answer may be lost.
            ctx.memo["asked"] = facts.upload
            known = store.create_execution(_wanted(integration, facts) | _called_back(ctx))
        ctx.memo["execution"] = str(known["_id"])
        ctx.memo["content"] = content_of(upload)
    if not ctx.memo.get("tagged"):
        stored = store.stored_data(str(known["output"]["stored_data"]["_id"]))
        if stored is not None:
            claims.tagged_output(stored, str(ctx.memo.get("content", "")))
        ctx.memo["tagged"] = True
    return known


def _wanted(integration: Integration, facts: EntrepotFacts) -> dict[str, Any]:
    output = {"name": integration.output.name, "storage_tags": list(integration.output.storage_tags)}
    inputs = {"upload": [facts.upload], "stored_data": []}
    return {"processing": integration.processing, "inputs": inputs, "output": {"stored_data": output}}


def _called_back(ctx: Context) -> dict[str, Any]:
    """Return how the entrepôt may say that it is ready, where it can reach us; nothing depends on it."""
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
    """Launch an execution; one that is under way was launched by an answer that was lost."""
    try:
        store.launch(execution)
    except Fatal as error:
        found = store.execution(execution) if error.code == "entrepot_409" else None
        if found is None or found.get("status") == "CREATED":
            raise


def describe(item: Item, ctx: Context) -> Item:
    """Say of an archive what it is: description, edition, extent."""
    facts, integration, claims = planned(item, ctx)
    store = claims.store
    wanted = description(integration, integration.extent)
    stored = store.stored_data(str(facts.stored_data))
    if stored is None:
        raise Fatal(f"the stored data {facts.stored_data} are gone", code="entrepot_output", field="output.name")
    if not claims.mark.on(stored):
        raise foreign_output(stored, claims.mark)
    if not _says(stored, wanted):
        store.patch_stored_data(str(facts.stored_data), wanted)
        stored = store.stored_data(str(facts.stored_data)) or {}
    if not _says(stored, wanted):
        missing = [key for key, value in wanted.items() if stored.get(key) != value]
        msg = f"{integration.name}: {', '.join(missing)} of the stored data did not become what was asked for"
        raise Retriable(msg, retries=PATCHES, code="entrepot_patch", field=missing[0])
    return item


def _says(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(stored.get(key) == value for key, value in wanted.items())


def tidy(item: Item, ctx: Context) -> Item:
    """Delete an upload of which an archive was made."""
    facts, integration, claims = planned(item, ctx)
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
