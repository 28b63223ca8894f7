"""The Celery app of this process, and the services that its tasks use."""

from __future__ import annotations

import os
import time
from functools import lru_cache
from typing import Any

from celery import Celery, signals
from redis.exceptions import RedisError

import celeryconfig
from datafab.core.clock import Clock
from datafab.core.jobs import RedisJobs
from datafab.core.ledger import Ledger
from datafab.core.services import Services
from datafab.flows import registry as flows
from datafab.flows.chains import STAGES
from datafab.settings import Settings, load
from workers import results, transport

results.install()
app = Celery("datafab", include=["workers.tasks", "workers.schedule", "workers.shutdown", "workers.inspect"])
app.config_from_object(celeryconfig)


def route_task(name: str, *_: Any, **__: Any) -> dict[str, str] | None:
    """Return the queue of a task's stage. Celery calls this for each message: stages may be added after this module."""
    stage = STAGES.get(name.removeprefix("datafab."))
    return {"queue": stage.queue} if stage else None


app.conf.task_routes = (route_task,)

_settings: Settings | None = None


def use(settings: Settings) -> None:
    """Use the settings of another cluster than the environment names, such as an embedded one."""
    global _settings  # noqa: PLW0603 - a process talks to one cluster
    _settings = settings
    flows.use(settings.config)
    app.conf.update(celeryconfig.configuration(settings))
    # Celery has no public way to drop the connections to the former broker and result store.
    app._after_fork()  # noqa: SLF001
    app._backend_cache = None  # noqa: SLF001
    vars(app._local).pop("backend", None)  # noqa: SLF001
    _services.cache_clear()
    _ledger.cache_clear()
    _clock.cache_clear()


@signals.worker_init.connect
@signals.beat_init.connect
def _keep_settings(**_: Any) -> None:
    """Read the settings once: it takes four milliseconds, for each row that the tick sends."""
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


def cluster_time() -> float:
    """Return the Unix time by Redis's clock; by this host's until Redis has answered once.

    A process whose settings name no cluster may still hold connections to one, such as the one that starts it.
    """
    if settings().redis_url is None:
        return time.time()
    try:
        return _clock(os.getpid()).now()
    except RedisError:
        return time.time()


@lru_cache(maxsize=1)
def _clock(_pid: int) -> Clock:
    return Clock(services().redis(patience=1))


transport.install(cluster_time)


def ledger() -> Ledger:
    """Return the ledger for enqueueing, which fails within a second if Redis is away."""
    return _ledger(os.getpid())


@lru_cache(maxsize=1)
def _ledger(_pid: int) -> Ledger:
    return Ledger.connect(settings(), patience=1)
