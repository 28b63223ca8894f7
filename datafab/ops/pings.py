"""Ping every system that the settings name."""

from __future__ import annotations

from functools import partial

from redis.exceptions import RedisError

from datafab.core.chain import ExternalSystem
from datafab.core.redis_refusals import explain
from datafab.core.services import Services
from datafab.errors import DatafabError
from datafab.flows.chains import CHAINS
from datafab.index.access import IndexAccess
from datafab.settings import Settings


def needs(services: Services) -> dict[str, ExternalSystem]:
    """Return the systems by name: those that every cluster needs, then those of the chains."""
    found = {
        "redis": ExternalSystem(partial(_ping_redis, services), "DATAFAB_REDIS_URL"),
        "store": ExternalSystem(partial(_ping_store, services), "DATAFAB_STORE_URL"),
        "index": ExternalSystem(partial(_ping_index, services), "DATAFAB_INDEX_URL"),
    }
    for chain in CHAINS:
        found |= chain.pings(services)
    return found


def pings(services: Services) -> dict[str, str | None]:
    """Ping all systems, and return their errors by name; None: the system answers."""
    return {name: _error(need, services.settings) for name, need in needs(services).items()}


def _error(need: ExternalSystem, settings: Settings) -> str | None:
    try:
        need.ping()
    except DatafabError as error:
        return error.message
    except RedisError as error:
        return explain(error, settings)
    return None


def _ping_redis(services: Services) -> None:
    services.jobs.ping()


def _ping_store(services: Services) -> None:
    services.store(services.settings.store).ping()


def _ping_index(services: Services) -> None:
    services.get(IndexAccess).reading.ping()
