"""Whether the webhook is alive, and whether what it needs is there."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import Blueprint

from datafab.core.metrics import ClusterMetrics
from datafab.core.services import Services
from datafab.ops.diagnosis import still
from datafab.ops.pings import pings
from webhook.site import site

routes = Blueprint("health", __name__)


@routes.get("/health")
def health() -> dict[str, str]:
    """200 while the process lives; asks nothing else."""
    return {"status": "ok"}


@routes.get("/ready")
def ready() -> tuple[dict[str, Any], HTTPStatus]:
    """200 when every service answers and every queue moves, else 503; ``services`` says what is wrong, or null."""
    services = site().services
    answers = pings(services)
    if answers["redis"] is None:
        answers |= _queues(services)
    if any(answers.values()):
        return {"status": "unavailable", "services": answers}, HTTPStatus.SERVICE_UNAVAILABLE
    return {"status": "ok", "services": answers}, HTTPStatus.OK


def _queues(services: Services) -> dict[str, str]:
    """Return what is wrong with the queues that do not move."""
    found = services.get(ClusterMetrics).idle_queues(services.settings.still_after)
    checks = [still(queue, one.seconds, one.messages) for queue, one in found.items()]
    return {check.name: f"{check.found}: {check.fix}" for check in checks}
