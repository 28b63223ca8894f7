"""The pages of docs/ that are made of the code: settings, commands, flows with their stages, HTTP."""

from __future__ import annotations

import ast
import inspect
import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from pydantic_core import PydanticUndefined

from datafab.cli.main import main
from datafab.core.memory_jobs import MemoryJobs
from datafab.core.services import Services
from datafab.flows.chains import STAGES
from datafab.flows.registry import FLOWS
from datafab.settings import Settings, load
from webhook import create_app

DOCS = Path(__file__).parents[2] / "docs"
MADE = "<!-- Made of the code by `python -m tests.docs`: do not edit. -->\n\n"


def _prose(text: str) -> str:
    """Return a docstring as one line of Markdown."""
    return " ".join(text.replace("``", "`").split())


def _cell(text: str) -> str:
    return _prose(text).replace("|", "\\|")


def _table(*rows: tuple[str, ...]) -> Iterator[str]:
    head, *body = rows
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    yield from (f"| {' | '.join(map(_cell, row))} |" for row in body)


def _said(source: str) -> dict[str, str]:
    """Return what stands below each field of the settings."""
    (body,) = (
        node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == "Settings"
    )
    return {
        field.target.id: text.value.value
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    }


def _default(name: str) -> str:
    """Return a default as it would be set; nothing where its text says what holds when it is unset."""
    value = Settings.model_fields[name].default
    if value in (None, (), PydanticUndefined):
        return ""
    if name == "user_agent":  # changes with each release
        return "`datafab/VERSION (+URL)`"
    if isinstance(value, float):
        value = f"{value:g}" if value < 1e6 else int(value)
    return f"`{','.join(value) if isinstance(value, tuple) else value}`".replace(",", ", ")


def settings() -> str:
    """Return docs/settings.md."""
    said = _said(inspect.getsource(Settings))
    rows = [("setting", "unless set", "meaning")]
    rows += [(f"`DATAFAB_{name.upper()}`", _default(name), said[name]) for name in Settings.model_fields]
    return "\n".join(
        [
            "# Settings",
            "",
            "Each process reads them from its environment when it begins. An empty one is an unset one; one that",
            "cannot be used is named, and nothing starts. Times are seconds, sizes are bytes.",
            "",
            *_table(*rows),
            "",
        ]
    )


def walked(context: click.Context) -> Iterator[click.Context]:
    """Yield the context of each command that does something."""
    if not isinstance(context.command, click.Group):
        yield context
        return
    for name, command in sorted(context.command.commands.items()):
        yield from walked(click.Context(command, parent=context, info_name=name, max_content_width=100))


def commands() -> str:
    """Return docs/commands.md."""
    lines = [
        "# Commands",
        "",
        "`datafab COMMAND --help` says the same. Exit codes: 0 done, 1 not done, 2 usage, 3 done with failed items.",
    ]
    top = click.Context(main, info_name="datafab", terminal_width=100, **main.context_settings)
    for context in walked(top):
        words = context.command_path.partition(" ")[2]
        lines += ["", f"## {words}", "", "```text", *context.get_help().splitlines(), "```"]
    return "\n".join([*lines, ""])


def _names(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)


def stages() -> str:
    """Return docs/stages.md."""
    flows = [("flow", "what it does", "its stages", "it needs")]
    for flow in FLOWS.values():
        after = f"; then the flow `{flow.after}`" if flow.after else ""
        after += f", if `{flow.after_if}` is given" if flow.after_if else ""
        named = _names((flow.source, *flow.stages, *flow.then))
        flows.append((f"`{flow.name}`", flow.title, named + after, _names(sorted(flow.needs))))
    rows = [("stage", "what it does", "queue", "an item has", "and gets", "parameters of the job")]
    for name, stage in sorted(STAGES.items()):
        fields = _names(sorted(stage.requires)), _names(sorted(stage.provides))
        read = "any" if stage.params is None else _names(sorted(stage.params))
        rows.append((f"`{name}`", stage.title, f"`{stage.queue}`", *fields, read))
    return "\n".join(
        [
            "# Flows and stages",
            "",
            "The flows that there are, with the parameters that they need, and the stages that they and [flows of your",
            "own](flows.md) are made of, with the fields that these take from an item and give it, and the parameters",
            "of a job that they read: one that none of them reads is refused when a job is enqueued. A task is called",
            "`datafab.` and its stage's name, in Flower too. How one more comes to it: [a new stage](add-a-stage.md).",
            "",
            *_table(*flows),
            "",
            *_table(*rows),
            "",
        ]
    )


def described() -> dict[str, Any]:
    """Return what ``/openapi.json`` says."""
    with tempfile.TemporaryDirectory() as home:
        given = load({}, home=home, redis_url="redis://127.0.0.1:1/0")
        app = create_app(given, Services(given, jobs=MemoryJobs()), start=_never, wake=lambda _: 0)
        document: dict[str, Any] = app.test_client().get("/openapi.json").json
        return document


def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError("nothing is enqueued")


def http() -> str:
    """Return docs/http.md."""
    document = described()
    rows = [("request", "what it is for", "query", "answers")]
    for path, operations in document["paths"].items():
        for method, told in operations.items():
            asked = (part["name"] for part in told["parameters"] if part["in"] == "query")
            statuses = (status for status in told["responses"] if status != "default")
            keys = "".join(f" Key: {name}." for needed in told.get("security", ()) for name in needed)
            rows.append((f"`{method.upper()} {path}`", told["summary"] + keys, _names(asked), " ".join(statuses)))
    shown = [
        f"- {name}: `{scheme['name']}`, {scheme['description']}."
        for name, scheme in document["components"]["securitySchemes"].items()
    ]
    return "\n".join(
        [
            "# HTTP",
            "",
            "Served on `DATAFAB_BIND`, to whoever reaches it: there is no login, leave it on this host or behind a",
            "proxy that asks for one. `GET /openapi.json` describes it for programs. A body is JSON with its",
            '`Content-Type`, 1 MB at most. A failure is `{"error": {"type", "message", "field"}}`, except below',
            "`/datapusher`, whose shapes are those of CKAN's DataPusher. While Redis is away the answer is 503 with",
            "`Retry-After`.",
            "",
            "Requests for other host names than `DATAFAB_PUBLIC_URL` lists, `localhost` and IP addresses are answered",
            "with 403, and so are changes that the page of another site asks for ([deploy](deploy.md#host-names)).",
            "",
            "A job's parameters that are files or folders (`endpoints`, `collection`) count from the folder of",
            "`DATAFAB_COLLECTIONS` and cannot lead out of it. A file can also be uploaded with the job, 64 MB at most:",
            "a form whose part `job` is the JSON, and whose files are called as the parameters:",
            "",
            "    curl http://127.0.0.1:8800/api/jobs -F endpoints=@endpoint.csv \\",
            """      -F job='{"flow": "collect", "params": {"collection": "brownfield-land"}}'""",
            "",
            "The plan of an archive and the event of a publication are sent as JSON objects; their files are URLs.",
            "",
            *_table(*rows),
            "",
            "Keys, and the headers that show them:",
            "",
            *shown,
            "",
        ]
    )


#: file -> what makes it
PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings,
    "commands.md": commands,
    "stages.md": stages,
    "http.md": http,
}


def page(name: str) -> str:
    """Return what a page has to be."""
    return MADE + PAGES[name]()
