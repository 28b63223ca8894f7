"""The MQTT listener: each event that comes becomes a job, and is acknowledged only once that job is written.

``python -m workers.listener``; one process, with a session that the broker keeps while it is away. What is no event
becomes a dead letter. While Redis is away nothing is acknowledged: the event at hand is tried again and again, the
others wait in the broker.
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
from datafab.core.jobs import connect
from datafab.core.services import Services
from datafab.errors import DatafabError, FlowError, SettingError
from datafab.publish import strict_json as strictjson
from datafab.publish.deadletters import DeadLetters
from datafab.publish.event import envelope
from datafab.publish.mqtt import Broker
from datafab.settings import Settings
from workers.app import services
from workers.app import settings as cluster_settings
from workers.canvas import start

log = structlog.get_logger()

FLOW = "publish"
#: Seconds that the broker keeps what came while the listener was away.
KEEP = 3 * 24 * 3600
#: Bytes of an event that travels in the job's parameters; a larger one lies in the store.
INLINE = 4096
#: Seconds between two tries while Redis is away.
RETRY = 1.0
#: The file in DATAFAB_HOME that is touched when the listener begins, and with each heartbeat while it can take events.
ALIVE = "listener.alive"


class _Arrived(NamedTuple):
    """A message, and the connection that it came by: it can be acknowledged there only."""

    message: MQTTMessage
    connection: int


class Listener:
    """Turns the messages of some topics into jobs.

    Args:
        settings: with ``mqtt_url``, ``event_topic`` and ``redis_url``.

    Raises:
        SettingError: one of them is not set, or unusable.
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
        self._broker = Broker.of(str(settings.mqtt_url), settings.ca_bundle)
        self._letters = DeadLetters(connect(str(settings.redis_url), patience=1))
        self._arrived: queue.SimpleQueue[_Arrived | None] = queue.SimpleQueue()
        self._connection = 0
        self._stopping = threading.Event()
        self._failure: SettingError | None = None
        self._touched = 0.0
        self._client = self._broker.client(settings.listener_id, keep=KEEP, manual_ack=True)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    def run(self) -> None:
        """Listen until ``stop``.

        Raises:
            SettingError: the broker does not let us listen.
        """
        self._settings.home.mkdir(parents=True, exist_ok=True)
        self._touch()
        self._client.loop_start()
        try:
            while not self._stopping.is_set():
                with suppress(queue.Empty):
                    arrived = self._arrived.get(timeout=self._settings.heartbeat_interval)
                    if arrived is not None and not self._stopping.is_set():
                        self._take(arrived)
                if self._client.is_connected() and time.monotonic() > self._touched + self._settings.heartbeat_interval:
                    self._touch()
        finally:
            # What is not acknowledged now comes again with the next connection.
            self._client.disconnect()
            self._client.loop_stop()
            self._letters.close()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Let ``run`` end after the event at hand. May be called from anywhere, a signal handler too."""
        self._stopping.set()
        self._arrived.put(None)

    def _touch(self) -> None:
        (self._settings.home / ALIVE).touch()
        self._touched = time.monotonic()

    def _take(self, arrived: _Arrived) -> None:
        """Make a message durable, however long that takes, then acknowledge it."""
        message = arrived.message
        while not self._stopping.is_set():
            try:
                self._record(message.topic, bytes(message.payload))
                break
            except (RedisError, FlowError) as error:
                log.warning("the event waits: no job can be written", topic=message.topic, reason=str(error))
                self._stopping.wait(RETRY)
        else:
            return
        # By a later connection it comes again, and is known by its key; its number there may be another message's.
        if arrived.connection == self._connection:
            self._client.ack(message.mid, message.qos)

    def _record(self, topic: str, payload: bytes) -> None:
        """Write the job, or a dead letter for what can never be one.

        Raises:
            FlowError: a setting or the store is broken: the event is not to blame.
            redis.exceptions.RedisError: Redis is away.
        """
        try:
            event = strictjson.loads(payload)
            key = envelope(event).key
        except ValueError as error:
            self._refuse(topic, payload, FlowError(f"no JSON: {error}", code="bad_event"))
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
        if reason.is_failure:
            log.warning("the broker refuses the connection", broker=self._broker.url, reason=str(reason))
            return
        self._connection += 1
        client.subscribe([(topic, 1) for topic in self._topics])

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
    """Return what the job gets: the event, or where it lies."""
    if len(payload) <= INLINE:
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
