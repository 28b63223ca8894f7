"""The MQTT broker of this host: mosquitto if it is installed, else amqtt, which speaks MQTT 3.1.1 only."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

#: No message is dropped: by default mosquitto drops those beyond 1,000 queued messages of a client.
_MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {folder}/
max_queued_messages 0
max_inflight_messages 20
"""
_AMQTT = """\
listeners:
  default:
    type: tcp
    bind: 127.0.0.1:{port}
plugins:
  amqtt.plugins.authentication.AnonymousAuthPlugin:
    allow_anonymous: true
"""


def find_mosquitto(folders: Iterable[str | Path] | None = None) -> Path | None:
    """Return the path of mosquitto, or None if it is not in these folders (None: PATH and ``/usr/sbin``)."""
    searched = [*os.get_exec_path(), "/usr/sbin"] if folders is None else folders
    found = shutil.which("mosquitto", path=os.pathsep.join(map(str, searched)))
    return Path(found) if found else None


def broker_command(mosquitto: Path | None, port: int, folder: Path, more: str = "") -> tuple[str, ...]:
    """Return the command of a broker that listens on 127.0.0.1 only, and write its configuration file.

    Args:
        mosquitto: path of its binary; None: amqtt.
        port: port of 127.0.0.1.
        folder: folder of the broker's configuration and data.
        more: further lines of the configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if mosquitto and os.geteuid() == 0:
        more = "user root\n" + more  # otherwise it switches to a user who may not write here
    text = (_MOSQUITTO if mosquitto else _AMQTT).format(port=port, folder=folder.absolute()) + more
    config = folder / ("mosquitto.conf" if mosquitto else "amqtt.yaml")
    config.write_text(text, encoding="utf-8")
    if mosquitto:
        return (str(mosquitto), "-c", str(config))
    return (str(Path(sys.executable).with_name("amqtt")), "-c", str(config))


def broker_url(mosquitto: Path | None, port: int) -> str:
    """Return the ``DATAFAB_MQTT_URL`` of the broker that ``broker_command`` starts."""
    return f"mqtt://127.0.0.1:{port}" + ("" if mosquitto else "?version=3")
