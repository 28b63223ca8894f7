"""A subscriber of the MQTT broker."""

from __future__ import annotations

import json
import threading
import time
from types import TracebackType
from typing import Any, Self

from paho.mqtt.client import Client, MQTTMessage

from datafab.errors import Fatal
from datafab.publish.mqtt import Broker

#: Seconds to wait for the broker, and for a message.
MAX_WAIT_SECONDS = 15.0


class Inbox:
    """The JSON messages of a topic, received while the context manager is active."""

    def __init__(self, url: str, topic: str) -> None:
        self._topic = topic
        self._messages: list[dict[str, Any]] = []
        self._subscribed = threading.Event()
        self._client = Broker.of(url).client("datafab-demo")
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._receive

    def first(self) -> dict[str, Any]:
        """Wait for the first message and return it."""
        end = time.monotonic() + MAX_WAIT_SECONDS
        while not self._messages:
            if time.monotonic() > end:
                raise Fatal(f"no message was received on {self._topic} within {MAX_WAIT_SECONDS:.0f} s", code="demo")
            time.sleep(0.05)
        return self._messages[0]

    def __enter__(self) -> Self:
        self._client.loop_start()
        if not self._subscribed.wait(MAX_WAIT_SECONDS):
            self._client.loop_stop()
            raise Fatal("the broker does not answer", code="demo")
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: Client, *_: Any) -> None:
        client.subscribe(self._topic, qos=1)

    def _receive(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self._messages.append(json.loads(message.payload))
