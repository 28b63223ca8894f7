"""The entrepôt's client against its sandbox and against odd answers."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator

import pytest

from datafab.archive.entrepot import Datastore, Entrepot
from datafab.archive.multipart import Multipart
from datafab.errors import DatafabError, Fatal, Retriable, SettingError
from datafab.sandbox.archives import Sandbox
from datafab.sandbox.control import Fault
from datafab.sandbox.entrepot import entrepot
from datafab.settings import Settings, load
from tests.servers.http import Answer, Site

TOKEN = Answer(json.dumps({"access_token": "t", "expires_in": 300}).encode(), content_type="application/json")


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with entrepot() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: Sandbox) -> Sandbox:
    running.control.forget()
    running.control.faults.clear()
    running.uploads.clear()
    return running


def settings(sandbox: Sandbox, **changes: object) -> Settings:
    given = {"url": sandbox.url, "token_url": sandbox.token_url, "datastore": sandbox.datastore}
    given |= {"client_id": sandbox.client_id, "client_secret": sandbox.client_secret}
    given |= {"login": sandbox.login, "password": sandbox.password}
    return load({}, **{f"entrepot_{name}": value for name, value in (given | changes).items()}, read_timeout=2)


@pytest.fixture
def store(sandbox: Sandbox) -> Datastore:
    return Entrepot(settings(sandbox)).at()


def raised(call) -> DatafabError:
    with pytest.raises(DatafabError) as caught:
        call()
    return caught.value


def made(store: Datastore, name: str = "a") -> str:
    return str(store.create_upload(name, "d", "EPSG:4326")["_id"])


class TestTokens:
    def test_threads_share_one(self, sandbox: Sandbox):
        client = Entrepot(settings(sandbox))
        threads = [threading.Thread(target=client.ping) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(sandbox.control.asked("POST", "/token")) == 1
        assert len(sandbox.control.asked("GET", "/api/users/me")) == 8

    def test_one_that_is_refused_is_replaced_once(self, sandbox: Sandbox):
        client = Entrepot(settings(sandbox))
        client.ping()
        sandbox.tokens.clear()
        client.ping()
        assert [each["status"] for each in sandbox.control.asked("GET", "/api")] == [200, 401, 200]
        sandbox.control.faults.append(Fault(path="/api", times=2, status=401, body="{}"))
        assert raised(client.ping).code == "entrepot_401"

    def test_one_that_is_worn_is_replaced_before_it_ends(self, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(sandbox.timings, "token", 0)
        client = Entrepot(settings(sandbox))
        assert raised(client.ping).code == "entrepot_401"
        assert len(sandbox.control.asked("POST", "/token")) == 2

    def test_a_file_is_sent_whole_the_second_time_too(self, sandbox: Sandbox, store: Datastore):
        """IGN's SDK sends an empty one then."""
        upload = made(store)
        sandbox.tokens.clear()
        store.push(upload, "data/é.zip", lambda: io.BytesIO(b"PK" * 5), 10)
        assert store.tree(upload) == {"data/é.zip": 10}

    @pytest.mark.parametrize(
        "changes", [{"password": "wrong"}, {"client_secret": "wrong"}, {"login": None, "client_id": "x"}]
    )
    def test_wrong_secrets_say_which_settings_and_not_what(self, sandbox: Sandbox, changes: dict):
        error = raised(Entrepot(settings(sandbox, **changes)).ping)
        assert (type(error), error.code) == (Fatal, "entrepot_login")
        assert "Invalid user credentials; are DATAFAB_ENTREPOT_CLIENT_ID, _LOGIN" in error.message
        assert "wrong" not in error.message

    def test_a_client_without_a_user(self, sandbox: Sandbox):
        Entrepot(settings(sandbox, login=None, password=None)).ping()

    def test_none_at_all(self, sandbox: Sandbox):
        assert isinstance(raised(Entrepot(settings(sandbox, client_id=None)).ping), SettingError)
        assert isinstance(raised(Entrepot(settings(sandbox, datastore=None)).at), SettingError)

    @pytest.mark.parametrize("answer", [b"[]", b'{"access_token": ""}', b'{"access_token": "t"}', b"<html>"])
    def test_an_answer_without_one(self, sandbox: Sandbox, answer: bytes):
        with Site({"/token": Answer(answer)}) as site:
            error = raised(Entrepot(settings(sandbox, token_url=site.url("/token"))).ping)
        assert isinstance(error, Retriable)


class TestLists:
    def test_names_are_compared_exactly(self, sandbox: Sandbox, store: Datastore):
        mine = made(store, "CANTON")
        for name in ("CANTON_2", "CANTON_3"):
            made(store, name)
        assert [each["_id"] for each in store.uploads("CANTON")] == [mine]
        store.delete_upload(mine)
        assert store.uploads("CANTON") == []
        assert store.upload(mine) is None
        store.delete_upload(mine)

    def test_all_pages_are_read(self, store: Datastore, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("datafab.archive.entrepot.PAGE_ENTRIES", 2)
        names = {made(store, "same") for _ in range(5)}
        assert {each["_id"] for each in store._list("/uploads", {"name": "same"}, 2)} == names

    @pytest.mark.parametrize("pages", [1, 2])
    def test_a_list_that_does_not_say_how_long_it_is_ends(self, sandbox: Sandbox, pages: int):
        """IGN's SDK reads an empty page for ever where more is announced than comes."""
        path = f"/api/datastores/{sandbox.datastore}/uploads?name=a&page={{}}&limit=100"
        entry = json.dumps([{"_id": "1", "name": "a"}]).encode()
        announced = {} if pages == 1 else {"Content-Range": "1-1/9"}
        answers = {path.format(1): Answer(entry, headers=announced), path.format(2): Answer(b"[]", headers=announced)}
        with Site(answers | {"/token": TOKEN}) as site:
            store = Entrepot(settings(sandbox, url=site.url("/api"), token_url=site.url("/token"))).at()
            assert len(store.uploads("a")) == 1
            assert sum(site.hits[each] for each in answers) == pages

    def test_the_end_of_a_log(self, sandbox: Sandbox, store: Datastore, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("datafab.archive.entrepot.LOG_LINES", 3)
        upload = made(store)
        store.push(upload, "data/a", lambda: io.BytesIO(b"a"), 1)
        store.push_md5(upload, ["0cc175b9c0f1b6a831c399e269772661  data/a"])
        store.close_upload(upload)
        sandbox.control.clock.advance(10)
        assert store.checks(upload)["failed"] == []
        wanted = {"processing": "12cdc646-3976-4f18-b273-f34fca37e2a6", "inputs": {"upload": [upload]}}
        execution = store.create_execution(wanted | {"output": {"stored_data": {"name": "s"}}})["_id"]
        assert store.execution_log(execution) == []
        store.launch(execution)
        monkeypatch.setattr(sandbox, "logs", [f"ligne {n}" for n in range(10)])
        assert store.execution_log(execution) == ["ligne 7", "ligne 8", "ligne 9"]


class TestFailures:
    @pytest.mark.parametrize(
        ("fault", "kind", "code", "delay"),
        [
            (Fault(status=429, headers={"Retry-After": "7"}), Retriable, "entrepot_429", 7),
            (Fault(status=503), Retriable, "entrepot_503", None),
            (Fault(status=502, body="<html>Bad Gateway</html>"), Retriable, "entrepot_502", None),
            (Fault(status=0), Retriable, "disconnected", None),
            (Fault(status=403, body="{}"), Fatal, "entrepot_403", None),
            (Fault(status=200, body="<html>"), Retriable, "entrepot_answer", None),
        ],
    )
    def test_what_may_pass_and_what_does_not(self, sandbox, store, *, fault, kind, code, delay):
        upload = made(store)
        fault.path = "/api"
        sandbox.control.faults.append(fault)
        error = raised(lambda: store.tree(upload))
        assert (type(error), error.code, getattr(error, "delay", None)) == (kind, code, delay)

    def test_a_post_is_never_sent_twice(self, sandbox: Sandbox, store: Datastore):
        store.uploads("x")
        sandbox.control.faults.append(Fault(method="POST", path="/api", status=503, after=True))
        assert isinstance(raised(lambda: made(store, "once")), Retriable)
        assert len(sandbox.uploads) == 1

    def test_the_api_s_own_words(self, sandbox: Sandbox, store: Datastore):
        error = raised(lambda: store.create_upload("a", "", "EPSG:4326"))
        assert (error.code, "description must not be empty" in error.message) == ("entrepot_400", True)


def test_a_form_says_its_length_and_opens_its_file_each_time():
    opened = []

    def source() -> io.BytesIO:
        opened.append(1)
        return io.BytesIO(b"x" * 2_500_000)

    form = Multipart('a"b\r\n.zip', source, 2_500_000)
    bodies = [b"".join(form) for _ in range(2)]
    assert bodies[0] == bodies[1]
    assert len(bodies[0]) == len(form)
    assert b'filename="a\\"b.zip"' in bodies[0]
    assert len(opened) == 2
    assert max(map(len, form)) <= 1024 * 1024
