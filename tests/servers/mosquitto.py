"""A real MQTT broker as a child process, and a subscriber that keeps what it is sent."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from datafab.embedded import free_port, tail
from datafab.embedded.broker import broker_command, broker_url, find_mosquitto
from datafab.embedded.supervisor import lifeline
from datafab.publish.mqtt import Broker


class Mosquitto:
    """A broker on 127.0.0.1 that keeps its folder, port and URL over stops, kills and restarts.

    Args:
        folder: for its configuration, what it keeps, and its log.
        binary: None: amqtt.
        more: lines for its configuration.
    """

    def __init__(self, folder: Path, binary: Path | None = find_mosquitto(), more: str = "") -> None:  # noqa: B008
        self.folder = folder
        self.port = free_port()
        self.url = broker_url(binary, self.port)
        self.log = folder / "broker.log"
        self._command = broker_command(binary, self.port, folder, more)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id; it must be running."""
        assert self._process is not None
        return self._process.pid

    def start(self, limit: float = 15.0) -> Self:
        """Start it and wait until it takes connections."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                lifeline(self._command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + limit
        while not _listens(self.port):
            assert self._process.poll() is None, tail(self.log)
            assert time.monotonic() < end, tail(self.log)
            time.sleep(0.02)
        return self

    def stop(self) -> None:
        """Stop it in peace: what it holds for clients that are away is on disk then."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def kill(self) -> None:
        """Kill it with -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


class Subscriber:
    """Keeps (topic, payload, qos, retained) of what comes on a topic, while ``with`` lasts."""

    def __init__(self, url: str, topic: str = "#") -> None:
        self.messages: list[tuple[str, bytes, int, bool]] = []
        self._topic = topic
        self._ready = threading.Event()
        self._client = Broker.of(url).client(f"subscriber{id(self):x}")
        self._client.on_connect = lambda client, *_: client.subscribe(self._topic, qos=1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._on_message

    def _on_message(self, _client: Any, _data: Any, message: Any) -> None:
        self.messages.append((message.topic, message.payload, message.qos, message.retain))

    def documents(self, topic: str | None = None) -> list[dict[str, Any]]:
        """What came as JSON."""
        return [json.loads(payload) for name, payload, *_ in self.messages if topic in {None, name}]

    def wait(self, count: int, timeout: float = 20) -> list[dict[str, Any]]:
        """Wait until so many messages have come; return them as JSON."""
        self.wait_raw(count, timeout)
        return self.documents()

    def wait_raw(self, count: int, timeout: float = 20) -> None:
        """Wait until so many messages have come."""
        end = time.monotonic() + timeout
        while len(self.messages) < count:
            assert time.monotonic() < end, f"{len(self.messages)} of {count} messages came"
            time.sleep(0.02)

    def __enter__(self) -> Self:
        self._client.loop_start()
        assert self._ready.wait(15), "no broker to subscribe to"
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()
