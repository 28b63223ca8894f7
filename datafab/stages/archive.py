"""Archive: the integrations of a plan, each delivered, executed, described and tidied up after.

Each stage looks up how far things are in the entrepôt, does the next step, and waits: whatever answer was lost, nothing
is made twice. What is looked up is found by its name, so names are what an integration is known by.
"""

from __future__ import annotations

import hashlib
import random
import secrets
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from datafab.clients.entrepot import Datastore
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
GROWS = 1.5
#: Seconds that something may stay in one status, unless the job's parameter ``patience`` says otherwise.
PATIENCE = 6 * 3600.0
#: Lines of a log that a message quotes.
QUOTED = 5
FOLDER = "data"
BLOCK = 1024 * 1024


def deliver(item: Item, ctx: Context) -> Item:
    """Send the files of an archive, and wait for their checks."""
    facts, integration, store = _of(item, ctx)
    upload = _upload(integration, store, ctx)
    name, status = str(upload["_id"]), str(upload.get("status"))
    item = item.evolve(entrepot=facts.evolve(upload=name))
    if status == "UNSTABLE" and not ctx.memo.get("closed"):
        # By a job before this one: what was wrong may have been mended.
        store.open_upload(name)
        status = "OPEN"
    if status in {"OPEN", "CREATED"}:
        _send(integration, name, store, ctx)
        store.close_upload(name)
        ctx.memo["closed"] = True
        raise _look(ctx, "CHECKING", f"{integration.name}: checks", CHECKS)
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


def _send(integration: Integration, upload: str, store: Datastore, ctx: Context) -> None:
    """Send what is not there yet, or was broken off, and see that all of it has come."""
    for file in integration.files:
        if file not in integration.delivered:
            ctx.log.info("passed over: the entrepôt ignores such names", file=file.name)
    there = store.tree(upload)
    sums: list[str] = []
    wanted: dict[str, int] = {}
    for number, given in enumerate(integration.delivered):
        ctx.check()
        file = _fetched(given, ctx)
        path = f"{FOLDER}/{file.name}"
        source = partial(ctx.services.store(str(file.store)).open, str(file.sha256))
        size = ctx.services.store(str(file.store)).size(str(file.sha256))
        if size is None:
            raise Fatal(
                f"{file.name}: no resource {file.sha256} in {file.store}", code="missing_resource", field="files"
            )
        sums.append(f"{_md5(file, ctx)}  {path}")
        wanted[path] = size
        if there.get(path) != size:
            if path in there:
                store.remove(upload, path)
            store.push(upload, path, source, size)
        ctx.progress(number + 1, len(integration.delivered), "files")
    _send_sums(sums, upload, store, there)
    came = store.tree(upload)
    for path, size in wanted.items():
        if came.get(path) != size:
            msg = f"{integration.name}: {path} has {came.get(path, 0)} bytes in the upload, {size} were sent"
            raise Retriable(msg, code="entrepot_size", field="files")


def _send_sums(sums: list[str], upload: str, store: Datastore, there: Mapping[str, int]) -> None:
    name = "datafab.md5"
    if name in there:  # of files that may have changed since
        store.remove(upload, name, "md5")
    store.push_md5(upload, sums, name)


def _fetched(file: File, ctx: Context) -> File:
    """Return a file that lies in a store."""
    if file.sha256:
        return file
    root = ctx.services.settings.store
    fetched = ctx.services.fetcher.fetch(str(file.url), ctx.services.store(root), html=False)
    if fetched.sha256 is None:
        raise fetched.error("files")
    return file.model_copy(update={"path": file.name, "store": root, "sha256": fetched.sha256, "size": fetched.size})


def _md5(file: File, ctx: Context) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with ctx.services.store(str(file.store)).open(str(file.sha256)) as opened:
        while block := opened.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


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
            msg = f"execution {name} ended {status}, its output is {stored}: {' / '.join(lines)}; the upload is kept"
            raise Fatal(msg, code="entrepot_execution", field="processing")
        case Outcome.UNKNOWN:
            ctx.log.warning("an execution has a status that is not known", status=status, output=stored)
    try:
        raise _look(ctx, f"{status} {stored}", f"{integration.name}: execution", EXECUTIONS)
    except Fatal as late:
        if status in {"WAITING", "PROGRESS"}:
            store.abort(name)
        lines = store.execution_log(name)[-QUOTED:]
        raise Fatal(f"{late.message}; aborted: {' / '.join(lines)}", code=late.code, field=late.field) from late


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
    if not integration.keep_upload:
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
    delay = min(most, ctx.services.settings.poll_delay * GROWS ** seen["looks"])
    ctx.memo["seen"] = {**seen, "looks": seen["looks"] + 1}
    return Wait(f"{what}: {status}", delay=delay / 2 + random.uniform(0, delay / 2))  # noqa: S311 - spreads looks


STAGES = (
    Stage(
        name="deliver",
        queue="io",
        run=deliver,
        requires=frozenset({"entrepot"}),
        provides=frozenset({"entrepot"}),
        retries=5,
    ),
    Stage(name="execute", queue="io", run=execute, requires=frozenset({"entrepot"}), deadline=300.0, retries=5),
    Stage(name="describe", queue="io", run=describe, requires=frozenset({"entrepot"}), deadline=300.0, retries=5),
    Stage(name="tidy", queue="io", run=tidy, requires=frozenset({"entrepot"}), deadline=300.0, retries=5),
)
