"""The backend of an application's views: the services and the queue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

from flask import Flask, current_app

from datafab.core.caller import Caller
from datafab.core.job import Job
from datafab.core.jobs import RedisJobs
from datafab.core.services import Services


class Start(Protocol):
    """A function that enqueues a job and returns it, and whether it is new; of an existing job only the id is valid."""

    def __call__(
        self,
        flow: str,
        params: dict[str, Any],
        key: str | None = None,
        *,
        secrets: Mapping[str, str] | None = None,
        caller: Caller | None = None,
    ) -> tuple[Job, bool]:
        """See ``workers.canvas.start``."""


#: Makes a job's waiting tasks due now, and returns their number.
Wake = Callable[[str], int]
#: Runs an ended job again for a caller, and returns that job, or a new one.
Retry = Callable[[str, Caller], Job]


@dataclass(frozen=True, slots=True)
class Backend:
    """The services and the queue of one application."""

    services: Services
    start: Start
    wake: Wake
    retry: Retry

    @property
    def jobs(self) -> RedisJobs:
        """The jobs of the cluster; only runs in a single process keep theirs elsewhere."""
        return cast("RedisJobs", self.services.jobs)

    def attach(self, app: Flask) -> None:
        """Make this the backend of an application."""
        app.extensions["datafab"] = self


def backend() -> Backend:
    """Return the backend of the current application."""
    return cast("Backend", current_app.extensions["datafab"])
