"""The cluster on this host: starts and stops its parts, and tells other commands where it is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import ValidationError

from datafab.core.item import Value
from datafab.embedded.address import Address, free_port
from datafab.embedded.broker import broker_url, find_mosquitto
from datafab.embedded.parts import MAKERS, Blueprint
from datafab.embedded.redis_server import redis_answers, redis_of
from datafab.embedded.supervisor import Supervisor, Told, say_nothing
from datafab.errors import SettingError
from datafab.settings import Settings

#: the listener comes with these where the settings name topics to listen to
ALL = tuple(name for name in MAKERS if name != "listener")
#: without what is only looked at, and without a broker, which serves whoever listens for longer than a command takes
CORE = tuple(name for name in ALL if name not in {"broker", "webhook", "flower"})
#: seconds that the Redis of a cluster that was killed may take to end
LEFTOVER_PATIENCE = 5.0


class ClusterFile(Value):
    """Where the cluster of a home is: ``cluster.json``, there while it runs."""

    #: process id of the supervisor
    pid: int
    redis_url: str
    #: URLs, where these parts run
    webhook: str | None = None
    flower: str | None = None
    #: ``DATAFAB_MQTT_URL`` of the broker that runs with it
    mqtt: str | None = None
    #: process ids, by part
    parts: dict[str, int]


def running(settings: Settings) -> ClusterFile | None:
    """Return the cluster that runs in this home, if one does. Asks its Redis (2 s at most)."""
    home = settings.home.absolute()
    try:
        found = ClusterFile.model_validate_json((home / "cluster.json").read_bytes())
    except (OSError, ValidationError):
        return None
    its_redis = redis_of(found.redis_url, home / "redis") if "redis" in found.parts else redis_answers(found.redis_url)
    return found if _alive(found.pid) and its_redis else None


class Cluster:
    """The cluster on this host, as a context manager.

    Args:
        settings: where ``redis_url`` is set, that Redis is used and none is started; so with ``mqtt_url`` and a broker.
        parts: which of ``ALL`` to run.
        told: hears ``(part, state)`` of every change.
        limit: seconds within which every part must be ready.

    Attributes:
        settings: those to work with it: ``start`` fills in ``redis_url``, ``mqtt_url`` and the absolute ``home``.
    """

    def __init__(
        self,
        settings: Settings,
        parts: Iterable[str] = ALL,
        *,
        told: Told = say_nothing,
        limit: float = 60.0,
    ) -> None:
        self.settings = settings
        self._names = _names(set(parts), settings)
        self._told = told
        self._limit = limit
        self._lock: int | None = None
        self._supervisor: Supervisor | None = None
        self._published = False

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of what runs, by part."""
        return self._supervisor.pids if self._supervisor else {}

    def start(self) -> None:
        """Start all parts and wait until every one is ready; nothing is left when that fails.

        Raises:
            SettingError: a port is taken, the home is in use or cannot be written, there is no Redis.
            FlowError: a part did not become ready; names its log.
        """
        self._check_addresses()
        self._take_home()
        try:
            self._start_parts()
            self._publish(self.pids)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all parts, Redis last, and give the home free."""
        try:
            if self._supervisor:
                self._supervisor.stop()
        finally:
            if self._published:
                self._published = False
                self._file.unlink(missing_ok=True)
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def serve_forever(self) -> None:
        """Wait for SIGINT, SIGTERM or SIGHUP, then stop all parts. For the main thread, after ``start``."""
        asked = threading.Event()
        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, lambda *_: asked.set()) for number in signals}
        try:
            asked.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _file(self) -> Path:
        return self.settings.home.absolute() / "cluster.json"

    def _check_addresses(self) -> None:
        for name, setting in (("webhook", "DATAFAB_BIND"), ("flower", "DATAFAB_FLOWER_BIND")):
            if name in self._names:
                self._address(name).check_free(setting)

    def _address(self, name: str) -> Address:
        if name == "webhook":
            return Address.of(self.settings.bind, "DATAFAB_BIND")
        return Address.of(self.settings.flower_bind, "DATAFAB_FLOWER_BIND")

    def _take_home(self) -> None:
        """Lock the home. The kernel frees it when this process and its Redis are gone, whatever ended them."""
        home = self._file.parent
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            (home / "redis").mkdir(exist_ok=True)
            (home / "logs").mkdir(exist_ok=True)
            self._lock = os.open(home / "cluster.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            msg = f"DATAFAB_HOME={home}: {error.filename}: {error.strerror}"
            raise SettingError(msg, field="DATAFAB_HOME") from error
        deadline = time.monotonic() + LEFTOVER_PATIENCE
        while not _locked(self._lock):
            holder = int(os.pread(self._lock, 20, 0) or b"0")
            if _alive(holder) or time.monotonic() > deadline:
                os.close(self._lock)
                self._lock = None
                msg = f"a cluster runs in {home} already (process {holder}): use it, or set DATAFAB_HOME to another"
                raise SettingError(msg, field="DATAFAB_HOME")
            time.sleep(0.05)
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, str(os.getpid()).encode(), 0)

    def _start_parts(self) -> None:
        assert self._lock is not None
        home = self._file.parent
        changes = _absolute_paths(self.settings)
        if self.settings.redis_url is None:
            changes["redis_url"] = f"redis://127.0.0.1:{free_port()}/0"
        elif not redis_answers(self.settings.redis_url):
            msg = "DATAFAB_REDIS_URL is set, but no Redis answers there: start it, or unset it for an embedded one"
            raise SettingError(msg, field="DATAFAB_REDIS_URL")
        else:
            self._names = [name for name in self._names if name != "redis"]
        if "broker" in self._names:
            changes["mqtt_url"] = broker_url(find_mosquitto(), free_port())
        self.settings = self.settings.model_copy(update=changes)
        blueprint = Blueprint(settings=self.settings, home=home, lock=self._lock)
        self._supervisor = Supervisor(
            blueprint.parts(self._names), home / "logs", told=self._told, changed=self._update, limit=self._limit
        )
        self._supervisor.start()

    def _update(self, pids: dict[str, int]) -> None:
        if self._published:
            # A file with the process ids of before serves better than a cluster that ends for a full disk.
            with contextlib.suppress(OSError):
                self._publish(pids)

    def _publish(self, pids: dict[str, int]) -> None:
        facts = ClusterFile(
            pid=os.getpid(),
            redis_url=self.settings.redis_url or "",
            webhook=self._address("webhook").url if "webhook" in self._names else None,
            flower=self._address("flower").url if "flower" in self._names else None,
            mqtt=self.settings.mqtt_url if "broker" in self._names else None,
            parts=pids,
        )
        new = self._file.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(facts.model_dump_json(indent=2) + "\n")
        new.replace(self._file)
        self._published = True


def _names(parts: set[str], settings: Settings) -> list[str]:
    """Return the parts to run, in their order; with all of them the listener, where it has something to hear."""
    if set(ALL) <= parts and settings.event_topic:
        parts = parts | {"listener"}
    if settings.mqtt_url:
        parts = parts - {"broker"}
    return [name for name in MAKERS if name in parts]


def _absolute_paths(settings: Settings) -> dict[str, Any]:
    """Return the settings that name files, for children that work in another folder."""
    changes: dict[str, Any] = {"home": settings.home.absolute()}
    if settings.ca_bundle:
        changes["ca_bundle"] = settings.ca_bundle.absolute()
    if settings.store_url and "://" not in settings.store_url:
        changes["store_url"] = str(Path(settings.store_url).absolute())
    if settings.index_url and settings.index_url.startswith("sqlite:///"):
        changes["index_url"] = f"sqlite:///{Path(settings.index_url.removeprefix('sqlite:///')).absolute()}"
    return changes


def _alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
