"""``datafab sandbox`` as a user has it: it says where it is, serves until it is stopped, and ends well."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from datafab.catalogue.datagouv import Datagouv
from datafab.catalogue.linkproxy import LinkProxy
from datafab.settings import child_environment, load
from tests.servers import nursery
from tests.servers.celery import until
from tests.servers.http import Answer, Site
from tests.servers.subscriber import Subscriber

TOKEN = "planted-token"  # noqa: S105 - it opens nothing


@contextmanager
def sandbox(home: Path, *arguments: str, end: signal.Signals = signal.SIGINT) -> Iterator[dict[str, str]]:
    """Run one; gives the settings that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "datafab", "sandbox", *arguments],
        env=child_environment(load(home=home, linkproxy_token=TOKEN)) | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        name, _, url = process.stdout.readline().strip().partition("=")
        assert process.stdout.readline() == "Ctrl-C stops it\n"
        yield {name: url}
        process.send_signal(end)
        rest, _ = process.communicate(timeout=60)
        assert (rest, process.returncode) == ("", 0)
    finally:
        process.kill()
        process.communicate()


def test_a_catalogue(tmp_path: Path):
    with sandbox(tmp_path, "catalogue", "https://a.fr/1.csv", "https://a.fr/2.csv", end=signal.SIGTERM) as environ:
        datasets = Datagouv(load(environ)).page().datasets
        assert [each["resources"][0]["url"] for each in datasets] == ["https://a.fr/2.csv", "https://a.fr/1.csv"]
        root = environ["DATAFAB_CATALOGUE_URL"].removesuffix("/api/1")
        assert len(requests.get(f"{root}/_sim", timeout=30).json()["journal"]) == 1


def test_a_link_proxy_tells_with_our_token(tmp_path: Path):
    with (
        Site({"/a.csv": Answer(b"a\n1\n")}) as site,
        Subscriber() as subscriber,
        sandbox(tmp_path, "link-proxy", "--webhook", subscriber.url) as environ,
    ):
        link = LinkProxy(load(environ)).submit(site.url("/a.csv"))
        until(lambda: subscriber.got, 60)
        assert subscriber.got[0].body["check"]["linkId"] == link
        assert subscriber.got[0].headers["Authorization"] == f"Basic {TOKEN}"


@pytest.mark.parametrize("name", ["catalogue", "link-proxy"])
def test_a_port_that_is_taken_is_told(tmp_path: Path, name: str):
    with Site() as site:
        arguments = ("sandbox", name, "--port", str(site.ports[0]))
        done = nursery.run("datafab", *arguments, env=child_environment(load(home=tmp_path)))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"Port {site.ports[0]} is in use" in done.stderr
