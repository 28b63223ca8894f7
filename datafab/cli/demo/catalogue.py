"""An act: two passes over a small udata whose files a link-proxy watches; only files that have changed are fetched."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from datafab import api
from datafab.cli import output
from datafab.cli.demo.scene import MAX_JOB_SECONDS, Scene, headline
from datafab.core.job import Job
from datafab.errors import Fatal
from datafab.index.access import IndexAccess
from datafab.sandbox.catalogue import Sandbox, catalogue
from datafab.sandbox.links import Sandbox as LinkProxy
from workers import app

FILES = {"Communes": "/communes.csv", "Entreprises": "/entreprises.csv", "Un lien mort": "/absent.csv"}


def play(scene: Scene) -> None:
    """Read a catalogue twice; in between, one file is marked as changed."""
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
            state = _link_state(scene.linkproxy, scene.portal + FILES[title])
            table.add_row(escape(title), FILES[title], state, _indexed(f"datagouv:{source}"))
        output.stdout.print(table)
        statuses = [sent["status"] for sent in scene.linkproxy.deliveries]
        output.stdout.print(
            f"{len(first)} files' jobs; webhooks of link-proxy answered with {statuses}", highlight=False
        )
        udata.change(udata.resource_ids(next(iter(datasets)))[0])
        (again,) = _pass(scene, udata, 1)
        counts = again.counts
        output.stdout.print(
            f"a second pass: 1 file's job, for the file that has changed in the catalogue: "
            f"{counts.unchanged if counts else 0} unchanged",
            highlight=False,
        )
        scene.linkproxy.subscribers.clear()


def _pass(scene: Scene, udata: Sandbox, expected: int) -> list[Job]:
    """Run a pass, and return the jobs of its files once they have ended."""
    pass_job = scene.run("catalogue", {"url": udata.url})
    jobs = app.jobs().created_after(pass_job.created, "source")
    if len(jobs) != expected:
        raise Fatal(f"{len(jobs)} files were enqueued, but {expected} have changed", code="demo")
    return [api.JobHandle(job.id).wait_for_end(timeout=MAX_JOB_SECONDS) for job in jobs]


def _link_state(proxy: LinkProxy, url: str) -> str:
    """Return the state of a file in link-proxy."""
    link = proxy.find(url)
    return f"{link.checks[-1]['state']}, {len(link.downloads)} kept" if link and link.checks else "not checked"


def _indexed(source: str) -> str:
    found = app.services().get(IndexAccess).reading.get(source)
    if found is None:
        raise Fatal(f"{source} is not in the index", code="demo")
    if found.error is not None:
        return escape(found.error.message)
    return f"{found.total_lines} rows: {escape(', '.join(found.header[:3]))}, …"
