"""What a flow is, and whether its stages fit each other."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from datafab.core.condition import Condition
from datafab.core.item import Item
from datafab.core.stage import Stage
from datafab.errors import FlowError

if TYPE_CHECKING:
    from datafab.core.services import Services

#: Fields that every item has from the start.
ALWAYS = frozenset({"source", "status"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A named sequence: ``source`` yields items, each goes through ``stages``, then ``then``.

    ``then`` may be replaced for one job by its parameter ``then``, e.g. ``["index", "push"]`` or ``[]``. Its parameter
    ``when`` adds conditions, stage -> text: an item for which a stage's condition is false passes that stage untouched.
    """

    name: str
    title: str
    source: str
    stages: tuple[str, ...]
    then: tuple[str, ...] = ()
    #: the flow that is run whenever a job of this one has ended, however: its parameter ``of`` is the job's id
    after: str = ""
    #: the parameter of a job that must be set for it to follow; empty: it always does
    after_if: str = ""
    #: parameters it needs
    requires: frozenset[str] = frozenset()
    #: parameters that name a local file: its bytes go to the store, for workers on any host
    files: frozenset[str] = frozenset()
    #: parameters that name a folder: made absolute
    folders: frozenset[str] = frozenset()
    #: parameters that are a JSON document, which may name files and stores itself
    documents: frozenset[str] = frozenset()
    #: makes the other parameters mean the same on every host, before a job is enqueued
    localise: Callable[[Mapping[str, Any], Services], dict[str, Any]] | None = None
    #: default parameters; a job's own win over them
    defaults: Mapping[str, Any] = field(default_factory=dict)
    #: stage -> condition
    when: Mapping[str, str] = field(default_factory=dict)
    #: when beat runs it, as in a crontab; empty: whenever somebody asks for it
    schedule: str = ""
    #: file and line that it comes from; empty: built in
    where: str = ""

    @property
    def needs(self) -> frozenset[str]:
        """The parameters that a job must give."""
        return self.requires - self.defaults.keys()

    def following(self, params: Mapping[str, Any]) -> str:
        """Return the flow that follows a job with these parameters; empty: none does."""
        return self.after if not self.after_if or params.get(self.after_if) else ""

    def dump(self) -> dict[str, Any]:
        """Return the JSON form that HTTP and the command line show."""
        facts: dict[str, Any] = {
            "name": self.name,
            "title": self.title,
            "source": self.source,
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
    """Return stages: a flow named among them stands for its own, without those that are there before it.

    So ``push`` after ``analyse`` is the rest of the flow ``push``. A stage that has a flow's name is meant itself.
    """
    found: list[str] = []
    for name in names:
        flow = None if name in stages else known.get(name)
        found += [one for one in (*flow.stages, *flow.then) if one not in {*before, *found}] if flow else [name]
    return tuple(found)


def check(source: Stage, stages: Sequence[Stage], when: Mapping[str, Condition] | None = None) -> None:
    """Raise FlowError unless every stage finds the item fields that it requires, and its condition those it asks."""
    for fault in faults(source, stages, when or {}):
        raise fault


def faults(source: Stage, stages: Sequence[Stage], when: Mapping[str, Condition]) -> Iterator[FlowError]:
    """Yield all that is wrong with a sequence; ``field`` is the stage, or ``when.<stage>``."""
    there: dict[str, list[Condition | None]] = {name: [None] for name in ALWAYS | source.provides}
    seen: set[str] = set()
    for stage in stages:
        condition = when.get(stage.name)
        if stage.name in seen:
            msg = f"stage {stage.name!r} stands there twice; progress and results are kept by its name"
            yield FlowError(msg, field=stage.name)
        if stage.expand:
            msg = f"stage {stage.name!r} yields a job's items: it can only stand first, as the source"
            yield FlowError(msg, field=stage.name)
        yield from _missing(stage, condition, there)
        seen.add(stage.name)
        for name in stage.provides:
            there.setdefault(name, []).append(condition)
    unknown = there.keys() - Item.model_fields.keys()
    if unknown:
        yield FlowError(f"items have no field {', '.join(sorted(unknown))}")
    for name in sorted(when.keys() - seen):
        msg = f"a condition for {name!r}, which is no stage of this flow; there are {', '.join(sorted(seen))}"
        yield FlowError(msg, field=f"when.{name}")


def _missing(
    stage: Stage, condition: Condition | None, there: Mapping[str, Sequence[Condition | None]]
) -> Iterator[FlowError]:
    """Yield what a stage does not find. What a stage with a condition provides is there for the same items only."""
    missing = stage.requires - there.keys()
    if missing:
        msg = f"stage {stage.name!r} needs {', '.join(sorted(missing))}, which no stage before it provides"
        yield FlowError(msg, field=stage.name)
    for name in sorted(stage.requires & there.keys()):
        if not any(one is None or (condition and condition.implies(one)) for one in there[name]):
            texts = " and ".join(repr(one.text) for one in there[name] if one)
            msg = f"stage {stage.name!r} needs {name}, which is there only when {texts}: give it that condition too"
            yield FlowError(msg, field=stage.name)
    asked = (condition.needs if condition else frozenset()) - there.keys()
    if asked:
        msg = f"the condition of {stage.name!r} asks {', '.join(sorted(asked))}, which no stage before it provides"
        yield FlowError(msg, field=f"when.{stage.name}")
