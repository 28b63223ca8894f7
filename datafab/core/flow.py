"""Flows: named sequences of stages, and the check that their stages fit each other."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from datafab.core.condition import Condition
from datafab.core.item import Item
from datafab.core.stage import FollowUp, Stage
from datafab.errors import FlowError

if TYPE_CHECKING:
    from datafab.core.services import Services

#: Fields that every item has from the start.
ALWAYS = frozenset({"source", "status"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A named sequence: ``producer`` yields items, each goes through ``stages``, then ``then``.

    ``then`` may be replaced for one job by its parameter ``then``, e.g. ``["index", "push"]`` or ``[]``. Its parameter
    ``when`` adds conditions, stage -> text: an item for which a stage's condition is false passes that stage untouched.
    """

    name: str
    title: str
    #: the stage that yields the items
    producer: str
    stages: tuple[str, ...]
    then: tuple[str, ...] = ()
    #: the flow that runs whenever a job of this one has ended
    follow_up: FollowUp | None = None
    #: parameters that it needs
    requires: frozenset[str] = frozenset()
    #: parameters that name a local file: its bytes go to the store, for workers on any host
    files: frozenset[str] = frozenset()
    #: parameters that name a folder: made absolute
    folders: frozenset[str] = frozenset()
    #: parameters that are a JSON document, which may name files and stores itself
    documents: frozenset[str] = frozenset()
    #: changes the other parameters, before a job is enqueued, so that they mean the same on every host
    localise: Callable[[Mapping[str, Any], Services], dict[str, Any]] | None = None
    #: parameters of jobs that do not set them
    defaults: Mapping[str, Any] = field(default_factory=dict)
    #: stage -> condition
    when: Mapping[str, str] = field(default_factory=dict)
    #: when beat runs it, as in a crontab; empty: only on request
    schedule: str = ""
    #: the file and line that define it; empty: built in
    where: str = ""

    @property
    def needs(self) -> frozenset[str]:
        """The parameters that a job must give."""
        return self.requires - self.defaults.keys()

    def dump(self) -> dict[str, Any]:
        """Return the JSON form that HTTP and the command line show."""
        facts: dict[str, Any] = {
            "name": self.name,
            "title": self.title,
            "source": self.producer,
            "stages": list(self.stages),
            "then": list(self.then),
            "requires": sorted(self.needs),
            "on": "schedule" if self.schedule else "event",
        }
        more = {"schedule": self.schedule, "with": dict(self.defaults), "when": dict(self.when), "where": self.where}
        return facts | {name: value for name, value in more.items() if value}


def expand_names(
    names: Sequence[str], before: Sequence[str], stages: Container[str], known: Mapping[str, Flow]
) -> tuple[str, ...]:
    """Return the names of stages, where the name of a flow stands for those of its stages that are still missing.

    So ``push`` after ``analyse`` means the rest of the flow ``push``. A name that a stage and a flow share means the
    stage.

    Args:
        names: of stages and flows.
        before: the stages before them.
        stages: the names of all stages.
        known: all flows.
    """
    found: list[str] = []
    for name in names:
        flow = None if name in stages else known.get(name)
        found += [one for one in (*flow.stages, *flow.then) if one not in {*before, *found}] if flow else [name]
    return tuple(found)


def check_sequence(producer: Stage, stages: Sequence[Stage], when: Mapping[str, Condition] | None = None) -> None:
    """Raise FlowError unless the item fields that each stage requires, and its condition names, are set before it."""
    for fault in find_faults(producer, stages, when or {}):
        raise fault


def find_faults(producer: Stage, stages: Sequence[Stage], when: Mapping[str, Condition]) -> Iterator[FlowError]:
    """Yield the faults of a sequence of stages. Their ``field`` is the stage, or ``when.<stage>``."""
    provided: dict[str, list[Condition | None]] = {name: [None] for name in ALWAYS | producer.provides}
    seen: set[str] = set()
    for stage in stages:
        condition = when.get(stage.name)
        if stage.name in seen:
            msg = f"stage {stage.name!r} occurs twice; progress and results are kept by its name"
            yield FlowError(msg, field=stage.name)
        if stage.expand:
            msg = f"stage {stage.name!r} yields a job's items: it can only come first, as the source"
            yield FlowError(msg, field=stage.name)
        yield from _missing_fields(stage, condition, provided)
        seen.add(stage.name)
        for name in stage.provides:
            provided.setdefault(name, []).append(condition)
    unknown = provided.keys() - Item.model_fields.keys()
    if unknown:
        yield FlowError(f"items have no field {', '.join(sorted(unknown))}")
    for name in sorted(when.keys() - seen):
        msg = f"a condition for {name!r}, which is no stage of this flow; there are {', '.join(sorted(seen))}"
        yield FlowError(msg, field=f"when.{name}")


def _missing_fields(
    stage: Stage, condition: Condition | None, provided: Mapping[str, Sequence[Condition | None]]
) -> Iterator[FlowError]:
    """Yield the faults of missing fields. A stage with a condition sets its fields only for items that meet it."""
    missing = stage.requires - provided.keys()
    if missing:
        msg = f"stage {stage.name!r} needs {', '.join(sorted(missing))}, which no stage before it provides"
        yield FlowError(msg, field=stage.name)
    for name in sorted(stage.requires & provided.keys()):
        if not any(one is None or (condition and condition.implies(one)) for one in provided[name]):
            texts = " and ".join(repr(one.text) for one in provided[name] if one)
            msg = f"stage {stage.name!r} needs {name}, which is set only when {texts}: give it that condition too"
            yield FlowError(msg, field=stage.name)
    named = (condition.needs if condition else frozenset()) - provided.keys()
    if named:
        msg = f"the condition of {stage.name!r} names {', '.join(sorted(named))}, which no stage before it provides"
        yield FlowError(msg, field=f"when.{stage.name}")
