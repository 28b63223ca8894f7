"""Collect the names that others depend on, as sorted lists of text: ``python tests/unit/public_names.py > FILE.json``.

It finds each object by the first of several import paths that exists, so that it runs on earlier versions as well.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import click


def first(*paths: str) -> Any:
    """Return the first of these ``module:name`` objects that can be imported."""
    for path in paths:
        module, _, name = path.partition(":")
        try:
            return getattr(import_module(module), name)
        except (ImportError, AttributeError):
            continue
    raise ImportError(f"none of {', '.join(paths)}")


def commands() -> Iterator[str]:
    """Yield commands, their arguments in order, and their options with their choices."""

    def walk(command: Any, words: str) -> Iterator[str]:
        yield words
        arguments = [param for param in command.params if isinstance(param, click.Argument)]
        for place, param in enumerate(arguments, 1):
            number = "any number" if param.nargs == -1 else f"{param.nargs}"
            yield f"{words} argument {place}: {number}, {'required' if param.required else 'optional'}"
        for param in command.params:
            for name in (*param.opts, *param.secondary_opts) if isinstance(param, click.Option) else ():
                yield f"{words} {name}" if getattr(param, "is_flag", False) else f"{words} {name} VALUE"
                for choice in getattr(param.type, "choices", ()):
                    yield f"{words} {name} {choice}"
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, f"{words} {name}")

    yield from walk(first("datafab.cli.main:main", "datafab.cli:main"), "datafab")


def application() -> Any:
    """Return the webhook, which can be asked for its description without a cluster."""
    settings = first("datafab.settings:load")({}, redis_url="redis://127.0.0.1:1/0")
    services = first("datafab.core.services:Services", "datafab.services:Services")
    jobs = first("datafab.core.memory_jobs:MemoryJobs", "datafab.clients.memory_jobs:MemoryJobs")
    nothing = lambda *_, **__: 0  # noqa: E731
    return import_module("webhook").create_app(settings, services(settings, jobs=jobs()), nothing, nothing)


def routes() -> Iterator[str]:
    """Yield methods and paths."""
    for rule in application().url_map.iter_rules():
        yield from (f"{method} {rule.rule}" for method in rule.methods - {"HEAD", "OPTIONS"})


def fields() -> Iterator[str]:
    """Yield what requests and answers have, by the OpenAPI description: parameters, bodies, statuses, values."""
    document = application().test_client().get("/openapi.json").json
    components = document["components"]["schemas"]
    yield from (f"schema {name}" for name in components)
    for name, scheme in document["components"]["securitySchemes"].items():
        yield f"security {name}: {scheme.get('in', scheme['type'])} {scheme.get('name', scheme.get('scheme'))}"
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            where = f"{method.upper()} {path}"
            yield f"{where} operation {operation['operationId']}"
            yield from (f"{where} {part['in']} {part['name']}" for part in operation["parameters"])
            yield from (f"{where} security {name}" for each in operation.get("security", ()) for name in each)
            bodies = {"request": operation.get("requestBody", {}), **operation["responses"]}
            for status, body in bodies.items():
                for kind, content in body.get("content", {}).items():
                    yield f"{where} {status} {kind}"
                    yield from _fields(content.get("schema", {}), components, f"{where} {status} ", frozenset())


def _fields(schema: Any, components: dict[str, Any], where: str, seen: frozenset[str]) -> Iterator[str]:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name not in seen:
            yield from _fields(components[name], components, where, seen | {name})
    for name, part in schema.get("properties", {}).items():
        yield f"{where}.{name}"
        yield from _fields(part, components, f"{where}.{name}", seen)
    for value in (*schema.get("enum", ()), *([schema["const"]] if "const" in schema else ())):
        yield f"{where} = {json.dumps(value)}"
    for part in (part for key in ("anyOf", "allOf", "oneOf", "prefixItems") for part in schema.get(key, ())):
        yield from _fields(part, components, where, seen)
    for key, sign in (("items", "[]"), ("additionalProperties", ".*")):
        if isinstance(schema.get(key), dict):
            yield from _fields(schema[key], components, where + sign, seen)


def settings() -> Iterator[str]:
    """Yield the variables that are settings."""
    yield from (f"DATAFAB_{name.upper()}" for name in first("datafab.settings:Settings").model_fields)


def stages() -> Iterator[str]:
    """Yield stages with their queue, item fields and parameters."""
    for name, stage in _stages().items():
        yield name
        yield f"{name} queue {stage.queue}"
        yield from (f"{name} requires {field}" for field in stage.requires)
        yield from (f"{name} provides {field}" for field in stage.provides)
        yield from (f"{name} parameter {param}" for param in (["any"] if stage.params is None else stage.params))


def flows() -> Iterator[str]:
    """Yield flows with their stages and parameters."""
    stages = _stages()
    for name, flow in first("datafab.flows.chains:FLOWS", "datafab.flows:FLOWS").items():
        yield name
        producer = flow.producer if hasattr(flow, "producer") else flow.source  # its former name
        names = (producer, *flow.stages, *flow.then)
        yield from (f"{name} stage {stage}" for stage in names)
        yield from (f"{name} requires {param}" for param in flow.requires)
        for stage in names:
            params = stages[stage].params
            yield from (f"{name} parameter {param}" for param in (["any"] if params is None else params))


def _stages() -> dict[str, Any]:
    found: dict[str, Any] = first("datafab.flows.chains:STAGES", "datafab.stages:STAGES")
    return found


def tasks() -> Iterator[str]:
    """Yield the names of Celery's tasks, which queued messages hold."""
    app = first("workers.app:app", "workers.cluster:app")
    app.loader.import_default_modules()
    yield from (name for name in app.tasks if not name.startswith("celery."))


def metrics() -> Iterator[str]:
    """Yield metrics with their type and labels."""
    module = import_module("webhook.metrics")
    snapshot = module.MetricsSnapshot if hasattr(module, "MetricsSnapshot") else module.Measured  # its former name
    for family in module.Measurements(snapshot()).collect():
        yield f"{family.name} {family.type} {' '.join(family._labelnames)}".strip()


def python() -> Iterator[str]:
    """Yield the names of the Python API, with the parameters of its functions and methods."""
    yield from (f"datafab.{name}" for name in import_module("datafab").__all__)
    module = import_module("datafab.api")
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        yield f"datafab.api.{name}"
        members = {"": value} if not inspect.isclass(value) else {"": value.__init__, **vars(value)}
        for inner, member in members.items():
            if inner.startswith("_"):
                continue
            where = f"datafab.api.{name}.{inner}".rstrip(".")
            yield where
            if inspect.isfunction(member):
                parameters = [param for param in inspect.signature(member).parameters.values() if param.name != "self"]
                yield from (f"{where}({param.name})" for param in parameters)


COLLECTORS: tuple[Callable[[], Iterator[str]], ...] = (
    commands,
    routes,
    fields,
    settings,
    stages,
    flows,
    tasks,
    metrics,
    python,
)


def collect() -> dict[str, list[str]]:
    """Return all names by kind."""
    return {collector.__name__: sorted(set(collector())) for collector in COLLECTORS}


if __name__ == "__main__":
    json.dump(collect(), sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")
