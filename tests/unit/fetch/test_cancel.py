"""Requests end when their job is cancelled, wherever they wait."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from io import BytesIO

import pytest

from datafab.archive.multipart import Multipart
from datafab.cancellation import Cancellation
from datafab.core.services import Services
from datafab.errors import Lost
from datafab.fetch.json_api import JsonApi
from datafab.fetch.session import Fetcher
from datafab.push.ckan import Ckan
from datafab.settings import load
from datafab.store.store import Store
from tests.servers.celery import until

SETTINGS = load({"DATAFAB_ALLOW_PRIVATE_HOSTS": "127.0.0.1/32"})


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that accepts a connection, then neither reads nor writes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def upload(address: str, _store: Store) -> None:
    size = 64 * 1024**2
    form = Multipart("a.zip", lambda: BytesIO(bytes(size)), size)
    api = JsonApi(SETTINGS, service="entrepot", setting="DATAFAB_ENTREPOT_URL", private=("*",), proxy=True)
    api.request("POST", f"http://{address}/data", data=form, headers={"Content-Type": form.content_type})


def fetch(address: str, store: Store) -> None:
    Fetcher(SETTINGS).fetch(f"http://{address}/a.csv", store)


def fetch_secure(address: str, store: Store) -> None:
    Fetcher(SETTINGS).fetch(f"https://{address}/a.csv", store)


def load_rows(address: str, _store: Store) -> None:
    with Ckan.at(Services(SETTINGS), f"http://{address}", "key") as ckan:
        ckan.datastore_insert("r", [{"a": "x" * 1000}] * 20_000)


@pytest.mark.parametrize("act", [upload, fetch, fetch_secure, load_rows])
def test_a_request_ends_whatever_it_waits_for(silent, tmp_path, act: Callable[[str, Store], None]):
    cancellation, ended = Cancellation(), list[BaseException]()

    def work() -> None:
        try:
            with cancellation.active():
                act(f"127.0.0.1:{silent.getsockname()[1]}", Store(str(tmp_path)))
        except Lost as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    peer, _ = silent.accept()
    with peer:
        cancellation.cancel()
        until(lambda: not thread.is_alive(), 3)
    assert len(ended) == 1
    assert list(tmp_path.rglob("*")) == []


def test_a_request_that_comes_after_the_cancellation_is_not_sent(silent, tmp_path):
    cancellation = Cancellation()
    cancellation.cancel()
    silent.settimeout(0.01)
    for act in (upload, fetch, fetch_secure, load_rows):
        with cancellation.active(), pytest.raises(Lost):
            act(f"127.0.0.1:{silent.getsockname()[1]}", Store(str(tmp_path)))
    with pytest.raises(TimeoutError):
        silent.accept()
