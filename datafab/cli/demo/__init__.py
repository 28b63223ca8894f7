"""``datafab demo``: run sample files through the whole cluster, in half a minute, with nothing to install.

To add an act, write a module here and add a line to ``ACTS``.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import requests

from datafab.cli import output
from datafab.cli.demo import archive, catalogue, files, trail
from datafab.cli.demo.scene import Scene, headline
from datafab.embedded import ALL, Cluster, flower_login, free_port
from datafab.sandbox.archives import Sandbox as Entrepot
from datafab.sandbox.entrepot import entrepot
from datafab.sandbox.linkproxy import linkproxy
from datafab.sandbox.portal import portal
from datafab.settings import Settings, load
from workers import app

ACTS: tuple[Callable[[Scene], None], ...] = (files.play, trail.play, catalogue.play, archive.play)


def run(*, keep: bool) -> None:
    """Run a temporary cluster and play all acts on it.

    Args:
        keep: leave the cluster running until Ctrl-C.
    """
    start = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="datafab-demo-")))
        url, proxy = stack.enter_context(portal()), stack.enter_context(linkproxy())
        geo = stack.enter_context(entrepot())
        with output.follow_start() as on_state:
            cluster = Cluster(_settings(folder, proxy.url, geo), ALL, on_state=on_state)
            cluster.start()
        try:
            app.use(cluster.settings)
            headline("A cluster on this host", ", ".join(cluster.pids))
            scene = Scene(settings=cluster.settings, folder=folder, portal=url, linkproxy=proxy, entrepot=geo)
            for act in ACTS:
                act(scene)
            _print_flower_tasks(cluster.settings)
            output.stdout.print(f"\nDone in {time.monotonic() - start:.0f} s.", highlight=False)
            if keep:
                _print_addresses(cluster.settings)
                cluster.serve_forever()
        finally:
            cluster.stop()


def _settings(folder: Path, linkproxy_url: str, geo: Entrepot) -> Settings:
    return load(
        home=folder / "home",
        redis_url=None,
        store_url=None,
        index_url=None,
        mqtt_url=None,
        bind=f"127.0.0.1:{free_port()}",
        flower_bind=f"127.0.0.1:{free_port()}",
        allow_private_hosts="127.0.0.1/32",
        linkproxy_url=linkproxy_url,
        linkproxy_token=secrets.token_urlsafe(16),
        entrepot_url=geo.url,
        entrepot_token_url=geo.token_url,
        entrepot_datastore=geo.datastore,
        entrepot_client_id=geo.client_id,
        entrepot_client_secret=geo.client_secret,
        entrepot_login=geo.login,
        entrepot_password=geo.password,
        poll_delay=0.5,
        per_host=8,
    )


def _print_flower_tasks(settings: Settings) -> None:
    """Print the names of the tasks that Flower has seen."""
    flower = f"http://{settings.flower_bind}"
    user, _, password = flower_login(settings.home).partition(":")
    tasks = requests.get(f"{flower}/api/tasks", auth=(user, password), timeout=10).json()
    # Flower does not know the names of tasks that were sent before it had started.
    names = sorted({task["name"].removeprefix("datafab.") for task in tasks.values() if task["name"]} - {"tick"})
    output.stdout.print(f"\n[bold]Flower[/] at {flower} saw the tasks {', '.join(names)}", highlight=False)


def _print_addresses(settings: Settings) -> None:
    output.stdout.print(
        f"\nThe cluster keeps running: webhook http://{settings.bind}/ready, Flower http://{settings.flower_bind}/"
    )
    output.stdout.print(f"Flower's login is {flower_login(settings.home)}", highlight=False, soft_wrap=True)
    output.stdout.print(f"With DATAFAB_HOME={settings.home} other datafab commands use it. Ctrl-C stops it.")
