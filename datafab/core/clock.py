"""The cluster's time, from Redis's clock, so that a time noted by one host is valid on every other."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import redis

#: Seconds after which Redis is asked again: a host's clock drifts by milliseconds in that time.
RESYNC_SECONDS = 60.0


class Clock:
    """Unix time by Redis's clock; by this host's where there is no Redis.

    Redis is asked at most once in ``RESYNC_SECONDS``; in between the host's monotonic clock, which cannot be set,
    counts on. Ledger scripts read the same clock by ``TIME``.

    Args:
        client: a connection; None: a run in one process, which keeps nothing for others.
    """

    def __init__(self, client: redis.Redis | None = None) -> None:
        self._redis = client
        #: Redis's time less the monotonic one, and the monotonic time at which it was asked
        self._synced: tuple[float, float] | None = None

    def now(self) -> float:
        """Return the Unix time, in seconds.

        Raises:
            RedisError: Redis is away, and has never answered before.
        """
        if self._redis is None:
            return time.time()
        synced, here = self._synced, time.monotonic()
        if synced is None or here - synced[1] > RESYNC_SECONDS:
            synced = self._synced = self._sync(self._redis)
        return time.monotonic() + synced[0]

    def utc(self) -> datetime:
        """Return the time as an aware datetime in UTC."""
        return datetime.fromtimestamp(self.now(), UTC)

    def close(self) -> None:
        """Close the connections."""
        if self._redis is not None:
            self._redis.close()

    def _sync(self, client: redis.Redis) -> tuple[float, float]:
        asked = time.monotonic()
        try:
            seconds, micros = client.time()
        except redis.RedisError:
            if self._synced is None:
                raise
            return self._synced[0], asked  # counts on until Redis is back
        answered = time.monotonic()
        return seconds + micros / 1e6 - (asked + answered) / 2, answered
