"""Locks on what only one job at a time may change, such as the table of a CKAN resource.

A job holds a lock, not a process: an attempt that dies leaves it to the job's next attempt, and a job that has ended
holds none, however it ended. So no lock has to be cleaned up.
"""

from __future__ import annotations

from typing import Any, Protocol

from datafab.core.redis import ClusterRedis, script

#: The time after its last use at which a lock's key expires; jobs are shorter.
LOCK_EXPIRY_SECONDS = 7 * 24 * 3600


class Locks(Protocol):
    """The locks that stages use."""

    def acquire(self, name: str, job: str) -> str | None:
        """Acquire a lock, or find that this job holds it; otherwise return the id of the job that does."""

    def release(self, name: str, job: str) -> None:
        """Release a lock before the job's end."""


class RedisLocks:
    """The locks of a cluster, in the strings ``gate:<name>``."""

    def __init__(self, client: ClusterRedis) -> None:
        self._prefix = client.prefix
        self._acquire: Any = script(client, "acquire_lock")
        self._release: Any = script(client, "release_lock")

    def acquire(self, name: str, job: str) -> str | None:
        """Acquire a lock, or find that this job holds it; otherwise return the id of the job that does."""
        holder: str | None = self._acquire(keys=[f"{self._prefix}gate:{name}"], args=[job, LOCK_EXPIRY_SECONDS])
        return holder

    def release(self, name: str, job: str) -> None:
        """Release a lock before the job's end."""
        self._release(keys=[f"{self._prefix}gate:{name}"], args=[job])


class MemoryLocks:
    """The locks of a process that runs one job, for ``--inline``."""

    def acquire(self, name: str, job: str) -> str | None:  # noqa: ARG002 - there is no other job
        """Acquire a lock."""
        return None

    def release(self, name: str, job: str) -> None:
        """Release a lock."""
