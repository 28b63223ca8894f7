"""``datafab sandbox``: run small replacements of other systems until Ctrl-C."""

from __future__ import annotations

import signal
from importlib import import_module
from threading import Event
from typing import Any

import click

from datafab.cli import output
from datafab.settings import load

port_option = click.option("--port", default=0, show_default="a free one", type=click.IntRange(0, 65535))


@click.group()
def sandbox() -> None:
    """Run a small replacement of another system on 127.0.0.1 until Ctrl-C.

    GET /_sim lists its requests. POST /_sim with an object of operations makes faults and changes. (Not yet for CKAN.)
    """


@sandbox.command("catalogue")
@click.argument("urls", nargs=-1)
@click.option("--datasets", type=click.IntRange(1), help="Number of datasets with five files each, instead of URLS.")
@click.option("--files", default="http://127.0.0.1:9", help="Root URL of those files.", show_default=True)
@click.option("--changed", default=0, type=click.IntRange(0), help="Number of datasets that have just changed.")
@port_option
def catalogue_command(urls: tuple[str, ...], port: int, datasets: int | None, files: str, changed: int) -> None:
    """Run a data.gouv.fr with a dataset for each of URLS."""
    options = {"count": datasets, "files": files, "changed": changed}
    many = import_module("datafab.sandbox.many").Many(**options) if datasets else None
    with _sandbox("catalogue", port, sandbox=many) as running:
        for url in urls:
            running.add(url)
        _until_stopped(f"DATAFAB_CATALOGUE_URL={running.url}")


@sandbox.command("link-proxy")
@click.option(
    "--webhook", metavar="URL", help="URL that is notified of changes, with DATAFAB_LINKPROXY_TOKEN if that is set."
)
@port_option
def linkproxy_command(webhook: str | None, port: int) -> None:
    """Run a link-proxy, which fetches the URLs that it is given."""
    with _sandbox("linkproxy", port) as running:
        if webhook:
            running.subscribe(webhook, load().linkproxy_token or "")
        _until_stopped(f"DATAFAB_LINKPROXY_URL={running.url}")


@sandbox.command("ckan")
@click.argument("urls", nargs=-1)
@port_option
def ckan_command(urls: tuple[str, ...], port: int) -> None:
    """Run a CKAN with a resource for each of URLS, which can be pushed to its DataStore."""
    with _sandbox("ckan", port) as running:
        pushes = [f"datafab push {running.add(url)}" for url in urls]
        _until_stopped(f"DATAFAB_CKAN_URLS={running.url}", f"DATAFAB_CKAN_API_KEY={running.token}", *pushes)


@sandbox.command("entrepot")
@port_option
def entrepot_command(port: int) -> None:
    """Run a Géoplateforme entrepôt with one datastore."""
    with _sandbox("entrepot", port) as running:
        names = {"URL": "url", "TOKEN_URL": "token_url", "DATASTORE": "datastore", "CLIENT_ID": "client_id"}
        names |= {"CLIENT_SECRET": "client_secret", "LOGIN": "login", "PASSWORD": "password"}
        _until_stopped(*(f"DATAFAB_ENTREPOT_{name}={getattr(running, each)}" for name, each in names.items()))


def _sandbox(name: str, port: int, **options: Any) -> Any:
    """Return a sandbox. It is imported here because no other command needs Flask."""
    return getattr(import_module(f"datafab.sandbox.{name}"), name)(port, **options)


def _until_stopped(*lines: str) -> None:
    """Print the settings to use the sandbox, and wait for SIGINT or SIGTERM."""
    stopped = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    for line in (*lines, "Ctrl-C stops it"):
        output.stdout.print(line, highlight=False, soft_wrap=True)
    stopped.wait()
