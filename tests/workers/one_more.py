"""One more stage: this file, and the one line that puts it into STAGES. ``celery -A tests.workers.one_more worker``."""

from datafab.core.item import Item
from datafab.core.stage import Context, Stage
from datafab.flows.chains import STAGES


def measure(item: Item, ctx: Context) -> Item:
    """Say how long an item's address is."""
    return item.evolve(size=len(item.url or ""))


MEASURE = Stage(name="measure", queue="io", run=measure, requires=frozenset({"url"}), provides=frozenset({"size"}))
STAGES.update({stage.name: stage for stage in (MEASURE,)})

from tests.workers.toys import app  # noqa: E402 - tasks are made from STAGES when workers is imported

__all__ = ["app"]
