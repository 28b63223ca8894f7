"""What becomes of a resource's former table when a load fails after it was deleted: on ours and on a real CKAN."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datafab.core.memory_jobs import MemoryJobs
from datafab.push.ckan import Ckan
from datafab.push.former_table import FormerTable, TableSnapshot
from datafab.settings import load
from datafab.store.store import Store
from tests.integration.test_ckan import Push, Site, site
from tests.servers import http
from tests.servers.proxy import Fault, Front, proxy

__all__ = ["site"]

OLD = [
    {"id": "code", "type": "text", "info": {"label": "Code INSEE", "notes": "sur 5 caractères"}},
    {"id": "n", "type": "bigint"},
    {"id": "prix (€)", "type": "numeric", "info": {"type_override": "numeric"}},
    {"id": "vu", "type": "timestamp"},
]
ROWS = [
    {"code": "01004", "n": 1, "prix (€)": "1234.50", "vu": "2020-02-13T08:30:00"},
    {"code": None, "n": None, "prix (€)": None, "vu": None},
    {"code": 'é "x", \\n;', "n": -3, "prix (€)": "12345678901234.5", "vu": None},
]
NEW = b"code;n\n" + b"".join(b"%05d;%d\n" % (n, n) for n in range(3000))


@pytest.fixture
def front(site: Site) -> Iterator[Front]:
    with proxy(site.url) as front:
        yield front


@pytest.fixture
def push(site: Site, front: Front, tmp_path: Path) -> Push:
    """Pushes go through the proxy, the test's own questions do not."""

    return Push(Site(front.url, site.token), tmp_path, behind=site)


@pytest.fixture
def portal() -> Iterator[http.Site]:
    with http.Site({"/a.csv": http.Answer(NEW)}) as portal:
        yield portal


def filled(site: Site, url: str, fields: list[dict[str, Any]] = OLD, **more: Any) -> str:
    resource = site.resource(url=url)
    given = {"resource_id": resource, "force": True, "fields": fields, "records": ROWS}
    site.result("datastore_create", **(given | more))
    return resource


def look(site: Site, resource: str) -> dict[str, Any]:
    """Return all that CKAN shows of a table."""
    info = site.result("datastore_info", id=resource)
    fields = [{key: field.get(key) for key in ("id", "type", "info", "schema")} for field in info["fields"]]
    shown = site.result("resource_show", id=resource)
    return {
        "rows": site.result("datastore_search", resource_id=resource, sort="_id", limit=5000)["records"],
        "fields": fields,
        "aliases": sorted(info["meta"].get("aliases") or []),
        "active": shown["datastore_active"],
        "hash": shown["hash"],
    }


def failure(jobs: MemoryJobs) -> str:
    (error,) = jobs.failures().values()
    return error.message


def nothing_kept(home: Path) -> bool:
    return not [path for path in home.rglob("former/*") if path.is_file()]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        pytest.param(Fault("datastore_upsert", 403, first=3, times=1), "answered 403", id="403 in mid-load"),
        pytest.param(Fault("datastore_upsert", 404, first=3, times=1), "answered 404", id="404 in mid-load"),
        pytest.param(Fault("datastore_upsert", 409, first=3, times=1), "answered 409", id="409 in mid-load"),
        pytest.param(Fault("datastore_upsert", 500, first=3, times=4), "answered 500", id="500 to the end"),
        pytest.param(Fault("datastore_create", 503, times=4), "answered 503", id="no table can be made"),
        pytest.param(Fault("datastore_create", 409, times=1), "answered 409", id="the fields are refused"),
    ],
)
def test_the_former_table_survives_any_refusal(front: Front, push: Push, portal: http.Site, fault: Fault, said: str):
    site = push.behind
    resource = filled(site, portal.url("/a.csv"))
    before = look(site, resource)
    front.faults.append(replace(fault, seen=0))  # the parameter is shared with the other CKAN
    counts, jobs = push(resource)
    assert counts.failed == 1
    assert said in failure(jobs)
    assert "the table was restored: the 3 rows from before" in failure(jobs)
    assert look(site, resource) == before
    assert sum(action == "datastore_delete" for action, _, _ in front.calls) >= 2
    assert nothing_kept(push.home)


def test_a_key_and_indexes_and_aliases_come_back(site: Site, front: Front, push: Push, portal: http.Site):
    alias = f"a{random.getrandbits(60)}"
    more = {"primary_key": ["code", "n"], "indexes": [["vu", "prix (€)"]], "aliases": [alias]}
    resource = filled(site, portal.url("/a.csv"), **more)
    before = look(site, resource)
    assert before["aliases"] == [alias]
    front.faults.append(Fault("datastore_create", 409, times=1))
    counts, jobs = push(resource)
    assert (counts.failed, "restored" in failure(jobs)) == (1, True)
    assert look(site, resource) == before
    again = site.ask("datastore_upsert", resource_id=resource, force=True, method="insert", records=ROWS[:1])
    assert again.status_code == 409


def test_fractions_of_a_second_that_are_lost_are_told(site: Site, front: Front, push: Push, portal: http.Site):
    fields = [{"id": "day", "type": "timestamp"}, {"id": "at", "type": "timestamp"}]
    rows = [{"day": "2020-01-02", "at": None}, {"day": "2020-01-03", "at": "2020-01-03T10:11:12.5"}]
    resource = site.resource(url=portal.url("/a.csv"))
    site.result("datastore_create", resource_id=resource, force=True, fields=fields, records=rows)
    before = look(site, resource)
    front.faults.append(Fault("datastore_create", 409, times=1))
    said = failure(push(resource)[1])
    assert "the 2 rows from before (CKAN shows no fractions of a second: at may have lost theirs)" in said
    assert look(site, resource) == before


def test_row_numbers_come_back_with_their_gaps(site: Site, front: Front, push: Push, portal: http.Site):
    resource = filled(site, portal.url("/a.csv"))
    site.result("datastore_delete", resource_id=resource, force=True, filters={"n": [1]})
    given = {"resource_id": resource, "force": True, "method": "insert"}
    site.result("datastore_upsert", **given, records=[{"code": f"{n}"} for n in range(40)])
    site.result("datastore_delete", resource_id=resource, force=True, filters={"code": ["7", "8"]})
    before = look(site, resource)
    assert [row["_id"] for row in before["rows"]][:3] == [2, 3, 4]
    front.faults.append(Fault("datastore_upsert", 409, first=3, times=1))
    assert push(resource)[0].failed == 1
    assert look(site, resource) == before


def test_without_a_former_table_there_is_none_afterwards(
    site: Site, front: Front, push: Push, portal: http.Site, tmp_path: Path
):
    resource = site.resource(url=portal.url("/a.csv"))
    front.faults.append(Fault("datastore_upsert", 409, first=2, times=1))
    counts, jobs = push(resource)
    assert (counts.failed, "the table was restored: no table, as before" in failure(jobs)) == (1, True)
    assert site.ask("datastore_info", id=resource).status_code == 404
    assert not site.result("resource_show", id=resource)["datastore_active"]
    assert nothing_kept(tmp_path)


def test_bodies_are_halved_until_they_pass(site: Site, front: Front, push: Push, portal: http.Site):
    names = [f"colonne_{n:03d}_{'x' * 48}" for n in range(60)]
    rows = [";".join(f"{row}_{n}" for n in range(60)) for row in range(400)]
    portal.answers["/wide.csv"] = http.Answer("\n".join([";".join(names), *rows, ""]).encode())
    front.limit = 100_000
    resource = filled(site, portal.url("/wide.csv"))
    counts, jobs = push(resource)
    assert counts.ok == 1, jobs.failures()
    assert site.rows(resource)[0][names[59]] == "0_59"
    assert site.result("datastore_search", resource_id=resource, limit=0)["total"] == 400
    sizes = [size for action, size, status in front.calls if action == "datastore_upsert"]
    assert max(sizes) <= 2_100_000
    # What was refused once is not tried again.
    assert front.count("datastore_upsert", 413) <= 6


@pytest.mark.unmeasured
def test_a_body_counts_its_keys(site: Site, front: Front, push: Push, portal: http.Site):
    names = [f"colonne_{n:03d}_{'x' * 48}" for n in range(60)]
    portal.answers["/keys.csv"] = http.Answer("\n".join([";".join(names), *[";".join("1" * 60)] * 1200, ""]).encode())
    counts, jobs = push(site.resource(url=portal.url("/keys.csv")))
    assert counts.ok == 1, jobs.failures()
    assert 1_000_000 < max(size for action, size, _ in front.calls if action == "datastore_upsert") < 2_100_000


def test_a_row_too_long_for_a_request_is_named(site: Site, front: Front, push: Push, portal: http.Site):
    portal.answers["/long.csv"] = http.Answer(b"a;b\n1;x\n2;" + b"mot " * 30_000 + b"\n3;z\n")
    front.limit = 60_000
    resource = filled(site, portal.url("/long.csv"))
    before = look(site, resource)
    counts, jobs = push(resource)
    assert counts.failed == 1
    assert "line 3: this row alone is a request of 120" in failure(jobs)
    assert "client_max_body_size" in failure(jobs)
    assert look(site, resource) == before


def words(size: int) -> bytes:
    """Return different words, of so many bytes together."""
    return b" ".join(b"w%07dx" % n for n in range(size // 10))


def test_a_text_too_long_for_the_full_text_is_found_before_anything_is_deleted(
    site: Site, front: Front, push: Push, portal: http.Site
):
    portal.answers["/text.csv"] = http.Answer(b"a;texte;b\n1;court;x\n2;" + words(1_300_000) + b";y\n")
    resource = filled(site, portal.url("/text.csv"))
    before = look(site, resource)
    counts, jobs = push(resource)
    assert counts.failed == 1
    assert "line 3, column 'texte': " in failure(jobs)
    assert "string is too long for tsvector" in failure(jobs)
    assert look(site, resource) == before
    assert front.count("datastore_delete") == 0


def test_a_text_too_long_is_named_and_what_was_there_restored(site: Site, front: Front, push: Push, portal: http.Site):
    lines = b"".join(b"%d;court;x\n" % n for n in range(5))
    portal.answers["/text.csv"] = http.Answer(b"a;texte;b\n" + lines + b"2;" + words(1_300_000) + b";y\n" + lines)
    # A table without a text is none to try on.
    resource = site.resource(url=portal.url("/text.csv"))
    fields = [{"id": "n", "type": "bigint"}]
    site.result("datastore_create", resource_id=resource, force=True, fields=fields, records=[{"n": 5}, {"n": None}])
    before = look(site, resource)
    counts, jobs = push(resource)
    assert counts.failed == 1
    assert "line 7, column 'texte': " in failure(jobs)
    assert "tsvector" in failure(jobs)
    assert "the table was restored: the 2 rows from before" in failure(jobs)
    assert look(site, resource) == before


@pytest.mark.unmeasured
def test_a_row_too_wide_is_found_before_anything_is_deleted(site: Site, front: Front, push: Push, portal: http.Site):
    header = ";".join(f"c{n}" for n in range(500))
    full = ";".join(f"valeur numéro {n:04d} de la ligne" for n in range(500))
    portal.answers["/wide.csv"] = http.Answer(f"{header}\n{';'.join('x' * 500)}\n{full}\n".encode())
    resource = filled(site, portal.url("/wide.csv"))
    before = look(site, resource)
    counts, jobs = push(resource)
    assert counts.failed == 1
    assert "line 3: a row of 500 columns takes 9" in failure(jobs)
    assert look(site, resource) == before
    assert front.count("datastore_delete") == 0


def test_a_former_table_that_cannot_be_restored_is_kept_and_the_next_push_mends_it(
    site: Site, front: Front, push: Push, portal: http.Site, tmp_path: Path
):
    resource = filled(site, portal.url("/a.csv"))
    before = look(site, resource)
    front.faults.append(Fault("datastore_create", 403))
    counts, jobs = push(resource)
    assert counts.failed == 1
    assert "the former table could not be restored: " in failure(jobs)
    (kept,) = tmp_path.rglob("former/*.jsonl.gz")
    assert f"former/{kept.name}" in failure(jobs)
    # The next one fails too: what is there by now is not the former table.
    front.faults[:] = [Fault("datastore_upsert", 409, first=3, times=1)]
    counts, jobs = push(resource)
    assert "the table was restored: the 3 rows from before" in failure(jobs)
    assert look(site, resource) == before
    front.faults.clear()
    assert push(resource)[0].ok == 1
    assert nothing_kept(tmp_path)


def test_a_hash_is_not_believed_while_a_table_is_not_whole(site: Site, front: Front, push: Push, portal: http.Site):
    resource = site.resource(url=portal.url("/a.csv"))
    assert push(resource)[0].ok == 1
    portal.answers["/a.csv"] = http.Answer(NEW + b"x;1\n")
    front.faults.append(Fault("datastore_upsert", 403, first=3))
    assert push(resource)[0].failed == 1
    front.faults.clear()
    portal.answers["/a.csv"] = http.Answer(NEW)
    counts, jobs = push(resource)
    assert counts.ok == 1, jobs.failures()
    assert site.result("datastore_search", resource_id=resource, limit=0)["total"] == 3000


def test_what_somebody_else_has_loaded_meanwhile_is_left(
    site: Site, front: Front, push: Push, portal: http.Site, tmp_path: Path
):
    resource = filled(site, portal.url("/a.csv"))
    front.faults.append(Fault("datastore_create", 403))
    assert push(resource)[0].failed == 1
    site.result("datastore_create", resource_id=resource, force=True, fields=OLD[:1], records=[{"code": "theirs"}])
    before = look(site, resource)
    front.faults[:] = [Fault("datastore_upsert", 409, first=3, times=1)]
    _, jobs = push(resource)
    assert "the table was restored: the 1 rows from before" in failure(jobs)
    assert look(site, resource) == before
    assert nothing_kept(tmp_path)


def test_a_restoration_that_is_cut_short_is_done_again(site: Site, front: Front, tmp_path: Path):
    """What a killed worker leaves: half of the former table, and the head that says so."""
    resource = site.resource()
    given = {"resource_id": resource, "force": True}
    many = [{"code": f"{n:05d}", "n": n} for n in range(2500)]
    site.result("datastore_create", **given, fields=OLD, records=many)
    before = look(site, resource)
    former = FormerTable(Store(str(tmp_path)), front.url, resource)
    with Ckan(front.url, site.token, load({})) as ckan:
        snapshot = TableSnapshot(url=front.url, resource=resource, job="j", hash=before["hash"] or None)
        former.save(ckan, snapshot, lambda: None)
        front.faults.append(Fault("datastore_upsert", 403, first=3, times=1))
        with pytest.raises(Exception, match="answered 403"):
            former.restore(ckan, former.snapshot(), lambda: None)
        assert 0 < site.result("datastore_search", resource_id=resource, limit=0)["total"] < 2500
        assert former.is_partial_load(ckan, former.snapshot())
        former.restore(ckan, former.snapshot(), lambda: None)
    assert look(site, resource) == before
    assert former.snapshot() is None


def test_a_wrong_key_is_told_before_anything_is_fetched(site: Site, push: Push, portal: http.Site):
    resource = filled(site, portal.url("/a.csv"))
    push.site.token = "wrong"  # noqa: S105 - that is the point
    counts, jobs = push(resource)
    assert counts.failed == 1
    assert "does the api_key belong to a user who may edit this resource?" in failure(jobs)
    assert not portal.hits
    assert "Deleting" not in str(jobs.logs())
