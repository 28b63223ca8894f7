"""The HTTP API: enqueue flows, follow jobs, search what was indexed.

It listens on 127.0.0.1 unless DATAFAB_BIND is set. Each route needs a role (``access.py``), which a caller has by a
token or a session (``caller.py``). Web pages of other sites are refused (``doors.py``), and no caller may name files
outside the folder of ``DATAFAB_COLLECTIONS`` (``paths.py``).
"""

from __future__ import annotations

from contextlib import suppress
from typing import cast

from flask import Flask
from flask.json.provider import DefaultJSONProvider

from datafab.core.caller import Caller
from datafab.core.hosts_allowed import PublicHosts
from datafab.core.job import Job
from datafab.core.redis import CONNECTION_ERRORS
from datafab.core.services import Services
from datafab.core.tokens import Tokens
from datafab.embedded import check_exposed, is_exposed
from datafab.errors import SettingError
from datafab.flows import registry as flows
from datafab.settings import Settings, load
from webhook import access, caller, doors, headers, health, hooks, login, metrics, openapi, refusals, tokens
from webhook import api as views
from webhook import catalogue as hydra
from webhook import errors as failures
from webhook import push as datapusher
from webhook.limits import MAX_BODY_BYTES
from webhook.site import Backend, Retry, Start, Wake


def create_app(
    settings: Settings | None = None,
    services: Services | None = None,
    start: Start | None = None,
    wake: Wake | None = None,
    retry: Retry | None = None,
) -> Flask:
    """Return the application.

    Args:
        settings: the settings; None: those of the environment.
        services: the clients; None: built from the settings, with a Redis client that gives up after about a second.
        start: enqueues a job; None: ``workers.canvas.start``.
        wake: makes a job's waiting tasks due now; None: ``Ledger.wake``.
        retry: runs an ended job again; None: ``workers.canvas.retry``.

    Raises:
        SettingError: DATAFAB_REDIS_URL is not set, ``datafab.toml`` has errors, or other hosts can connect to
            DATAFAB_BIND and there is no token.
    """
    settings = settings or load()
    flows.use(settings.config)
    flows.flows()
    services = services or _services(settings)
    if is_exposed(settings):
        # If Redis does not answer, every request is refused until it does.
        with suppress(*CONNECTION_ERRORS):
            check_exposed(settings, services.get(Tokens))
    if start is None:
        # Imported here so that an app with another `start` does not need Celery.
        from workers import canvas  # noqa: PLC0415
        from workers.app import use  # noqa: PLC0415

        use(settings)
        start = canvas.start
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    provider = cast("DefaultJSONProvider", app.json)
    provider.ensure_ascii, provider.sort_keys = False, False
    Backend(services, start, wake or _wake, retry or _retry).attach(app)
    headers.add_headers(app)
    refusals.log_refusals(app)
    doors.refuse_foreign_requests(app, PublicHosts.of(settings.public_url))
    caller.require_callers(app)
    for part in (health, metrics, openapi, login, views, tokens, datapusher, hooks, hydra):
        app.register_blueprint(part.routes)
    failures.register(app)
    access.check_table(app)
    return app


def _wake(job: str) -> int:
    from workers.app import ledger  # noqa: PLC0415 - an app with another `wake` does not need Celery

    return ledger().wake(job)


def _retry(job: str, asking: Caller) -> Job:
    from workers import canvas  # noqa: PLC0415 - as above

    return canvas.retry(job, asking)


def _services(settings: Settings) -> Services:
    if settings.redis_url is None:
        msg = "DATAFAB_REDIS_URL is not set: the webhook needs a cluster; `datafab up` starts one with its own webhook"
        raise SettingError(msg, field="DATAFAB_REDIS_URL")
    return Services(settings, patience=1)
