"""``python -m workers worker|beat|inspect``: three of Celery's own commands, and nothing else.

``celery -A workers`` does the same, and first imports what none of them uses: Flower's web server and an interactive
shell, a fifth of each start, and 12 MB in each process of the cluster.
"""

from __future__ import annotations

import click
from celery.app.utils import find_app
from celery.bin.base import CLIContext
from celery.bin.beat import beat
from celery.bin.control import inspect
from celery.bin.worker import worker


@click.group()
@click.option("-A", "--app", "name", default="workers", show_default=True, help="The module that holds the app.")
@click.pass_context
def main(ctx: click.Context, name: str) -> None:
    """Run a worker or the clock, or ask the workers."""
    ctx.obj = CLIContext(app=find_app(name), no_color=True, workdir=None)


main.add_command(worker)
main.add_command(beat)
main.add_command(inspect)

if __name__ == "__main__":
    main()
