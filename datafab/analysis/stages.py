"""Analyse resources: what the columns of a table hold. Each content is analysed once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from datafab.analysis import detective
from datafab.core.backoff import RetryPolicy
from datafab.core.document import VERSION, analysis_name, filename
from datafab.core.item import Item, ItemError, Status
from datafab.core.stage import Context, Stage
from datafab.errors import Fatal, Unsuitable

#: Codes of contents that are something else than a table. What is damaged, empty or a web page in place of one is told.
NO_TABLE = frozenset({"not_tabular", "unsupported"})


def analyse(item: Item, ctx: Context) -> Item:
    """Find out what a table's columns hold, unless that is known of this content.

    Raises:
        Unsuitable: the resource is no table that can be analysed. That is kept too, and not tried again.
    """
    if item.sha256 is None or item.store is None:
        return item
    store = ctx.services.store(item.store)
    name = analysis_name(item.sha256)
    kept = store.read(name)
    found = _whole(kept)
    if kept is None or found is None:
        # A missing resource is no finding about the content: it fails here, and nothing is kept.
        with store.local(item.sha256) as path:
            found = _examine(path, ctx)
        kept = json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
        store.write(name, kept)
    if found["status"] != "ok":
        error = ItemError.model_validate(found["error"])
        message, other = f"{filename(item)}: {error.message}", error.type in NO_TABLE
        raise Unsuitable(message, code=error.type, field=error.field, another_kind=other)
    return item.evolve(analysis=hashlib.sha256(kept).hexdigest())


def _whole(kept: bytes | None) -> dict[str, Any] | None:
    """Return a kept analysis; None where there is none, or a power cut left half of one."""
    try:
        found = json.loads(kept or b"")
    except ValueError:
        return None
    return found if isinstance(found, dict) and "status" in found else None


def _examine(path: Path, ctx: Context) -> dict[str, Any]:
    """Return the analysis document, of success or of failure: the content alone decides which.

    Raises:
        Unsuitable: ``too_large``, which says nothing about the content.
    """
    try:
        return detective(ctx.services).analyse(path, progress=ctx.progress, check=ctx.check)
    except Fatal as error:
        # Limits are those of today's settings.
        if error.code == "too_large":
            raise Unsuitable(error.message, code=error.code, field=error.field) from error
        failure = ItemError.of(error).dump()
        return {"v": 1, "status": "failed", "analyser": VERSION, "error": failure}


STAGES: tuple[Stage, ...] = (
    Stage(
        name="analyse",
        params=frozenset(),
        queue="cpu",
        run=analyse,
        requires=frozenset({"sha256", "store"}),
        provides=frozenset({"analysis"}),
        wants=frozenset({Status.OK, Status.UNCHANGED}),
        retry=RetryPolicy(deadline=900.0),
    ),
)
