"""``datafab doctor``: find what is broken, and say how to fix it."""

from __future__ import annotations

import click
from rich.markup import escape

from datafab.cli import output
from datafab.cli.run_job import as_json_option
from datafab.ops.diagnosis import Level
from datafab.ops.doctor import examine
from datafab.settings import load

NOT_DONE = 1
MARKS = {Level.OK: "[green]ok[/]     ", Level.WARNING: "[yellow]warning[/]", Level.BROKEN: "[red]broken[/] "}


@click.command()
@as_json_option
def doctor(as_json: bool) -> None:
    """Check Redis, disks, clocks, workers and every configured service, and say how to fix errors.

    Exit code 1 if something is broken; warnings alone do not count.
    """
    checks = []
    for check in examine(load()):
        checks.append(check)
        if as_json:
            output.print_json_lines([check])
            continue
        output.stdout.print(
            f"{MARKS[check.level]} {check.name:<18} {escape(check.found)}", highlight=False, soft_wrap=True
        )
        if check.fix:
            output.stdout.print(f"{'':27}{escape(check.fix)}", highlight=False, soft_wrap=True)
    if any(check.level is Level.BROKEN for check in checks):
        click.get_current_context().exit(NOT_DONE)
