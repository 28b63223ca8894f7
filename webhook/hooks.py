"""Webhooks of other services, below ``/hooks``: they wake the waiting jobs, which then query the service themselves.

The content of a message is never trusted. link-proxy sends ``Authorization: Basic <token>``, with the token as it is
(not encoded); without DATAFAB_LINKPROXY_TOKEN only one on this host is accepted. It never repeats a message: if one is
refused or comes too early, its job notices the change only when it next polls. An entrepôt sends the key that its job
has given it in ``X-Datafab-Key``.
"""

from __future__ import annotations

import hmac
from http import HTTPStatus
from typing import Any

from flask import Blueprint, request
from werkzeug.exceptions import Forbidden, Unauthorized

from datafab.archive.integration import HOOK_KEY
from datafab.catalogue.linkproxy_checks import Webhook
from datafab.catalogue.sources import SourceRegistry
from datafab.errors import FlowError
from webhook.body import body
from webhook.caller import called_by_own_host
from webhook.site import backend

routes = Blueprint("hooks", __name__)


@routes.post("/hooks/link-proxy")
@routes.post("/linkproxypost")
def receive_link_proxy() -> tuple[dict[str, Any], HTTPStatus]:
    """Wake the jobs that wait for one of these links. A repeated message has no effect."""
    _check_token(backend().services.settings.linkproxy_token)
    message = body(Webhook)
    # Fail fast if Redis is away: link-proxy waits for ten seconds only, and does not try again.
    backend().jobs.ping()
    jobs = backend().services.get(SourceRegistry).waiting_jobs(message.ids)
    for job in jobs:
        backend().wake(job)
    return {"key": message.key, "jobs": len(jobs)}, HTTPStatus.ACCEPTED


@routes.post("/hooks/entrepot/<job>")
def receive_entrepot(job: str) -> tuple[dict[str, Any], HTTPStatus]:
    """Wake a job that waits for an entrepôt. The content of the message is ignored."""
    try:
        key = backend().services.secrets.get(job, HOOK_KEY)
    except FlowError as error:
        raise Unauthorized("no job of this id waits for a callback") from error
    sent = request.headers.get("X-Datafab-Key", "").encode("latin-1", "replace")
    if not hmac.compare_digest(sent, key.encode()):
        raise Unauthorized("send the key of the callback in the header X-Datafab-Key")
    return {"tasks": backend().wake(job)}, HTTPStatus.ACCEPTED


def _check_token(token: str | None) -> None:
    """Raise unless the request has the token; if none is set, only programs of this host are accepted."""
    if token is None:
        if called_by_own_host():
            return
        raise Forbidden("set DATAFAB_LINKPROXY_TOKEN: without it, only a link-proxy on this host is accepted")
    sent = request.headers.get("Authorization", "").encode("latin-1", "replace")
    if not hmac.compare_digest(sent, f"Basic {token}".encode()):
        raise Unauthorized("send the header Authorization: Basic <token>, with the token of DATAFAB_LINKPROXY_TOKEN")
