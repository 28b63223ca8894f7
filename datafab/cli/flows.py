"""``datafab flows``: list the flows, and check your own."""

from __future__ import annotations

from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from datafab.cli import output
from datafab.core.flow import Flow
from datafab.errors import SettingError
from datafab.flows import registry
from datafab.flows.chains import STAGES
from datafab.flows.toml import examine
from datafab.settings import load
from workers.schedule import cron

NOT_DONE = 1


@click.group()
def flows() -> None:
    """List flows, and check those of datafab.toml."""


@flows.command("list")
@click.option("--stages", "only_stages", is_flag=True, help="List only the stages of which flows consist.")
@click.option("--json", "as_json", is_flag=True, help="Print the API's objects as JSON, one per line.")
def list_(only_stages: bool, as_json: bool) -> None:
    """List the built-in flows, those of datafab.toml, and the stages of which flows consist."""
    found = [] if only_stages else list(registry.flows().values())
    if as_json:
        output.print_json_lines(stage.dump() for stage in STAGES.values()) if only_stages else output.print_json_lines(
            map(Flow.dump, found)
        )
        return
    if not only_stages:
        _print_flows(found, load().timezone)
    _print_stages()


@flows.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
def check(file: Path | None) -> None:
    """Print the errors of FILE (a datafab.toml; default: DATAFAB_CONFIG), by line."""
    file = file or load().config
    if file is None:
        msg = "no file to check: name one, or set DATAFAB_CONFIG"
        raise SettingError(msg, field="DATAFAB_CONFIG")
    found, problems = examine(file, registry.FLOWS, cron)
    for problem in problems:
        output.stderr.print(escape(str(problem)), highlight=False, soft_wrap=True)
    if problems:
        click.get_current_context().exit(NOT_DONE)
    output.stdout.print(f"{escape(str(file))}: {len(found)} flows, no errors", highlight=False, soft_wrap=True)


def _print_flows(found: list[Flow], zone: str) -> None:
    table = Table("flow", "source > stages", "needs", "runs", "from")
    for flow in found:
        steps = " > ".join((flow.producer, *flow.stages, *flow.then))
        conditions = "".join(f"\n{stage} when {text}" for stage, text in flow.when.items())
        runs = f"{flow.schedule} ({zone})" if flow.schedule else "on request"
        needs = ", ".join(sorted(flow.needs))
        table.add_row(*map(escape, (flow.name, steps + conditions, needs, runs, flow.where or "built in")))
    output.stdout.print(table)


def _print_stages() -> None:
    table = Table("stage", "what it does", "requires", "provides", "queue")
    for stage in STAGES.values():
        needs = "yields items" if stage.expand else ", ".join(sorted(stage.requires))
        table.add_row(stage.name, escape(stage.title), needs, ", ".join(sorted(stage.provides)), stage.queue)
    output.stdout.print(table)
