"""Examine everything that a cluster needs, as seen from this host."""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from datafab.core.document import VERSION
from datafab.core.jobs import RedisJobs
from datafab.core.metrics import ClusterMetrics
from datafab.core.redis import ClusterRedis, connect
from datafab.core.redis_refusals import RedisRefuses, explain
from datafab.core.services import Services
from datafab.embedded import find_redis, running
from datafab.errors import SettingError
from datafab.flows.registry import flows
from datafab.ops import diagnosis
from datafab.ops.diagnosis import Check, Worker, broken, ok, warning
from datafab.ops.pings import needs, pings
from datafab.publish.wis2_suite import RECORDS, SCHEMA, TOPICS
from datafab.settings import DATA_VERSION, Settings, load, unknown_variables, variable_names
from datafab.version import __version__
from workers import inspect as workers_inspect
from workers.app import use

#: Seconds that workers have to answer.
TIMEOUT_SECONDS = 2.0


def examine(settings: Settings) -> Iterator[Check]:
    """Yield the checks one by one; nothing is changed."""
    yield ok("datafab", f"{__version__} on Python {platform.python_version()}")
    yield from diagnosis.unknown(unknown_variables(), variable_names())
    yield _flows()
    yield _detective()
    yield _wis2(settings.home.absolute())
    yield from _disks(settings)
    settings, check = _find_cluster(settings)
    yield check
    if settings.redis_url is None:
        yield from _pings(settings, None)
        return
    client = connect(settings, patience=1)
    try:
        yield from _redis(client, settings.key_prefix)
        _check_writes(client)
    except RedisRefuses as error:
        yield broken("redis writes", str(error), "until then all jobs wait; they go on by themselves")
        yield from _pings(settings, None)
        return
    except RedisError as error:
        fix = "start it, or correct DATAFAB_REDIS_URL"
        yield broken("redis", explain(error, settings), fix)
        yield from _pings(settings, None)
        return
    use(settings)
    workers = _workers()
    yield from diagnosis.queues(workers)
    yield from diagnosis.agreement(workers_inspect.describe_worker([]), workers)
    services = Services(settings, jobs=RedisJobs(settings, client))
    yield diagnosis.tick(services.get(ClusterMetrics).read().overdue)
    for queue, one in services.get(ClusterMetrics).idle_queues(settings.stalled_after).items():
        yield diagnosis.stalled_queue(queue, one.seconds, one.messages)
    yield from _pings(settings, services)
    services.close()


def _flows() -> Check:
    try:
        return ok("flows", f"{len(flows())} flows")
    except SettingError as error:
        return broken("flows", error.message, "correct the file of DATAFAB_CONFIG; see `datafab flows check`")


def _detective() -> Check:
    """Check that csv-detective has the version that is part of the names of analyses."""
    version = metadata.version("csv-detective")
    if VERSION.startswith(f"csv-detective-{version}-"):
        return ok("csv-detective", version)
    fix = "install the version of uv.lock (`make setup`): analyses would be stored under the name of another version"
    return broken("csv-detective", f"{version}, but analyses are named {VERSION}", fix)


def _wis2(home: Path) -> Check:
    missing = [name for name in (SCHEMA, RECORDS, TOPICS) if not (home / name).is_file()]
    if missing:
        fix = "run `datafab wis2 sync` if you announce files over WIS2: WMO's own suites do not run without them"
        return warning("wis2 bundle", f"{len(missing)} of its 3 parts are not in {home}", fix)
    return ok("wis2 bundle", f"in {home}")


def _disks(settings: Settings) -> Iterator[Check]:
    places = {"disk of home": settings.home.absolute()}
    url = urlsplit(settings.store)
    if url.scheme in {"", "file"}:
        places["disk of store"] = Path(unquote(url.path))
    for name, place in places.items():
        there = next(path for path in (place, *place.parents) if path.exists())
        yield diagnosis.disk(name, str(place), shutil.disk_usage(there).free, settings.max_bytes)


def _find_cluster(settings: Settings) -> tuple[Settings, Check]:
    """Return the settings with the Redis of the cluster, if there is one, and the check."""
    if settings.redis_url is not None:
        return settings, ok("cluster", "that of DATAFAB_REDIS_URL")
    here = running(settings)
    if here is not None:
        return here.reached_by(settings), ok("cluster", f"the one that runs in {settings.home}")
    try:
        find_redis()
    except SettingError as error:
        return settings, broken("cluster", "none is running, and none can be started", error.message)
    return settings, warning("cluster", "none is running", "start one with `datafab up`, or set DATAFAB_REDIS_URL")


def _redis(client: ClusterRedis, key_prefix: str) -> Iterator[Check]:
    before = time.time()
    seconds, micros = client.time()
    here = (before + time.time()) / 2
    yield ok("redis", "answers")
    yield from diagnosis.redis(client.info())
    yield _versions(client, key_prefix)
    yield diagnosis.clock(here - (int(seconds) + int(micros) / 1e6))


def _check_writes(client: ClusterRedis) -> None:
    """Raise RedisRefuses if Redis is full, read-only or without its disk. What is written here changes nothing."""
    client.setrange(f"{client.prefix}doctor", 0, "")


def _versions(client: ClusterRedis, key_prefix: str) -> Check:
    """Look for the keys of other versions, which this one does not read: their jobs would wait forever."""
    others = [f"{key_prefix}:{number}:" for number in range(10) if number != DATA_VERSION]
    found = [prefix for prefix in others if client.exists(prefix + "jobs")]
    if found:
        fix = "let workers of that version finish its jobs, then delete its keys"
        return warning("redis keys", f"{client.prefix}, and jobs of another version below {', '.join(found)}", fix)
    return ok("redis keys", client.prefix)


def _workers() -> dict[str, Worker | None]:
    try:
        return workers_inspect.ask_workers(TIMEOUT_SECONDS)
    except (OperationalError, RedisError):  # Redis, or a connection that was opened before, has just gone
        return {}


def _pings(settings: Settings, services: Services | None) -> Iterator[Check]:
    """Check every other configured service; without ``services``, those that do not need the cluster's Redis."""
    used = services or Services(load(**settings.model_dump(exclude_unset=True) | {"redis_url": None}))
    known = needs(used)
    for name, error in pings(used).items():
        if name == "redis":
            continue
        if error is None:
            yield ok(name, "answers")
        else:
            yield broken(
                name, error, f"make sure that it answers requests of this host, or correct {known[name].setting}"
            )
    if services is None:
        used.close()
