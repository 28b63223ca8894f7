"""Makes a flow of a ``[[flow]]`` table of ``datafab.toml``, or says all that is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from datafab.core.condition import Condition, parse
from datafab.core.flow import Flow, faults, spread
from datafab.core.item import MAX_MESSAGE
from datafab.errors import FlowError
from datafab.flows import crontab
from datafab.flows.chains import STAGES
from datafab.flows.parameters import is_secret

#: Bytes that parameters and conditions may take of a message, which Celery wraps; the rest is for items.
MAX_GIVEN = MAX_MESSAGE // 4
#: Parameters of a job that have a key of their own here.
SPELLED = {"then": "stages", "when": "when"}


class Table(BaseModel):
    """One ``[[flow]]`` table."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")
    #: a source stage, or a flow to build on
    source: str
    #: what items go through; on a flow: instead of its ``then``
    stages: list[str] | None = None
    on: Literal["event", "schedule"] | None = None
    #: a crontab
    schedule: str | None = None
    #: parameters
    with_: dict[str, Any] = Field(default={}, alias="with")
    #: stage -> condition
    when: dict[str, str] = {}


KEYS = tuple(info.alias or name for name, info in Table.model_fields.items())


class Fault(NamedTuple):
    """Something wrong with a table."""

    #: the key that it is about, as a way from the table; empty: the table as a whole
    keys: tuple[str, ...]
    message: str


@dataclass(slots=True)
class Composer:
    """Makes one flow.

    Attributes:
        raw: the table, as TOML gives it.
        known: flows to build on, whose names are taken.
        folder: where relative paths begin.
        where: file and line of the table.
        cron: see ``domain.crontab``.
        faults: what is wrong, once ``composed`` was called.
    """

    raw: Any
    known: Mapping[str, Flow]
    folder: Path
    where: str
    cron: crontab.Cron = str
    faults: list[Fault] = field(default_factory=list)

    def composed(self) -> Flow | None:
        """Return the flow; None: see ``faults``."""
        try:
            table = Table.model_validate(self.raw)
        except ValidationError as error:
            for one in error.errors(include_url=False):
                self._invalid(one)
            return None
        self._name(table)
        self._start(table)
        base = self._base(table)
        if base is None:
            return None
        flow = self._flow(table, base)
        self._given(table, flow)
        self._sequence(table, flow)
        return None if self.faults else flow

    def _wrong(self, message: str, *keys: str) -> None:
        self.faults.append(Fault(keys, message))

    def _invalid(self, error: ErrorDetails) -> None:
        """Say what pydantic found."""
        keys = [str(key) for key in error["loc"] if not isinstance(key, int)]
        match error["type"]:
            case "missing":
                self._wrong(f"is missing; a flow has {', '.join(KEYS)}", *keys)
            case "extra_forbidden":
                near = get_close_matches(keys[-1], KEYS, 1)
                self._wrong(f"no such key; {_meant(near) or 'a flow has ' + ', '.join(KEYS)}", *keys)
            case "string_pattern_mismatch":
                self._wrong("small letters, digits, - and _, a letter first, at most 64 characters", *keys)
            case _:
                self._wrong(f"{error['msg']}, not {error['input']!r}", *keys)

    def _name(self, table: Table) -> None:
        taken = self.known.get(table.name)
        if taken:
            whose = f"the flow at {taken.where}" if taken.where else "a built-in flow"
            self._wrong(f"{whose} has this name; choose another (source = {table.name!r} builds on that one)", "name")

    def _start(self, table: Table) -> None:
        """See when it is run."""
        if table.on == "schedule" and table.schedule is None:
            self._wrong('needs a schedule, e.g. schedule = "0 6 * * *"', "on")
        elif table.on == "event" and table.schedule is not None:
            self._wrong('a schedule, but on = "event": leave one of them out', "schedule")
        for fault in crontab.faults(table.schedule, self.cron) if table.schedule is not None else ():
            self._wrong(fault, "schedule")

    def _base(self, table: Table) -> Flow | None:
        """Return what the flow starts from: another flow, or what the flows with its source stage have in common."""
        stage = STAGES.get(table.source)
        if table.source in self.known and not (stage and stage.expand):
            return self.known[table.source]
        if stage is None or not stage.expand:
            sources = sorted(one.name for one in STAGES.values() if one.expand)
            what = "goes through items and yields none" if stage else "is neither a source stage nor a flow"
            self._wrong(f"{table.source!r} {what}; there are {', '.join([*sources, *sorted(self.known)])}", "source")
        elif not table.stages:
            self._wrong("is missing or empty; only a flow that builds on another needs no stages", "stages")
        else:
            return _bare(stage.name, [flow for flow in self.known.values() if flow.source == stage.name])
        return None

    def _flow(self, table: Table, base: Flow) -> Flow:
        mine = spread(table.stages or (), base.stages, STAGES, self.known)
        stages, then = (base.stages, base.then if table.stages is None else mine) if base.name else (mine, ())
        return Flow(
            name=table.name,
            title=" > ".join((base.source, *stages, *then)),
            source=base.source,
            stages=stages,
            then=then,
            after=base.after,
            after_if=base.after_if,
            requires=base.requires,
            files=base.files,
            folders=base.folders,
            documents=base.documents,
            given={**base.given, **self._located(table.with_, base)},
            when={name: text for name, text in base.when.items() if name in (*stages, *then)} | table.when,
            schedule=table.schedule or "",
            where=self.where,
        )

    def _located(self, given: Mapping[str, Any], base: Flow) -> dict[str, Any]:
        """Return the parameters, the paths among them as seen from the file's folder."""
        paths = base.files | base.folders
        return {
            name: str(self.folder / value) if name in paths and isinstance(value, str) and "://" not in value else value
            for name, value in given.items()
        }

    def _given(self, table: Table, flow: Flow) -> None:
        """See that the parameters can travel, and that a schedule leaves none open."""
        for name, value in table.with_.items():
            if is_secret(name):
                self._wrong("a secret would stand in messages and listings; flows cannot hold one yet", "with", name)
            elif name in SPELLED:
                self._wrong(f"is said by the key `{SPELLED[name]}` of the flow", "with", name)
            elif not _is_json(value):
                self._wrong(f"{value!r} is no JSON value; write a date as text", "with", name)
        missing = ", ".join(sorted(flow.needs))
        if flow.schedule and missing:
            self._wrong(f"on a schedule nobody else gives {missing}; add it", "with")
        if not self.faults and len(json.dumps([flow.given, flow.when]).encode()) > MAX_GIVEN:
            self._wrong(f"`with` and `when` are larger than {MAX_GIVEN} bytes; pass data by reference", "with")

    def _sequence(self, table: Table, flow: Flow) -> None:
        """See that the stages exist and fit each other."""
        names = (*flow.stages, *flow.then)
        unknown = [name for name in names if name not in STAGES]
        for name in unknown:
            near = get_close_matches(name, STAGES, 1)
            self._wrong(f"no stage {name!r}; {_meant(near) or 'there are ' + ', '.join(sorted(STAGES))}", "stages")
        conditions = dict(self._conditions(flow))
        found = () if unknown else faults(STAGES[flow.source], [STAGES[name] for name in names], conditions)
        for fault in found:
            about, _, stage = (fault.field or "").partition(".")
            keys = (about, stage) if about == "when" else ("source" if table.stages is None else "stages",)
            self._wrong(fault.message, *keys)

    def _conditions(self, flow: Flow) -> Iterator[tuple[str, Condition]]:
        for stage, text in flow.when.items():
            try:
                yield stage, parse(text)
            except FlowError as error:
                self._wrong(error.message, "when", stage)


def _bare(source: str, alike: list[Flow]) -> Flow:
    """Return a source stage as a flow without a name: its parameters are those of the flows that have it."""
    return Flow(
        name="",
        title="",
        source=source,
        stages=(),
        requires=frozenset.intersection(*(flow.requires for flow in alike)) if alike else frozenset(),
        files=frozenset[str]().union(*(flow.files for flow in alike)),
        folders=frozenset[str]().union(*(flow.folders for flow in alike)),
        documents=frozenset[str]().union(*(flow.documents for flow in alike)),
    )


def _meant(near: list[str]) -> str:
    return f"is {near[0]!r} meant?" if near else ""


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
