"""``datafab store prune`` on a real Redis, store and index: whatever is named anywhere stays."""

import json
import os
import time

import pytest
from click.testing import CliRunner

from datafab.catalogue.source_state import Look
from datafab.catalogue.sources import SourceRegistry
from datafab.cli.main import main
from datafab.core.document import Document, analysis_name
from datafab.core.item import Status
from datafab.core.redis import connect
from datafab.index import open_index
from datafab.ops.prune import find_unreferenced
from datafab.settings import load
from datafab.store.store import Store
from tests.servers.redis import RedisServer
from workers import canvas
from workers.app import use

OLD = time.time() - 100 * 24 * 3600
BEFORE = time.time() - 24 * 3600


class Place:
    """A store with an index and a Redis, and ways to name a resource in them."""

    def __init__(self, home, server):
        self.home = home
        self.server = server
        self.settings = load(home=home, redis_url=server.url)
        self.store = Store(self.settings.store)
        self.index = open_index(self.settings.index, self.settings)
        self.redis = connect(self.settings)

    def put(self, text):
        """Keep an old resource with its analysis; return its digest."""
        with self.store.new_resource() as resource:
            resource.write(text.encode())
            digest, _ = resource.commit()
        self.store.write(analysis_name(digest), b"{}")
        for name in (f"resource/{digest}", analysis_name(digest)):
            os.utime(self.home / "store" / name, (OLD, OLD))
        return digest

    def gone(self):
        return {old.name for old in find_unreferenced(self.store, self.redis, self.index, BEFORE)}

    def by_log(self, digest):
        self.store.write("log/2026-01-01/x.json", json.dumps({"resource": digest}).encode())

    def by_history(self, digest):
        self.store.write("history/x.json", json.dumps({"sha256": digest}).encode())

    def by_list(self, digest):
        self.store.write_list(json.dumps([{"sha256": digest}]).encode())

    def by_table(self, digest):
        """Across the place where one piece of it ends."""
        self.store.write("resource.csv", b"x" * (1024 * 1024 - 10) + digest.encode())

    def by_index(self, digest):
        self.index.put_many([Document(source="s", version=1, status=Status.OK, title="t", sha256=digest)])

    def by_source(self, digest):
        SourceRegistry(self.settings, self.redis).record_look("s", Look(time.time(), "ok", "j"), sha256=digest)

    def by_job(self, digest):
        """Name it in a parameter; so do the job's first row and its message."""
        use(self.settings)
        canvas.start("collect", {"endpoints": digest, "collection": "c"})

    def by_row(self, digest):
        self.redis.hset("datafab:1:row:x", "sig", json.dumps({"args": [{"items": [{"sha256": digest}]}]}))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def place(tmp_path, server):
    with server.client() as client:
        client.flushall()
    place = Place(tmp_path, server)
    yield place
    place.index.close()


@pytest.mark.parametrize("name", [name for name in dir(Place) if name.startswith("by_")])
def test_what_is_named_stays(place, name):
    named, other = place.put("named"), place.put("other")
    getattr(place, name)(named)
    assert place.gone() == {f"resource/{other}", analysis_name(other)}


def test_what_is_young_or_has_just_come_in_again_stays(place):
    place.put("again")
    with place.store.new_resource() as resource:
        resource.write(b"again")
        digest, _ = resource.commit()
    assert place.gone() == {analysis_name(digest)}
    assert not place.store.remove(f"resource/{digest}", BEFORE)
    assert place.store.exists(f"resource/{digest}")


def ask(place, *options, code=0):
    env = {"DATAFAB_HOME": str(place.home), "DATAFAB_REDIS_URL": place.server.url}
    use(place.settings)
    answer = CliRunner().invoke(main, ["store", "prune", *options], env=env)
    assert answer.exit_code == code, answer.output
    return answer.output


def test_nothing_goes_until_one_says_so(place):
    digest, kept = place.put("four"), place.put("kept")
    place.by_log(kept)
    assert ask(place) == "2 files, 6 bytes, can be removed with --yes\n"
    assert place.store.exists(f"resource/{digest}")
    assert ask(place, "--days", "200") == "0 files, 0 bytes, can be removed with --yes\n"
    told = [json.loads(line) for line in ask(place, "--yes", "--json").splitlines()]
    assert {one["name"] for one in told} == {f"resource/{digest}", analysis_name(digest)}
    assert not place.store.exists(f"resource/{digest}")
    assert not place.store.exists(analysis_name(digest))
    assert place.store.exists(f"resource/{kept}")
    assert ask(place, "--yes") == "0 files, 0 bytes, removed\n"


def test_in_a_bucket_nothing_goes_while_jobs_run(place):
    place.by_job("0" * 64)
    assert "1 jobs have not ended" in ask(place, "--store", "s3://bucket/prefix", "--yes", code=1)
