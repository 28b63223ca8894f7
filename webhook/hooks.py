"""What other services tell, below ``/hooks``: hints, upon which jobs that wait look by themselves. Nothing is believed.

link-proxy sends ``Authorization: Basic <token>`` with the token as it stands, where one is set; its messages are never
sent again, so one that is refused or comes too early costs time: its job looks from time to time. An entrepôt shows
the key that its job gave it in ``X-Datafab-Key``.
"""

from __future__ import annotations

import hmac
from http import HTTPStatus
from typing import Any

from flask import Blueprint, request
from werkzeug.exceptions import Unauthorized

from datafab.archive.integration import HOOK_KEY
from datafab.catalogue.linkproxy_checks import Webhook
from datafab.catalogue.sources import SourceRegistry
from datafab.errors import FlowError
from webhook.body import body
from webhook.site import site

routes = Blueprint("hooks", __name__)


@routes.post("/hooks/link-proxy")
@routes.post("/linkproxypost")
def linkproxy() -> tuple[dict[str, Any], HTTPStatus]:
    """Have the jobs that wait for any of these links look now. Doubled, it finds nobody who waits."""
    _authenticated(site().services.settings.linkproxy_token)
    told = body(Webhook)
    # link-proxy waits ten seconds, and does not try again.
    site().jobs.ping()
    jobs = site().services.get(SourceRegistry).waiting_jobs(told.ids)
    for job in jobs:
        site().hasten(job)
    return {"key": told.key, "jobs": len(jobs)}, HTTPStatus.ACCEPTED


@routes.post("/hooks/entrepot/<job>")
def entrepot(job: str) -> tuple[dict[str, Any], HTTPStatus]:
    """Have a job look now at what an entrepôt makes for it. What the message says does not matter."""
    try:
        key = site().services.secrets.get(job, HOOK_KEY)
    except FlowError as error:
        raise Unauthorized("no such job waits for a callback") from error
    sent = request.headers.get("X-Datafab-Key", "").encode("latin-1", "replace")
    if not hmac.compare_digest(sent, key.encode()):
        raise Unauthorized("X-Datafab-Key, as it was given with the callback, is needed")
    return {"tasks": site().hasten(job)}, HTTPStatus.ACCEPTED


def _authenticated(token: str | None) -> None:
    """Raise Unauthorized unless the request shows the token; without one anybody may send."""
    if token is None:
        return
    sent = request.headers.get("Authorization", "").encode("latin-1", "replace")
    if not hmac.compare_digest(sent, f"Basic {token}".encode()):
        raise Unauthorized("Authorization: Basic, followed by the token of DATAFAB_LINKPROXY_TOKEN, is needed")
