"""``datafab archive``: deliver archives to a Géoplateforme entrepôt."""

from __future__ import annotations

import click

from datafab import api
from datafab.cli import output
from datafab.cli.run_job import as_json_option, inline_option, run


@click.group()
def archive() -> None:
    """Deliver archives to a Géoplateforme entrepôt, where they are processed and described."""


@archive.command("run")
@click.argument("plan", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--patience", type=click.IntRange(1), help="Seconds after which a status that does not change is given up."
)
@inline_option
@as_json_option
def run_command(plan: str, patience: int | None, inline: bool, as_json: bool) -> None:
    """Run the integrations of PLAN, a JSON file (docs/archive.md)."""
    params = {"plan": plan} | ({"patience": patience} if patience else {})
    ended = run("archive", params, inline=inline)
    ended.report(as_json=as_json)
    ended.exit()


@archive.command()
@click.argument("job")
@as_json_option
def watch(job: str, as_json: bool) -> None:
    """Follow JOB to its end; its id is printed by `archive run` and `jobs list`."""
    handle = api.JobHandle(job)
    with output.follow_job() as on_progress:
        ended = handle.wait_for_end(on_progress=on_progress)
    if as_json:
        output.print_json_lines([ended])
    else:
        output.print_job(ended, handle.failures, ())
