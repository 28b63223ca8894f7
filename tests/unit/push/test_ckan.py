"""What our CKAN client and the callback make of answers that no CKAN gives on purpose, and where they may go at all."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datafab.core.item import MAX_MESSAGE_BYTES, Batch, CkanFacts, Item
from datafab.errors import DatafabError, Fatal, Retriable
from datafab.fetch.session import Fetcher
from datafab.push.callback import Callback
from datafab.push.ckan import Ckan, require_allowed
from datafab.push.datapusher import root
from datafab.push.former_table import FormerTable, TableSnapshot, former_name
from datafab.sandbox.ckan import Sandbox, ckan
from datafab.settings import load
from datafab.store.store import Store
from tests.servers.http import Answer, Site, redirect

KEY_PREFIX = "planted-key"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with ckan() as sandbox:
        yield sandbox


def closed() -> str:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{sock.getsockname()[1]}"


def raised(call: Callable[[], object]) -> DatafabError:
    with pytest.raises(DatafabError) as error:
        call()
    assert KEY_PREFIX not in error.value.message
    return error.value


def refusal(**error: object) -> str:
    return json.dumps({"help": "http://ckan/help_show?name=x", "success": False, "error": error})


def show(url: str, **settings: object) -> DatafabError:
    with Ckan(url, KEY_PREFIX, load({}, **settings)) as client:
        return raised(lambda: client.resource_show("r"))


@pytest.mark.parametrize(
    ("planned", "kind", "code", "message"),
    [
        ((401, "who?"), Fatal, "ckan_401", "answered 401: Unauthorized; does the api_key belong"),
        ((403, "<html>login</html>"), Fatal, "ckan_403", "answered 403: Forbidden"),
        ((404, refusal(message="Not found: x")), Fatal, "ckan_404", "answered 404: Not found: x"),
        ((409, refusal(a=["b", "c"], __type="V")), Fatal, "ckan_409", "answered 409: a: b, c"),
        ((400, '"Bad request - JSON Error: x"'), Fatal, "ckan_400", "answered 400: Bad request - JSON Error: x"),
        ((400, '"PASSWORD=geheim"'), Fatal, "ckan_400", "answered 400: Bad Request"),
        ((409, '{"error": "geheim"}'), Fatal, "ckan_409", "answered 409: Conflict"),
        ((429, "slow down"), Retriable, "ckan_429", "answered 429: Too Many Requests"),
        ((500, "x" * 1000), Retriable, "ckan_500", "answered 500: Internal Server Error"),
        ((503, ""), Retriable, "ckan_503", "answered 503: Service Unavailable"),
        ((500, refusal(message="{token}")), Retriable, "ckan_500", "answered 500: ***"),
        ((200, "<html>a portal</html>"), Fatal, "ckan_answer", "the answer is not CKAN's: is http://"),
        ((200, "[]"), Fatal, "ckan_answer", "the answer is not CKAN's"),
    ],
)
def test_an_answer_is_a_failure_with_ckans_words(sandbox, planned, kind, code, message):
    sandbox.failures.append(("resource_show", *planned))
    error = show(sandbox.url)
    assert (type(error), error.code) == (kind, code)
    assert message in error.message
    assert "geheim" not in error.message
    assert error.field == f"{sandbox.url}/api/3/action/resource_show"


def test_a_ckan_that_cannot_be_reached_may_be_later():
    error = show(closed())
    assert (type(error), error.code) == (Retriable, "connection_refused")


def test_a_ckan_that_is_elsewhere_gets_no_key_there():
    action = "/api/3/action/resource_show"
    with Site() as other, Site({action: redirect(other.url(f"/new{action}"), 301)}) as site:
        error = show(site.url(""))
        site.answers[action] = redirect("http://10.0.0.1/?token=geheim")
        elsewhere = show(site.url(""))
        assert not other.requests
    assert isinstance(error, Fatal)
    assert f"CKAN redirects: give {other.url('/new')} as its URL" in error.message
    assert "geheim" not in elsewhere.message
    assert "is this the root of a CKAN?" in elsewhere.message


@pytest.mark.parametrize(
    ("url", "same"),
    [("https://a.fr/", "https://a.fr"), ("a.fr/ckan//", "http://a.fr/ckan"), (" http://a.fr ", "http://a.fr")],
)
def test_a_root_has_one_spelling(url, same):
    assert root(url) == same


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://data.fr", True),
        ("https://data.fr/api/3/action/x", True),
        ("http://in.fr:5000", True),
        ("https://data.fr.evil", False),
        ("http://data.fr", False),
        ("https://data.fr@evil/", False),
    ],
)
def test_only_listed_ckans_are_allowed(url, good):
    settings = load({"DATAFAB_CKAN_URLS": "https://data.fr/, in.fr:5000"})
    require_allowed(url, load({}))
    if good:
        require_allowed(url, settings)
        return
    assert raised(lambda: require_allowed(url, settings)).field == "DATAFAB_CKAN_URLS"
    assert raised(lambda: Callback(settings).post(url, {}, KEY_PREFIX)).code == "ckan_not_allowed"


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (Answer(status=404), Fatal, "http_404"),
        (Answer(status=409), Fatal, "http_409"),
        (redirect("/there"), Fatal, "http_302"),
        (Answer(status=429), Retriable, "http_429"),
        (Answer(status=502), Retriable, "http_502"),
        (Answer(fault="hang-up"), Retriable, "disconnected"),
    ],
)
def test_a_callback_that_is_not_taken(answer, kind, code):
    with Site({"/hook": answer}) as site:
        error = raised(lambda: Callback(load({})).post(site.url("/hook"), {"status": "complete"}, KEY_PREFIX))
        assert (type(error), error.code, error.field) == (kind, code, "result_url")
        assert [headers["Authorization"] for _, headers in site.requests] == [KEY_PREFIX]


@pytest.mark.parametrize("code", [301, 302, 307])
def test_a_key_for_a_download_goes_to_no_other_host(tmp_path, code):
    with Site({"/a.csv": Answer(b"a\n1\n")}) as other, Site() as site:
        site.answers["/away"] = redirect(other.url("/a.csv"), code)
        site.answers["/near"] = redirect("/a.csv", code)
        site.answers["/a.csv"] = Answer(b"a\n1\n")
        fetcher = Fetcher(load({}, allow_private_hosts="127.0.0.1/32"))
        for path in ("/away", "/near"):
            fetched = fetcher.fetch(site.url(path), Store(str(tmp_path)), headers={"Authorization": KEY_PREFIX})
            assert fetched.sha256
            assert KEY_PREFIX not in str(fetched)
        fetcher.close()
        assert [headers.get("Authorization") for _, headers in site.requests] == [KEY_PREFIX, KEY_PREFIX, KEY_PREFIX]
        assert [headers.get("Authorization") for _, headers in other.requests] == [None]


def test_a_batch_with_a_push_survives_json_and_stays_small():
    facts = CkanFacts(url="https://data.example.fr", resource="r" * 36, md5="0" * 32, plan="1" * 64, upload=True)
    item = Item(source="ckan:data.example.fr/" + "r" * 36, url="https://x/" + "y" * 500, sha256="2" * 64, ckan=facts)
    text = Batch(job="j", flow="push", params={"metadata": {"a": "b" * 500}}, items=(item,)).model_dump_json()
    assert Batch.model_validate_json(text).items == (item,)
    assert len(text) < MAX_MESSAGE_BYTES


def test_a_former_table_is_forgotten_whatever_clock_has_dated_it(tmp_path: Path):
    former = FormerTable(Store(str(tmp_path)), "http://ckan.example", "r")
    head = TableSnapshot(url=former.url, resource=former.resource, job="j")
    former.store.write(former_name(former.url, former.resource) + ".json", head.model_dump_json().encode())
    (file,) = (tmp_path / "former").iterdir()
    later = time.time() + 3 * 3600
    os.utime(file, (later, later))
    assert former.snapshot() == head
    former.forget()
    assert former.snapshot() is None
