"""A cluster of several hosts whose index is a file."""

from __future__ import annotations

from contextlib import closing

import pytest

from datafab.clients.index.owner import Host, Owner
from datafab.clients.jobs import connect
from datafab.errors import FlowError
from datafab.services import Services
from datafab.settings import load


@pytest.fixture
def redis(redis_server):
    client = connect(redis_server.url)
    client.delete("datafab:1:index-host")
    yield client
    client.delete("datafab:1:index-host")
    client.close()


def test_the_host_that_writes_first_has_the_index(redis):
    one, other = (Owner(redis, Host(name, f"kernel-{name}")) for name in ("one", "other"))
    other.check()  # whoever reads only does not make it theirs
    one.claim()
    one.claim()
    for act in (other.claim, other.check):
        with pytest.raises(FlowError, match=r"a file of the host one, and this is other: .*DATAFAB_INDEX_URL") as told:
            act()
        assert told.value.field == "DATAFAB_INDEX_URL"
    Owner(redis, Host("container", "kernel-one")).claim()
    Owner(redis, Host("container", "started again")).claim()
    with pytest.raises(FlowError, match="of the host container"):
        other.claim()
    other.claim(move=True)
    other.claim()


def test_a_file_is_asked_for_its_host_and_a_server_is_not(redis, redis_server, tmp_path):
    Owner(redis, Host("elsewhere", "kernel")).claim()
    with closing(Services(load(redis_url=redis_server.url, home=tmp_path))) as here:
        for name in ("index", "written_index"):
            with pytest.raises(FlowError, match="of the host elsewhere"):
                getattr(here, name)
        redis.delete("datafab:1:index-host")
        assert here.written_index is here.index
        assert redis.get("datafab:1:index-host")
    with closing(Services(load(redis_url=redis_server.url, home=tmp_path, index_url="http://127.0.0.1:1/x"))) as there:
        assert there.written_index is there.index
    with closing(Services(load(home=tmp_path))) as inline:
        assert inline.written_index.put_many([]) == []
