"""Two passes over a small udata, whose files a link-proxy watches: what has changed is fetched, and nothing else."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from datafab import api
from datafab.cli import output
from datafab.cli.demo.scene import LIMIT, Scene, headline
from datafab.core.job import Job
from datafab.errors import Fatal
from datafab.index.access import IndexAccess
from datafab.sandbox.catalogue import Sandbox, catalogue
from datafab.sandbox.links import Sandbox as LinkProxy
from workers import app

FILES = {"Communes": "/communes.csv", "Entreprises": "/entreprises.csv", "Un lien mort": "/absent.csv"}


def play(scene: Scene) -> None:
    """Read a catalogue twice; between the two one file is said to have changed."""
    with catalogue() as udata:
        datasets = {udata.add(scene.portal + path, title=title): title for title, path in FILES.items()}
        headline("datafab catalogue run", f"{len(datasets)} datasets of {udata.url}, files watched by a link-proxy")
        scene.linkproxy.subscribe(
            f"http://{scene.settings.bind}/hooks/link-proxy", scene.settings.linkproxy_token or ""
        )
        first = _pass(scene, udata, len(datasets))
        table = Table("dataset", "its file", "link-proxy", "in the index")
        for dataset, title in datasets.items():
            (source,) = udata.resource_ids(dataset)
            said = _said(scene.linkproxy, scene.portal + FILES[title])
            table.add_row(escape(title), FILES[title], said, _indexed(f"datagouv:{source}"))
        output.stdout.print(table)
        statuses = [sent["status"] for sent in scene.linkproxy.deliveries]
        output.stdout.print(
            f"{len(first)} files' jobs; webhooks of link-proxy answered with {statuses}", highlight=False
        )
        udata.change(udata.resource_ids(next(iter(datasets)))[0])
        (again,) = _pass(scene, udata, 1)
        counts = again.counts
        output.stdout.print(
            f"a second pass: 1 file's job, for the one that the catalogue calls changed: "
            f"{counts.unchanged if counts else 0} unchanged",
            highlight=False,
        )
        scene.linkproxy.subscribers.clear()


def _pass(scene: Scene, udata: Sandbox, expected: int) -> list[Job]:
    """Make a pass; return the jobs of its files once they have ended."""
    this = scene.run("catalogue", {"url": udata.url})
    made = app.jobs().made_after(this.created, "source")
    if len(made) != expected:
        raise Fatal(f"{len(made)} files were enqueued, {expected} have changed", code="demo")
    return [api.JobHandle(job.id).wait_for_end(timeout=LIMIT) for job in made]


def _said(proxy: LinkProxy, url: str) -> str:
    """Return what link-proxy says of a file."""
    link = proxy.find(url)
    return f"{link.checks[-1]['state']}, {len(link.downloads)} kept" if link and link.checks else "not asked"


def _indexed(source: str) -> str:
    found = app.services().get(IndexAccess).reading.get(source)
    if found is None:
        raise Fatal(f"{source} is not in the index", code="demo")
    if found.error is not None:
        return escape(found.error.message)
    return f"{found.total_lines} rows: {escape(', '.join(found.header[:3]))}, …"
