"""Stages: one step of a flow, its context while it runs, and how it is tried again and followed up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from datafab.core.backoff import RetryPolicy
from datafab.core.item import Item, Status
from datafab.core.roles import Role
from datafab.errors import DatafabError, FlowError

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from datafab.core.services import Services

P = TypeVar("P", bound=BaseModel)

#: The outcome of one item: the item as it goes on, or the error that stopped it.
Outcome = Item | DatafabError


def refuse_to_enqueue(flow: str, _params: Mapping[str, Any], _key: str) -> str:
    """Refuse to enqueue a job: a run in one process has no cluster that could run it."""
    msg = f"flow {flow!r} is to be enqueued, which needs a cluster: run this job on one (`datafab up`), not inline"
    raise FlowError(msg, code="no_cluster", field="DATAFAB_REDIS_URL")


def deal_in_order(items: Iterable[Item], size: int, per_host: int = 0) -> Iterator[list[Item]]:  # noqa: ARG001 - as ``deal``
    """Cut items into batches of at most ``size``, in the order given, whatever their hosts."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a stage may use while it runs."""

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
    #: progress(done, total, unit), for an item that takes long; coming further than ever before ends a row of failures
    progress: Callable[[int, int | None, str], None]
    #: the stage's own notes on the item, kept over restarts of the same job; JSON values
    memo: MutableMapping[str, Any]
    #: enqueue(flow, params, key) -> id of the job that has the key: a new one, or the one that had it before
    enqueue: Callable[[str, dict[str, Any], str], str] = refuse_to_enqueue

    def read_params(self, model: type[P]) -> P:
        """Return the job's parameters as a model.

        Raises:
            FlowError: one is missing or wrong; ``field`` is its name.
        """
        try:
            return model.model_validate(dict(self.params))
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            name = ".".join(map(str, first["loc"]))
            raise FlowError(f"{name}: {first['msg']}", code="bad_request", field=name) from error


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A flow that runs whenever a job has ended, however it did; its parameter ``of`` is the job's id.

    Attributes:
        flow: the name of the flow.
        if_param: a parameter that the job must have for it; empty: it always runs.
    """

    flow: str
    if_param: str = ""

    def applies(self, params: Mapping[str, Any]) -> bool:
        """Return whether it runs after a job with these parameters."""
        return not self.if_param or bool(params.get(self.if_param))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step on one item. Exactly one of ``run``, ``run_many`` and ``expand`` is set.

    A stage is idempotent: it looks whether its effect exists, else acts, else raises Wait.
    """

    name: str
    queue: Literal["io", "cpu", "control"]
    #: works on one item
    run: Callable[[Item, Context], Item] | None = None
    #: works on several items, where that is quicker; yields one outcome for each, in their order
    run_many: Callable[[list[Item], Context], Iterator[Outcome]] | None = None
    #: yields the items of a job, from its parameters: the stage is a producer
    expand: Callable[[Context], Iterator[Item]] | None = None
    #: deal(items, size, per_host) cuts a producer's items into batches
    deal: Callable[[Iterable[Item], int, int], Iterator[list[Item]]] = deal_in_order
    #: returns an item that has failed in this stage; None: the item with the error
    failed: Callable[[Item, DatafabError], Item] | None = None
    #: item fields that must be set before the stage, and those that are set after it
    requires: frozenset[str] = frozenset()
    provides: frozenset[str] = frozenset()
    #: parameters of a job that it reads; None: it may read any, so no name is refused as a mistake
    params: frozenset[str] | None = None
    #: statuses of the items that it takes; other items pass through
    wants: frozenset[Status] = frozenset({Status.OK})
    #: how often and for how long it tries an item
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    #: the flow that runs whenever a job with this stage has ended
    follow_up: FollowUp | None = None
    #: the role that a caller over HTTP needs to enqueue a job with it
    role: Role = Role.OPERATOR
    #: parameters that only an administrator may choose over HTTP
    admin_params: frozenset[str] = frozenset()

    @property
    def title(self) -> str:
        """The first line of the function's docstring."""
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
