"""Turns at the servers of others, shared by all workers: so many requests a minute, and none while a server rests.

Each host has a hash ``host:<name>`` in Redis, below ``datafab:1:``: when its next turn is, and until when it rests.
Whoever comes is given a turn of his own, so a crowd comes one after another, and nobody has to ask again and again.
"""

from __future__ import annotations

from typing import Any, Self

import redis

from datafab.core.redis import PREAMBLE
from datafab.core.services import Client, Services
from datafab.settings import PREFIX, Settings
from datafab.urls import url_parts

#: Longest rest that a server is granted, in seconds.
LONGEST = 24 * 3600.0

# ``t`` is when a crowd that came one by one since ever would be through; who comes up to a burst earlier may pass.
_TURN = (
    PREAMBLE
    + """
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local known = redis.call('HMGET', KEYS[1], 't', 'r')
local rest = tonumber(known[2]) or 0
if interval == 0 then return tostring(math.max(0, rest - now)) end
local through = math.max(tonumber(known[1]) or 0, now)
if rest > now then through = math.max(through, rest + burst) end
redis.call('HSET', KEYS[1], 't', through + interval)
redis.call('EXPIRE', KEYS[1], math.ceil(through + interval - now) + 3600)
return tostring(math.max(0, through - burst - now))
"""
)

_REST = (
    PREAMBLE
    + """
local till = now + tonumber(ARGV[1])
if till > (tonumber(redis.call('HGET', KEYS[1], 'r')) or 0) then redis.call('HSET', KEYS[1], 'r', till) end
if redis.call('TTL', KEYS[1]) < ARGV[1] + 3600 then redis.call('EXPIRE', KEYS[1], math.ceil(ARGV[1]) + 3600) end
"""
)


class Turns(Client):
    """The turns of one Redis."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._redis = client
        rate = settings.catalogue_host_rate
        self._interval = 60 / rate if rate else 0.0
        self._burst = self._interval * (settings.catalogue_host_burst - 1)
        self._free = frozenset(host.lower() for host in settings.catalogue_hosts_free)
        self._turn: Any = client.register_script(_TURN)
        self._rest: Any = client.register_script(_REST)

    @classmethod
    def connect(cls, services: Services) -> Self:
        """Return the client of a process."""
        return cls(services.settings, services.redis())

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def take(self, url: str, *, urgent: bool = False) -> float:
        """Take a turn at the server of a URL; return the seconds until it. The urgent wait only while it rests."""
        host = _host(url)
        interval = 0.0 if urgent or host in self._free else self._interval
        return float(self._turn(keys=[_key(host)], args=[interval, self._burst]))

    def rest(self, url: str, seconds: float) -> None:
        """Let the server of a URL rest."""
        self._rest(keys=[_key(_host(url))], args=[min(seconds, LONGEST)])


def _host(url: str) -> str:
    return (url_parts(url).hostname or "").rstrip(".")


def _key(host: str) -> str:
    return f"{PREFIX}host:{host}"
