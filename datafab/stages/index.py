"""Index what was analysed."""

from __future__ import annotations

from collections.abc import Iterator

from datafab.domain.payload import Item, Status
from datafab.stage import Context, Outcome, Stage


def index(items: list[Item], ctx: Context) -> Iterator[Outcome]:
    """Put what is known of each item into the index."""
    del ctx
    yield from items


STAGES: tuple[Stage, ...] = (
    Stage(
        name="index",
        queue="io",
        run_many=index,
        requires=frozenset({"source"}),
        wants=frozenset({Status.OK, Status.UNCHANGED, Status.FAILED}),
    ),
)
