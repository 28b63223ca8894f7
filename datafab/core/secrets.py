"""API keys and tokens of jobs: kept apart from messages, for a limited time, and erased when the job has ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from datafab.core.redis import ClusterRedis
from datafab.errors import FlowError
from datafab.settings import Settings


class Secrets(Protocol):
    """The secrets of jobs."""

    def put(self, job: str, values: Mapping[str, str]) -> None:
        """Keep a job's secrets, by name."""

    def get(self, job: str, name: str) -> str:
        """Return a secret.

        Raises:
            FlowError: it was erased, has expired or was never set.
        """

    def erase(self, job: str) -> None:
        """Forget a job's secrets."""


class RedisSecrets:
    """Secrets in the hash ``secret:<job>``, which expires after the longest time that a job may take."""

    def __init__(self, settings: Settings, client: ClusterRedis) -> None:
        self._redis: Any = client
        self._prefix = client.prefix
        self._seconds = int(settings.job_deadline) + 3600

    def put(self, job: str, values: Mapping[str, str]) -> None:
        """Keep a job's secrets, by name."""
        with self._redis.pipeline() as pipe:
            pipe.hset(f"{self._prefix}secret:{job}", mapping=dict(values))
            pipe.expire(f"{self._prefix}secret:{job}", self._seconds)
            pipe.execute()

    def get(self, job: str, name: str) -> str:
        """Return a secret."""
        value = self._redis.hget(f"{self._prefix}secret:{job}", name)
        return _found(value, name)

    def erase(self, job: str) -> None:
        """Forget a job's secrets."""
        self._redis.delete(f"{self._prefix}secret:{job}")


class MemorySecrets:
    """Secrets of this process, for ``--inline``."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, str]] = {}

    def put(self, job: str, values: Mapping[str, str]) -> None:
        """Keep a job's secrets, by name."""
        self._values.setdefault(job, {}).update(values)

    def get(self, job: str, name: str) -> str:
        """Return a secret."""
        return _found(self._values.get(job, {}).get(name), name)

    def erase(self, job: str) -> None:
        """Forget a job's secrets."""
        self._values.pop(job, None)


def _found(value: str | None, name: str) -> str:
    if value is None:
        msg = f"the secret {name!r} was not given, or was erased when the job ended: give it again with a new job"
        raise FlowError(msg, code="secret", field=name)
    return value
