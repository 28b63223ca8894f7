"""The flows of this process, and the plan of a job: which stages it runs, with which parameters."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

from datafab.core.condition import Condition, parse
from datafab.core.flow import Flow, check_sequence, expand_names
from datafab.core.roles import Role
from datafab.core.services import Services
from datafab.core.stage import Stage
from datafab.errors import FlowError, NotFound
from datafab.flows.chains import FLOWS, STAGES
from datafab.flows.parameters import COMMON, is_secret
from datafab.flows.toml import read
from datafab.settings import load
from datafab.store.regularfile import read_regular
from datafab.urls import has_login

__all__ = [
    "FLOWS",
    "Flow",
    "check_sequence",
    "find",
    "flows",
    "last_requested_stage",
    "localise",
    "needed_role",
    "plan",
    "plan_new_job",
    "then_stages",
    "use",
    "with_defaults",
]

#: Parameters that are addresses of services, beside the ``url`` of a pass over a catalogue.
SERVICE_PARAMS = frozenset({"ckan_url", "result_url", "catalogue", "export"})
_LOGIN_FIX = "leave them out; CKAN takes an API key, and DATAFAB_CATALOGUE_URL may hold the login of a catalogue"

#: Replaces DATAFAB_CONFIG once ``use`` was called: a tuple of one, because the file itself may be None.
_override: tuple[Path | None] | None = None


def use(config: Path | None) -> None:
    """Read this process's own flows from another file than DATAFAB_CONFIG names; None: from no file."""
    global _override  # noqa: PLW0603 - a process talks to one cluster
    _override = (config,)


def flows() -> dict[str, Flow]:
    """Return all flows by name: the built-in ones, then those of ``datafab.toml``, which is read once.

    Raises:
        SettingError: the file cannot be read, or has errors.
    """
    config = _override[0] if _override else _from_environment()
    return FLOWS | _own(config) if config else dict(FLOWS)


@lru_cache(maxsize=1)
def _from_environment() -> Path | None:
    return load().config


@lru_cache(maxsize=4)
def _own(config: Path) -> dict[str, Flow]:
    return read(config, FLOWS)


def find(name: str) -> Flow:
    """Return the flow of this name.

    Raises:
        NotFound: there is no flow of this name.
    """
    known = flows()
    if name not in known:
        msg = f"no flow {name!r}; there are {', '.join(sorted(known))}"
        raise NotFound(msg, field="flow")
    return known[name]


def with_defaults(name: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return a job's parameters with the defaults of its flow. Idempotent.

    Raises:
        NotFound: there is no such flow.
        FlowError: ``then`` or ``when`` does not have the type that it needs.
    """
    flow = find(name)
    merged = {**flow.defaults, **params}
    names = {*flow.stages, *_then(flow, merged)}
    when = merged.get("when", {})
    if not (isinstance(when, Mapping) and all(isinstance(text, str) for text in when.values())):
        raise FlowError(f"when: an object of conditions by stage is needed, not {when!r}", field="when")
    when = {stage: text for stage, text in flow.when.items() if stage in names} | dict(when)
    return merged | ({"when": when} if when else {})


def plan(name: str, params: Mapping[str, Any]) -> tuple[Stage, list[Stage]]:
    """Return the source stage of a job, and the stages that its items go through.

    Raises:
        NotFound: there is no such flow.
        FlowError: a parameter is missing or a secret, a stage is unknown or lacks what it requires, or a condition
            cannot be read.
    """
    flow, merged = find(name), with_defaults(name, params)
    for missing in sorted(flow.requires - merged.keys()):
        msg = f"flow {name!r} needs the parameter {missing!r}"
        raise FlowError(msg, field=missing)
    for secret in sorted(filter(is_secret, merged)):
        msg = f"{secret!r} is a secret: it must not be among the parameters, which anyone may read"
        raise FlowError(msg, code="secret", field=secret)
    names = [*flow.stages, *_then(flow, merged)]
    unknown = [stage for stage in (flow.producer, *names) if stage not in STAGES]
    if unknown:
        msg = f"no stage {unknown[0]!r}; there are {', '.join(sorted(STAGES))}"
        raise FlowError(msg, field="then")
    source, stages = STAGES[flow.producer], [STAGES[stage] for stage in names]
    when: dict[str, Condition] = {stage: parse(text) for stage, text in merged.get("when", {}).items()}
    check_sequence(source, stages, when)
    return source, stages


def plan_new_job(name: str, params: Mapping[str, Any]) -> tuple[Stage, list[Stage]]:
    """Return the plan of a job that has not been enqueued yet: any parameter that none of its stages reads is refused.

    Jobs that are enqueued already are not held to this: another version may have enqueued them.

    Raises:
        NotFound, FlowError: as ``plan`` does.
        FlowError: no stage reads one of the parameters.
    """
    source, stages = plan(name, params)
    flow = find(name)
    _check_logins(source, with_defaults(name, params))
    known = {*COMMON, *flow.requires, *flow.defaults, flow.follow_up.if_param if flow.follow_up else ""} - {""}
    for stage in (source, *stages):
        if stage.params is None:
            return source, stages
        known |= stage.params
    for unknown in sorted(params.keys() - known):
        near = get_close_matches(unknown, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(sorted(known))}"
        raise FlowError(f"flow {name!r} has no parameter {unknown!r}{hint}", field=unknown)
    return source, stages


def needed_role(name: str, params: Mapping[str, Any]) -> Role:
    """Return the role that a caller over HTTP needs for a job: the highest of its stages' and parameters'.

    Parameters that are as the flow has them need none.

    Raises:
        NotFound: there is no such flow.
        FlowError: ``then`` does not have the type that it needs.
    """
    flow = find(name)
    names = {flow.producer, *flow.stages, *_then(flow, with_defaults(name, params))}
    stages = [STAGES[stage] for stage in names & STAGES.keys()]
    roles = {stage.role for stage in stages} | {Role.OPERATOR}
    chosen = {param for param in params if params[param] != flow.defaults.get(param)}
    if any(stage.admin_params & chosen for stage in stages):
        roles.add(Role.ADMIN)
    return next(role for role in reversed(Role) if role in roles)


def _check_logins(source: Stage, params: Mapping[str, Any]) -> None:
    """Refuse logins in the addresses of services: a job's parameters are shown to everybody."""
    metadata = params.get("metadata")
    nested = metadata.get("ckan_url") if isinstance(metadata, Mapping) else None
    names = SERVICE_PARAMS | ({"url"} if source.name == "discover" else frozenset())
    for field, value in (*((one, params.get(one)) for one in sorted(names)), ("metadata.ckan_url", nested)):
        if isinstance(value, str) and has_login(value):
            msg = f"{field} holds a user or a password, and a job's parameters are shown to everybody: {_LOGIN_FIX}"
            raise FlowError(msg, code="secret", field=field)


def _then(flow: Flow, params: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the last stages: the flow's ``then``, or those of the parameter ``then``, which may name flows too."""
    then = params.get("then", flow.then)
    if not (isinstance(then, list | tuple) and all(isinstance(stage, str) for stage in then)):
        raise FlowError(f"then: a list of stages is needed, not {then!r}", field="then")
    return expand_names(then, flow.stages, STAGES, flows())


def then_stages(name: str, params: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of a job's ``then`` stages: the flow's, or those of its parameter.

    For a flow that has been removed since the job was enqueued the result is empty: the job goes on all the same.
    """
    flow = flows().get(name)
    return frozenset(_then(flow, params)) if flow else frozenset()


def last_requested_stage(name: str) -> str:
    """Return the last stage of a flow before its ``then`` stages, by which a job is judged; empty if there is none."""
    return (find(name).stages or ("",))[-1]


def localise(flow: str, params: Mapping[str, Any], services: Services) -> dict[str, Any]:
    """Return parameters that mean the same on every host: local files copied to the store, folders made absolute.

    Raises:
        NotFound: there is no such flow or file.
    """
    known, merged = find(flow), with_defaults(flow, params)
    # Values of other types, such as an object, are the content of the file itself.
    texts = {
        name: str(merged[name]) for name in known.files | known.folders if isinstance(merged.get(name), str | Path)
    }
    paths = {name: Path(text) for name, text in texts.items() if _is_local(text)}
    for name, path in paths.items():
        if name in known.folders:
            merged[name] = str(path.absolute())
        else:
            store = services.store(services.settings.store)
            merged[name] = f"list:{store.write_list(_read(path, name))}#{path.absolute()}"
    return known.localise(merged, services) if known.localise else merged


def _read(path: Path, name: str) -> bytes:
    try:
        return read_regular(path)
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such file", field=name) from error
    except OSError as error:
        raise FlowError(f"{path}: {error.strerror}", code="not_a_file", field=name) from error


def _is_local(text: str) -> bool:
    return "://" not in text and not text.startswith("list:")
