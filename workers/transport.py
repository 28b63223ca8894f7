"""kombu's Redis transport, made to survive a restart of Redis.

When Redis goes away, Celery 5.7 first collects and then closes the broken connection. With kombu 5.7.0 a channel
that still has unacknowledged messages then tries to put them back over a closed connection, fails with an
AttributeError, and takes the worker down ("Unrecoverable error"), which hangs in its shutdown. There is nothing to
put back: the messages are in Redis, and are delivered again after the visibility timeout; the ledger runs or drops
them.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis


class QoS(redis.QoS):
    """A QoS that acknowledges and restores messages only while there is a connection."""

    @property
    def _connected(self) -> bool:
        transport = self.channel.connection  # None once the channel is closed
        return transport is not None and transport.client is not None

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message."""
        if self._connected:
            super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Reject a message."""
        if self._connected:
            super().reject(delivery_tag, requeue=requeue)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Put back messages that were fetched and not started, at a graceful stop."""
        if self._connected:
            super().restore_unacked_once(stderr)


class Channel(redis.Channel):
    """A channel with the QoS above and one client; kombu makes three clients for each message."""

    QoS = QoS
    _shared: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:  # it is bound to one connection
            return super()._create_client(asynchronous=True)
        if self._shared is None or self._shared.connection_pool is not self.pool:
            self._shared = super()._create_client()
        return self._shared


class Transport(redis.Transport):
    """The transport behind ``redis://``."""

    Channel = Channel


def install() -> None:
    """Use this transport for Redis URLs, as Celery has no setting for it that a URL does not override."""
    TRANSPORT_ALIASES.update(redis="workers.transport:Transport", rediss="workers.transport:Transport")
