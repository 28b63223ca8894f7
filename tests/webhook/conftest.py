"""One Redis for the tests of the webhook that write little."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.redis import RedisServer


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def empty_redis(shared_redis: RedisServer) -> Iterator[RedisServer]:
    """The same, for a test that writes there: nothing is in it before and after."""
    with shared_redis.client() as client:
        client.flushall()
        yield shared_redis
        client.flushall()
