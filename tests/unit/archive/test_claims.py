"""What is ours in an entrepôt, and what is not: against its sandbox, over HTTP."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from datafab.archive.claims import Claims
from datafab.archive.entrepot import Datastore, Entrepot
from datafab.archive.integration import COPY_PROCESSING, Integration
from datafab.archive.mark import Mark
from datafab.errors import Fatal, Retriable
from datafab.sandbox.archives import Sandbox
from datafab.sandbox.control import Fault
from datafab.sandbox.entrepot import entrepot
from datafab.settings import load

GIVEN = {
    "name": "CANTON_2026",
    "description": "cantons",
    "files": ["https://example.org/a/CANTON.zip", {"path": "b.zip", "store": "file:///s", "sha256": "a" * 64}],
    "output": {"name": "CANTON"},
}


def integration(**changes: object) -> Integration:
    return Integration.model_validate(GIVEN | changes)


MINE = integration()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with entrepot() as running:
        yield running


@pytest.fixture
def store(sandbox: Sandbox) -> Datastore:
    names = ("url", "token_url", "datastore", "client_id", "client_secret", "login", "password")
    given = {f"entrepot_{name}": getattr(sandbox, name) for name in names}
    return Entrepot(load({}, **given, read_timeout=2)).at()


@pytest.fixture
def claims(store: Datastore) -> Claims:
    return Claims(store, Mark.of(store.name, MINE))


def closed(claims: Claims, sandbox: Sandbox) -> dict:
    """Return our upload, filled and closed."""
    upload = claims.create_upload(MINE, "c0ffee")
    name = str(upload["_id"])
    claims.store.push(name, "data/a", lambda: io.BytesIO(b"a"), 1)
    claims.store.push_md5(name, ["0cc175b9c0f1b6a831c399e269772661  data/a"])
    claims.store.close_upload(name)
    sandbox.control.clock.advance(60)
    return claims.store.upload(name) or {}


def executed(store: Datastore, upload: dict, name: str = "CANTON", processing: str = COPY_PROCESSING) -> dict:
    output = {"stored_data": {"name": name}}
    return store.create_execution({"processing": processing, "inputs": {"upload": [upload["_id"]]}, "output": output})


def journal(sandbox: Sandbox) -> list[str]:
    return [each["method"] for each in sandbox.control.journal if each["method"] != "GET" and each["path"] != "/token"]


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"description": "d", "edition": {"from": "2026-01-01", "to": "2026-12-31"}, "keep_upload": True}, True),
        ({"files": [*reversed(GIVEN["files"])]}, True),
        ({"files": [GIVEN["files"][0], {"path": "b.zip", "store": "s3://x", "sha256": "b" * 64, "size": 1}]}, True),
        ({"name": "CANTON"}, False),
        ({"srs": "EPSG:2154"}, False),
        ({"output": {"name": "CANTONS"}}, False),
        ({"output": {"name": "CANTON", "storage_tags": ["RASTER"]}}, False),
        ({"processing": "another"}, False),
        ({"files": ["https://example.org/b/CANTON.zip", GIVEN["files"][1]]}, False),
        ({"files": [GIVEN["files"][0]]}, False),
    ],
)
def test_a_plan_has_its_mark_whatever_it_says_of_its_things(changes: dict, same: bool):
    assert (Mark.of("d", integration(**changes)) == Mark.of("d", MINE)) is same
    assert Mark.of("e", MINE) != Mark.of("d", MINE)


def test_a_new_upload_says_whose_it_is_before_and_after_it_is_tagged(claims: Claims, sandbox: Sandbox):
    sandbox.control.faults.append(Fault(method="POST", ends="tags", status=503))
    with pytest.raises(Retriable):
        claims.create_upload(MINE, "c0ffee")
    found = claims.upload("CANTON_2026")
    assert found is not None
    assert (found["tags"], found["description"]) == ({}, f"cantons [datafab {claims.mark.key}]")
    claims.tag_content(found["_id"], "c0ffee")
    again = claims.upload("CANTON_2026")
    assert again is not None
    assert again["tags"] == {"datafab": claims.mark.key, "datafab_content": "c0ffee"}
    assert len(sandbox.uploads) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"type": "VECTOR"},
        {"files": {"data/theirs.zip": (1, "x")}},
        {"md5": {"theirs.md5": ""}},
        {"tags": {"datafab": "another"}},
        {"description": "cantons"},
        {"description": "cantons [datafab 0123456789]"},
    ],
)
def test_an_untagged_upload_is_ours_only_as_it_was_created(claims: Claims, sandbox: Sandbox, change: dict):
    sandbox.control.faults.append(Fault(method="POST", ends="tags", status=503))
    with pytest.raises(Retriable):
        claims.create_upload(MINE, "c0ffee")
    (upload,) = sandbox.uploads.values()
    upload |= change
    for look in (lambda: claims.upload("CANTON_2026"), lambda: claims.known_upload(upload["_id"])):
        with pytest.raises(Fatal, match="left unchanged"):
            look()


def test_ours_is_found_among_others_of_its_name(claims: Claims, sandbox: Sandbox):
    for _ in range(2):
        claims.store.create_upload("CANTON_2026", "cantons", "EPSG:4326")
    mine = claims.create_upload(MINE, "c0ffee")
    found = claims.upload("CANTON_2026")
    assert found is not None
    assert found["_id"] == mine["_id"]


def test_an_upload_that_a_version_without_tags_has_filled_is_known_by_its_list(claims: Claims, sandbox: Sandbox):
    upload = claims.store.create_upload("CANTON_2026", "cantons", "EPSG:4326")["_id"]
    with pytest.raises(Fatal, match="left unchanged"):
        claims.known_upload(upload)
    claims.store.push_md5(upload, ["0  data/a"], "datafab-0123456789abcdef.md5")
    with pytest.raises(Fatal, match="left unchanged"):  # nothing but the name leads there
        claims.upload("CANTON_2026")
    known = claims.known_upload(upload)
    assert known is not None
    assert sandbox.uploads[upload]["tags"] == {"datafab": claims.mark.key}


def test_an_execution_whose_answer_was_lost_is_ours_where_one_was_asked_for(claims: Claims, sandbox: Sandbox):
    upload = closed(claims, sandbox)
    assert claims.execution(MINE, upload, requested=True) is None
    made = executed(claims.store, upload)
    sandbox.control.forget()
    with pytest.raises(Fatal, match="left unchanged"):
        claims.execution(MINE, upload, requested=False)
    assert not journal(sandbox)
    found = claims.execution(MINE, upload, requested=True)
    assert found is not None
    assert found["_id"] == made["_id"]
    (stored,) = sandbox.stored.values()
    assert stored["tags"] == {"datafab": claims.mark.key, "datafab_content": "c0ffee"}
    # From here on it is ours, whoever asks.
    assert claims.execution(MINE, upload, requested=False)


@pytest.mark.parametrize("what", ["launched", "tagged", "of another upload", "twice"])
def test_an_execution_of_somebody_else_is_never_adopted(claims: Claims, sandbox: Sandbox, what: str):
    upload = closed(claims, sandbox)
    source = claims.store.create_upload("theirs", "d", "EPSG:4326")
    if what == "of another upload":
        sandbox.uploads[source["_id"]] |= {"state": "CLOSED"}
    execution = executed(claims.store, source if what == "of another upload" else upload)
    output = execution["output"]["stored_data"]["_id"]
    if what == "launched":
        claims.store.launch(execution["_id"])
    if what == "tagged":
        claims.store.tag("stored_data", output, {"tuto": "oui"})
    if what == "twice":
        twin = sandbox.executions[executed(claims.store, upload, "x")["_id"]]
        twin["output"] = output
    sandbox.control.forget()
    with pytest.raises(Fatal, match="left unchanged") as raised:
        claims.execution(MINE, upload, requested=True)
    assert output in raised.value.message
    assert not journal(sandbox)


@pytest.mark.parametrize(
    ("ends", "call"),
    [
        ("/uploads", lambda store: store.create_upload("a", "d", "EPSG:4326")),
        ("/uploads/u", lambda store: store.upload("u")),
        ("/executions", lambda store: store.create_execution({})),
        ("/executions/e", lambda store: store.execution("e")),
        ("/stored_data/s", lambda store: store.stored_data("s")),
    ],
)
def test_an_answer_without_an_id_says_so(store: Datastore, sandbox: Sandbox, ends: str, call):
    sandbox.control.faults.append(Fault(path="/api", ends=ends, status=200, body="{}"))
    with pytest.raises(Retriable, match="the answer lacks `_id`"):
        call(store)


@pytest.mark.parametrize("body", ["[{}]", "[1]", '[{"name": "a"}]'])
def test_a_list_of_things_without_ids_says_so(store: Datastore, sandbox: Sandbox, body: str):
    sandbox.control.faults.append(Fault(path="/api", ends="/uploads", status=200, body=body))
    with pytest.raises(Retriable, match="the answer lacks `_id`"):
        store.uploads("a")


def test_an_execution_without_its_output_says_so(store: Datastore, sandbox: Sandbox):
    sandbox.control.faults.append(Fault(path="/api", ends="/executions/e", status=200, body='{"_id": "e"}'))
    with pytest.raises(Retriable, match=r"the answer lacks `output\.stored_data`"):
        store.execution("e")
