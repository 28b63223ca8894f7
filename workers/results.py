"""Celery's results in Redis, with clients that wait for a Redis that is full."""

from __future__ import annotations

from typing import Any

from celery.app.backends import BACKEND_ALIASES
from celery.backends import redis

from datafab.core.redis_refusals import WaitingRedis


class Backend(redis.RedisBackend):
    """The results of a Redis with one address."""

    def _get_client(self) -> Any:
        return WaitingRedis


class SentinelBackend(redis.SentinelBackend):
    """The results of a Redis that Sentinels name."""

    def _get_client(self) -> Any:
        return WaitingRedis


def install() -> None:
    """Use these for Redis URLs."""
    names = dict.fromkeys(("redis", "rediss"), "workers.results:Backend")
    BACKEND_ALIASES.update(names, sentinel="workers.results:SentinelBackend")
