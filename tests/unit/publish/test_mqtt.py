"""The MQTT client on real brokers."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from datafab.core.services import Services
from datafab.embedded.broker import find_mosquitto
from datafab.errors import Fatal, Retriable, SettingError
from datafab.ops.pings import pings
from datafab.publish.mqtt import Broker, Mqtt
from datafab.settings import load
from tests.servers.celery import until
from tests.servers.mosquitto import Mosquitto, Subscriber

needs_mosquitto = pytest.mark.skipif(find_mosquitto() is None, reason="no mosquitto: run tests/servers/install")

#: What anybody may do; all else is refused.
_ACCESS = "topic readwrite allowed/#\n"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    folder = tmp_path_factory.mktemp("mosquitto")
    (folder / "acl").write_text(_ACCESS, encoding="utf-8")
    (folder / "acl").chmod(0o600)
    with Mosquitto(folder, more=f"acl_file {folder}/acl\nmax_packet_size 20000\n") as running:
        yield running


def mqtt(url: str, **options: float) -> Mqtt:
    return Mqtt(Broker.of(url), **options)


@needs_mosquitto
@pytest.mark.parametrize("version", ["", "?version=3", "?version=5"])
def test_a_message_comes_once_at_qos_1_not_retained(broker: Mosquitto, version: str):
    topic = f"allowed/é/{version[-1:]}"
    client = mqtt(broker.url + version)
    with Subscriber(broker.url, topic) as subscriber:
        client.publish(topic, "donnée".encode())
        subscriber.wait_raw(1)
    client.close()
    assert subscriber.messages == [(topic, "donnée".encode(), 1, False)]


@needs_mosquitto
def test_threads_share_one_client(broker: Mosquitto):
    client = mqtt(broker.url)
    with Subscriber(broker.url, "allowed/many") as subscriber:
        threads = [
            threading.Thread(target=lambda: [client.publish("allowed/many", b"x") for _ in range(25)]) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        subscriber.wait_raw(200)
    client.close()
    assert len(subscriber.messages) == 200


@needs_mosquitto
def test_a_refused_message_is_not_taken_for_sent(broker: Mosquitto):
    client = mqtt(broker.url)
    with pytest.raises(Fatal, match=r"refuses a message on forbidden/a: Not authorized") as caught:
        client.publish("forbidden/a", b"x")
    assert caught.value.code == "mqtt_refused"
    until(lambda: _published(client, "allowed/a"), 20)
    client.close()


def test_an_absent_broker_is_retriable_and_its_password_unsaid(tmp_path: Path):
    client = mqtt("mqtt://nom:secret@127.0.0.1:9", timeout=0.3)
    with pytest.raises(Retriable) as caught:
        client.publish("a", b"x")
    client.close()
    assert "mqtt://127.0.0.1:9" in caught.value.message
    assert "secret" not in caught.value.message + repr(client.broker)
    assert caught.value.field == "DATAFAB_MQTT_URL"


@needs_mosquitto
def test_a_broker_that_refuses_the_user_says_so(tmp_path: Path):
    (tmp_path / "passwords").touch(mode=0o600)
    more = f"password_file {tmp_path}/passwords\n"
    with Mosquitto(tmp_path, more=more) as strict:
        client = mqtt(strict.url.replace("//", "//nom:faux@"), timeout=1)
        with pytest.raises(Retriable, match=r"it refuses the connection: (Not authorized|Bad user name)"):
            client.ping()
        client.close()


@needs_mosquitto
def test_a_client_finds_its_broker_again(tmp_path: Path):
    broker = Mosquitto(tmp_path).start()
    client = mqtt(broker.url, timeout=15, acknowledge=2)
    client.publish("a", b"1")
    broker.kill()
    client._timeout = 0.5
    with pytest.raises(Retriable):
        client.publish("a", b"2")
    client._timeout = 15
    broker.start()
    with Subscriber(broker.url, "a") as subscriber:
        client.publish("a", b"3")
        # The second may come after all: nobody knew whether it had.
        until(lambda: b"3" in [payload for _, payload, *_ in subscriber.messages], 20)
    client.close()
    broker.stop()


@needs_mosquitto
def test_a_broker_that_hangs_is_retriable(tmp_path: Path):
    with Mosquitto(tmp_path) as broker:
        client = mqtt(broker.url, acknowledge=0.5)
        client.ping()
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            with pytest.raises(Retriable, match=r"no acknowledgement within 0.5 s"):
                client.publish("a", b"1")
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        client.close()


def test_amqtt_serves_where_there_is_no_mosquitto(tmp_path: Path):
    with Mosquitto(tmp_path, binary=None) as broker:
        assert broker.url.endswith("?version=3")
        client = mqtt(broker.url)
        with Subscriber(broker.url, "origin/a") as subscriber:
            client.publish("origin/a", b"x")
            subscriber.wait_raw(1)
        client.close()
    assert [message[:2] for message in subscriber.messages] == [("origin/a", b"x")]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://h", "'http' is not supported"),
        ("https://h/mqtt", "use mqtt, mqtts, ws, wss"),
        ("mqtt://", "has no host"),
        ("wss:///mqtt", "has no host"),
        ("mqtt://h/path", "a path"),
        ("wss://h/mqtt#part", "a fragment"),
        (f"mqtt://{'a' * 64}.org", "host or port"),
        ("mqtt://a..b", "host or port"),
        ("wss://h/mqtt?token=1", "version=3 or version=5"),
        ("mqtt://h?version=", "version=3 or version=5"),
        ("mqtt://h:99999", "port"),
        ("mqtt://h?version=4", "version=3 or version=5"),
        ("mqtt://h?qos=0", "version=3 or version=5"),
        ("localhost:1883", "'localhost' is not supported"),
    ],
)
def test_urls_that_are_none(url: str, says: str):
    with pytest.raises(SettingError, match=says) as caught:
        Broker.of(url)
    assert caught.value.field == "DATAFAB_MQTT_URL"


@pytest.mark.parametrize(
    ("url", "address", "version", "credentials"),
    [
        ("mqtt://h", "mqtt://h:1883", 5, (None, None)),
        ("mqtts://h", "mqtts://h:8883", 5, (None, None)),
        ("mqtt://n%40m:p%2Fw@h:18?version=3.1.1", "mqtt://h:18", 3, ("n@m", "p/w")),
        ("mqtt://[::1]:18", "mqtt://[::1]:18", 5, (None, None)),
        ("ws://h", "ws://h:80/mqtt", 5, (None, None)),
        ("wss://n:p@h", "wss://h:443/mqtt", 5, ("n", "p")),
        ("wss://h/", "wss://h:443/", 5, (None, None)),
        ("WSS://h:8443/a/é b%2F?version=3", "wss://h:8443/a/%C3%A9%20b%2F", 3, (None, None)),
    ],
)
def test_urls(url: str, address: str, version: int, credentials: tuple[str | None, str | None]):
    broker = Broker.of(url)
    assert (broker.url, broker.version, (broker.username, broker.password)) == (address, version, credentials)


def test_without_the_setting_there_is_no_broker(tmp_path: Path):
    with closing(Services(load(home=tmp_path))) as services:
        with pytest.raises(SettingError, match="DATAFAB_MQTT_URL is not set"):
            _ = services.get(Mqtt)
        assert "mqtt" not in pings(services)


def _published(client: Mqtt, topic: str) -> bool:
    """Publish, as a stage does: what may pass is tried again."""
    try:
        client.publish(topic, b"x")
    except Retriable:
        return False
    return True
