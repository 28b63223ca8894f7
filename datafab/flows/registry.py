"""Flows as data: a source stage that yields items, then stages that each item goes through."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

from datafab.core.condition import Condition, parse
from datafab.core.flow import Flow, check, spread
from datafab.core.services import Services
from datafab.core.stage import Stage
from datafab.errors import FlowError, NotFound
from datafab.flows.chains import FLOWS, STAGES
from datafab.flows.parameters import COMMON, is_secret
from datafab.flows.toml import read
from datafab.settings import load
from datafab.store.regularfile import read_regular

__all__ = ["FLOWS", "Flow", "asked", "begun", "check", "complete", "find", "flows", "later", "localised", "plan", "use"]

#: The file that this process was told to read, where it was told.
_told: tuple[Path | None] | None = None


def use(config: Path | None) -> None:
    """Let this process read its own flows from another file than DATAFAB_CONFIG names; None: from none."""
    global _told  # noqa: PLW0603 - a process talks to one cluster
    _told = (config,)


def flows() -> dict[str, Flow]:
    """Return all flows by name: the built-in ones, then those of ``datafab.toml``, which is read once.

    Raises:
        SettingError: something is wrong in that file.
    """
    config = _told[0] if _told else _from_environment()
    return FLOWS | _own(config) if config else dict(FLOWS)


@lru_cache(maxsize=1)
def _from_environment() -> Path | None:
    return load().config


@lru_cache(maxsize=4)
def _own(config: Path) -> dict[str, Flow]:
    return read(config, FLOWS)


def find(name: str) -> Flow:
    """Return a flow.

    Raises:
        NotFound: there is none of this name.
    """
    known = flows()
    if name not in known:
        msg = f"no flow {name!r}; there are {', '.join(sorted(known))}"
        raise NotFound(msg, field="flow")
    return known[name]


def complete(name: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return a job's parameters with those that its flow brings along. Doing it twice changes nothing.

    Raises:
        NotFound: no such flow.
        FlowError: ``then`` or ``when`` has not the shape that it needs.
    """
    flow = find(name)
    mine = {**flow.given, **params}
    names = {*flow.stages, *_then(flow, mine)}
    when = mine.get("when", {})
    if not (isinstance(when, Mapping) and all(isinstance(text, str) for text in when.values())):
        raise FlowError(f"when: conditions by stage are needed, not {when!r}", field="when")
    when = {stage: text for stage, text in flow.when.items() if stage in names} | dict(when)
    return mine | ({"when": when} if when else {})


def plan(name: str, params: Mapping[str, Any]) -> tuple[Stage, list[Stage]]:
    """Return the source stage and the stages of a job.

    Raises:
        NotFound: no such flow.
        FlowError: a parameter is missing, a stage unknown or without what it requires, a condition none.
    """
    flow, mine = find(name), complete(name, params)
    for missing in sorted(flow.requires - mine.keys()):
        msg = f"flow {name!r} needs the parameter {missing!r}"
        raise FlowError(msg, field=missing)
    for secret in sorted(filter(is_secret, mine)):
        msg = f"{secret!r} is a secret: it must not be among the parameters, which anyone may read"
        raise FlowError(msg, code="secret", field=secret)
    names = [*flow.stages, *_then(flow, mine)]
    unknown = [stage for stage in (flow.source, *names) if stage not in STAGES]
    if unknown:
        msg = f"no stage {unknown[0]!r}; there are {', '.join(sorted(STAGES))}"
        raise FlowError(msg, field="then")
    source, stages = STAGES[flow.source], [STAGES[stage] for stage in names]
    when: dict[str, Condition] = {stage: parse(text) for stage, text in mine.get("when", {}).items()}
    check(source, stages, when)
    return source, stages


def begun(name: str, params: Mapping[str, Any]) -> tuple[Stage, list[Stage]]:
    """Return what ``plan`` does, for a job that is to begin: a parameter that none of its stages reads is a mistake.

    Raises:
        NotFound, FlowError: as ``plan`` does; there is no such parameter.
    """
    source, stages = plan(name, params)
    flow = find(name)
    known = {*COMMON, *flow.requires, *flow.given, flow.after_if} - {""}
    for stage in (source, *stages):
        if stage.params is None:
            return source, stages
        known |= stage.params
    for unknown in sorted(params.keys() - known):
        near = get_close_matches(unknown, known, 1)
        said = f": {near[0]!r} is meant?" if near else f"; there are {', '.join(sorted(known))}"
        raise FlowError(f"flow {name!r} has no parameter {unknown!r}{said}", field=unknown)
    return source, stages


def _then(flow: Flow, params: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the stages that come last: the flow's, or those of the parameter ``then``, which may name flows too."""
    then = params.get("then", flow.then)
    if not (isinstance(then, list | tuple) and all(isinstance(stage, str) for stage in then)):
        raise FlowError(f"then: a list of stages is needed, not {then!r}", field="then")
    return spread(then, flow.stages, STAGES, flows())


def later(name: str, params: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the stages that follow what a job asks for: the flow's ``then``, or the job's.

    None of a flow that is not there any more: its job goes on as it began.
    """
    flow = flows().get(name)
    return frozenset(_then(flow, params)) if flow else frozenset()


def asked(name: str) -> str:
    """Return the last of the stages that a flow's jobs ask for; empty: none."""
    return (find(name).stages or ("",))[-1]


def localised(flow: str, params: Mapping[str, Any], services: Services) -> dict[str, Any]:
    """Return a job's parameters so that they mean the same on every host: files in the store, folders absolute.

    Raises:
        NotFound: no such flow or file.
    """
    known, mine = find(flow), complete(flow, params)
    # What is no path is the content itself.
    given = {name: str(mine[name]) for name in known.files | known.folders if isinstance(mine.get(name), str | Path)}
    paths = {name: Path(text) for name, text in given.items() if _is_local(text)}
    for name, path in paths.items():
        if name in known.folders:
            mine[name] = str(path.absolute())
        else:
            store = services.store(services.settings.store)
            mine[name] = f"list:{store.write_list(_read(path, name))}#{path.absolute()}"
    return known.localise(mine, services) if known.localise else mine


def _read(path: Path, name: str) -> bytes:
    try:
        return read_regular(path)
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such file", field=name) from error
    except OSError as error:
        raise FlowError(f"{path}: {error.strerror}", code="not_a_file", field=name) from error


def _is_local(text: str) -> bool:
    return "://" not in text and not text.startswith("list:")
