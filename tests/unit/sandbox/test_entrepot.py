"""The sandbox's entrepôt where IGN's SDK does not go in our tests: tags, fields, what may be changed, what is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import requests

from datafab.sandbox.archives import COPY, Sandbox
from datafab.sandbox.entrepot import entrepot

GIVEN = {"name": "a", "description": "d", "type": "ARCHIVE", "srs": "EPSG:2154"}
Ask = Callable[..., requests.Response]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with entrepot() as running:
        yield running


@pytest.fixture
def ask(sandbox: Sandbox) -> Ask:
    names = {"username": sandbox.login, "password": sandbox.password, "client_id": sandbox.client_id}
    form = {"grant_type": "password", "client_secret": sandbox.client_secret, **names}
    token = requests.post(sandbox.token_url, data=form, timeout=10).json()["access_token"]

    def asked(method: str, path: str, **given: object) -> requests.Response:
        url = f"{sandbox.url}/datastores/{sandbox.datastore}{path}"
        return requests.request(method, url, headers={"Authorization": f"Bearer {token}"}, timeout=10, **given)

    return asked


@pytest.fixture
def upload(ask: Ask) -> str:
    return str(ask("POST", "/uploads", json=GIVEN).json()["_id"])


@pytest.mark.parametrize("params", [{"tags[]": ["b", "c"]}, {"tags": "b,c"}])
def test_tags_are_added_replaced_and_removed(ask: Ask, upload: str, params: dict):
    ask("POST", f"/uploads/{upload}/tags", json={"a": "1", "b": "2", "c": "3"})
    ask("POST", f"/uploads/{upload}/tags", json={"a": "4"})
    assert ask("DELETE", f"/uploads/{upload}/tags", params=params).status_code == 204
    assert ask("GET", f"/uploads/{upload}").json()["tags"] == {"a": "4"}


def test_a_list_has_the_fields_and_the_tags_that_are_asked_for(ask: Ask, upload: str):
    ask("POST", f"/uploads/{upload}/tags", json={"mine": upload})
    usual = {"_id", "name", "type", "srs", "description", "status"}
    params = {"tags[mine]": upload}
    (found,) = ask("GET", "/uploads", params=params).json()
    assert set(found) == usual
    (found,) = ask("GET", "/uploads", params=params | {"fields": ["name", "tags"]}).json()
    assert found == {"_id": upload, "name": "a", "tags": {"mine": upload}}


def test_an_upload_is_shown_as_the_guide_shows_it(ask: Ask, upload: str):
    shown = ask("GET", f"/uploads/{upload}").json()
    assert {key: shown[key] for key in ("status", "size", "open", "tags", "type_infos")} == {
        "status": "OPEN", "size": 0, "open": False, "tags": {}, "type_infos": {},
    }  # fmt: skip
    assert shown["last_event"]["title"] == "Création"
    assert {"creation", "update", "contact"} <= set(shown)


def test_only_what_may_be_changed_of_an_upload_is(ask: Ask, upload: str):
    changed = ask("PATCH", f"/uploads/{upload}", json={"extra": {"a": [1]}, "status": "CLOSED", "tags": {}}).json()
    assert (changed["extra"], changed["status"]) == ({"a": [1]}, "OPEN")


def test_a_type_that_there_is_not_is_refused(ask: Ask):
    assert ask("POST", "/uploads", json=GIVEN | {"type": "ZIP"}).status_code == 400


def test_a_folder_is_as_large_as_its_files(ask: Ask, upload: str):
    for name, data in (("a/b/x", b"123"), ("a/y", b"4")):
        ask("POST", f"/uploads/{upload}/data", params={"path": name}, files={"file": data})
    (folder,) = ask("GET", f"/uploads/{upload}/tree").json()
    assert (folder["size"], folder["children"][0]["size"]) == (4, 3)


def test_an_execution_is_shown_with_its_times_and_takes_archives_only(sandbox: Sandbox, ask: Ask, upload: str):
    wanted = {"processing": COPY, "inputs": {"upload": [upload]}, "output": {"stored_data": {"name": "s"}}}
    sandbox.uploads[upload] |= {"state": "CLOSED", "type": "VECTOR"}
    assert ask("POST", "/processings/executions", json=wanted).status_code == 400
    sandbox.uploads[upload]["type"] = "ARCHIVE"
    made = ask("POST", "/processings/executions", json=wanted).json()
    assert set(made["inputs"]["upload"][0]) == {"type", "name", "status", "srs", "_id", "creation", "update"}
    assert "launch" not in made
    ask("POST", f"/processings/executions/{made['_id']}/launch")
    sandbox.control.clock.advance(60)
    ended = ask("GET", f"/processings/executions/{made['_id']}").json()
    assert ended["creation"] <= ended["launch"] <= ended["start"] <= ended["finish"]
    assert ask("GET", "/processings/executions", params={"input_upload": upload}).json()[0]["_id"] == made["_id"]
    stored = ask("GET", f"/stored_data/{made['output']['stored_data']['_id']}").json()
    assert (stored["storage"], stored["status"]) == ({"type": "S3", "labels": []}, "GENERATED")
