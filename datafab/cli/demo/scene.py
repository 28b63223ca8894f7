"""Where an act of the demo plays: a running cluster, a folder, a portal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datafab import api
from datafab.cli import output
from datafab.core.job import Job
from datafab.flows.registry import localise
from datafab.sandbox.archives import Sandbox as Entrepot
from datafab.sandbox.links import Sandbox as LinkProxy
from datafab.settings import Settings
from workers import app
from workers.canvas import start

#: Seconds that a job of the demo may take.
LIMIT = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What acts share.

    Attributes:
        settings: of the cluster.
        folder: for files of their own.
        portal: URL of the sample files.
        linkproxy, entrepot: those of the settings.
    """

    settings: Settings
    folder: Path
    portal: str
    linkproxy: LinkProxy
    entrepot: Entrepot

    def run(self, flow: str, params: Mapping[str, Any], secrets: Mapping[str, str] | None = None) -> Job:
        """Run a job and follow it to its end.

        Raises:
            JobFailed: it did not succeed.
        """
        job, _ = start(flow, localise(flow, params, app.services()), secrets=secrets)
        with output.follow_job() as on_progress:
            return api.JobHandle(job.id).wait(timeout=LIMIT, on_progress=on_progress)


def headline(title: str, *facts: str) -> None:
    """Print what an act is about."""
    output.stdout.print(f"\n[bold]{title}[/]" + "".join(f": {fact}" for fact in facts), highlight=False)
