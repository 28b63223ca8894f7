"""The checks of ``datafab doctor``: what is broken on a host, and how to fix it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

from datafab.core.item import Value

#: The oldest version of Redis that has the commands which kombu and the ledger use.
MIN_REDIS_VERSION = (6, 2)
#: Free bytes below which a disk is too full for any work.
MIN_FREE_BYTES = 256 * 1024**2
#: Share of Redis's memory limit above which it will soon refuse jobs.
MEMORY_WARNING_SHARE = 0.9
#: Difference from Redis's clock above which logs are misleading, and above which schedules and tokens fail as well.
SKEW_WARNING_SECONDS, MAX_SKEW_SECONDS = 2.0, 60.0
#: Seconds that a task may be overdue; if it is longer, no tick runs.
MAX_OVERDUE_SECONDS = 30.0
#: Prefix of the variables that are settings.
ENV_PREFIX = "DATAFAB_"


class Level(StrEnum):
    """The result of a check; only ``broken`` makes ``datafab doctor`` fail."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"


class Check(Value):
    """A check and its result."""

    name: str
    level: Level
    #: the observed state
    found: str
    #: what to do; empty if the check passed
    fix: str = ""


class Worker(Value):
    """The facts of a worker that all workers must have in common, and its queues."""

    version: str
    #: name of the host, and id of its kernel, which all containers of a host share
    host: str
    kernel: str
    store: str
    index: str
    queues: tuple[str, ...] = ()
    #: number of processes or threads in its pool; None: a worker of an older version, which does not report it
    slots: int | None = None


def ok(name: str, found: str) -> Check:
    """Return a check that passed."""
    return Check(name=name, level=Level.OK, found=found)


def warning(name: str, found: str, fix: str) -> Check:
    """Return a check that found something which needs attention."""
    return Check(name=name, level=Level.WARNING, found=found, fix=fix)


def broken(name: str, found: str, fix: str) -> Check:
    """Return a check that found something which does not work, or loses data."""
    return Check(name=name, level=Level.BROKEN, found=found, fix=fix)


def redis(info: Mapping[str, Any]) -> Iterator[Check]:
    """Check a Redis by its ``INFO``, which hosted servers answer too, unlike ``CONFIG``."""
    version = str(info["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < MIN_REDIS_VERSION:
        yield broken("redis version", version, "use Redis 6.2 or later")
    else:
        yield ok("redis version", version)
    if info.get("cluster_enabled"):
        yield broken(
            "redis mode", "a Redis Cluster", "use a single Redis server: the scripts' keys must be on one server"
        )
    yield _persistence(info)
    policy = str(info.get("maxmemory_policy", "unknown"))
    if policy == "noeviction":
        yield ok("redis eviction", policy)
    else:
        fix = "set `maxmemory-policy noeviction`: a Redis that evicts keys when it is full loses jobs"
        yield broken("redis eviction", policy, fix)
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if limit and used > MEMORY_WARNING_SHARE * limit:
        fix = "raise `maxmemory`, or lower DATAFAB_RETENTION_DAYS: a full Redis refuses jobs"
        yield warning("redis memory", f"{used} of {limit} bytes", fix)
    else:
        yield ok("redis memory", f"{used} of {limit} bytes" if limit else f"{used} bytes, no limit")


def _persistence(info: Mapping[str, Any]) -> Check:
    name = "redis persistence"
    if not info.get("aof_enabled"):
        return broken(name, "no append-only file", "set `appendonly yes`: otherwise a restart of Redis loses jobs")
    for part in ("aof_last_write_status", "aof_last_bgrewrite_status"):
        if info.get(part, "ok") != "ok":
            return broken(name, f"{part}: {info[part]}", "see the log of Redis; its disk is probably full")
    return ok(name, "append-only file")


def clock(ahead: float) -> Check:
    """Check by how many seconds this host's clock is ahead of Redis's."""
    found = f"{abs(ahead):.1f} s {'ahead of' if ahead >= 0 else 'behind'} Redis's"
    fix = "synchronise both hosts' clocks by NTP: schedules, tokens and the times in logs depend on this host's clock"
    if abs(ahead) > MAX_SKEW_SECONDS:
        return broken("clock", found, fix)
    return warning("clock", found, fix) if abs(ahead) > SKEW_WARNING_SECONDS else ok("clock", found)


def disk(name: str, place: str, free: int, largest: int) -> Check:
    """Check the free space of a disk.

    Args:
        name: name of the check.
        place: path on the disk.
        free: free bytes.
        largest: size of the largest file that may be fetched.
    """
    found = f"{free / 1024**3:.1f} GiB free at {place}"
    if free < MIN_FREE_BYTES:
        return broken(name, found, "free some space, or set DATAFAB_HOME or DATAFAB_STORE_URL to another disk")
    if free < largest:
        fix = f"free some space, or lower DATAFAB_MAX_BYTES: a single file may have {largest / 1024**3:.1f} GiB"
        return warning(name, found, fix)
    return ok(name, found)


def queues(workers: Mapping[str, Worker | None]) -> Iterator[Check]:
    """Check that each queue has workers, and that these have processes or threads."""
    known = {name: worker for name, worker in workers.items() if worker}
    for name in ("io", "cpu", "control"):
        mine = {node: worker.slots for node, worker in known.items() if name in worker.queues}
        idle = sorted(node for node, slots in mine.items() if slots == 0)
        if idle:
            fix = "restart these workers: their pools were shrunk to nothing, and they take no tasks"
            yield broken(f"queue {name}", f"no process or thread in the pool of {', '.join(idle)}", fix)
        elif mine:
            yield ok(f"queue {name}", f"{_number(len(mine), 'worker')}{_slots(list(mine.values()))}")
        else:
            version = "" if all(workers.values()) else " of this version"
            yield warning(f"queue {name}", f"no worker{version} answers", _start_command(name))


def _start_command(queue: str) -> str:
    pool = "prefork" if queue == "cpu" else "threads"
    return f"start one: `datafab up`, or `python -m workers worker -Q {queue} -P {pool}`"


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _slots(slots: Sequence[int | None]) -> str:
    known = [number for number in slots if number is not None]
    return f" with {_number(sum(known), 'slot')}" if known and len(known) == len(slots) else ""


def stalled_queue(queue: str, seconds: float, messages: int) -> Check:
    """Return the failed check of a queue with messages that no worker takes."""
    found = f"{_number(messages, 'message')}, and none was taken for {seconds:.0f} s"
    fix = f"restart the workers of the queue {queue}, or {_start_command(queue)}"
    return broken(f"backlog of {queue}", found, fix)


def agreement(here: Worker, workers: Mapping[str, Worker | None]) -> Iterator[Check]:
    """Check that the workers have the same version, store and index as this process."""
    known = {name: worker for name, worker in workers.items() if worker}
    versions = {name: worker.version if worker else "unknown" for name, worker in workers.items()}
    for version, names in _others(versions, here.version):
        fix = "run the same version on all hosts; they can be restarted one after the other"
        yield warning("version of workers", f"{version} of {names}, here it is {here.version}", fix)
    for what, mine in (("store", here.store), ("index", here.index)):
        for theirs, names in _others({name: getattr(worker, what) for name, worker in known.items()}, mine):
            fix = f"set the same DATAFAB_{what.upper()}_URL for all processes of all hosts"
            yield broken(f"{what} of workers", f"{theirs} of {names}, here it is {mine}", fix)
    kernels = {worker.kernel: worker.host for worker in (here, *known.values())}
    if here.index.startswith("sqlite:") and len(kernels) > 1:
        fix = "set DATAFAB_INDEX_URL to an Elasticsearch for all hosts, or run all indexing and searching on one host"
        yield broken("index of hosts", f"a file, and there are the hosts {', '.join(sorted(kernels.values()))}", fix)


def _others(values: Mapping[str, str], mine: str) -> list[tuple[str, str]]:
    """Return each value that differs from mine, with the names of the workers that have it."""
    found = sorted(set(values.values()) - {mine})
    return [(value, ", ".join(sorted(name for name in values if values[name] == value))) for value in found]


def unknown(names: Sequence[str], known: Collection[str]) -> Iterator[Check]:
    """Return a warning for each variable that looks like a setting, but is not one."""
    ends = [one.removeprefix(ENV_PREFIX) for one in known]
    for name in names:
        near = get_close_matches(name.removeprefix(ENV_PREFIX), ends, n=1)
        fix = f"did you mean {ENV_PREFIX}{near[0]}?" if near else "remove it"
        yield warning(
            "setting", f"{name} is not a setting, and is ignored", f"{fix}; docs/settings.md lists all settings"
        )


def tick(overdue: float) -> Check:
    """Check the tick by the seconds for which the first due task has been due."""
    if overdue > MAX_OVERDUE_SECONDS:
        fix = "start beat (`python -m workers beat`) and a worker of the queue control: without them nothing is retried"
        return broken("tick", f"a task has been due for {overdue:.0f} s", fix)
    return ok("tick", f"{overdue:.1f} s late")
