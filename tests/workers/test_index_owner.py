"""A cluster of several hosts, or of several folders, whose index is a file."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from datafab.core.redis import connect
from datafab.core.services import Services
from datafab.errors import FlowError
from datafab.index.access import IndexAccess
from datafab.index.owner import Host, IndexFileOwner
from datafab.settings import load


@pytest.fixture
def redis(redis_server):
    client = connect(load(redis_url=redis_server.url))
    client.delete("datafab:1:index-file")
    yield client
    client.delete("datafab:1:index-file")
    client.close()


def test_the_host_that_writes_first_has_the_index(redis):
    file = Path("/srv/index.db")
    one, other = (IndexFileOwner(redis, file, Host(name, f"kernel-{name}")) for name in ("one", "other"))
    other.check()  # whoever reads only does not make it theirs
    one.claim()
    one.claim()
    for act in (other.claim, other.check):
        with pytest.raises(FlowError, match=r"a file of the host one, and this is other: .*DATAFAB_INDEX_URL") as told:
            act()
        assert told.value.field == "DATAFAB_INDEX_URL"
    IndexFileOwner(redis, file, Host("container", "kernel-one")).claim()
    IndexFileOwner(redis, file, Host("container", "started again")).claim()
    with pytest.raises(FlowError, match="of the host container"):
        other.claim()
    other.claim(move=True)
    other.claim()


def test_two_folders_of_a_host_are_two_indexes(redis, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    one, same, other = (
        IndexFileOwner(redis, tmp_path / name) for name in ("index.db", "link/index.db", "other/index.db")
    )
    one.claim()
    same.claim()
    for act in (other.claim, other.check):
        with pytest.raises(
            FlowError, match=rf"is the file {tmp_path}/index.db, and here it is {tmp_path}/other/index.db"
        ):
            act()
    other.claim(move=True)
    with pytest.raises(FlowError, match="give all processes the same DATAFAB_INDEX_URL"):
        one.claim()


def test_a_file_is_asked_for_its_host_and_a_server_is_not(redis, redis_server, tmp_path):
    IndexFileOwner(redis, tmp_path / "index.db", Host("elsewhere", "kernel")).claim()
    with closing(Services(load(redis_url=redis_server.url, home=tmp_path))) as here:
        for name in ("reading", "writing"):
            with pytest.raises(FlowError, match="of the host elsewhere"):
                getattr(here.get(IndexAccess), name)
        redis.delete("datafab:1:index-file")
        assert here.get(IndexAccess).writing is here.get(IndexAccess).reading
        assert redis.get("datafab:1:index-file")
        # Moved away, by a rebuild on another host.
        IndexFileOwner(redis, tmp_path / "index.db", Host("elsewhere", "kernel")).claim(move=True)
        with pytest.raises(FlowError, match="of the host elsewhere"):
            _ = here.get(IndexAccess).writing
    with closing(Services(load(redis_url=redis_server.url, home=tmp_path, index_url="http://127.0.0.1:1/x"))) as there:
        assert there.get(IndexAccess).writing is there.get(IndexAccess).reading
    with closing(Services(load(home=tmp_path))) as inline:
        assert inline.get(IndexAccess).writing.put_many([]) == []
