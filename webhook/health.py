"""Health checks: of the webhook's process, and of the services that it needs."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import Blueprint
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from datafab.core.metrics import ClusterMetrics
from datafab.core.services import Services
from datafab.ops.diagnosis import stalled_queue
from datafab.ops.pings import pings
from webhook.site import backend

routes = Blueprint("health", __name__)


@routes.errorhandler(RedisConnectionError)
@routes.errorhandler(RedisTimeoutError)
def redis_away(_error: Exception) -> tuple[dict[str, Any], HTTPStatus]:
    """Answer 503 while Redis is away, without which the caller's role is not known."""
    return {"status": "unavailable", "services": {"redis": "does not answer"}}, HTTPStatus.SERVICE_UNAVAILABLE


@routes.get("/health")
def health() -> dict[str, str]:
    """Answer 200 while the process lives; no service is queried."""
    return {"status": "ok"}


@routes.get("/ready")
def ready() -> tuple[dict[str, Any], HTTPStatus]:
    """Answer 200 if every service answers and every queue moves, else 503; ``services`` has each error, or null."""
    services = backend().services
    answers = pings(services)
    if answers["redis"] is None:
        answers |= _queues(services)
    if any(answers.values()):
        return {"status": "unavailable", "services": answers}, HTTPStatus.SERVICE_UNAVAILABLE
    return {"status": "ok", "services": answers}, HTTPStatus.OK


def _queues(services: Services) -> dict[str, str]:
    """Return the errors of the queues from which no worker takes messages."""
    found = services.get(ClusterMetrics).idle_queues(services.settings.stalled_after)
    checks = [stalled_queue(queue, one.seconds, one.messages) for queue, one in found.items()]
    return {check.name: f"{check.found}: {check.fix}" for check in checks}
