"""URLs of Redis and of its Sentinels, and what each library makes of them."""

from __future__ import annotations

import pytest

import celeryconfig
from datafab.core.redis_address import RedisAddress
from datafab.errors import SettingError
from datafab.redis_url import parse
from datafab.settings import load


@pytest.mark.parametrize(
    ("url", "meant", "celery"),
    [
        ("redis://h", ([("h", 6379)], None, 0, None, None), "redis://h:6379/0"),
        ("redis://:p%40s@h:1/3", ([("h", 1)], None, 3, None, "p@s"), "redis://:p%40s@h:1/3"),
        ("redis://h?db=2", ([("h", 6379)], None, 2, None, None), "redis://h:6379/2"),
        ("rediss://u:p@[::1]:7/2", ([("::1", 7)], None, 2, "u", "p"), "rediss://u:p@[::1]:7/2"),
        (
            "sentinel://:s@a,b:2/main?db=4",
            ([("a", 26379), ("b", 2)], "main", 4, None, "s"),
            "sentinel://:s@a:26379/4;sentinel://:s@b:2/4",
        ),
        ("sentinels://a/main", ([("a", 26379)], "main", 0, None, None), "sentinel://a:26379/0"),
    ],
)
def test_a_url_means_the_same_to_all(url: str, meant: tuple, celery: str):
    hosts, service, database, *login = meant
    found = parse(url)
    assert (list(found.hosts), found.service, found.database) == (hosts, service, database)
    assert [found.username, found.password] == login
    conf = celeryconfig.configuration(load({}, redis_url=url))
    assert (conf["broker_url"], conf["result_backend"]) == (celery, celery)
    assert conf["broker_transport_options"].get("master_name") == service
    options = RedisAddress(load({}, redis_url=url)).pool().connection_kwargs
    assert (options["db"], options["username"], options["password"]) == (database, *login)


def test_certificates_are_checked_by_all_unless_the_url_says_otherwise():
    for url, required in (
        ("rediss://h", "required"),
        ("sentinels://h/main", "required"),
        ("rediss://h?ssl_cert_reqs=none", "none"),
    ):
        address = RedisAddress(load({}, redis_url=url))
        conf = celeryconfig.configuration(load({}, redis_url=url))
        assert conf["broker_use_ssl"] == conf["redis_backend_use_ssl"] == address.tls
        assert address.tls["ssl_cert_reqs"] == required
        assert address.pool().connection_kwargs["ssl_cert_reqs"] == required


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://h", "must begin with redis://"),
        ("redis://", "must begin with redis://"),
        ("redis://a,b", "names 2 hosts"),
        ("redis://h:99999", "'h:99999' is not a host"),
        ("redis://h:x", "'h:x' is not a host"),
        ("redis://h/x", "the database 'x' is not a number"),
        ("sentinel://a,b", "no name of the master"),
        ("sentinel://a,,b/main", "'' is not a host"),
        ("redis://h?ssl_certfile=x", "needs TLS"),
        ("redis://h?colour=x", "unknown parameter 'colour'"),
        ("redis://h?socket_timeout=soon", "socket_timeout='soon' is not a number"),
        ("redis://h?sentinel_password=x", "unknown parameter 'sentinel_password'"),
    ],
)
def test_a_wrong_url_says_what_is_wrong_and_not_its_password(url: str, says: str):
    secret = url.replace("://", "://:planted@", 1) if url != "redis://" else url
    with pytest.raises(SettingError, match=says) as error:
        load({"DATAFAB_REDIS_URL": secret})
    assert error.value.field == "DATAFAB_REDIS_URL"
    assert "planted" not in str(error.value)


@pytest.mark.parametrize(
    "login",
    [
        ":planted/x@h",
        ":planted#x@h/0",
        ":planted?x@h/0",
        "u:12?planted@h",
        "u/planted@h/0",
        "u:planted",
        ":planted",
        ":p/planted@h",
    ],
)
@pytest.mark.parametrize("scheme", ["redis", "sentinel"])
def test_a_password_that_is_not_encoded_or_has_no_host_is_not_shown(scheme: str, login: str):
    with pytest.raises(SettingError, match=r"percent-encoded|what follows ://") as error:
        load({"DATAFAB_REDIS_URL": f"{scheme}://{login}"})
    assert "planted" not in str(error.value)
