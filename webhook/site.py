"""What an application's routes reach the world through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from flask import Flask, current_app

from datafab.clients.jobs import RedisJobs
from datafab.domain.job import Job
from datafab.services import Services

#: start(flow, params, key) -> the job, and whether it is new; of one that is not, only the id is sure
Start = Callable[[str, dict[str, Any], str | None], tuple[Job, bool]]


@dataclass(frozen=True, slots=True)
class Site:
    """The services and the queue of one application."""

    services: Services
    start: Start

    @property
    def jobs(self) -> RedisJobs:
        """The jobs of the cluster; only a run without a cluster has others."""
        return cast("RedisJobs", self.services.jobs)

    def belongs_to(self, app: Flask) -> None:
        """Make it the application's."""
        app.extensions["datafab"] = self


def site() -> Site:
    """Return that of the application that answers."""
    return cast("Site", current_app.extensions["datafab"])
