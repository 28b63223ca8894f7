"""Build a flow from a ``[[flow]]`` table of ``datafab.toml``, or list everything that is wrong with the table."""

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
from datafab.core.flow import Flow, expand_names, find_faults
from datafab.core.item import MAX_MESSAGE_BYTES
from datafab.errors import FlowError
from datafab.flows import crontab
from datafab.flows.chains import STAGES
from datafab.flows.parameters import is_secret
from datafab.urls import without_credentials

#: Bytes that default parameters and conditions may take of a message; the rest is for items and Celery's headers.
MAX_DEFAULTS_BYTES = MAX_MESSAGE_BYTES // 4
#: Parameters of a job that have a key of their own in the table.
OWN_KEYS = {"then": "stages", "when": "when"}


class Table(BaseModel):
    """One ``[[flow]]`` table."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")
    #: a source stage, or a flow to build on
    source: str
    #: the stages that items go through; if ``source`` is a flow, they replace its ``then``
    stages: list[str] | None = None
    on: Literal["event", "schedule"] | None = None
    #: five fields of a crontab
    schedule: str | None = None
    #: default parameters
    with_: dict[str, Any] = Field(default={}, alias="with")
    #: stage -> condition
    when: dict[str, str] = {}


KEYS = tuple(info.alias or name for name, info in Table.model_fields.items())


class Fault(NamedTuple):
    """An error in a table."""

    #: path of the key from the table; empty: the table as a whole
    keys: tuple[str, ...]
    message: str


@dataclass(slots=True)
class FlowBuilder:
    """Builds one flow.

    Attributes:
        raw: the table as parsed from TOML.
        known: flows to build on, whose names are taken.
        folder: base of relative paths.
        where: file and line of the table.
        cron: see ``flows.crontab``.
        faults: the errors, filled by ``build``.
    """

    raw: Any
    known: Mapping[str, Flow]
    folder: Path
    where: str
    cron: crontab.Cron = str
    faults: list[Fault] = field(default_factory=list)

    def build(self) -> Flow | None:
        """Return the flow, or None if there are ``faults``."""
        try:
            table = Table.model_validate(self.raw)
        except ValidationError as error:
            for one in error.errors(include_url=False):
                self._add_validation_fault(one)
            return None
        self._check_name(table)
        self._check_schedule(table)
        base = self._base(table)
        if base is None:
            return None
        flow = self._flow(table, base)
        self._check_defaults(table, flow)
        self._check_stages(table, flow)
        return None if self.faults else flow

    def _add(self, message: str, *keys: str) -> None:
        self.faults.append(Fault(keys, message))

    def _add_validation_fault(self, error: ErrorDetails) -> None:
        """Add an error that pydantic found."""
        keys = [str(key) for key in error["loc"] if not isinstance(key, int)]
        match error["type"]:
            case "missing":
                self._add(f"is missing; a flow has {', '.join(KEYS)}", *keys)
            case "extra_forbidden":
                near = get_close_matches(keys[-1], KEYS, 1)
                self._add(f"no such key; {_suggest(near) or 'a flow has ' + ', '.join(KEYS)}", *keys)
            case "string_pattern_mismatch":
                msg = "use lower-case letters, digits, - and _, beginning with a letter, at most 64 characters"
                self._add(msg, *keys)
            case _:
                self._add(f"{error['msg']}, not {error['input']!r}", *keys)

    def _check_name(self, table: Table) -> None:
        taken = self.known.get(table.name)
        if taken:
            whose = f"the flow at {taken.where}" if taken.where else "a built-in flow"
            self._add(f"{whose} has this name; choose another (source = {table.name!r} builds on that one)", "name")

    def _check_schedule(self, table: Table) -> None:
        if table.on == "schedule" and table.schedule is None:
            self._add('needs a schedule, e.g. schedule = "0 6 * * *"', "on")
        elif table.on == "event" and table.schedule is not None:
            self._add('there is a schedule, but on = "event": remove one of them', "schedule")
        for fault in crontab.faults(table.schedule, self.cron) if table.schedule is not None else ():
            self._add(fault, "schedule")

    def _base(self, table: Table) -> Flow | None:
        """Return the flow to build on: another flow, or what all flows with this source stage have in common."""
        stage = STAGES.get(table.source)
        if table.source in self.known and not (stage and stage.expand):
            return self.known[table.source]
        if stage is None or not stage.expand:
            sources = sorted(one.name for one in STAGES.values() if one.expand)
            what = "takes items and yields none" if stage else "is neither a source stage nor a flow"
            self._add(f"{table.source!r} {what}; there are {', '.join([*sources, *sorted(self.known)])}", "source")
        elif not table.stages:
            self._add("is missing or empty; only a flow that builds on another needs no stages", "stages")
        else:
            return _common_flow(stage.name, [flow for flow in self.known.values() if flow.producer == stage.name])
        return None

    def _flow(self, table: Table, base: Flow) -> Flow:
        named = expand_names(table.stages or (), base.stages, STAGES, self.known)
        stages, then = (base.stages, base.then if table.stages is None else named) if base.name else (named, ())
        return Flow(
            name=table.name,
            title=" > ".join((base.producer, *stages, *then)),
            producer=base.producer,
            stages=stages,
            then=then,
            follow_up=base.follow_up,
            requires=base.requires,
            files=base.files,
            folders=base.folders,
            documents=base.documents,
            defaults={**base.defaults, **self._resolve_paths(table.with_, base)},
            when={name: text for name, text in base.when.items() if name in (*stages, *then)} | table.when,
            schedule=table.schedule or "",
            where=self.where,
        )

    def _resolve_paths(self, defaults: Mapping[str, Any], base: Flow) -> dict[str, Any]:
        """Return the default parameters with their relative paths resolved against the folder of the file."""
        paths = base.files | base.folders
        return {
            name: str(self.folder / value) if name in paths and isinstance(value, str) and "://" not in value else value
            for name, value in defaults.items()
        }

    def _check_defaults(self, table: Table, flow: Flow) -> None:
        """Check that the default parameters fit into messages and that a scheduled flow needs no others."""
        for name, value in table.with_.items():
            if is_secret(name):
                self._add("a secret would be visible in messages and listings; flows cannot hold one", "with", name)
            elif isinstance(value, str) and without_credentials(value) != value:
                self._add("a user or a password would be visible in messages and listings; leave it out", "with", name)
            elif name in OWN_KEYS:
                self._add(f"use the key `{OWN_KEYS[name]}` of the flow instead", "with", name)
            elif not _is_json(value):
                self._add(f"{value!r} is not a JSON value; write a date as text", "with", name)
        missing = ", ".join(sorted(flow.needs))
        if flow.schedule and missing:
            self._add(f"a flow with a schedule has to set all parameters that it needs; add {missing}", "with")
        if not self.faults and len(json.dumps([flow.defaults, flow.when]).encode()) > MAX_DEFAULTS_BYTES:
            msg = f"`with` and `when` are larger than {MAX_DEFAULTS_BYTES} bytes; put large values into a file"
            self._add(msg, "with")

    def _check_stages(self, table: Table, flow: Flow) -> None:
        """Check that the stages exist and provide what the stages after them require."""
        names = (*flow.stages, *flow.then)
        unknown = [name for name in names if name not in STAGES]
        for name in unknown:
            near = get_close_matches(name, STAGES, 1)
            self._add(f"no stage {name!r}; {_suggest(near) or 'there are ' + ', '.join(sorted(STAGES))}", "stages")
        conditions = dict(self._conditions(flow))
        found = () if unknown else find_faults(STAGES[flow.producer], [STAGES[name] for name in names], conditions)
        for fault in found:
            about, _, stage = (fault.field or "").partition(".")
            keys = (about, stage) if about == "when" else ("source" if table.stages is None else "stages",)
            self._add(fault.message, *keys)

    def _conditions(self, flow: Flow) -> Iterator[tuple[str, Condition]]:
        for stage, text in flow.when.items():
            try:
                yield stage, parse(text)
            except FlowError as error:
                self._add(error.message, "when", stage)


def _common_flow(source: str, flows: list[Flow]) -> Flow:
    """Return an unnamed flow of a source stage, with the parameters of the flows that begin with this stage."""
    return Flow(
        name="",
        title="",
        producer=source,
        stages=(),
        requires=frozenset.intersection(*(flow.requires for flow in flows)) if flows else frozenset(),
        files=frozenset[str]().union(*(flow.files for flow in flows)),
        folders=frozenset[str]().union(*(flow.folders for flow in flows)),
        documents=frozenset[str]().union(*(flow.documents for flow in flows)),
    )


def _suggest(near: list[str]) -> str:
    return f"did you mean {near[0]!r}?" if near else ""


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
