"""The MQTT listener: turns each event into a job, and acknowledges it only once that job is written.

``python -m workers.listener`` is one process, with a session that the broker keeps while it is away. Messages that are
no events become dead letters. While Redis is away nothing is acknowledged: the current event is retried, the others
wait in the broker.
"""

from __future__ import annotations

import queue
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import Any, NamedTuple

import structlog
from paho.mqtt.client import Client, MQTTMessage
from redis.exceptions import RedisError

from datafab import log as logging
from datafab.core import strict_json as strictjson
from datafab.core.redis import connect
from datafab.core.services import Services
from datafab.errors import DatafabError, FlowError, SettingError
from datafab.publish.cloudevent import structured, with_data
from datafab.publish.deadletters import DeadLetters
from datafab.publish.event import envelope
from datafab.publish.mqtt import Broker
from datafab.settings import Settings
from workers.app import services
from workers.app import settings as cluster_settings
from workers.canvas import start

log = structlog.get_logger()

FLOW = "publish"
#: How long the broker keeps messages while the listener is away.
SESSION_EXPIRY_SECONDS = 3 * 24 * 3600
#: The largest event that travels in the job's parameters; a larger one goes to the store.
MAX_INLINE_EVENT_BYTES = 4096
#: The pause between two tries while Redis is away.
RETRY_SECONDS = 1.0
#: The file in DATAFAB_HOME that is touched at the start, and with each heartbeat while the broker is connected.
HEARTBEAT_FILE = "listener.alive"


class _Arrived(NamedTuple):
    """A message and the number of its connection, the only one on which it can be acknowledged."""

    message: MQTTMessage
    connection: int


class Listener:
    """Turns the messages of some topics into jobs.

    Args:
        settings: with ``mqtt_url``, ``event_topic`` and ``redis_url``.

    Raises:
        SettingError: one of them is missing or cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        for name in ("mqtt_url", "event_topic", "redis_url"):
            if not getattr(settings, name):
                variable = f"DATAFAB_{name.upper()}"
                msg = (
                    f"{variable} is not set: the listener needs a broker, topics of events, and a cluster for the jobs"
                )
                raise SettingError(msg, field=variable)
        self._settings = settings
        self._topics = settings.event_topic
        self._broker = Broker.of_settings(settings)
        self._letters = DeadLetters(connect(settings, patience=1))
        self._arrived: queue.SimpleQueue[_Arrived | None] = queue.SimpleQueue()
        self._connection = 0
        self._stopping = threading.Event()
        self._failure: SettingError | None = None
        self._touched = 0.0
        self._client = self._broker.client(settings.listener_id, keep=SESSION_EXPIRY_SECONDS, manual_ack=True)
        self._logged = ""
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    def run(self) -> None:
        """Listen until ``stop``.

        Raises:
            SettingError: the broker refuses the subscription.
        """
        self._settings.home.mkdir(parents=True, exist_ok=True)
        self._touch()
        self._client.loop_start()
        try:
            while not self._stopping.is_set():
                with suppress(queue.Empty):
                    arrived = self._arrived.get(timeout=self._settings.heartbeat_interval)
                    if arrived is not None and not self._stopping.is_set():
                        self._process(arrived)
                if self._client.is_connected() and time.monotonic() > self._touched + self._settings.heartbeat_interval:
                    self._touch()
        finally:
            # The broker sends unacknowledged messages again with the next connection.
            self._client.disconnect()
            self._client.loop_stop()
            self._letters.close()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Make ``run`` return after the current event. May be called from any thread or signal handler."""
        self._stopping.set()
        self._arrived.put(None)

    def _touch(self) -> None:
        (self._settings.home / HEARTBEAT_FILE).touch()
        self._touched = time.monotonic()

    def _process(self, arrived: _Arrived) -> None:
        """Write a message's job, however long that takes, then acknowledge it."""
        message = arrived.message
        while not self._stopping.is_set():
            try:
                self._take(message)
                break
            except (RedisError, FlowError) as error:
                log.warning("the event waits: no job can be written", topic=message.topic, reason=str(error))
                self._stopping.wait(RETRY_SECONDS)
        else:
            return
        # After a reconnect it comes again, and its key is known; its number may belong to another message by now.
        if arrived.connection == self._connection:
            self._client.ack(message.mid, message.qos)

    def _take(self, message: MQTTMessage) -> None:
        """Write the job of a message, or a dead letter if its properties are wrong."""
        payload = bytes(message.payload)
        content_type = getattr(message.properties, "ContentType", None)
        try:
            event = structured(payload, content_type, getattr(message.properties, "UserProperty", ()))
        except FlowError as error:
            self._refuse(message.topic, payload, error)
        else:
            self._write_job(message.topic, event)

    def _write_job(self, topic: str, payload: bytes) -> None:
        """Write the job of a message, or a dead letter if it is not an event.

        Raises:
            FlowError: a setting or the store is broken, not the event.
            redis.exceptions.RedisError: Redis is away.
        """
        try:
            event = strictjson.loads(payload)
            key = envelope(with_data(event)).key
        except ValueError as error:
            self._refuse(topic, payload, FlowError(f"not JSON: {error}", code="bad_event"))
            return
        except FlowError as error:
            self._refuse(topic, payload, error)
            return
        job, new = start(FLOW, {"event": _parameter(event, payload, services())}, key)
        log.info("event taken", topic=topic, job=job.id, key=key, new=new)

    def _refuse(self, topic: str, payload: bytes, error: FlowError) -> None:
        log.warning("event refused", topic=topic, reason=error.message, field=error.field)
        self._letters.put(topic, payload, error.message, error.field)

    def _on_connect(self, client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._client.attempts.answered(reason)
        if reason.is_failure:
            self._log_failure()
            return
        self._logged = ""
        self._connection += 1
        client.subscribe([(topic, 1) for topic in self._topics])

    def _on_connect_fail(self, *_: Any) -> None:
        self._log_failure()

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._client.attempts.ended(reason)
        if reason.is_failure:
            self._log_failure()

    def _log_failure(self) -> None:
        """Log why there is no connection, once for the same reason."""
        reason = self._client.attempts.reason
        if reason != self._logged:
            self._logged = reason
            log.warning("no connection to the broker", broker=self._broker.url, reason=reason)

    def _on_subscribe(self, _client: Client, _data: Any, _mid: int, reasons: Any, _properties: Any) -> None:
        refused = [topic for topic, reason in zip(self._topics, reasons, strict=False) if reason.is_failure]
        if refused:
            msg = f"{self._broker.url} does not let us listen to {', '.join(refused)}: check its access rules"
            self._failure = SettingError(msg, field="DATAFAB_EVENT_TOPIC")
            self.stop()
        else:
            log.info("listening", broker=self._broker.url, topics=self._topics)

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self._arrived.put(_Arrived(message, self._connection))


def _parameter(event: Any, payload: bytes, clients: Services) -> Any:
    """Return the job's parameter: the event, or its place in the store."""
    if len(payload) <= MAX_INLINE_EVENT_BYTES:
        return event
    return f"list:{clients.store(clients.settings.store).write_list(payload)}"


def main() -> int:
    """Listen until SIGTERM or SIGINT."""
    logging.configure("INFO")
    try:
        listener = Listener(cluster_settings())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: listener.stop())
        listener.run()
    except DatafabError as error:
        log.error("the listener ends", reason=error.message, field=error.field)  # noqa: TRY400 - the message is enough
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
