"""Analyse a resource."""

from __future__ import annotations

from datafab.domain.payload import Item, Status
from datafab.stage import Context, Stage


def analyse(item: Item, ctx: Context) -> Item:
    """Find out what a table's columns hold."""
    del ctx
    return item


STAGES: tuple[Stage, ...] = (
    Stage(
        name="analyse",
        queue="cpu",
        run=analyse,
        requires=frozenset({"sha256", "store"}),
        provides=frozenset({"analysis"}),
        wants=frozenset({Status.OK, Status.UNCHANGED}),
    ),
)
