"""``python -m workers worker|beat|inspect``: three of Celery's own commands.

``celery -A workers`` does the same, but first imports Flower's web server and an interactive shell, which none of the
three needs: a fifth of each start, and 12 MB in each process of the cluster.
"""

from __future__ import annotations

import click
from celery.app.utils import find_app
from celery.bin.base import CLIContext
from celery.bin.beat import beat
from celery.bin.control import inspect
from celery.bin.worker import worker

from datafab.settings import load


@click.group()
@click.option("-A", "--app", "name", default="workers", show_default=True, help="The module that holds the app.")
@click.pass_context
def main(ctx: click.Context, name: str) -> None:
    """Run a worker or beat, or inspect the workers."""
    settings = load()
    if settings.redis_url is None:
        # Celery would keep trying to reach a RabbitMQ on this host.
        msg = "DATAFAB_REDIS_URL is not set: all processes of a cluster need the same"
        raise click.ClickException(msg)
    if ctx.invoked_subcommand == beat.name:
        settings.home.mkdir(parents=True, exist_ok=True)  # beat keeps its last times there
    ctx.obj = CLIContext(app=find_app(name), no_color=True, workdir=None)


main.add_command(worker)
main.add_command(beat)
main.add_command(inspect)

if __name__ == "__main__":
    main()
