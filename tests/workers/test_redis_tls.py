"""A cluster whose Redis speaks TLS only and asks for certificates."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from datafab.embedded import find_redis
from datafab.embedded.redis_server import redis_failure
from datafab.errors import SettingError
from datafab.settings import Settings, child_environment, load
from tests.servers.celery import Cluster
from tests.servers.redis import RedisServer
from tests.servers.redis_tls import Authority, TlsRedisServer
from tests.workers.conftest import Bench
from tests.workers.toys import app
from workers.app import services, use
from workers.canvas import start


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsRedisServer]:
    server = TlsRedisServer(tmp_path_factory.mktemp("redis"))
    try:
        server.start()
    except AssertionError:
        if b"TLS" not in server.log.read_bytes():
            raise
        pytest.skip(f"{find_redis()} is built without TLS (Debian's redis-server has it)")
    yield server
    server.stop()


def given(server: TlsRedisServer, **changes: str) -> dict[str, str]:
    """Return the settings of a client that the server accepts, with changes; empty: unset."""
    all_of_them = {"DATAFAB_REDIS_URL": server.url} | server.env | changes
    return {name: value for name, value in all_of_them.items() if value}


def test_jobs_run_over_tls(server: TlsRedisServer, tmp_path: Path):
    bench = Bench(Cluster(server.url, tmp_path, **server.env), server)
    use(bench.settings)
    try:
        bench.cluster.start("io")
        bench.cluster.start("control")
        bench.cluster.ready(app, "io", "control")
        job, _ = start("noop5", {"n": 3})  # a chord: results as well
        assert bench.end(job.id).counts.ok == 3
        told = command(bench.settings, "jobs", "show", job.id)
        assert told.returncode == 0, told.stderr
        assert "succeeded" in told.stdout
        assert services().clock.now() > 0
    finally:
        bench.cluster.stop()


def command(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    told = [sys.executable, "-m", "datafab", *arguments]
    return subprocess.run(told, env=child_environment(settings), capture_output=True, text=True, check=False)


def test_parameters_of_the_url_do_the_same(server: TlsRedisServer):
    pair = server.client_pair
    query = f"ssl_ca_certs={server.authority.file}&ssl_certfile={pair.cert}&ssl_keyfile={pair.key}"
    assert redis_failure(load({"DATAFAB_REDIS_URL": f"{server.url}?{query}"})) is None
    assert redis_failure(load({"DATAFAB_REDIS_URL": f"{server.url}?{query}&ssl_cert_reqs=none"})) is None


def test_what_is_wrong_names_its_setting(server: TlsRedisServer, tmp_path: Path):
    stranger = Authority(tmp_path, "stranger")
    foreign = stranger.issue("client")
    (tmp_path / "none.pem").write_text("no certificate")
    wrong = [
        ({"DATAFAB_REDIS_CA": str(stranger.file)}, "DATAFAB_REDIS_CA"),
        ({"DATAFAB_REDIS_CA": str(tmp_path / "none.pem")}, "DATAFAB_REDIS_CA"),
        ({"DATAFAB_REDIS_CA": ""}, "DATAFAB_REDIS_CA"),
        ({"DATAFAB_REDIS_URL": server.url.replace("127.0.0.1", "localhost")}, "must name the host as the certificate"),
        ({"DATAFAB_REDIS_CERT": "", "DATAFAB_REDIS_KEY": ""}, "set DATAFAB_REDIS_CERT and DATAFAB_REDIS_KEY"),
        ({"DATAFAB_REDIS_CERT": str(foreign.cert), "DATAFAB_REDIS_KEY": str(foreign.key)}, "DATAFAB_REDIS_CERT"),
        ({"DATAFAB_REDIS_KEY": str(foreign.key)}, "DATAFAB_REDIS_KEY does not belong"),
        ({"DATAFAB_REDIS_CERT": str(tmp_path / "none.pem")}, "DATAFAB_REDIS_CERT"),
    ]
    failures = {says: redis_failure(load(given(server, **changes))) for changes, says in wrong}
    assert {says: said for says, said in failures.items() if not said or says not in said} == {}


def test_settings_that_do_not_fit_together_are_refused(server: TlsRedisServer, tmp_path: Path):
    plain = server.url.replace("rediss:", "redis:")
    for changes, says in (
        ({"DATAFAB_REDIS_URL": plain}, "DATAFAB_REDIS_CA is set, but DATAFAB_REDIS_URL is without TLS"),
        ({"DATAFAB_REDIS_CERT": ""}, "set DATAFAB_REDIS_CERT"),
        ({"DATAFAB_REDIS_CA": str(tmp_path / "absent")}, "DATAFAB_REDIS_CA=.*No such file"),
        ({"DATAFAB_REDIS_URL": f"{server.url}?ssl_cert_reqs=maybe"}, "ssl_cert_reqs is required, optional or none"),
    ):
        with pytest.raises(SettingError, match=says):
            redis_failure(load(given(server, **changes)))


def test_a_command_names_the_setting(server: TlsRedisServer):
    told = command(load(given(server, DATAFAB_REDIS_CERT="", DATAFAB_REDIS_KEY="")), "jobs", "list")
    assert told.returncode == 1
    assert "set DATAFAB_REDIS_CERT" in told.stderr
    assert "Traceback" not in told.stderr


def test_tls_where_there_is_none(redis_server: RedisServer):
    failure = redis_failure(load({"DATAFAB_REDIS_URL": redis_server.url.replace("redis:", "rediss:")}))
    assert failure
    assert "does it use TLS on that port" in failure
