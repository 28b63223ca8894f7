"""Client of an MQTT broker: messages are published at QoS 1, and are sent once the broker has acknowledged them."""

from __future__ import annotations

import secrets
import socket
import threading
from dataclasses import dataclass, field
from typing import Any, Literal, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

from paho.mqtt.client import Client as PahoClient
from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from datafab.core.services import Client, Services
from datafab.errors import Fatal, Retriable, SettingError
from datafab.publish.broker_failure import Attempts
from datafab.publish.broker_tls import BrokerTls
from datafab.settings import Settings

PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
#: path of a web socket, unless the URL has one
DEFAULT_PATH = "/mqtt"
VERSIONS: dict[str, Literal[3, 5]] = {"3": 3, "3.1.1": 3, "5": 5, "5.0": 5}
KEEPALIVE_SECONDS = 30
#: Shortest and longest delay between two attempts to connect.
RECONNECT_SECONDS = (1, 30)
#: Most unacknowledged messages sent to a client that acknowledges them itself (MQTT 5; else the broker decides).
MAX_UNACKNOWLEDGED = 20
#: Timeout for the acknowledgement of a message.
ACKNOWLEDGE_SECONDS = 20.0


class BrokerClient(PahoClient):
    """A client that knows why it is not connected (``attempts``)."""

    attempts: Attempts
    has_certificate = False
    _opened: socket.socket | None = None

    def reconnect(self) -> MQTTErrorCode:
        """Connect; any failure is an OSError, for which the client tries again."""
        self.attempts.begin(has_certificate=self.has_certificate)
        try:
            done = super().reconnect()
        except OSError as error:
            self._give_up(error)
            raise
        except (ValueError, IndexError) as error:  # what paho raises for a server that speaks something else
            self._give_up(error)
            raise OSError(str(error)) from error
        self.attempts.opened()
        return done

    def _create_socket_connection(self) -> socket.socket:
        self._opened = super()._create_socket_connection()
        return self._opened

    def _give_up(self, error: Exception) -> None:
        """Note a failure, and close the socket, which paho leaves open when the handshake of TLS or HTTP fails."""
        self.attempts.failed(error)
        if self._opened is not None:
            self._opened.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """Address, protocol version and credentials of a broker."""

    host: str
    port: int
    #: mqtt, mqtts, ws or wss
    scheme: str
    #: path of a web socket; else empty
    path: str = ""
    #: version of the protocol: 5, or 3 for 3.1.1
    version: Literal[3, 5] = 5
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    files: BrokerTls = BrokerTls()  # noqa: RUF009 - immutable

    @classmethod
    def of(cls, url: str, files: BrokerTls = BrokerTls()) -> Broker:  # noqa: B008 - immutable
        """Parse the URL of a broker.

        Args:
            url: its URL.
            files: authorities and certificate for TLS.

        Raises:
            SettingError: it is invalid. The error does not quote the URL, which may hold a password.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or PORTS.get(parts.scheme, 0)
            (parts.hostname or "").encode("idna")
        except ValueError as error:
            raise _invalid_url("its host or port is invalid") from error
        if parts.scheme not in PORTS:
            raise _invalid_url(f"{parts.scheme!r} is not supported: use {', '.join(PORTS)}")
        sockets = parts.scheme.startswith("ws")
        if not parts.hostname or parts.fragment or not (sockets or parts.path in {"", "/"}):
            raise _invalid_url("it has no host, a fragment (#), or a path without being ws or wss")
        if parts.scheme in {"mqtt", "ws"}:
            files.without_tls()
        return cls(
            host=parts.hostname,
            port=port,
            scheme=parts.scheme,
            path=quote(parts.path or DEFAULT_PATH, safe="/%:@!$&'()*+,;=~") if sockets else "",
            version=_version(parts.query),
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            files=files,
        )

    @classmethod
    def of_settings(cls, settings: Settings) -> Broker:
        """Return the broker of the settings.

        Raises:
            SettingError: none is set, or its URL is invalid.
        """
        if settings.mqtt_url is None:
            msg = "DATAFAB_MQTT_URL is not set: set it to the URL of a broker, e.g. mqtt://broker.example.org:1883"
            raise SettingError(msg, field="DATAFAB_MQTT_URL")
        return cls.of(settings.mqtt_url, BrokerTls.of(settings))

    @property
    def url(self) -> str:
        """The address, without credentials."""
        return f"{self.scheme}://{self._host_and_port}{self.path}"

    def client(self, client_id: str, *, keep: int = 0, manual_ack: bool = False) -> BrokerClient:
        """Return a client that connects and reconnects once its loop runs.

        Args:
            client_id: id of the client; only one client at a time may use it.
            keep: seconds for which the broker keeps the subscriptions and messages of a disconnected client.
            manual_ack: whether messages are only acknowledged by ``PahoClient.ack``.

        Raises:
            SettingError: a file for TLS cannot be used.
        """
        five = self.version == 5  # noqa: PLR2004 - of the protocol
        client = BrokerClient(
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=None if five else not keep,
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
            transport="websockets" if self.path else "tcp",
            manual_ack=manual_ack,
        )
        self._prepare(client)
        session: dict[str, Any] = {}
        if five:
            session["clean_start"] = not keep
            session["properties"] = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            session["properties"].SessionExpiryInterval = keep
            if manual_ack:
                session["properties"].ReceiveMaximum = MAX_UNACKNOWLEDGED
        client.connect_async(self.host, self.port, KEEPALIVE_SECONDS, **session)
        return client

    def _prepare(self, client: BrokerClient) -> None:
        """Give a client the transport, the credentials, and the place for its failures."""
        client.attempts = attempts = Attempts(self.host, self.port, self.scheme)
        client.has_certificate = self.files.cert is not None
        client.on_log = lambda _client, _data, level, text: (
            attempts.log(text) if level == LogLevel.MQTT_LOG_ERR else None
        )
        client.username_pw_set(self.username, self.password)
        if self.scheme in {"mqtts", "wss"}:
            client.tls_set_context(self.files.context())
        if self.path:
            # paho writes the header Host of an IPv6 address without its brackets.
            client.ws_set_options(self.path, {"Host": self._host_and_port})
        client.reconnect_delay_set(*RECONNECT_SECONDS)

    @property
    def _host_and_port(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


class Mqtt(Client):
    """The publishing client of a process, shared by its threads. It connects when it is first used.

    Args:
        broker: the broker.
        timeout: timeout for the connection, in seconds.
        acknowledge: timeout for an acknowledgement, in seconds.
    """

    def __init__(self, broker: Broker, *, timeout: float = 10.0, acknowledge: float = ACKNOWLEDGE_SECONDS) -> None:
        self.broker = broker
        self._timeout = timeout
        self._acknowledge = acknowledge
        self._lock = threading.Lock()
        self._client: BrokerClient | None = None
        self._connected = threading.Event()
        self._refused: dict[int, str] = {}
        #: ids of messages that timed out; later messages get the same ids
        self._given_up: set[int] = set()

    @classmethod
    def connect(cls, services: Services) -> Self:
        """Return the client of the broker of the settings.

        Raises:
            SettingError: no broker is set.
        """
        settings = services.settings
        return cls(Broker.of_settings(settings), timeout=settings.connect_timeout)

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish a message, not retained, and wait for the acknowledgement.

        Raises:
            Retriable: the broker is unavailable or has not answered; it may have received the message.
            Fatal: the broker refuses the message (MQTT 5 only: a 3.1.1 broker drops it silently).
        """
        info = self._connected_client().publish(topic, payload, qos=1, retain=False)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise self._unavailable("the connection was lost")
        info.wait_for_publish(self._acknowledge)
        if not info.is_published():
            self._given_up.add(info.mid)
            raise self._unavailable(f"no acknowledgement within {self._acknowledge:g} s")
        refused = self._refused.pop(info.mid, None)
        if refused is not None:
            msg = f"{self.broker.url} refuses a message on {topic}: {refused}; check the broker's access rules"
            raise Fatal(msg, code="mqtt_refused", field="DATAFAB_MQTT_URL")

    def ping(self) -> None:
        """Raise Retriable unless the broker has accepted a connection."""
        self._connected_client()

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            client.loop_stop()
            self._connected.clear()

    def _connected_client(self) -> BrokerClient:
        with self._lock:
            client = self._client = self._client or self._start_client()
        if not self._connected.wait(self._timeout):
            raise self._unavailable(client.attempts.reason)
        return client

    def _start_client(self) -> BrokerClient:
        # At most 23 characters, which every broker accepts.
        client = self.broker.client(f"datafab{secrets.token_hex(8)}")
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.loop_start()
        return client

    def _on_connect(self, client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        client.attempts.answered(reason)
        if not reason.is_failure:
            self._connected.set()

    def _on_disconnect(self, client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._connected.clear()
        client.attempts.ended(reason)

    def _on_publish(self, _client: PahoClient, _data: Any, mid: int, reason: Any, _properties: Any) -> None:
        # Called before ``wait_for_publish`` returns.
        if mid in self._given_up:
            self._given_up.discard(mid)
        elif reason.is_failure:
            self._refused[mid] = str(reason)

    def _unavailable(self, why: str) -> Retriable:
        fix = "" if "DATAFAB_" in why else "; is DATAFAB_MQTT_URL right, and the broker up?"
        msg = f"the MQTT broker {self.broker.url}: {why}{fix}"
        return Retriable(msg, code="mqtt", field="DATAFAB_MQTT_URL")


def _version(query: str) -> Literal[3, 5]:
    """Return the version of the protocol that the query of a URL selects."""
    options = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
    version = VERSIONS.get(options.pop("version", "5"))
    if version is None or options:
        raise _invalid_url("after the ? only version=3 or version=5 is allowed")
    return version


def _invalid_url(why: str) -> SettingError:
    return SettingError(f"DATAFAB_MQTT_URL: {why}; e.g. mqtt://broker.example.org:1883", field="DATAFAB_MQTT_URL")
