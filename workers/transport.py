"""kombu's Redis transport, made to survive a restart of Redis, and to wait for one that is full.

When Redis goes away, Celery 5.7 first collects and then closes the broken connection. With kombu 5.7.0 a channel
that still has unacknowledged messages then tries to put them back over a closed connection, fails with an
AttributeError, and takes the worker down ("Unrecoverable error"), which hangs in its shutdown. There is nothing to
put back: the messages are in Redis, and are delivered again after the visibility timeout; the ledger runs or drops
them.

A message that Redis does not let a worker note as fetched is kept until Redis does: it is no longer in the queue.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import structlog
from celery.worker import state
from kombu.transport import TRANSPORT_ALIASES, redis
from redis.exceptions import ResponseError

from datafab.core.redis_refusals import RedisRefuses, RefusalsAsOutages, refusal

#: Seconds between two tries while Redis refuses.
RETRY_SECONDS = 0.5

log = structlog.get_logger()


class _Pipeline(RefusalsAsOutages, redis.PrefixedRedisPipeline):
    """kombu's pipeline, which raises ``RedisRefuses``."""


class _Client(RefusalsAsOutages, redis.PrefixedStrictRedis):
    """kombu's client, which raises ``RedisRefuses``."""

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> _Pipeline:
        """Return a pipeline that does so too."""
        prefix = self.global_keyprefix
        return _Pipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint, global_keyprefix=prefix
        )


class QoS(redis.QoS):
    """A QoS that acknowledges and restores messages only while there is a connection."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        #: messages that are done, and that Redis has not let this worker acknowledge
        self._refused: list[str] = []

    @property
    def _connected(self) -> bool:
        transport = self.channel.connection  # None once the channel is closed
        return transport is not None and transport.client is not None

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note a message as fetched; wait while Redis refuses that, unless this worker is to stop."""
        waited = False
        while True:
            try:
                super().append(message, delivery_tag)
            except RedisRefuses as error:
                if state.should_stop is not None or state.should_terminate is not None:
                    raise
                if not waited:
                    log.warning("redis refuses: this worker waits", error=str(error))
                waited = True
                time.sleep(RETRY_SECONDS)
            else:
                return

    def restore_visible(self, *args: Any, **options: Any) -> None:
        """Put back messages of workers that have died; while Redis refuses that, they stay where they are.

        Called each second, also to acknowledge what could not be acknowledged before.
        """
        try:
            while self._refused:
                self._remove_from_indices(self._refused[0]).execute()
                del self._refused[0]
            super().restore_visible(*args, **options)
        except RedisRefuses:
            return
        except ResponseError as error:
            if refusal(error) is None:
                raise

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message, later if Redis refuses now: this worker must not count it as one that it holds."""
        if not self._connected:
            return
        try:
            super().ack(delivery_tag)
        except RedisRefuses:
            self._refused.append(delivery_tag)
            super(redis.QoS, self).ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Reject a message. One that Redis does not put back now is delivered again after the visibility timeout."""
        if not self._connected:
            return
        try:
            super().reject(delivery_tag, requeue=requeue)
        except (RedisRefuses, ResponseError) as error:
            if isinstance(error, ResponseError) and refusal(error) is None:
                raise
            super(redis.QoS, self).ack(delivery_tag)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Put back messages that were fetched and not started, at a graceful stop."""
        if self._connected:
            super().restore_unacked_once(stderr)


class _Shared:
    """A mixin of channels: the QoS above, and one client; kombu makes three clients for each message."""

    QoS = QoS
    global_keyprefix: str
    _shared: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:  # it is bound to one connection
            return super()._create_client(asynchronous=True)  # type: ignore[misc]
        if self._shared is None or self._shared.connection_pool is not self.pool:  # type: ignore[attr-defined]
            self._shared = super()._create_client()  # type: ignore[misc]
        return self._shared

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]
        except RedisRefuses:
            time.sleep(RETRY_SECONDS)  # Celery connects anew at once, which succeeds
            raise

    def _get_client(self) -> Any:
        return functools.partial(_Client, global_keyprefix=self.global_keyprefix)


class Channel(_Shared, redis.Channel):
    """A channel to a Redis with one address."""


class Transport(redis.Transport):
    """The transport behind ``redis://`` and ``rediss://``."""

    Channel = Channel


class SentinelChannel(_Shared, redis.SentinelChannel):
    """A channel to a Redis that Sentinels name."""


class SentinelTransport(redis.SentinelTransport):
    """The transport behind ``sentinel://``."""

    Channel = SentinelChannel


def install(now: Callable[[], float]) -> None:
    """Use these transports for Redis URLs, as Celery has no setting for it that a URL does not override.

    Args:
        now: the time of the cluster. kombu notes by its host's clock when a message was fetched: a host whose clock is
            ahead would deliver all messages of the others again.
    """
    redis.time = now
    names = dict.fromkeys(("redis", "rediss"), "workers.transport:Transport")
    TRANSPORT_ALIASES.update(names, sentinel="workers.transport:SentinelTransport")
