"""Locks that jobs hold, on what only one job at a time may change: the table of a CKAN resource, say.

A gate is held by a job, not by a process: an attempt that dies leaves it to the job's next one, and a job that has
ended, however it did, holds none. So nobody has to open a gate again.
"""

from __future__ import annotations

from typing import Any, Protocol

import redis

from datafab.core.redis import script
from datafab.settings import PREFIX

#: Seconds that the key of a gate outlives its last use; jobs are shorter.
LOCK_EXPIRY_SECONDS = 7 * 24 * 3600


class Locks(Protocol):
    """What stages need of gates."""

    def acquire(self, name: str, job: str) -> str | None:
        """Enter a gate, or find that this job has; else return the id of the job that holds it."""

    def release(self, name: str, job: str) -> None:
        """Leave a gate before the job's end."""


class RedisLocks:
    """Gates of a cluster, in the strings ``gate:<name>``."""

    def __init__(self, client: redis.Redis) -> None:
        self._acquire: Any = script(client, "acquire_lock")
        self._release: Any = script(client, "release_lock")

    def acquire(self, name: str, job: str) -> str | None:
        """Enter a gate, or find that this job has; else return the id of the job that holds it."""
        holder: str | None = self._acquire(keys=[f"{PREFIX}gate:{name}"], args=[job, LOCK_EXPIRY_SECONDS])
        return holder

    def release(self, name: str, job: str) -> None:
        """Leave a gate before the job's end."""
        self._release(keys=[f"{PREFIX}gate:{name}"], args=[job])


class MemoryLocks:
    """Gates of a process that runs one job, for ``--inline``."""

    def acquire(self, name: str, job: str) -> str | None:  # noqa: ARG002 - nobody else is there
        """Enter."""
        return None

    def release(self, name: str, job: str) -> None:
        """Leave."""
