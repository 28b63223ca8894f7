"""``datafab token``: who may use the cluster over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click
from rich.table import Table
from rich.text import Text

from datafab.cli import output
from datafab.cli.run_job import as_json_option
from datafab.core.redis import connect
from datafab.core.roles import Role
from datafab.core.tokens import Token, Tokens, duration_seconds
from datafab.embedded import Cluster, check_exposed, is_exposed, running
from datafab.errors import FlowError
from datafab.settings import Settings, load


@click.group()
def token() -> None:
    """Create, list and revoke the tokens of callers over HTTP.

    These commands write to the Redis of the cluster itself: run them on a host of the cluster. Over HTTP an
    administrator can do the same at /api/tokens.
    """


@token.command("create")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    required=True,
    help="viewer reads; operator also enqueues, retries and cancels jobs and checks URLs; admin also manages tokens and"
    " withdraws documents.",
)
@click.option(
    "--expires",
    callback=lambda _ctx, _param, text: _seconds(text),
    metavar="90d",
    help="Hours (h), days (d) or weeks (w) until it expires; default: never.",
)
@click.option(
    "--limit", type=click.IntRange(1), help="Largest number of its jobs that run at the same time; default: no limit."
)
@as_json_option
def create(name: str, role: str, expires: int | None, limit: int | None, as_json: bool) -> None:
    """Create a token for NAME and print it: it is not shown again."""
    with _tokens(load()) as tokens:
        made, text = tokens.create(name, Role(role), seconds=expires, limit=limit)
    if as_json:
        output.print_json_lines([made.dump() | {"token": text}])
        return
    click.echo(text)
    output.stderr.print(f"Keep it now: it is not shown again. {_describe(made)}", highlight=False, soft_wrap=True)


@token.command("list")
@as_json_option
def list_tokens(as_json: bool) -> None:
    """List the tokens, without their secrets."""
    with _tokens(load()) as tokens:
        found = tokens.all()
    if as_json:
        output.print_json_lines(one.dump() for one in found)
        return
    table = Table("id", "name", "role", "expires", "jobs at a time", "last used")
    for one in found:
        limit = "no limit" if one.limit is None else str(one.limit)
        row = (one.id, one.name, one.role.value, _day(one.expires), limit, _day(one.last_used))
        table.add_row(*map(Text, row))
    output.stdout.print(table if found else "no tokens")


@token.command("revoke")
@click.argument("name")
@as_json_option
def revoke(name: str, as_json: bool) -> None:
    """Revoke the token of this NAME or id; its sessions end with it."""
    with _tokens(load()) as tokens:
        gone = tokens.revoke(name)
    if as_json:
        output.print_json_lines([gone.dump()])
    else:
        output.stdout.print(f"{gone.name} ({gone.id}) is revoked", highlight=False)


def check_bind(settings: Settings) -> None:
    """Raise SettingError if ``datafab up`` would let other hosts connect before there is a token."""
    if is_exposed(settings):
        with _tokens(settings) as tokens:
            check_exposed(settings, tokens)


@contextmanager
def _tokens(settings: Settings) -> Iterator[Tokens]:
    """Connect to the cluster's Redis; where no cluster runs, start the one of the home for a moment."""
    here = None if settings.redis_url else running(settings)
    if here:
        settings = here.reached_by(settings)
    if settings.redis_url:
        with connect(settings) as client:
            yield Tokens(client)
        return
    with Cluster(settings, ("redis",)) as alone, connect(alone.settings) as client:
        yield Tokens(client)


def _seconds(text: str | None) -> int | None:
    try:
        return None if text is None else duration_seconds(text)
    except FlowError as error:
        raise click.BadParameter(error.message) from error


def _describe(one: Token) -> str:
    limit = "" if one.limit is None else f", {one.limit} jobs at a time"
    expires = "never expires" if one.expires is None else f"expires on {_day(one.expires)}"
    return f"{one.name} is {one.role.value}{limit}, {expires}; `datafab token revoke {one.name}` ends it."


def _day(seconds: float | None) -> str:
    return "never" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
