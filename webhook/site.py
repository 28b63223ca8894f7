"""What an application's routes reach the world through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

from flask import Flask, current_app

from datafab.core.job import Job
from datafab.core.jobs import RedisJobs
from datafab.core.services import Services


class Start(Protocol):
    """Enqueues a job: returns it, and whether it is new; of one that is not, only the id is sure."""

    def __call__(
        self, flow: str, params: dict[str, Any], key: str | None = None, *, secrets: Mapping[str, str] | None = None
    ) -> tuple[Job, bool]:
        """See ``workers.canvas.start``."""


#: Makes what waits of a job due now; returns how many of its tasks that are.
Hasten = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Site:
    """The services and the queue of one application."""

    services: Services
    start: Start
    hasten: Hasten

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
