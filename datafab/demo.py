"""``datafab demo``: sample files through the whole cluster, in half a minute, with nothing to install."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import requests

from datafab import api, show
from datafab.embedded import ALL, Cluster, free_port
from datafab.flows import localised
from datafab.sandbox.portal import FILES, endpoint_csv, portal
from datafab.settings import Settings, load
from workers import cluster as cluster_app
from workers.canvas import start

SEARCHES = ("format:siren", "communes", 'column:"mise en service"')


def run(*, keep: bool) -> None:
    """Serve sample files, collect, analyse and index them on a cluster of its own, and search.

    Args:
        keep: leave the cluster running until Ctrl-C.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="datafab-demo-") as folder, portal() as url:
        settings = _settings(Path(folder))
        with show.starting() as told:
            cluster = Cluster(settings, ALL, told=told)
            cluster.start()
        try:
            cluster_app.use(cluster.settings)
            show.out.print(f"[bold]A cluster on this host[/]: {', '.join(cluster.pids)}", highlight=False)
            _collect(Path(folder), url)
            _search(cluster.settings)
            _watch(cluster.settings)
            show.out.print(f"\nDone in {time.monotonic() - began:.0f} s.", highlight=False)
            if keep:
                _invite(cluster.settings)
                cluster.serve_forever()
        finally:
            cluster.stop()


def _settings(folder: Path) -> Settings:
    return load(
        home=folder / "home",
        redis_url=None,
        store_url=None,
        index_url=None,
        bind=f"127.0.0.1:{free_port()}",
        flower_bind=f"127.0.0.1:{free_port()}",
        allow_private_hosts="127.0.0.1/32",
        per_host=8,
    )


def _collect(folder: Path, url: str) -> None:
    """Collect the portal's files as a job, and show what became of each."""
    file = folder / "endpoint.csv"
    file.write_text(endpoint_csv(url), encoding="utf-8")
    show.out.print(f"\n[bold]datafab collect endpoint.csv[/]: {len(FILES)} endpoints of {url}", highlight=False)
    params = {"endpoints": file, "collection": folder / "collection"}
    job, _ = start("collect", localised("collect", params, cluster_app.services()))
    with show.following() as told:
        ended = api.JobHandle(job.id).wait(timeout=120, told=told)
    show.files(cluster_app.services().index.search("", 20))
    if ended.counts:
        show.counts(ended.counts)


def _search(settings: Settings) -> None:
    for query in SEARCHES:
        show.out.print(f"\n[bold]datafab search '{query}'[/]", highlight=False)
        answer = requests.get(f"http://{settings.bind}/api/search", params={"q": query}, timeout=10).json()
        for hit in answer["hits"]:
            rows = f"{hit['total_lines']} rows" if "total_lines" in hit else hit["status"]
            show.out.print(f"  {hit['title']}  {rows}", highlight=False)


def _watch(settings: Settings) -> None:
    """Say what Flower saw."""
    flower = f"http://{settings.flower_bind}"
    tasks = requests.get(f"{flower}/api/tasks", timeout=10).json()
    names = sorted({str(task["name"]) for task in tasks.values()} - {"datafab.tick"})
    show.out.print(f"\n[bold]Flower[/] at {flower} saw {', '.join(names)}", highlight=False)


def _invite(settings: Settings) -> None:
    show.out.print(f"\nIt runs on: webhook http://{settings.bind}/ready, Flower http://{settings.flower_bind}/")
    show.out.print(f"With DATAFAB_HOME={settings.home} other datafab commands join it. Ctrl-C stops it.")
