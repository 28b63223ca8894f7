"""The cluster on this host: start and stop its parts, and publish its addresses for other commands."""

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
from datafab.embedded.redis_server import redis_answers, redis_failure, redis_of
from datafab.embedded.supervisor import OnState, Supervisor, ignore_state
from datafab.errors import SettingError
from datafab.settings import Settings, load

#: the listener is added to these if the settings name topics to listen to
ALL = tuple(name for name in MAKERS if name != "listener")
#: the parts that a single command needs: no web interfaces, and no broker, whose subscribers outlive a command
CORE = tuple(name for name in ALL if name not in {"broker", "webhook", "flower"})
#: seconds to wait for the Redis of a killed cluster to end
LEFTOVER_SECONDS = 5.0


#: the settings with which all processes of the cluster reach its Redis, besides the URL
_CONNECTION = {"key_prefix", "redis_ca", "redis_cert", "redis_key"}


class ClusterFile(Value):
    """The content of ``cluster.json``: the addresses of the cluster of a home, while it runs."""

    #: process id of the supervisor
    pid: int
    redis_url: str
    #: the settings with which its Redis is reached, and the prefix of its keys
    key_prefix: str = "datafab"
    redis_ca: Path | None = None
    redis_cert: Path | None = None
    redis_key: Path | None = None
    #: URLs of these parts, if they run
    webhook: str | None = None
    flower: str | None = None
    #: ``DATAFAB_MQTT_URL`` of the cluster's own broker
    mqtt: str | None = None
    #: process ids, by part
    parts: dict[str, int]

    def reached_by(self, settings: Settings) -> Settings:
        """Return settings with the Redis of this cluster, and the prefix of its keys."""
        here = self.model_dump(include={"redis_url", *_CONNECTION}, exclude_none=True)
        return load(**settings.model_dump(exclude_unset=True) | here)


def running(settings: Settings) -> ClusterFile | None:
    """Return the cluster that runs in this home, or None. Pings its Redis, for at most 2 s."""
    home = settings.home.absolute()
    try:
        found = ClusterFile.model_validate_json((home / "cluster.json").read_bytes())
    except (OSError, ValidationError):
        return None
    if not _alive(found.pid):
        return None
    reached = found.reached_by(settings)
    its_redis = redis_of(reached, home / "redis") if "redis" in found.parts else redis_answers(reached)
    return found if its_redis else None


class Cluster:
    """The cluster on this host, as a context manager.

    Args:
        settings: if ``redis_url`` is set, that Redis is used and none is started; likewise ``mqtt_url`` and the broker.
        parts: the parts of ``ALL`` to run.
        on_state: called with ``(part, state)`` at every change of state.
        limit: seconds within which every part must be ready.

    Attributes:
        settings: the settings of the cluster: ``start`` sets ``redis_url``, ``mqtt_url`` and the absolute ``home``.
    """

    def __init__(
        self,
        settings: Settings,
        parts: Iterable[str] = ALL,
        *,
        on_state: OnState = ignore_state,
        limit: float = 180.0,
    ) -> None:
        self.settings = settings
        self._names = _names(set(parts), settings)
        self._on_state = on_state
        self._limit = limit
        self._lock: int | None = None
        self._supervisor: Supervisor | None = None
        self._published = False

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of the running parts, by name."""
        return self._supervisor.pids if self._supervisor else {}

    def start(self) -> None:
        """Start all parts and wait until every one is ready; if that fails, stop them again.

        Raises:
            SettingError: a port is taken, the home is in use or cannot be written, or there is no Redis.
            FlowError: a part did not become ready; the message names its log.
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
        """Stop all parts, Redis last, and release the home."""
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
        """Wait for SIGINT, SIGTERM or SIGHUP, then stop all parts. Call it in the main thread, after ``start``."""
        stopping = threading.Event()
        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        handlers = {number: signal.signal(number, lambda *_: stopping.set()) for number in signals}
        try:
            stopping.wait()
        finally:
            for number, handler in handlers.items():
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
        """Lock the home. The kernel releases the lock when this process and its Redis are gone, even if killed."""
        home = self._file.parent
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            (home / "redis").mkdir(exist_ok=True)
            (home / "logs").mkdir(exist_ok=True)
            self._lock = os.open(home / "cluster.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            msg = f"DATAFAB_HOME={home}: {error.filename}: {error.strerror}"
            raise SettingError(msg, field="DATAFAB_HOME") from error
        deadline = time.monotonic() + LEFTOVER_SECONDS
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
        elif failure := redis_failure(self.settings):
            msg = (
                "DATAFAB_REDIS_URL is set, but no Redis answers there: start it, or unset it for an embedded one;"
                f" {failure}"
            )
            raise SettingError(msg, field="DATAFAB_REDIS_URL")
        else:
            self._names = [name for name in self._names if name != "redis"]
        if "broker" in self._names:
            changes["mqtt_url"] = broker_url(find_mosquitto(), free_port())
        self.settings = self.settings.model_copy(update=changes)
        blueprint = Blueprint(settings=self.settings, home=home, lock=self._lock)
        self._supervisor = Supervisor(
            blueprint.parts(self._names),
            home / "logs",
            on_state=self._on_state,
            on_pids=self._update,
            limit=self._limit,
        )
        self._supervisor.start()

    def _update(self, pids: dict[str, int]) -> None:
        if self._published:
            # On a full disk, a file with outdated process ids is better than the end of the cluster.
            with contextlib.suppress(OSError):
                self._publish(pids)

    def _publish(self, pids: dict[str, int]) -> None:
        facts = ClusterFile(
            pid=os.getpid(),
            redis_url=self.settings.redis_url or "",
            **self.settings.model_dump(include=_CONNECTION),
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
    """Return the parts to run, in order; the listener is added if all parts run and there are topics to listen to."""
    if set(ALL) <= parts and settings.event_topic:
        parts = parts | {"listener"}
    if settings.mqtt_url:
        parts = parts - {"broker"}
    return [name for name in MAKERS if name in parts]


def _absolute_paths(settings: Settings) -> dict[str, Any]:
    """Return the settings that are paths, made absolute for children, which have another working folder."""
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
