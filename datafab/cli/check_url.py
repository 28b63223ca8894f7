"""``datafab check-url``: check what a collection would get from a URL."""

from __future__ import annotations

import json
from functools import partial

import click

from datafab.analysis import get_detective
from datafab.cli import output
from datafab.cli.run_job import SOME_FAILED, as_json_option
from datafab.collect.url_probe import UrlCheck
from datafab.collect.urlcheck import Finding
from datafab.core.services import Services
from datafab.settings import load


@click.command("check-url")
@click.argument("url")
@click.option("--plugin", type=click.Choice(["arcgis", "wfs"]), help="Try this plugin only.")
@click.option("--parameters", help="JSON object for the plugin, as in an endpoint.csv.")
@as_json_option
def check_url(url: str, plugin: str | None, parameters: str | None, as_json: bool) -> None:
    """Check what can be collected at URL, in this process; exit with 3 if there is nothing."""
    services = Services(load())
    try:
        analyse = partial(get_detective(services).analyse, mode="sample")
        found = UrlCheck(services.settings, analyse).find(url, plugin, _object(parameters))
    finally:
        services.close()
    if as_json:
        output.print_json_lines([found])
    else:
        for line in _lines(found):
            output.stdout.print(line, highlight=False, soft_wrap=True, markup=False)
    if not found.ok:
        click.get_current_context().exit(SOME_FAILED)


def _object(text: str | None) -> dict[str, object] | None:
    try:
        value = json.loads(text) if text else None
    except ValueError as error:
        raise click.BadParameter(f"not valid JSON: {error}", param_hint="--parameters") from error
    if value is not None and not isinstance(value, dict):
        raise click.BadParameter("a JSON object is needed", param_hint="--parameters")
    return value


def _lines(found: Finding) -> list[str]:
    """Return the lines that describe a finding."""
    facts: dict[str, object] = {"plugin": found.plugin or "none, a plain GET", "status": found.status}
    facts |= {"type": found.media_type, "file": found.filename, "bytes": found.size, "sha256": found.sha256}
    if found.table is not None:
        facts["table"] = f"{found.table.rows} rows, {len(found.table.columns)} columns"
        facts["columns"] = ", ".join(found.table.columns)
    elif found.no_table is not None:
        facts["table"] = f"none: {found.no_table.message}"
    if found.reason is not None:
        facts["reason"] = found.reason.message
    answer = "can be collected" if found.ok else "cannot be collected"
    return [f"{found.url}: {answer}", *(f"  {name:<8}{value}" for name, value in facts.items() if value is not None)]
