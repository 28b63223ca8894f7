"""What CKAN's datastore takes and refuses, and what our client makes of it: the same on ours and on a real one."""

from __future__ import annotations

import hashlib
import io
import os
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import requests

from datafab.core.item import Counts
from datafab.core.job import Job
from datafab.core.memory_jobs import MemoryJobs
from datafab.core.runner import run_inline
from datafab.core.secrets import MemorySecrets
from datafab.core.services import Services
from datafab.errors import Fatal
from datafab.flows.registry import plan
from datafab.push.ckan import Ckan
from datafab.sandbox.ckan import Sandbox
from datafab.sandbox.ckan import ckan as sandbox_ckan
from datafab.settings import load
from tests.servers import http
from tests.servers.ckan import missing, real_ckan

FIELDS = [
    {"id": "code", "type": "text", "info": {"label": "Code INSEE"}},
    {"id": "n", "type": "bigint", "info": {}},
    {"id": "prix (€)", "type": "numeric", "info": {"label": "Prix", "notes": "hors taxes"}},
]
ROWS = [{"code": "01004", "n": "12", "prix (€)": "1234.50"}, {"code": None, "n": None, "prix (€)": None}]


class Site:
    """One of the two CKANs, as an administrator sees it."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.token = token

    def ask(self, action: str, *, token: str | None = None, **given: Any) -> requests.Response:
        headers = {"Authorization": self.token if token is None else token}
        return requests.post(f"{self.url}/api/3/action/{action}", json=given, headers=headers, timeout=60)

    def result(self, action: str, **given: Any) -> Any:
        answer = self.ask(action, **given)
        assert answer.status_code == 200, answer.text
        return answer.json()["result"]

    def resource(self, **fields: Any) -> str:
        package = self.result("package_create", name=f"p-{uuid.uuid4().hex}")
        given = {"url": "http://example.org/a.csv", "format": ""} | fields
        return str(self.result("resource_create", package_id=package["id"], **given)["id"])

    def upload(self, name: str, body: bytes) -> str:
        package = self.result("package_create", name=f"p-{uuid.uuid4().hex}")
        sent = {"package_id": package["id"], "format": "", "url": name}
        answer = requests.post(
            f"{self.url}/api/3/action/resource_create",
            data=sent,
            files={"upload": (name, io.BytesIO(body), "text/csv")},
            headers={"Authorization": self.token},
            timeout=60,
        )
        return str(answer.json()["result"]["id"])

    def rows(self, resource: str) -> list[dict[str, Any]]:
        return list(self.result("datastore_search", resource_id=resource, sort="_id")["records"])


class Ours(Site):
    """The sandbox, which takes uploads from within only."""

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(sandbox.url, sandbox.token)
        self.upload = sandbox.upload


@pytest.fixture(scope="module", params=["sandbox", "real"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    if request.param == "sandbox":
        with sandbox_ckan() as ours:
            yield Ours(ours)
        return
    if why := missing():
        # Where nobody looks at skips, a CKAN that is not there must not pass.
        assert os.environ.get("CI") != "true", why
        pytest.skip(why)
    with real_ckan() as theirs:
        yield Site(theirs.url, theirs.token)


@pytest.fixture
def ckan(site: Site) -> Iterator[Ckan]:
    with Ckan(site.url + "/", site.token, load({})) as client:
        client.ping()
        yield client


@pytest.fixture
def loaded(site: Site, ckan: Ckan) -> str:
    resource = site.resource()
    ckan.datastore_create(resource, FIELDS)
    ckan.datastore_insert(resource, ROWS, last=True)
    return resource


def fails(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(Fatal) as raised:
        call()
    return raised.value.code, raised.value.message


def test_a_table_is_made_filled_and_described(site: Site, ckan: Ckan, loaded: str):
    assert [row["code"] for row in site.rows(loaded)] == ["01004", None]
    assert [row["n"] for row in site.rows(loaded)] == [12, None]
    assert [row["prix (€)"] for row in site.rows(loaded)] == [1234.5, None]
    info = ckan.datastore_info(loaded)
    assert info
    assert info["meta"]["count"] == 2
    fields = {field["id"]: field for field in info["fields"]}
    assert [fields[name]["type"] for name in ("code", "n", "prix (€)")] == ["text", "int8", "numeric"]
    assert fields["prix (€)"]["info"] == {"label": "Prix", "notes": "hors taxes"}
    assert ckan.resource_show(loaded)["datastore_active"] is True


def test_a_table_that_is_not_there(site: Site, ckan: Ckan):
    resource = site.resource()
    assert ckan.datastore_info(resource) is None
    assert ckan.datastore_delete(resource) is False


def test_a_deleted_table_is_gone(site: Site, ckan: Ckan, loaded: str):
    assert ckan.datastore_delete(loaded) is True
    assert ckan.datastore_info(loaded) is None
    assert ckan.resource_show(loaded)["datastore_active"] is False


def test_a_patch_changes_what_it_names_only(ckan: Ckan, loaded: str):
    ckan.resource_patch(loaded, hash="d41d8cd9", url_type="datapusher")
    shown = ckan.resource_show(loaded)
    assert (shown["hash"], shown["url_type"], shown["datastore_active"]) == ("d41d8cd9", "datapusher", True)
    assert shown["url"].endswith("/a.csv")


def test_a_refused_request_leaves_nothing_behind(site: Site, ckan: Ckan, loaded: str):
    bad = [{"code": "x", "n": "1"}, {"code": "y", "n": "N/A"}]
    code, message = fails(lambda: ckan.datastore_insert(loaded, bad, last=False))
    assert code == "ckan_409"
    assert "N/A" in message
    assert len(site.rows(loaded)) == 2


@pytest.mark.parametrize(("value", "kept"), [("", None), ("-7", -7), (" 3", 3)])
def test_what_an_integer_takes(site: Site, ckan: Ckan, loaded: str, value: str, kept: int | None):
    ckan.datastore_insert(loaded, [{"code": "z", "n": value}], last=False)
    assert site.rows(loaded)[-1]["n"] == kept


@pytest.mark.parametrize("value", ["1,5", "true", "9223372036854775808", "1.5"])
def test_what_an_integer_refuses(ckan: Ckan, loaded: str, value: str):
    assert fails(lambda: ckan.datastore_insert(loaded, [{"n": value}], last=False))[0] == "ckan_409"


def test_an_unknown_key_is_refused_by_insert(ckan: Ckan, loaded: str):
    code, message = fails(lambda: ckan.datastore_insert(loaded, [{"zz": "1"}], last=False))
    assert code == "ckan_409"
    assert 'extra keys "zz"' in message


@pytest.mark.parametrize("name", ["", "_x", " x", "x ", 'a"b', "x" * 64])
def test_a_field_name_that_is_refused(site: Site, ckan: Ckan, name: str):
    resource = site.resource()
    code, _ = fails(lambda: ckan.datastore_create(resource, [{"id": name, "type": "text"}]))
    assert code == "ckan_409"


@pytest.mark.parametrize("name", ["100 %", "a(b)", "select", "é" * 31, "1", "Été.1"])
def test_a_field_name_that_is_taken(site: Site, ckan: Ckan, name: str):
    resource = site.resource()
    ckan.datastore_create(resource, [{"id": name, "type": "text"}])
    ckan.datastore_insert(resource, [{name: "v"}], last=False)
    assert site.rows(resource)[0][name] == "v"


def test_a_long_name_is_cut_at_bytes_without_a_word(site: Site, ckan: Ckan):
    resource, name = site.resource(), "é" * 40
    ckan.datastore_create(resource, [{"id": name, "type": "text"}])
    code, message = fails(lambda: ckan.datastore_insert(resource, [{name: "v"}], last=False))
    assert (code, "extra keys" in message) == ("ckan_409", True)


def test_the_same_name_twice_is_refused(site: Site, ckan: Ckan):
    resource, field = site.resource(), {"id": "a", "type": "text"}
    code, message = fails(lambda: ckan.datastore_create(resource, [field, field]))
    assert (code, "Duplicate column names" in message) == ("ckan_409", True)


def test_without_force_another_url_type_is_read_only(site: Site, loaded: str):
    answer = site.ask("datastore_delete", resource_id=loaded)
    assert answer.status_code == 409
    assert "read-only" in answer.json()["error"]


@pytest.mark.parametrize("token", [None, "wrong"])
def test_a_wrong_key_is_refused_with_a_hint(site: Site, loaded: str, token: str | None):
    with Ckan(site.url, token, load({})) as stranger:
        code, message = fails(lambda: stranger.datastore_insert(loaded, [{"code": "x"}], last=False))
    assert code == "ckan_403"
    assert "does the api_key belong" in message
    assert "wrong" not in message


def test_what_is_not_there_is_named(ckan: Ckan):
    code, message = fails(lambda: ckan.resource_show("no-such-id"))
    assert code == "ckan_404"
    assert "/api/3/action/resource_show: CKAN answered 404: Not found" in message
    assert fails(lambda: ckan.datastore_create("no-such-id", FIELDS))[0] in {"ckan_404", "ckan_409"}
    assert fails(lambda: ckan._ask("no_such_action", {}))[0] == "ckan_400"


#: Requests that are refused, with CKAN's status and words; PACKAGE and NAME stand for those of a dataset.
REFUSED: list[tuple[str, dict[str, Any], int, dict[str, Any]]] = [
    ("package_create", {}, 409, {"name": ["Missing value"]}),
    ("package_create", {"name": "NAME"}, 409, {"name": ["That URL is already in use."]}),
    (
        "package_create",
        {"name": "Not Good"},
        409,
        {"name": ["Must be purely lowercase alphanumeric (ascii) characters and these symbols: -_"]},
    ),
    ("resource_create", {"url": "http://example.org/a.csv"}, 409, {"package_id": ["Missing value"]}),
    ("resource_create", {"package_id": "no-such-dataset"}, 404, {"message": "Not found"}),
    ("resource_create", {"package_id": "PACKAGE", "size": "x"}, 409, {"size": ["Invalid integer"]}),
    ("resource_create", {"package_id": "PACKAGE", "url": 5}, 500, {"message": "Internal Server Error"}),
    ("resource_patch", {"hash": "x"}, 409, {"id": ["Missing value"]}),
    ("resource_patch", {"id": "no-such-id", "hash": "x"}, 404, {"message": "Not found"}),
    ("resource_show", {}, 409, {"id": ["Missing value"]}),
    ("datastore_create", {"resource_id": ""}, 409, {"resource_id": ["Not found: Resource"]}),
    ("datastore_create", {"resource_id": "no-such-id"}, 409, {"resource_id": ["Not found: Resource"]}),
    ("datastore_create", {"fields": [{"type": "text"}]}, 409, {"fields": [{"id": ["Missing value"]}]}),
    ("datastore_create", {"records": [1]}, 409, {"records": ["The first row is not a json object"]}),
    (
        "datastore_upsert",
        {"resource_id": "no-such-id"},
        404,
        {"message": 'Not found: Resource "no-such-id" was not found.'},
    ),
    (
        "datastore_upsert",
        {"method": "insert", "records": [{"n": True}]},
        409,
        {"records": ['column "n" is of type bigint but expression is of type boolean']},
    ),
    (
        "datastore_upsert",
        {"method": "insert", "records": [{"code": {"a": 1}}]},
        409,
        {"records": ["can't adapt type 'dict'"]},
    ),
    ("datastore_delete", {"filters": {"zz": 1}}, 409, {"filters": ['invalid value "zz"']}),
    ("datastore_search", {"fields": ["zz"]}, 409, {"fields": ['invalid value "zz"']}),
    ("datastore_search", {"sort": "zz"}, 409, {"sort": ['invalid value "zz"']}),
    ("datastore_search", {"limit": -1}, 409, {"limit": ["Must be a natural number"]}),
    ("datastore_search", {"limit": "x"}, 409, {"limit": ["Invalid integer", "Please enter an integer value"]}),
    ("datastore_search", {"offset": -1}, 409, {"offset": ['invalid value "-1"']}),
    ("datastore_search", {"junk": 1}, 409, {"__extras": ['invalid value "junk"']}),
]


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_has_ckans_status_and_words(
    site: Site, loaded: str, case: tuple[str, dict[str, Any], int, dict[str, Any]]
):
    action, given, status, error = case
    if action.startswith("datastore_"):
        given = {"resource_id": loaded} | ({} if action == "datastore_search" else {"force": True}) | given
    made = site.result("package_create", name=f"p-{uuid.uuid4().hex}")
    stands_for = {"PACKAGE": made["id"], "NAME": made["name"]}
    given = {name: stands_for.get(str(value), value) for name, value in given.items()}
    answer = site.ask(action, **given)
    said = answer.json()
    assert (answer.status_code, said["success"]) == (status, False), said
    assert {name: said["error"].get(name) for name in error} == error
    assert said["help"] == f"{site.url}/api/3/action/help_show?name={action}"


@pytest.mark.parametrize(
    "case",
    [
        ("package_create", {"name": "ab"}, 403, "Access denied: User  not authorized to create packages"),
        ("resource_patch", {"id": "RESOURCE"}, 403, "Access denied: User  not authorized to edit resource RESOURCE"),
        (
            "datastore_delete",
            {"resource_id": "RESOURCE", "force": True},
            403,
            "Access denied: User  not authorized to edit resource RESOURCE",
        ),
        ("resource_patch", {"id": "no-such-id"}, 404, "Not found"),
        ("resource_patch", {}, 409, "Missing id, can not get Resource object"),
    ],
)
def test_a_request_without_a_token_is_refused(site: Site, loaded: str, case: tuple[str, dict[str, Any], int, str]):
    action, given, status, text = case
    given = {name: loaded if value == "RESOURCE" else value for name, value in given.items()}
    answer = site.ask(action, token="", **given)
    assert (answer.status_code, answer.json()["error"]["message"]) == (status, text.replace("RESOURCE", loaded))


@pytest.mark.parametrize(
    ("method", "action", "sent", "text"),
    [
        ("POST", "no_such_action", {"json": {}}, "Bad request - Action name not known: no_such_action"),
        ("POST", "resource_show", {"data": b"{"}, "Bad request - JSON Error: Error decoding JSON data. "),
        ("POST", "resource_show", {"json": [1]}, "Bad request - JSON Error: Request data JSON decoded to [1] but "),
        ("GET", "resource_patch", {}, "Bad request - JSON Error: Invalid request. Please use POST method for your "),
    ],
)
def test_a_bad_request_is_answered_by_a_json_string(
    site: Site, method: str, action: str, sent: dict[str, Any], text: str
):
    headers = {"Authorization": site.token, "Content-Type": "application/json"}
    answer = requests.request(method, f"{site.url}/api/3/action/{action}", headers=headers, timeout=60, **sent)
    assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/json;charset=utf-8")
    assert answer.json().startswith(text)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"url": "http://example.org/a.csv", "format": ""}, ("http://example.org/a.csv", "CSV", "text/csv")),
        ({"url": "example.org/b.xls"}, ("http://example.org/b.xls", "XLS", "application/vnd.ms-excel")),
        ({"url": "http://example.org/c", "format": "geojson"}, ("http://example.org/c", "GeoJSON", None)),
        ({"url": "http://example.org/c", "format": "text/csv"}, ("http://example.org/c", "CSV", None)),
        ({}, ("", "", None)),
    ],
)
def test_a_resource_is_shown_as_ckan_keeps_it(site: Site, given: dict[str, Any], kept: tuple[str, str, str | None]):
    package = site.result("package_create", name=f"p-{uuid.uuid4().hex}")
    first = site.result("resource_create", package_id=package["name"], **given)
    second = site.result("resource_create", package_id=package["id"], url="x", size="12", mine="yes")
    assert (first["url"], first["format"], first["mimetype"]) == kept
    assert (first["package_id"], first["position"], second["position"]) == (package["id"], 0, 1)
    assert (second["url"], second["size"], second["mine"], second["state"]) == ("http://x", 12, "yes", "active")
    assert not {
        "cache_last_updated", "cache_url", "created", "datastore_active", "description", "hash", "id", "last_modified",
        "metadata_modified", "mimetype_inner", "name", "resource_type", "url_type",
    } - first.keys()  # fmt: skip
    changed = site.result("resource_patch", id=second["id"], package_id="other", state="draft", format="xlsx")
    assert {name for name in second if changed[name] != second[name]} == {"format", "metadata_modified"}
    assert changed["format"] == "XLSX"


def test_rows_are_filtered_sorted_and_shown_by_chosen_fields(site: Site, ckan: Ckan, loaded: str):
    ckan.datastore_insert(loaded, [{"code": "2", "n": 7, "prix (€)": "NaN"}, {"code": "3", "n": 7}])
    ask = {"resource_id": loaded, "fields": "n, code"}
    found = site.result("datastore_search", **ask, filters={"n": [7, 12]}, sort="n desc, code desc")
    assert [field["id"] for field in found["fields"]] == ["n", "code"]
    assert [row["code"] for row in found["records"]] == ["01004", "3", "2"]
    assert (found["total"], found["sort"]) == (3, "n desc, code desc")
    first = site.result("datastore_search", **ask, sort="n desc", limit=1)["records"]
    assert first == [{"n": None, "code": None}]
    assert site.rows(loaded)[2]["prix (€)"] == "NaN"
    assert site.result("datastore_delete", id=loaded, force=True) == {"resource_id": loaded}
    assert site.ask("datastore_delete", id=loaded, force=True).status_code == 404


#: What CKAN refuses or cuts: names that come twice, begin with a line, hold a quote or are too long; a blank one.
HARD = (
    f'_id;"le ""prix""";{"é" * 40};{"é" * 41};;a;a;siren\n007;1,5;x;y;perdu;1;2;012345678\n8;2;;y;;3;;98765432\n'
).encode("cp1252")
LONG, LONGER = "é" * 31, "é" * 30 + "_2"


class Push:
    """The flow without workers: its stages one after the other, here."""

    def __init__(self, site: Site, home: Path, *, behind: Site | None = None) -> None:
        self.site = site
        self.home = home
        #: the same CKAN without what stands in front of it
        self.behind = behind or site

    def __call__(self, resource: str, **metadata: Any) -> tuple[Counts, MemoryJobs]:
        jobs, secrets = MemoryJobs(), MemorySecrets()
        settings = load({}, home=self.home, allow_private_hosts="127.0.0.1/32")
        services = Services(settings, jobs=jobs, secrets=secrets)
        params = {"metadata": {"ckan_url": self.site.url, "resource_id": resource} | metadata}
        job = Job(id=uuid.uuid4().hex, flow="push", params=params, created=0, deadline=9e9)
        secrets.put(job.id, {"api_key": self.site.token})
        source, stages = plan("push", params)
        try:
            return run_inline(stages, source, job, services, lambda: None), jobs
        finally:
            services.close()


@pytest.fixture
def push(site: Site, tmp_path: Path) -> Push:
    return Push(site, tmp_path)


def test_a_hard_table_is_pushed_whole(site: Site, push: Push):
    with http.Site({"/a.csv": http.Answer(HARD)}) as portal:
        resource = site.resource(url=portal.url("/a.csv"))
        counts, jobs = push(resource)
        assert counts.ok == 1, jobs.failures()
        first, second = site.rows(resource)
        assert first == {
            "_id": 1, "id": "007", "le prix": 1.5, LONG: "x", LONGER: "y", "column_5": "perdu", "a": 1, "a_2": 2,
            "siren": "012345678",
        }  # fmt: skip
        assert (second["id"], second["le prix"], second[LONG], second["a_2"]) == ("8", 2, None, None)
        shown = site.result("resource_show", id=resource)
        assert shown["hash"] == hashlib.md5(HARD, usedforsecurity=False).hexdigest()
        assert shown["datastore_active"] is True
        assert "column 5 has values but no name: called column_5" in str(jobs.logs())
        assert push(resource)[0].unchanged == 1


def workbook() -> bytes:
    book = openpyxl.Workbook()
    for row in (["Table 1: Population by region"], [], ["id", "name", None, "v"], [1, "x", None, 2.5], []):
        book.active.append(row)
    book.active.append([2, "y", None, 3, "late"])
    book.save(file := io.BytesIO())
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "unit"),
    [
        (workbook(), "row"),
        (b"Table 1: Population by region;;;;\n;;;;\nid;name;;v;\n1;x;;2.5;\n\n2;y;;3;late\n", "line"),
    ],
    ids=["xlsx", "csv"],
)
def test_a_table_below_a_title_is_pushed_with_its_nameless_columns(site: Site, push: Push, content: bytes, unit: str):
    with http.Site({"/a": http.Answer(content)}) as portal:
        resource = site.resource(url=portal.url("/a"))
        counts, jobs = push(resource)
        assert counts.ok == 1, jobs.failures()
        assert site.rows(resource) == [
            {"_id": 1, "id": 1, "name": "x", "v": 2.5, "column_5": None},
            {"_id": 2, "id": 2, "name": "y", "v": 3, "column_5": "late"},
        ]
        for line in (
            f"1 {unit} above the header passed over",
            "1 column without a name or a value left out",
            "column 5 has values but no name: called column_5",
        ):
            assert line in str(jobs.logs())


def test_the_data_dictionary_outlives_a_push(site: Site, push: Push):
    with http.Site({"/a.csv": http.Answer(b"code;n\n1;2\n3;4\n")}) as portal:
        resource = site.resource(url=portal.url("/a.csv"))
        kept = {"label": "Code INSEE", "notes": "sur 5 caractères", "type_override": "text"}
        fields = [{"id": "code", "type": "text", "info": kept}, {"id": "gone", "type": "text"}]
        site.result("datastore_create", resource_id=resource, force=True, fields=fields, records=[{"code": "9"}])
        counts, jobs = push(resource)
        assert counts.ok == 1, jobs.failures()
        described = site.result("datastore_info", id=resource)["fields"]
        assert [(field["id"], field["type"]) for field in described] == [("code", "text"), ("n", "int8")]
        assert described[0]["info"] == kept
        assert [row["code"] for row in site.rows(resource)] == ["1", "3"]


def test_dates_are_moments_and_numbers_what_the_data_dictionary_makes_of_them(site: Site, push: Push):
    table = "jour;heure;fait;code\n13/02/2020;2020-02-13T08:30:00+02:00;12/2020;1\n01/02/2020;;;2,5\n"
    with http.Site({"/a.csv": http.Answer(table.encode())}) as portal:
        resource = site.resource(url=portal.url("/a.csv"))
        fields = [{"id": "code", "type": "text", "info": {"type_override": "numeric"}}]
        site.result("datastore_create", resource_id=resource, force=True, fields=fields, records=[])
        counts, jobs = push(resource)
        assert counts.ok == 1, jobs.failures()
        described = site.result("datastore_info", id=resource)["fields"]
        assert [(field["id"], field["type"]) for field in described] == [
            ("jour", "timestamp"), ("heure", "timestamptz"), ("fait", "text"), ("code", "numeric")
        ]  # fmt: skip
        first, second = site.rows(resource)
        assert (first["jour"], first["fait"], first["code"]) == ("2020-02-13T00:00:00", "12/2020", 1)
        assert (second["jour"], second["heure"], second["code"]) == ("2020-02-01T00:00:00", None, 2.5)
        assert datetime.fromisoformat(first["heure"]) == datetime(2020, 2, 13, 6, 30, tzinfo=UTC)


def test_an_uploaded_file_is_pushed(site: Site, push: Push):
    resource = site.upload("a.csv", b"a,b\n1,x\n2,y\n")
    counts, jobs = push(resource, set_url_type=False)
    assert counts.ok == 1, jobs.failures()
    assert [row["b"] for row in site.rows(resource)] == ["x", "y"]
    assert site.result("resource_show", id=resource)["url_type"] == "upload"
