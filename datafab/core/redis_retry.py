"""Retries of a client of Redis."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from redis.backoff import NoBackoff
from redis.retry import Retry

T = TypeVar("T")
_running = threading.local()


class SingleLevelRetry(Retry):
    """Retries that do not multiply.

    redis-py repeats a command, within it the connection, and within that the health check, each with this object: a
    server that accepts connections and does not answer would be given up after the number of tries to the power of
    two or three. Here only the outermost call is repeated.
    """

    def call_with_retry(self, do: Callable[[], T], fail: Callable[..., Any], *args: Any, **options: Any) -> T:
        """Call ``do`` until it succeeds or the tries are used up, and ``fail`` after each failure."""
        if getattr(_running, "active", False):
            return Retry(NoBackoff(), 0, self._supported_errors).call_with_retry(do, fail, *args, **options)
        _running.active = True
        try:
            return super().call_with_retry(do, fail, *args, **options)
        finally:
            _running.active = False
