"""Whether the webhook is alive, and whether what it needs is there."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import Blueprint

from webhook.site import site

routes = Blueprint("health", __name__)


@routes.get("/health")
def health() -> dict[str, str]:
    """200 while the process lives; asks nothing else."""
    return {"status": "ok"}


@routes.get("/ready")
def ready() -> tuple[dict[str, Any], HTTPStatus]:
    """200 when every service answers, else 503; ``services`` says what is wrong with each, or null."""
    answers = site().services.pings()
    if any(answers.values()):
        return {"status": "unavailable", "services": answers}, HTTPStatus.SERVICE_UNAVAILABLE
    return {"status": "ok", "services": answers}, HTTPStatus.OK
