"""Stage ``analyse``: analyse the columns of tables, each content once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from datafab.analysis import get_detective
from datafab.analysis.bad_rows import bad_rows_policy, refuse_bad_rows
from datafab.analysis.sheet_choice import requested_sheet
from datafab.core.backoff import RetryPolicy
from datafab.core.document import VERSION, analysis_name, filename
from datafab.core.item import Item, ItemError, Status
from datafab.core.stage import Context, Stage
from datafab.errors import Fatal, Unsuitable

#: Codes of contents that are no tables at all, unlike damaged or empty files, or a web page in place of a table.
OTHER_KIND_CODES = frozenset({"not_tabular", "unsupported"})


def analyse(item: Item, ctx: Context) -> Item:
    """Analyse a resource, unless its content has been analysed before.

    Raises:
        Unsuitable: the resource cannot be analysed as a table. This result is stored, too, and not tried again.
    """
    if item.sha256 is None or item.store is None:
        return item
    item = item.evolve(sheet=requested_sheet(ctx.params) or item.sheet)
    store = ctx.services.store(str(item.store))
    name = analysis_name(str(item.sha256), item.sheet)
    stored = store.read(name)
    found = _read_stored(stored)
    if stored is None or found is None:
        # A missing resource says nothing about its content: it fails here, and nothing is stored.
        with store.local(str(item.sha256)) as path:
            found = _analyse_file(path, item.sheet, ctx)
        ctx.check()  # a file whose reading was interrupted may look damaged
        stored = json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
        store.write(name, stored)
    if found["status"] != "ok":
        error = ItemError.model_validate(found["error"])
        message, other = f"{filename(item)}: {error.message}", error.type in OTHER_KIND_CODES
        raise Unsuitable(message, code=error.type, field=error.field, another_kind=other)
    _refuse_bad_rows(found, item, ctx)
    return item.evolve(analysis=hashlib.sha256(stored).hexdigest())


def _refuse_bad_rows(found: dict[str, Any], item: Item, ctx: Context) -> None:
    """Raise Unsuitable if rows were left out of a table that the job or the setting wants whole."""
    try:
        refuse_bad_rows(found, bad_rows_policy(ctx.params, ctx.services.settings.bad_rows))
    except Fatal as error:
        raise Unsuitable(f"{filename(item)}: {error.message}", code=error.code, field=error.field) from error


def _read_stored(stored: bytes | None) -> dict[str, Any] | None:
    """Return a stored analysis; None if there is none, or if a power failure left it incomplete."""
    try:
        found = json.loads(stored or b"")
    except ValueError:
        return None
    return found if isinstance(found, dict) and "status" in found else None


def _analyse_file(path: Path, sheet: str | None, ctx: Context) -> dict[str, Any]:
    """Return the analysis document, of success or of failure, which depends on the content alone.

    Raises:
        Unsuitable: ``too_large``, which also depends on the settings, and so is not stored.
    """
    try:
        return get_detective(ctx.services).analyse(path, progress=ctx.progress, check=ctx.check, sheet=sheet)
    except Fatal as error:
        # The limits are settings, which may change.
        if error.code == "too_large":
            raise Unsuitable(error.message, code=error.code, field=error.field) from error
        failure = ItemError.of(error).dump()
        return {"v": 1, "status": "failed", "analyser": VERSION, "error": failure}


STAGES: tuple[Stage, ...] = (
    Stage(
        name="analyse",
        params=frozenset({"bad_rows", "sheet"}),
        queue="cpu",
        run=analyse,
        requires=frozenset({"sha256", "store"}),
        provides=frozenset({"analysis"}),
        wants=frozenset({Status.OK, Status.UNCHANGED}),
        retry=RetryPolicy(deadline=900.0),
    ),
)
