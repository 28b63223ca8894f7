"""Flows as data: a source stage that yields items, then stages that each item goes through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datafab.domain.payload import Item
from datafab.errors import FlowError, NotFound
from datafab.stage import Stage
from datafab.stages import STAGES

#: Fields that every item has from the start.
ALWAYS = frozenset({"source", "status"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A named sequence: ``source`` yields items, each goes through ``stages``, then ``then``.

    ``then`` may be replaced for one job by its parameter ``then``, e.g. ``["index", "push"]`` or ``[]``.
    """

    name: str
    title: str
    source: str
    stages: tuple[str, ...]
    then: tuple[str, ...] = ()
    #: the flow that is run whenever a job of this one has ended, however: its parameter ``of`` is the job's id
    after: str = ""
    #: parameters it needs
    requires: frozenset[str] = frozenset()
    #: parameters that name a local file: its bytes go to the store, for workers on any host
    files: frozenset[str] = frozenset()
    #: parameters that name a folder: made absolute
    folders: frozenset[str] = frozenset()


FLOWS: dict[str, Flow] = {
    flow.name: flow
    for flow in (
        Flow(
            name="collect",
            title="Fetch every endpoint of an endpoint.csv, then analyse and index what came",
            source="endpoints",
            stages=("collect",),
            then=("analyse", "index"),
            requires=frozenset({"endpoints", "collection"}),
            files=frozenset({"endpoints"}),
            folders=frozenset({"collection"}),
        ),
    )
}


def plan(name: str, params: Mapping[str, Any]) -> tuple[Stage, list[Stage]]:
    """Return the source stage and the stages of a job.

    Raises:
        NotFound: no such flow.
        FlowError: a parameter is missing, a stage unknown or without what it requires.
    """
    if name not in FLOWS:
        msg = f"no flow {name!r}; there are {', '.join(sorted(FLOWS))}"
        raise NotFound(msg, field="flow")
    flow = FLOWS[name]
    for missing in sorted(flow.requires - params.keys()):
        msg = f"flow {name!r} needs the parameter {missing!r}"
        raise FlowError(msg, field=missing)
    names = [*flow.stages, *params.get("then", flow.then)]
    unknown = [stage for stage in (flow.source, *names) if stage not in STAGES]
    if unknown:
        msg = f"no stage {unknown[0]!r}; there are {', '.join(sorted(STAGES))}"
        raise FlowError(msg, field="then")
    source, stages = STAGES[flow.source], [STAGES[stage] for stage in names]
    check(source, stages)
    return source, stages


def check(source: Stage, stages: Sequence[Stage]) -> None:
    """Raise FlowError unless every stage finds the item fields that it requires."""
    there = ALWAYS | source.provides
    names = [stage.name for stage in stages]
    for name in names:
        if names.count(name) > 1:
            msg = f"stage {name!r} stands there twice; progress and results are kept by its name"
            raise FlowError(msg, field=name)
    for stage in stages:
        missing = stage.requires - there
        if missing:
            msg = f"stage {stage.name!r} needs {', '.join(sorted(missing))}, which no stage before it provides"
            raise FlowError(msg, field=stage.name)
        there |= stage.provides
    unknown = there - Item.model_fields.keys()
    if unknown:
        msg = f"items have no field {', '.join(sorted(unknown))}"
        raise FlowError(msg)
