"""The stage ``integrations``, which reads a plan and yields its integrations.

Parameters of a job: ``plan``, a JSON file or the object itself (``integration.py``); ``patience``, the seconds for
which an upload or an execution may stay in one status.
When the job is enqueued, files of this host are copied to the default store, so that any worker can deliver them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from datafab.archive.entrepot import Entrepot
from datafab.archive.extent import simplify
from datafab.archive.integration import Plan, read_plan
from datafab.archive.stage import lock_names
from datafab.core.backoff import RetryPolicy
from datafab.core.item import EntrepotFacts, Item
from datafab.core.services import Services
from datafab.core.stage import Context, Stage
from datafab.errors import Fatal, FlowError, NotFound
from datafab.store.regularfile import open_regular, read_regular

BLOCK_BYTES = 1024 * 1024
LIST_PREFIX = "list:"


def localise_plan(params: Mapping[str, Any], services: Services) -> dict[str, Any]:
    """Return the parameters with a plan whose local files, and the plan itself, are in the store.

    Raises:
        NotFound: the plan, or a file of it, does not exist.
        FlowError: the plan is invalid.
    """
    given = params.get("plan")
    if given is None or (isinstance(given, str) and given.startswith(LIST_PREFIX)):
        return dict(params)
    path = Path(given) if isinstance(given, str | Path) else None
    document = _document(path) if path else given
    folder, name = (path.parent, str(path)) if path else (Path(), "plan")
    _integrations(document, folder, services)
    plan = read_plan(document, name)
    text = plan.model_dump_json(by_alias=True, exclude_none=True)
    kept = services.store(services.settings.store).write_list(text.encode())
    return {**params, "plan": f"{LIST_PREFIX}{kept}#{name}"}


def _document(path: Path) -> Any:
    try:
        return json.loads(read_regular(path))
    except OSError as error:
        raise NotFound(f"{path}: {error.strerror}", field="plan") from error
    except ValueError as error:
        raise FlowError(f"{path}: not JSON: {error}", code="bad_plan", field="plan") from error


def _integrations(document: Any, folder: Path, services: Services) -> None:
    """Copy the local files to the store, and replace their paths in the document, which is validated afterwards."""
    for each in document.get("integrations") or () if isinstance(document, dict) else ():
        if isinstance(each, dict) and isinstance(each.get("files"), list):
            each["files"] = [
                _stored(folder / file, services) if isinstance(file, str) and "://" not in file else file
                for file in each["files"]
            ]


def _stored(path: Path, services: Services) -> dict[str, Any]:
    root = services.settings.store
    try:
        with open_regular(path) as file, services.store(root).new_resource() as resource:
            while block := file.read(BLOCK_BYTES):
                resource.write(block)
                if resource.size > services.settings.max_bytes:
                    msg = f"{path}: has more than {services.settings.max_bytes} bytes (DATAFAB_MAX_BYTES)"
                    raise FlowError(msg, code="too_large", field="files")
            sha256, size = resource.commit()
    except OSError as error:
        raise NotFound(f"{path}: {error.strerror}", field="files") from error
    return {"path": path.name, "store": root, "sha256": sha256, "size": size}


def integrations(ctx: Context) -> Iterator[Item]:
    """Yield each archive of a plan."""
    plan = _plan(ctx)
    datastore = ctx.services.get(Entrepot).at(plan.datastore).name
    lock_names(datastore, plan.integrations, ctx)
    store = ctx.services.store(ctx.services.settings.store)
    for each in plan.integrations:
        try:
            extent = simplify(each.extent) if each.extent else None
        except Fatal as error:
            msg = f"{each.name}: {error.message}"
            raise FlowError(msg, code=error.code, field="extent") from error
        integration = each.model_copy(update={"extent": extent})
        kept = store.write_list(integration.model_dump_json(by_alias=True, exclude_none=True).encode())
        facts = EntrepotFacts(plan=kept, datastore=datastore)
        yield Item(source=f"entrepot:{datastore}/{each.name}", filename=each.name, entrepot=facts)


def _plan(ctx: Context) -> Plan:
    given = ctx.params["plan"]
    if not isinstance(given, str):
        return read_plan(given, "plan")
    digest, _, name = given.removeprefix(LIST_PREFIX).partition("#")
    return read_plan(json.loads(ctx.services.store(ctx.services.settings.store).read_list(digest)), name or "plan")


STAGES = (
    Stage(
        name="integrations",
        params=frozenset({"plan"}),
        queue="io",
        expand=integrations,
        provides=frozenset({"entrepot", "filename"}),
        retry=RetryPolicy(deadline=300.0),
    ),
)
