"""The scene of the demo's acts: a running cluster, a folder, a portal."""

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

#: Longest duration of a job of the demo.
MAX_JOB_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The systems that the acts share.

    Attributes:
        settings: settings of the cluster.
        folder: folder for files of the acts.
        portal: URL of the sample files.
        linkproxy, entrepot: the sandboxes that the settings name.
    """

    settings: Settings
    folder: Path
    portal: str
    linkproxy: LinkProxy
    entrepot: Entrepot

    def run(self, flow: str, params: Mapping[str, Any], secrets: Mapping[str, str] | None = None) -> Job:
        """Run a job and follow it to its end.

        Raises:
            JobFailed: the job did not succeed.
        """
        job, _ = start(flow, localise(flow, params, app.services()), secrets=secrets)
        with output.follow_job() as on_progress:
            return api.JobHandle(job.id).wait(timeout=MAX_JOB_SECONDS, on_progress=on_progress)


def headline(title: str, *facts: str) -> None:
    """Print the headline of an act."""
    output.stdout.print(f"\n[bold]{title}[/]" + "".join(f": {fact}" for fact in facts), highlight=False)
