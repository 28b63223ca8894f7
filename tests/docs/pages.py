"""The pages of docs/ that are made from the code: settings, commands, flows with their stages, HTTP, the chains."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import pkgutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from pydantic_core import PydanticUndefined

from datafab.cli.main import main
from datafab.core.chain import Chain
from datafab.core.memory_jobs import MemoryJobs
from datafab.core.services import Client, Services
from datafab.flows.chains import CHAINS, STAGES
from datafab.flows.registry import FLOWS
from datafab.settings import Settings, load
from webhook import create_app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MADE = "<!-- Made from the code by `python -m tests.docs`: do not edit. -->\n\n"


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


def _descriptions(source: str) -> dict[str, str]:
    """Return the text below each field of the settings."""
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
    """Return a default as a user would write it; nothing where the text describes it."""
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
    descriptions = _descriptions(inspect.getsource(Settings))
    rows = [("setting", "default", "meaning")]
    rows += [(f"`DATAFAB_{name.upper()}`", _default(name), descriptions[name]) for name in Settings.model_fields]
    return "\n".join(
        [
            "# Settings",
            "",
            "Each process reads its settings from the environment when it starts. An empty setting counts as unset. A",
            "process with an invalid setting names it and does not start. Times are in seconds, sizes in bytes.",
            "",
            *_table(*rows),
            "",
        ]
    )


def walked(context: click.Context) -> Iterator[click.Context]:
    """Yield the context of each command that is no group."""
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
        "`datafab COMMAND --help` prints the same text. Exit codes: 0 success, 1 failure, 2 usage error, 3 success",
        "with failed items.",
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
    flows = [("flow", "what it does", "stages", "required parameters")]
    for flow in FLOWS.values():
        after = f"; then the flow `{flow.follow_up.flow}`" if flow.follow_up else ""
        after += f", if `{flow.follow_up.if_param}` is given" if flow.follow_up and flow.follow_up.if_param else ""
        named = _names((flow.producer, *flow.stages, *flow.then))
        flows.append((f"`{flow.name}`", flow.title, named + after, _names(sorted(flow.needs))))
    rows = [("stage", "what it does", "queue", "requires", "provides", "parameters of the job")]
    for name, stage in sorted(STAGES.items()):
        fields = _names(sorted(stage.requires)), _names(sorted(stage.provides))
        read = "any" if stage.params is None else _names(sorted(stage.params))
        rows.append((f"`{name}`", stage.title, f"`{stage.queue}`", *fields, read))
    return "\n".join(
        [
            "# Flows and stages",
            "",
            "The built-in flows with their required parameters, and the stages from which they and [your own",
            "flows](flows.md) are made. For each stage: the fields that an item must have, the fields that the stage",
            "adds, and the parameters of a job that it reads. A parameter that no stage of a job reads is refused when",
            "the job is enqueued. The Celery task of a stage is named `datafab.<stage>`, in Flower too. To write your",
            "own, see [add a stage](add-a-stage.md).",
            "",
            *_table(*flows),
            "",
            *_table(*rows),
            "",
        ]
    )


def described() -> dict[str, Any]:
    """Return ``/openapi.json``."""
    with tempfile.TemporaryDirectory() as home:
        given = load({}, home=home, redis_url="redis://127.0.0.1:1/0")
        app = create_app(given, Services(given, jobs=MemoryJobs()), start=_never, wake=lambda _: 0)
        document: dict[str, Any] = app.test_client().get("/openapi.json").json
        return document


def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError("nothing is enqueued")


def _carrier(scheme: dict[str, str]) -> str:
    """Return the header or cookie of a security scheme."""
    if scheme["type"] == "http":
        return "`Authorization: Bearer`"
    return f"{'the cookie ' if scheme['in'] == 'cookie' else ''}`{scheme['name']}`"


def http() -> str:
    """Return docs/http.md."""
    document = described()
    rows = [("request", "what it does", "role or key", "query", "statuses")]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            query = (part["name"] for part in operation["parameters"] if part["in"] == "query")
            statuses = (status for status in operation["responses"] if status != "default")
            keys = [f"key: {name}" for needed in operation["security"] for name in needed]
            who = operation.get("x-role") or ", ".join(keys)
            what = operation["summary"]
            rows.append((f"`{method.upper()} {path}`", what, who, _names(query), " ".join(statuses)))
    shown = [
        f"- {name}: {_carrier(scheme)}, {scheme['description']}."
        for name, scheme in document["components"]["securitySchemes"].items()
    ]
    return "\n".join(
        [
            "# HTTP",
            "",
            "The webhook listens on `DATAFAB_BIND`. A route with a role needs a token or a session of that role or a",
            "higher one, except for programs of this host as long as there are no tokens ([access](access.md)).",
            "`GET /openapi.json` describes it for programs. A request body is JSON with its `Content-Type`, 1 MB at",
            'most. An error is `{"error": {"type", "message", "field"}}`, except below `/datapusher`, where',
            "responses have the form of CKAN's DataPusher. While Redis is away, responses are 503 with `Retry-After`.",
            "",
            "A request for a host name other than `localhost`, an IP address or a name in `DATAFAB_PUBLIC_URL` gets a",
            "403, and so does a change requested by a page of another site ([deploy](deploy.md#host-names)).",
            "A request that does not arrive within `DATAFAB_REQUEST_TIMEOUT` gets a 408 ([deploy](deploy.md)).",
            "",
            "Parameters of a job that are files or folders (`endpoints`, `collection`) are relative to the folder",
            "`DATAFAB_COLLECTIONS` and cannot lead out of it. A file can also be uploaded with the job, 64 MB at most:",
            "send a form whose part `job` is the JSON, and whose files have the names of the parameters:",
            "",
            "    curl http://127.0.0.1:8800/api/jobs -F endpoints=@endpoint.csv \\",
            """      -F job='{"flow": "collect", "params": {"collection": "brownfield-land"}}'""",
            "",
            "Send the plan of an archive and the event of a publication as JSON objects; their files are URLs.",
            "",
            *_table(*rows),
            "",
            "Tokens, sessions and keys, and what carries them:",
            "",
            *shown,
            "",
        ]
    )


#: What each chain replaces; the code does not say it.
REPLACES = {
    "collect": "digital-land's collector",
    "catalogue": "data.gouv.fr's data manufactory",
    "push": "CKAN's DataPusher",
    "archive": "scripts for IGN's entrepôt",
    "publish": "a WIS2 node",
}


def _modules(package: str) -> Iterator[Any]:
    """Yield the modules of a package and of its folders."""
    found = importlib.import_module(package)
    for module in pkgutil.walk_packages(found.__path__, f"{package}."):
        yield importlib.import_module(module.name)


def _file(module: Any) -> str:
    """Return a module's file, as it is called within its chain's folder."""
    return f"{module.__name__.partition('.')[2].partition('.')[2].replace('.', '/')}.py"


def _clients(module: Any) -> Iterator[str]:
    """Yield the classes of a module that reach an outside system or Redis."""
    for name, kind in vars(module).items():
        own = inspect.isclass(kind) and kind.__module__ == module.__name__
        if own and (issubclass(kind, Client) or hasattr(kind, "ping")):
            yield name


def _imports(file: Path, package: str) -> bool:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    named = {
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    return any(f"{name}.".startswith(f"{package}.") for name in named)


def _face(folder: str, chain: str) -> list[str]:
    """Return the modules of a face that serve a chain: the one of its name, else those that import it."""
    files = sorted((ROOT / folder).glob("*.py"))
    same = [file for file in files if file.stem == chain]
    return [file.name for file in same or files if same or _imports(file, f"datafab.{chain}")]


def _tests(chain: str) -> list[str]:
    places = (ROOT / "tests/unit" / chain, ROOT / f"tests/workers/test_{chain}.py")
    return [str(place.relative_to(ROOT)) for place in places if place.exists()]


def _facts(chain: Chain) -> dict[str, str]:
    """Return where everything of a chain is."""
    modules = list(_modules(f"datafab.{chain.name}"))
    stages = [_file(module) for module in modules if hasattr(module, "STAGES")]
    clients = [name for module in modules for name in _clients(module)]
    return {
        "replaces": REPLACES[chain.name],
        "folder": f"`datafab/{chain.name}/`",
        "starts at": _names(_file(module) for module in modules if hasattr(module, "CHAIN")),
        "flows": _names(flow.name for flow in chain.flows),
        "stages": _names(stages),
        "clients": _names(clients),
        "`datafab/cli/`": _names(_face("datafab/cli", chain.name)),
        "`webhook/`": _names(_face("webhook", chain.name)),
        "tests": _names(_tests(chain.name)),
        "page": f"[{chain.name}]({chain.name}.md)",
    }


def chains() -> str:
    """Return the table of docs/architecture.md that says where everything of a chain is."""
    facts = {chain.name: _facts(chain) for chain in CHAINS}
    labels = next(iter(facts.values()))
    rows = [(label, *(one[label] for one in facts.values())) for label in labels]
    return "\n".join(_table(("chain", *(f"`{name}`" for name in facts)), *rows))


#: The part of docs/architecture.md that is made from the code stands between these lines.
BEGIN = "<!-- Made from the code by `python -m tests.docs`: do not edit. -->"
END = "<!-- End of what is made from the code. -->"


def architecture() -> str:
    """Return docs/architecture.md with its table as it has to be; the rest is written by hand."""
    before, _, rest = (DOCS / "architecture.md").read_text(encoding="utf-8").partition(BEGIN)
    return f"{before}{BEGIN}\n\n{chains()}\n\n{END}{rest.partition(END)[2]}"


#: file -> the function that makes it
PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings,
    "commands.md": commands,
    "stages.md": stages,
    "http.md": http,
    "architecture.md": architecture,
}


def page(name: str) -> str:
    """Return the text that a page must have."""
    return architecture() if name == "architecture.md" else MADE + PAGES[name]()
