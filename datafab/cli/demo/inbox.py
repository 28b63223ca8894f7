"""Somebody who has subscribed to the broker."""

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
LIMIT = 15.0


class Inbox:
    """What comes on a topic, as JSON, while ``with`` lasts."""

    def __init__(self, url: str, topic: str) -> None:
        self._topic = topic
        self._messages: list[dict[str, Any]] = []
        self._subscribed = threading.Event()
        self._client = Broker.of(url).client("datafab-demo")
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._came

    def first(self) -> dict[str, Any]:
        """Return the first message, once it is there."""
        end = time.monotonic() + LIMIT
        while not self._messages:
            if time.monotonic() > end:
                raise Fatal(f"no message came on {self._topic} within {LIMIT:.0f} s", code="demo")
            time.sleep(0.05)
        return self._messages[0]

    def __enter__(self) -> Self:
        self._client.loop_start()
        if not self._subscribed.wait(LIMIT):
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

    def _came(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self._messages.append(json.loads(message.payload))
