"""Connections to real brokers over TLS and web sockets, and the reasons of those that fail."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives import serialization

from datafab.embedded import free_port
from datafab.embedded.broker import find_mosquitto
from datafab.errors import DatafabError, Retriable, SettingError
from datafab.publish.broker_tls import BrokerTls
from datafab.publish.mqtt import Broker, Mqtt
from datafab.settings import load
from tests.servers.celery import until
from tests.servers.mosquitto import Mosquitto, Subscriber
from tests.servers.redis_tls import Authority, Pair

pytestmark = pytest.mark.skipif(find_mosquitto() is None, reason="no mosquitto: run tests/servers/install")

#: A listener of mosquitto with TLS.
_TLS = "listener {port} 127.0.0.1\ncafile {ca}\ncertfile {cert}\nkeyfile {key}\n"


class Site(NamedTuple):
    """A broker with a listener of each kind: the ports, and the files of its authority."""

    ports: dict[str, int]
    ca: Path
    client: Pair
    stranger: Authority

    def url(self, scheme: str, kind: str | None = None, rest: str = "") -> str:
        return f"{scheme}://127.0.0.1:{self.ports[kind or scheme]}{rest}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    authority = Authority(folder / "tls", "authority")
    named, elsewhere = authority.issue("server"), authority.issue("elsewhere", "127.0.0.2")
    ports = {kind: free_port() for kind in ("ws", "mqtts", "wss", "certified", "certified-1.2", "elsewhere")}

    def tls(kind: str, more: str = "", pair: Pair = named) -> str:
        return _TLS.format(port=ports[kind], ca=authority.file, cert=pair.cert, key=pair.key) + more

    lines = [
        f"listener {ports['ws']} 127.0.0.1\nprotocol websockets\n",
        tls("mqtts"),
        tls("wss", "protocol websockets\n"),
        tls("certified", "require_certificate true\n"),
        tls("certified-1.2", "require_certificate true\ntls_version tlsv1.2\n"),
        tls("elsewhere", pair=elsewhere),
    ]
    with Mosquitto(folder, more="".join(lines)) as running:
        ports["mqtt"] = running.port
        stranger = Authority(folder / "stranger", "stranger")
        yield Site(ports, authority.file, authority.issue("client"), stranger)


def files(site: Site, *, cert: bool = False) -> BrokerTls:
    return BrokerTls(ca=site.ca, cert=site.client.cert, key=site.client.key) if cert else BrokerTls(ca=site.ca)


@pytest.mark.parametrize(
    ("scheme", "kind", "rest"),
    [
        ("ws", "ws", ""),
        ("ws", "ws", "/"),
        ("ws", "ws", "/a/long/path?version=3"),
        ("wss", "wss", "/mqtt"),
        ("mqtts", "mqtts", ""),
        ("mqtts", "mqtts", "?version=3"),
        ("mqtts", "certified", ""),
        ("mqtts", "certified-1.2", ""),
    ],
)
def test_a_message_comes_over_each_transport(site: Site, scheme: str, kind: str, rest: str):
    topic, given = f"a/{scheme}/{kind}{len(rest)}", BrokerTls()
    if scheme in {"mqtts", "wss"}:
        given = files(site, cert=kind.startswith("certified"))
    payload = b"x" * 70_000  # more than the 16 bits of a short frame
    with (
        closing(Mqtt(Broker.of(site.url(scheme, kind, rest), given))) as client,
        Subscriber(site.url("mqtt"), topic) as subscriber,
    ):
        client.publish(topic, payload)
        subscriber.wait_raw(1)
    assert subscriber.messages == [(topic, payload, 1, False)]


def test_a_subscriber_over_web_sockets_is_sent_messages(site: Site):
    with closing(Mqtt(Broker.of(site.url("mqtt")))) as client, Subscriber(site.url("ws"), "b/#") as subscriber:
        for number in range(5):
            client.publish(f"b/{number}", b"x" * 8192)
        subscriber.wait_raw(5)
    assert [topic for topic, *_ in subscriber.messages] == [f"b/{number}" for number in range(5)]


def test_a_path_is_sent_as_the_url_has_it():
    with _server(lambda connection: connection.sendall(b"HTTP/1.1 404 Not Found\r\n\r\n")) as (port, received):
        failure(f"ws://127.0.0.1:{port}/a%20b/é", BrokerTls())
    head = received[0].decode().split("\r\n")
    assert head[0] == "GET /a%20b/%C3%A9 HTTP/1.1"
    assert f"Host: 127.0.0.1:{port}" in head
    assert "Sec-Websocket-Protocol: mqtt" in head


CASES: dict[str, tuple[Callable[[Site], tuple[str, BrokerTls]], str]] = {
    "closed port": (lambda _: (f"mqtt://127.0.0.1:{free_port()}", BrokerTls()), "nothing listens on port"),
    "closed port, wss": (lambda s: (f"wss://127.0.0.1:{free_port()}/a", files(s)), "nothing listens on port"),
    "unknown host": (lambda _: ("mqtt://nowhere.invalid", BrokerTls()), "host name nowhere.invalid cannot be resolved"),
    "unknown host, wss": (lambda s: ("wss://nowhere.invalid", files(s)), "host name nowhere.invalid cannot"),
    "unknown authority": (
        lambda s: (s.url("mqtts"), BrokerTls()),
        "its authority is not trusted here: set DATAFAB_MQTT_CA",
    ),
    "unknown authority, wss": (lambda s: (s.url("wss"), BrokerTls()), "its authority is not trusted here"),
    "another authority": (
        lambda s: (s.url("mqtts"), BrokerTls(ca=s.stranger.file)),
        "its authority is not trusted here: set DATAFAB_MQTT_CA",
    ),
    "another name": (lambda s: (s.url("mqtts", "elsewhere"), files(s)), "it is for other host names"),
    "TLS to a plain port": (lambda s: (s.url("mqtts", "mqtt"), files(s)), "it does not use TLS on this port"),
    "TLS to plain web sockets": (lambda s: (s.url("wss", "ws"), files(s)), "it does not use TLS on this port"),
    "plain to a TLS port": (lambda s: (s.url("mqtt", "mqtts"), BrokerTls()), "does this port need mqtts:// or ws://"),
    "web sockets to an MQTT port": (
        lambda s: (s.url("ws", "mqtt"), BrokerTls()),
        "does not accept web sockets at this path",
    ),
    "no client certificate": (lambda s: (s.url("mqtts", "certified"), files(s)), "set DATAFAB_MQTT_CERT"),
    "no client certificate, TLS 1.2": (lambda s: (s.url("mqtts", "certified-1.2"), files(s)), "set DATAFAB_MQTT_CERT"),
    "a stranger's certificate": (
        lambda s: (
            s.url("mqtts", "certified"),
            BrokerTls(ca=s.ca, cert=s.stranger.issue("x").cert, key=s.stranger.issue("x").key),
        ),
        "it does not trust the certificate of DATAFAB_MQTT_CERT",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_failure_has_its_reason(site: Site, case: str):
    make, says = CASES[case]
    url, given = make(site)
    assert says in failure(url, given)


@pytest.mark.parametrize(
    ("scheme", "answer", "says"),
    [
        ("mqtt", b"HTTP/1.1 400 Bad Request\r\n\r\n", "closed the connection without an answer"),
        ("mqtts", b"HTTP/1.1 400 Bad Request\r\n\r\n", "it does not use TLS on this port"),
        ("ws", b"HTTP/1.1 403 Forbidden\r\n\r\n", "does not accept web sockets at this path"),
        ("ws", b"\xff\xfe\n\n", "does not accept web sockets at this path"),
        ("ws", b"Connection: upgrade\r\nSec-WebSocket-Accept\r\n", "does not accept web sockets at this path"),
    ],
)
def test_servers_of_other_protocols_are_told_apart(scheme: str, answer: bytes, says: str):
    with _server(lambda connection: connection.sendall(answer)) as (port, _):
        assert says in failure(f"{scheme}://127.0.0.1:{port}", BrokerTls())


def test_a_broker_that_does_not_speak_mqtt_5(tmp_path: Path):
    with Mosquitto(tmp_path, binary=None) as amqtt:
        five = amqtt.url.removesuffix("?version=3")
        with closing(Mqtt(Broker.of(five), timeout=0.2)) as client:
            until(lambda: "add ?version=3 to DATAFAB_MQTT_URL" in reason_of(client), 10)


def test_the_reason_is_that_of_the_last_attempt(tmp_path: Path):
    broker = Mosquitto(tmp_path, more=f"password_file {tmp_path}/passwords\n")
    (tmp_path / "passwords").touch(mode=0o600)
    with closing(Mqtt(Broker.of(broker.url.replace("//", "//n:p@")), timeout=0.2)) as client:
        until(lambda: "nothing listens" in reason_of(client), 10)
        with broker:
            until(lambda: "correct the user and the password in DATAFAB_MQTT_URL" in reason_of(client), 20)
        until(lambda: "nothing listens" in reason_of(client), 40)


@pytest.mark.parametrize(
    ("given", "field", "says"),
    [
        ({"mqtt_ca": "absent.pem"}, "DATAFAB_MQTT_CA", "No such file"),
        ({"mqtt_ca": "text"}, "DATAFAB_MQTT_CA", "holds no certificate"),
        ({"ca_bundle": "text"}, "DATAFAB_CA_BUNDLE", "holds no certificate"),
        ({"mqtt_cert": "absent.pem"}, "DATAFAB_MQTT_CERT", "No such file"),
        ({"mqtt_cert": "text"}, "DATAFAB_MQTT_CERT", "certificate in PEM"),
        ({"mqtt_cert": "mine"}, "DATAFAB_MQTT_CERT", "in the same file its key"),
        ({"mqtt_cert": "mine", "mqtt_key": "absent.pem"}, "DATAFAB_MQTT_KEY", "No such file"),
        ({"mqtt_cert": "mine", "mqtt_key": "encrypted"}, "DATAFAB_MQTT_KEY", "unencrypted"),
        ({"mqtt_cert": "mine", "mqtt_key": "other"}, "DATAFAB_MQTT_KEY", "does not belong"),
        ({"mqtt_key": "other"}, "DATAFAB_MQTT_CERT", "set DATAFAB_MQTT_CERT"),
        ({"mqtt_url": "mqtt://h", "mqtt_ca": "mine"}, "DATAFAB_MQTT_CA", "begin it with mqtts:// or wss://"),
        ({"mqtt_url": "ws://h", "mqtt_cert": "mine"}, "DATAFAB_MQTT_CERT", "begin it with mqtts:// or wss://"),
    ],
)
def test_files_that_cannot_be_used(site: Site, tmp_path: Path, given: dict[str, str], field: str, says: str):
    (tmp_path / "text").write_text("no certificate", encoding="utf-8")
    (tmp_path / "encrypted").write_bytes(_encrypted(site.client.key))
    places = {"mine": site.client.cert, "other": site.stranger.issue("other").key}
    changes = {name: value if "://" in value else places.get(value, tmp_path / value) for name, value in given.items()}
    settings = load({}, **{"home": tmp_path, "mqtt_url": "mqtts://h", **changes})
    with pytest.raises(SettingError, match=says) as caught:
        Broker.of_settings(settings).client("a")
    assert caught.value.field == field


def failure(url: str, given: BrokerTls) -> str:
    """What a client says that never connects."""
    with closing(Mqtt(Broker.of(url, given), timeout=0.2)) as client:

        def reason() -> str | None:
            """Return the reason of an attempt that has failed; another may be under way."""
            found = reason_of(client)
            return None if found.startswith("no answer") else found

        return until(reason, 15)


def reason_of(client: Mqtt) -> str:
    with pytest.raises(DatafabError) as caught:
        client.ping()
    assert isinstance(caught.value, Retriable)
    return caught.value.message.partition(f"{client.broker.url}: ")[2]


@contextmanager
def _server(answer: Callable[[socket.socket], None]) -> Iterator[tuple[int, list[bytes]]]:
    """Serve one answer to each connection, after what it sends first."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection = server.accept()[0]
                except OSError:
                    return
                with connection:
                    received.append(connection.recv(65536))
                    if received[-1]:
                        answer(connection)

        Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1], received
        server.shutdown(socket.SHUT_RDWR)


def _encrypted(key: Path) -> bytes:
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    form, how = serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    return loaded.private_bytes(serialization.Encoding.PEM, form, how)
