"""The Celery app of this process, and the services that its tasks use."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

from celery import Celery, signals

import celeryconfig
from datafab.core.jobs import RedisJobs
from datafab.core.ledger import Ledger
from datafab.core.services import Services
from datafab.flows import registry as flows
from datafab.flows.chains import STAGES
from datafab.settings import Settings, load
from workers import transport

transport.install()
app = Celery("datafab", include=["workers.tasks", "workers.schedule", "workers.shutdown", "workers.inspect"])
app.config_from_object(celeryconfig)


def route(name: str, *_sent: Any, **_with: Any) -> dict[str, str] | None:
    """Say where a task goes: to its stage's queue. Asked at each sending, for a stage may come after this module."""
    stage = STAGES.get(name.removeprefix("datafab."))
    return {"queue": stage.queue} if stage else None


app.conf.task_routes = (route,)

_settings: Settings | None = None


def use(settings: Settings) -> None:
    """Point this process at another cluster than the environment names (an embedded one)."""
    global _settings  # noqa: PLW0603 - a process talks to one cluster
    _settings = settings
    flows.use(settings.config)
    app.conf.update(celeryconfig.configuration(settings))
    # There is no public way to forget the connections to the former broker, and the store of its results.
    app._after_fork()  # noqa: SLF001
    app._backend_cache = None  # noqa: SLF001
    vars(app._local).pop("backend", None)  # noqa: SLF001
    _services.cache_clear()
    _ledger.cache_clear()


@signals.worker_init.connect
@signals.beat_init.connect
def _begin(**_: Any) -> None:
    """Read the settings once: that takes four milliseconds, which each row that the tick sends would take as well."""
    global _settings  # noqa: PLW0603 - as above
    _settings = settings()


def settings() -> Settings:
    """Return the settings of this process."""
    return _settings or load()


def services() -> Services:
    """Return this process's clients; a forked child makes its own."""
    return _services(os.getpid())


def jobs() -> RedisJobs:
    """Return the jobs of the cluster."""
    mine = services().jobs
    assert isinstance(mine, RedisJobs)
    return mine


@lru_cache(maxsize=1)
def _services(_pid: int) -> Services:
    return Services(settings())


def ledger() -> Ledger:
    """Return the ledger for whoever enqueues: it fails within a second when Redis is away."""
    return _ledger(os.getpid())


@lru_cache(maxsize=1)
def _ledger(_pid: int) -> Ledger:
    return Ledger.connect(settings(), patience=1)
