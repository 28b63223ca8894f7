"""``datafab push``: load the file of a CKAN resource into its DataStore."""

from __future__ import annotations

import sys
from typing import Any

import click

from datafab.analysis.bad_rows import BAD_ROWS, BAD_ROWS_HELP
from datafab.analysis.day_order import DATE_ORDER_HELP, DATE_ORDERS
from datafab.analysis.sheet_choice import SHEET_HELP
from datafab.cli.run_job import as_json_option, inline_option, run
from datafab.errors import SettingError
from datafab.settings import Settings, load


@click.command()
@click.argument("resource")
@click.option("--ckan-url", metavar="URL", help="Root URL of the CKAN; default: the one of DATAFAB_CKAN_URLS.")
@click.option(
    "--ignore-hash", is_flag=True, help="Load the file even if CKAN's hash says that it has been loaded already."
)
@click.option("--set-url-type", is_flag=True, help="Set the resource's url_type to `datapusher` afterwards.")
@click.option("--date-order", type=click.Choice(DATE_ORDERS), help=DATE_ORDER_HELP)
@click.option("--bad-rows", type=click.Choice(BAD_ROWS), help=BAD_ROWS_HELP)
@click.option("--sheet", metavar="NAME|NUMBER", help=SHEET_HELP)
@inline_option
@as_json_option
def push(
    resource: str,
    *,
    ckan_url: str | None,
    date_order: str | None,
    bad_rows: str | None,
    sheet: str | None,
    inline: bool,
    as_json: bool,
    **options: bool,
) -> None:
    """Load the file of RESOURCE, the id of a CKAN resource, into its DataStore.

    The API key is that of DATAFAB_CKAN_API_KEY; if that is unset, it is prompted for, or read from standard input. CKAN
    can submit pushes itself: set its ckan.datapusher.url to http://<webhook>/datapusher/.
    """
    settings = load()
    params: dict[str, Any] = {"resource_id": resource, "ckan_url": ckan_url or _only_ckan(settings)} | options
    chosen = {"date_order": date_order, "bad_rows": bad_rows, "sheet": sheet}
    params |= {name: value for name, value in chosen.items() if value is not None}
    ended = run("push", params, secrets={"api_key": _api_key(settings)}, inline=inline)
    ended.report(as_json=as_json, with_log=True)
    ended.exit()


def _only_ckan(settings: Settings) -> str:
    """Return the root URL of the only CKAN in the settings."""
    if len(settings.ckan_urls) == 1:
        return settings.ckan_urls[0]
    raise click.UsageError("which CKAN? give --ckan-url, or set DATAFAB_CKAN_URLS to a single URL")


def _api_key(settings: Settings) -> str:
    """Return the API key. It is not an option, because every user of the host can read command lines."""
    if settings.ckan_api_key:
        return settings.ckan_api_key
    if sys.stdin.isatty():
        return str(click.prompt("CKAN API key", hide_input=True, err=True))
    key = sys.stdin.readline().strip()
    if not key:
        msg = "no CKAN API key: set DATAFAB_CKAN_API_KEY, or write it to standard input"
        raise SettingError(msg, field="DATAFAB_CKAN_API_KEY")
    return key
