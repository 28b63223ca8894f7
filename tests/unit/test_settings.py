from __future__ import annotations

import json
import logging
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
import structlog

import celeryconfig
from datafab import log
from datafab.errors import SettingError
from datafab.settings import Settings, child_environment, load


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("DATAFAB_LEASE", "soon", "DATAFAB_LEASE='soon'"),
        ("DATAFAB_LEASE", "0", "DATAFAB_LEASE='0'"),
        ("DATAFAB_TIMEZONE", "Europe/Atlantis", "there is no time zone 'Europe/Atlantis'"),
        ("DATAFAB_ALLOW_PRIVATE_HOSTS", "localhost", "DATAFAB_ALLOW_PRIVATE_HOSTS"),
        ("DATAFAB_RETENTION_DAYS", "-1", "DATAFAB_RETENTION_DAYS='-1'"),
        ("DATAFAB_REDIS_URL", "localhost:6379", "must begin with redis://"),
        *(
            ("DATAFAB_KEY_PREFIX", wrong, "such as datafab-test")
            for wrong in ("a:b", "a*", "a'b", "é", "a b", "a" * 65)
        ),
        ("DATAFAB_CATALOGUE_URL", "www.data.gouv.fr", "must begin with http:// or https://"),
        ("DATAFAB_LINKPROXY_URL", "redis://h", "must begin with http:// or https://"),
        ("DATAFAB_CATALOGUE_OVERLAP", "-1", "DATAFAB_CATALOGUE_OVERLAP='-1'"),
    ],
)
def test_a_wrong_value_names_its_variable(name: str, value: str, says: str):
    with pytest.raises(SettingError, match=says) as error:
        load({name: value})
    assert error.value.field == name


@pytest.mark.parametrize("name", ["DATAFAB_CATALOGUE_URL", "DATAFAB_LINKPROXY_URL"])
def test_a_wrong_value_does_not_tell_its_password(name: str):
    with pytest.raises(SettingError, match=f"{name}=.*must begin with http") as error:
        load({name: "ftp://user:planted@www.example.org"})
    assert "planted" not in str(error.value)


def test_private_hosts_are_a_list():
    assert load({"DATAFAB_ALLOW_PRIVATE_HOSTS": "10.0.0.0/8, 127.0.0.1"}).allow_private_hosts == (
        "10.0.0.0/8",
        "127.0.0.1",
    )


def test_a_child_sees_the_same_settings():
    lists = {"allow_private_hosts": "127.0.0.1,::1", "catalogue_exclude": "a,b"}
    mine = load(home=Path("/h"), lease=3.5, redis_url="redis://:secret@h/0", **lists)
    code = "from datafab.settings import load; print(load().model_dump_json())"
    child = subprocess.run(
        [sys.executable, "-c", code], env=child_environment(mine), capture_output=True, text=True, check=True
    )
    assert Settings(**json.loads(child.stdout)) == mine


def test_secrets_are_not_shown():
    assert "secret" not in repr(load(redis_url="redis://:secret@host/0", proxy="http://u:secret@proxy"))
    assert "secret" not in repr(load(linkproxy_url="http://u:secret@host", linkproxy_token="secret"))  # noqa: S106 - not one


@pytest.mark.parametrize("url", ["http://u:secret@ckan.example", "u:secret@ckan.example", "https://a,http://u@b/"])
def test_the_url_of_a_ckan_holds_no_login(url: str):
    with pytest.raises(SettingError, match=r"DATAFAB_CKAN_URLS.*user or a password"):
        load(ckan_urls=url)
    assert load(ckan_urls="https://a/b@c, d").ckan_urls == ("https://a/b@c", "d")


def test_a_password_with_an_at_sign_is_not_shown():
    with pytest.raises(SettingError) as raised:
        load(catalogue_url="ftp://user:pl@nted@www.example.org")
    assert "nted" not in str(raised.value)


def test_the_defaults_hang_together():
    settings = load(home=Path("/h"))
    assert settings.heartbeat_interval == settings.lease / 3
    assert settings.store == "file:///h/store"
    assert settings.index == "sqlite:////h/index.db"


def test_celery_keeps_to_what_the_ledger_needs():
    conf = celeryconfig.configuration(load(redis_url="redis://h/0", visibility_timeout=7))
    assert conf["task_acks_late"]
    assert conf["task_reject_on_worker_lost"]
    assert conf["worker_prefetch_multiplier"] == 1
    assert conf["broker_transport_options"]["visibility_timeout"] == 7
    assert conf["broker_transport_options"]["unacked_mutex_expire"] == 7
    assert conf["broker_transport_options"]["global_keyprefix"] == "datafab:1:"
    assert conf["result_backend_transport_options"]["global_keyprefix"] == "datafab:1:"
    assert not conf["task_track_started"]
    assert not any("expires" in entry["options"] for entry in conf["beat_schedule"].values())  # hosts' clocks differ
    assert conf["accept_content"] == ["json"]


def test_every_line_of_a_log_is_json():
    out = StringIO()
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        log.configure("INFO", stream=out)
        structlog.get_logger().info("collecté", job="j")
        logging.getLogger("celery").warning("from elsewhere")
        structlog.get_logger().debug("not this one")
    finally:
        logging.getLogger().handlers[:], logging.getLogger().level = before
        structlog.reset_defaults()
    first, second = map(json.loads, out.getvalue().splitlines())
    assert (first["event"], first["job"], first["level"]) == ("collecté", "j", "info")
    assert (second["event"], second["logger"]) == ("from elsewhere", "celery")


def test_a_commands_own_key_does_not_reach_the_children(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATAFAB_CKAN_API_KEY", "planted")
    monkeypatch.setenv("DATAFAB_TOKEN", "planted")
    mine = load()
    assert (mine.ckan_api_key, mine.token) == ("planted", "planted")
    assert "planted" not in repr(mine)
    assert "planted" not in child_environment(mine).values()
