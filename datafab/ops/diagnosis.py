"""What is well and what is not on a host, and what to do about it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

from datafab.core.item import Value

#: kombu and the ledger need this much of Redis
OLDEST_REDIS = (6, 2)
#: Bytes below which nothing more can be done, whatever files are like.
LEAST_FREE = 256 * 1024**2
#: Share of Redis's memory above which it is about to refuse jobs.
FULL = 0.9
#: Seconds by which a clock may differ from Redis's: then logs mislead, and far off schedules and tokens fail too.
SKEW, FAR_OFF = 2.0, 60.0
#: Seconds for which a task may be due: longer, and nobody ticks.
LATE = 30.0
#: Variables that begin so are settings, or are meant to be.
OURS = "DATAFAB_"


class Level(StrEnum):
    """How bad it is; only what is broken makes the whole unwell."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"


class Check(Value):
    """One thing that was looked at."""

    name: str
    level: Level
    #: what was seen
    found: str
    #: what to do; empty where all is well
    fix: str = ""


class Worker(Value):
    """What a worker tells of itself, as far as the others must agree with it."""

    version: str
    #: the host's name, and the id of its kernel: containers of one host share that
    host: str
    kernel: str
    store: str
    index: str
    queues: tuple[str, ...] = ()
    #: processes or threads of its pool; None: a worker of a version that does not say
    slots: int | None = None


def ok(name: str, found: str) -> Check:
    """Return what is well."""
    return Check(name=name, level=Level.OK, found=found)


def warning(name: str, found: str, fix: str) -> Check:
    """Return what should be seen to."""
    return Check(name=name, level=Level.WARNING, found=found, fix=fix)


def broken(name: str, found: str, fix: str) -> Check:
    """Return what does not work, or loses something."""
    return Check(name=name, level=Level.BROKEN, found=found, fix=fix)


def redis(info: Mapping[str, Any]) -> Iterator[Check]:
    """Judge a Redis by what it tells of itself (``INFO``, which a hosted one answers too, unlike ``CONFIG``)."""
    version = str(info["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
        yield broken("redis version", version, "use Redis 6.2 or later")
    else:
        yield ok("redis version", version)
    if info.get("cluster_enabled"):
        yield broken("redis mode", "a Redis Cluster", "use one Redis server: a script's keys are on several here")
    yield _persistence(info)
    policy = str(info.get("maxmemory_policy", "unknown"))
    if policy == "noeviction":
        yield ok("redis eviction", policy)
    else:
        fix = "set `maxmemory-policy noeviction`: jobs that Redis forgets when it is full are lost"
        yield broken("redis eviction", policy, fix)
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if most and used > FULL * most:
        fix = "raise `maxmemory`, or lower DATAFAB_RETENTION_DAYS: a full Redis takes no jobs"
        yield warning("redis memory", f"{used} of {most} bytes", fix)
    else:
        yield ok("redis memory", f"{used} of {most} bytes" if most else f"{used} bytes, no limit")


def _persistence(info: Mapping[str, Any]) -> Check:
    name = "redis persistence"
    if not info.get("aof_enabled"):
        return broken(name, "no append-only file", "set `appendonly yes`: a restart of Redis loses jobs without it")
    for part in ("aof_last_write_status", "aof_last_bgrewrite_status"):
        if info.get(part, "ok") != "ok":
            return broken(name, f"{part}: {info[part]}", "see the log of Redis; most likely its disk is full")
    return ok(name, "append-only file")


def clock(ahead: float) -> Check:
    """Judge by how many seconds this host's clock is ahead of Redis's."""
    found = f"{abs(ahead):.1f} s {'ahead of' if ahead >= 0 else 'behind'} Redis's"
    fix = "set both hosts' clocks by NTP: schedules, tokens and the times in logs go by this one"
    if abs(ahead) > FAR_OFF:
        return broken("clock", found, fix)
    return warning("clock", found, fix) if abs(ahead) > SKEW else ok("clock", found)


def disk(name: str, place: str, free: int, largest: int) -> Check:
    """Judge the space that is left where something lies.

    Args:
        name: of what lies there.
        place: its path.
        free: bytes left there.
        largest: bytes of the largest file that may be fetched.
    """
    found = f"{free / 1024**3:.1f} GiB free at {place}"
    if free < LEAST_FREE:
        return broken(name, found, "make room, or set DATAFAB_HOME or DATAFAB_STORE_URL to another disk")
    if free < largest:
        fix = f"make room, or lower DATAFAB_MAX_BYTES: one file may have {largest / 1024**3:.1f} GiB"
        return warning(name, found, fix)
    return ok(name, found)


def queues(workers: Mapping[str, Worker | None]) -> Iterator[Check]:
    """Judge the workers by how many of them serve each queue, and by their processes or threads."""
    told = {name: worker for name, worker in workers.items() if worker}
    for name in ("io", "cpu", "control"):
        mine = {node: worker.slots for node, worker in told.items() if name in worker.queues}
        idle = sorted(node for node, slots in mine.items() if slots == 0)
        if idle:
            fix = "restart these workers: their pools were shrunk, and they take no task"
            yield broken(f"queue {name}", f"no process or thread in the pool of {', '.join(idle)}", fix)
        elif mine:
            yield ok(f"queue {name}", f"{_number(len(mine), 'worker')}{_slots(list(mine.values()))}")
        else:
            whose = "" if all(workers.values()) else " of this version"
            yield warning(f"queue {name}", f"no worker{whose} answers", _start(name))


def _start(queue: str) -> str:
    pool = "prefork" if queue == "cpu" else "threads"
    return f"start one: `datafab up`, or `python -m workers worker -Q {queue} -P {pool}`"


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _slots(slots: Sequence[int | None]) -> str:
    known = [number for number in slots if number is not None]
    return f" with {_number(sum(known), 'slot')}" if known and len(known) == len(slots) else ""


def still(queue: str, seconds: float, messages: int) -> Check:
    """Judge a queue with messages that nobody takes."""
    waits = f"{_number(messages, 'message')}, and none was taken for {seconds:.0f} s"
    fix = f"restart the workers of the queue {queue}, or {_start(queue)}"
    return broken(f"backlog of {queue}", waits, fix)


def agreement(here: Worker, workers: Mapping[str, Worker | None]) -> Iterator[Check]:
    """Judge whether the workers are of this process's version, and keep things where it does."""
    told = {name: worker for name, worker in workers.items() if worker}
    versions = {name: worker.version if worker else "unknown" for name, worker in workers.items()}
    for version, names in _others(versions, here.version):
        fix = "have all hosts run the same, one restarted after the other"
        yield warning("version of workers", f"{version} of {names}, here it is {here.version}", fix)
    for what, mine in (("store", here.store), ("index", here.index)):
        for its, names in _others({name: getattr(worker, what) for name, worker in told.items()}, mine):
            fix = f"give all processes of all hosts the same DATAFAB_{what.upper()}_URL"
            yield broken(f"{what} of workers", f"{its} of {names}, here it is {mine}", fix)
    kernels = {worker.kernel: worker.host for worker in (here, *told.values())}
    if here.index.startswith("sqlite:") and len(kernels) > 1:
        fix = "give all hosts an Elasticsearch in DATAFAB_INDEX_URL, or run what indexes and searches on one host only"
        yield broken("index of hosts", f"a file, and there are the hosts {', '.join(sorted(kernels.values()))}", fix)


def _others(values: Mapping[str, str], mine: str) -> list[tuple[str, str]]:
    """Return each value that is not mine, with the names of those that have it."""
    found = sorted(set(values.values()) - {mine})
    return [(value, ", ".join(sorted(name for name in values if values[name] == value))) for value in found]


def unknown(names: Sequence[str], known: Collection[str]) -> Iterator[Check]:
    """Judge the variables that look like settings, and are none."""
    ends = [one.removeprefix(OURS) for one in known]
    for name in names:
        near = get_close_matches(name.removeprefix(OURS), ends, n=1)
        fix = f"it may be meant for {OURS}{near[0]}" if near else "remove it"
        yield warning("setting", f"{name} is none, and is not read", f"{fix}; docs/settings.md has all of them")


def tick(overdue: float) -> Check:
    """Judge the tick by how long the first due task has been due."""
    if overdue > LATE:
        fix = "start beat (`python -m workers beat`) and a worker of the queue control: nothing is tried again without"
        return broken("tick", f"a task has been due for {overdue:.0f} s", fix)
    return ok("tick", f"{overdue:.1f} s late")
