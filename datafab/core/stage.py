"""What a stage is, and what it may use while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from datafab.core.item import Item, Status
from datafab.errors import DatafabError, FlowError

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from datafab.core.services import Services

P = TypeVar("P", bound=BaseModel)

#: What comes of one item: the item on its way, or why not.
Outcome = Item | DatafabError


def no_cluster(flow: str, _params: Mapping[str, Any], _key: str) -> str:
    """Refuse to enqueue: a run in one process has nobody to hand a job to."""
    msg = f"flow {flow!r} is to be enqueued, which needs a cluster: run this job on one (`datafab up`), not inline"
    raise FlowError(msg, code="no_cluster", field="DATAFAB_REDIS_URL")


def in_order(items: Iterable[Item], size: int, per_host: int = 0) -> Iterator[list[Item]]:  # noqa: ARG001 - one shape
    """Cut into batches of at most ``size``, in the order given; hosts do not matter."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a stage sees of the world."""

    services: Services
    #: the job's parameters
    params: Mapping[str, Any]
    #: job id
    job: str
    #: Unix time at which the job was made
    created: float
    log: FilteringBoundLogger
    #: raises Lost when the job was cancelled or this attempt no longer counts
    check: Callable[[], None]
    #: progress(done, total, unit), for an item that takes long; coming further than ever ends a row of failures
    progress: Callable[[int, int | None, str], None]
    #: this stage's and item's own notes, kept over restarts of the same job; JSON values
    memo: MutableMapping[str, Any]
    #: enqueue(flow, params, key) -> id of the job that has the key: a new one, or the one that had it before
    enqueue: Callable[[str, dict[str, Any], str], str] = no_cluster

    def given(self, model: type[P]) -> P:
        """Return the job's parameters as a value.

        Raises:
            FlowError: one is missing or wrong; ``field`` is its name.
        """
        try:
            return model.model_validate(dict(self.params))
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            name = ".".join(map(str, first["loc"]))
            raise FlowError(f"{name}: {first['msg']}", code="bad_request", field=name) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step on one item, with how it is to be run. Exactly one of ``run``, ``run_many``, ``expand`` is given.

    A stage is idempotent: it looks up whether its effect is there, else acts, else raises Wait.
    """

    name: str
    queue: Literal["io", "cpu", "control"]
    #: one item
    run: Callable[[Item, Context], Item] | None = None
    #: several items where that is quicker: one outcome for each, in their order
    run_many: Callable[[list[Item], Context], Iterator[Outcome]] | None = None
    #: the items of a job, from its parameters: a source stage
    expand: Callable[[Context], Iterator[Item]] | None = None
    #: a source stage's way to deal its items into batches: deal(items, size, per_host)
    deal: Callable[[Iterable[Item], int, int], Iterator[list[Item]]] = in_order
    #: what an item is that has failed here; unset: itself, with the error
    failed: Callable[[Item, DatafabError], Item] | None = None
    #: item fields that must be there before, and those that are there after
    requires: frozenset[str] = frozenset()
    provides: frozenset[str] = frozenset()
    #: parameters of a job that it reads; None: it may read any, and no name is taken for a mistake
    params: frozenset[str] | None = None
    #: statuses of the items that it takes; others pass through
    wants: frozenset[Status] = frozenset({Status.OK})
    #: seconds in which some item must end, else the attempt is given up
    deadline: float = 3600.0
    #: seconds that an item may wait in this stage, all its Waits and retries together
    patience: float = 24 * 3600.0
    #: how often an item may fail with Retriable in a row before it has failed; None: as long as its patience lasts
    retries: int | None = 3
    #: the flow that is run whenever a job with this stage has ended, however: its parameter ``of`` is the job's id
    after: str = ""

    @property
    def title(self) -> str:
        """What it does, in one line: the first line of the function's docstring."""
        function = self.run or self.run_many or self.expand
        return (function.__doc__ or "").partition("\n")[0]

    def dump(self) -> dict[str, Any]:
        """Return the JSON form that HTTP and the command line show."""
        return {
            "name": self.name,
            "title": self.title,
            "queue": self.queue,
            "source": self.expand is not None,
            "requires": sorted(self.requires),
            "provides": sorted(self.provides),
        }
