"""Redis: connections, the names of keys, and the Lua scripts of ``datafab/core/scripts``.

A script is one atomic step. Each begins with the same few lines (``preamble.lua``); those that touch jobs or rows of
the ledger also with ``jobs.lua``, ``rows.lua`` and ``shares.lua``, the only places that know how these are written.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from datafab.core.job import FINAL, JobStatus
from datafab.core.redis_address import RedisAddress
from datafab.core.redis_refusals import WaitingRedis
from datafab.core.redis_retry import SingleLevelRetry
from datafab.settings import Settings

#: Redis cannot be reached, which says nothing about what was asked of it.
CONNECTION_ERRORS = (RedisConnectionError, RedisTimeoutError)
#: Upper bounds, in seconds, of the classes by which the durations of attempts are counted.
DURATION_BOUNDS = ("0.1", "0.3", "1", "3", "10", "30", "100", "300", "1000", "3000")

#: Kinds of dedupe keys, which end at the first colon, by which jobs are listed and counted.
LISTED_KEYS = ("datapusher",)
#: The parts of a script that touches jobs or rows; each uses those before it.
PARTS = ("jobs", "rows", "shares")

_CONSTANTS = f"""
local FINAL = {{{", ".join(f"{status} = 1" for status in sorted(FINAL))}}}
local STATUSES = {{{", ".join(f"'{status}'" for status in JobStatus)}}}
local LISTED_KEYS = {{{", ".join(f"{kind} = 1" for kind in LISTED_KEYS)}}}
local LIMITS = {{{", ".join(DURATION_BOUNDS)}}}
"""


class ClusterRedis(WaitingRedis):
    """A client of the Redis of a cluster, which may share its database with other clusters."""

    #: what all keys of the cluster begin with
    prefix: str


def connect(settings: Settings, *, patience: float = 1.0) -> ClusterRedis:
    """Return a client that rides out a Redis that restarts or refuses for about ``patience`` seconds before it raises.

    A server that accepts a connection and does not answer is tried as often, for ``patience`` seconds each time, but
    one at least and ten at most.
    """
    tries, timeout = max(1, int(patience / 0.5)), min(10.0, max(1.0, patience))
    pool = RedisAddress(settings).pool(
        decode_responses=True,
        health_check_interval=25,
        socket_keepalive=True,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=SingleLevelRetry(ExponentialBackoff(cap=0.5, base=0.01), tries),
        retry_on_error=[RedisConnectionError, RedisTimeoutError],
    )
    client = ClusterRedis(connection_pool=pool)
    client.auto_close_connection_pool = True
    client.prefix = settings.redis_prefix
    return client


def done_key(job: str, stage: str, number: int | str | None) -> str:
    """Return the key, without the prefix, of what a stage has done of one of a job's batches."""
    return f"job:{job}:done:{stage}:{'-' if number is None else number}"


@cache
def _source(name: str) -> str:
    return files("datafab.core").joinpath("scripts", f"{name}.lua").read_text(encoding="utf-8")


@cache
def preamble(prefix: str) -> str:
    """Return what every script begins with: the prefix of keys, the time, the final states, how events are counted."""
    return f"local PREFIX = '{prefix}'" + _CONSTANTS + _source("preamble")


def register(client: ClusterRedis, text: str) -> Any:
    """Register a script, to which the preamble is added, with a client."""
    return client.register_script(preamble(client.prefix) + text)


def script(client: ClusterRedis, name: str, *, rows: bool = False) -> Any:
    """Register a script of ``datafab/core/scripts`` with a client.

    Args:
        client: the connection on which it will run.
        name: the file's, without ``.lua``.
        rows: whether it uses the functions of ``PARTS``.
    """
    parts = PARTS if rows else ()
    return register(client, "".join(_source(part) for part in (*parts, name)))
