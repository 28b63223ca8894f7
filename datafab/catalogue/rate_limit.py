"""Rate limit for other people's servers, shared by all workers: requests per minute and host, and pauses they ask for.

Each host has a hash ``host:<name>`` in Redis, below ``datafab:1:``. A caller reserves a slot and waits until then, so
that callers do not have to ask again and again.
"""

from __future__ import annotations

from typing import Any, Self

from datafab.core.redis import ClusterRedis, register
from datafab.core.services import Client, Services
from datafab.settings import Settings
from datafab.urls import url_parts

#: Longest pause that a server is granted.
MAX_PAUSE_SECONDS = 24 * 3600.0

# Fields of the hash: the theoretical arrival time of the next request (as in the generic cell rate algorithm; a request
# may come earlier than that by a burst), and the end of the pause that the server has asked for.
_FIELDS = "local ARRIVAL, PAUSE_END = 't', 'r'\n"

_RESERVE = (
    _FIELDS
    + """
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local known = redis.call('HMGET', KEYS[1], ARRIVAL, PAUSE_END)
local paused = tonumber(known[2]) or 0
if interval == 0 then return tostring(math.max(0, paused - now)) end
local arrival = math.max(tonumber(known[1]) or 0, now)
if paused > now then arrival = math.max(arrival, paused + burst) end
redis.call('HSET', KEYS[1], ARRIVAL, arrival + interval)
redis.call('EXPIRE', KEYS[1], math.ceil(arrival + interval - now) + 3600)
return tostring(math.max(0, arrival - burst - now))
"""
)

_PAUSE = (
    _FIELDS
    + """
local until_ = now + tonumber(ARGV[1])
if until_ > (tonumber(redis.call('HGET', KEYS[1], PAUSE_END)) or 0) then
  redis.call('HSET', KEYS[1], PAUSE_END, until_)
end
if redis.call('TTL', KEYS[1]) < ARGV[1] + 3600 then redis.call('EXPIRE', KEYS[1], math.ceil(ARGV[1]) + 3600) end
"""
)


class HostRateLimiter(Client):
    """The rate limit of each host, in one Redis."""

    def __init__(self, settings: Settings, client: ClusterRedis) -> None:
        self._redis = client
        self._prefix = client.prefix
        rate = settings.catalogue_host_rate
        self._interval = 60 / rate if rate else 0.0
        self._burst = self._interval * (settings.catalogue_host_burst - 1)
        self._unlimited_hosts = frozenset(host.lower() for host in settings.catalogue_hosts_free)
        self._reserve: Any = register(client, _RESERVE)
        self._pause: Any = register(client, _PAUSE)

    @classmethod
    def connect(cls, services: Services) -> Self:
        """Return the client of a process."""
        return cls(services.settings, services.redis())

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def reserve(self, url: str, *, urgent: bool = False) -> float:
        """Reserve a request to the server of a URL; return the seconds until it may be sent.

        An urgent request is not subject to the rate; it waits only until a pause of the server is over.
        """
        host = _host(url)
        interval = 0.0 if urgent or host in self._unlimited_hosts else self._interval
        return float(self._reserve(keys=[self._key(host)], args=[interval, self._burst]))

    def pause(self, url: str, seconds: float) -> None:
        """Send nothing to the server of a URL for some seconds, at most ``MAX_PAUSE_SECONDS``."""
        self._pause(keys=[self._key(_host(url))], args=[min(seconds, MAX_PAUSE_SECONDS)])

    def _key(self, host: str) -> str:
        return f"{self._prefix}host:{host}"


def _host(url: str) -> str:
    return (url_parts(url).hostname or "").rstrip(".")
