"""What is read from a catalogue's pages and from link-proxy's answers, without either."""

from __future__ import annotations

import csv
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from datafab.catalogue.dataset import (
    Resource,
    api_roots,
    bypasses_linkproxy,
    fingerprint,
    is_fetchable,
    is_unchanged,
    matching_pattern,
    parse_moment,
    usable_resources,
)
from datafab.catalogue.linkproxy_checks import Check, Outcome, Webhook, parse_downloads
from datafab.catalogue.pagination import MAX_RESTARTS, CataloguePager, Page, pass_horizon
from datafab.core.item import Dataset
from datafab.errors import Retriable
from datafab.settings import load

CORPUS = Path(__file__).resolve().parents[3].parent / "shared" / "corpus" / "catalogue"
needs_corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus is not here")

DATASET = {"id": "d1", "title": "Jeu", "organization": {"name": "Insee"}}
RESOURCE = {
    "id": "r1",
    "title": "a.csv",
    "url": "https://files.example.fr/a.csv",
    "format": "csv",
    "mime": "text/csv",
    "filesize": 12,
    "checksum": {"type": "sha1", "value": "ab12"},
    "last_modified": "2026-11-20T05:12:00.104000+00:00",
    "harvest": {"modified_at": "2026-11-19T00:00:00+00:00"},
}
POLLUTANTS = "resources/donnees-temps-reel-de-mesure-des-concentrations-de-polluants-atmospheriques-reglementes-1"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def read(**fields: Any) -> Resource:
    return Resource.parse(DATASET, RESOURCE | fields)


class TestResource:
    def test_all_that_it_says(self):
        assert read() == Resource(
            dataset=Dataset(id="d1", title="Jeu", organisation="Insee"),
            id="r1",
            title="a.csv",
            url="https://files.example.fr/a.csv",
            format="csv",
            mime="text/csv",
            filesize=12,
            checksum="sha1:ab12",
            last_modified=datetime(2026, 11, 20, 5, 12, 0, 104000, tzinfo=UTC),
            harvest_modified=datetime(2026, 11, 19, tzinfo=UTC),
        )

    @pytest.mark.parametrize(
        ("name", "given", "expected"),
        [
            *((name, None, None) for name in ("title", "url", "format", "mime", "filesize", "checksum")),
            ("format", " CSV ", "csv"),
            ("format", "", None),
            ("format", ["csv"], None),
            ("mime", "Text/CSV; charset=UTF-8", "text/csv; charset=utf-8"),
            ("filesize", "1024", 1024),
            ("filesize", 12.0, 12),
            ("filesize", 754169962, 754169962),
            ("filesize", -1, None),
            ("filesize", True, None),
            ("filesize", "12 Ko", None),
            ("filesize", "9" * 5000, None),
            ("filesize", float("nan"), None),
            ("filesize", float("inf"), None),
            ("checksum", {"type": "SHA256", "value": "AB"}, "sha256:ab"),
            ("checksum", {"type": None, "value": "ab"}, "?:ab"),
            ("checksum", {"type": "sha1", "value": None}, None),
            ("checksum", "AB", "ab"),
            ("checksum", 7, None),
            ("url", "ftp://files.example.fr/a", "ftp://files.example.fr/a"),
            ("url", {"href": "x"}, None),
            ("last_modified", None, None),
            ("last_modified", 1700000000, None),
            ("harvest_modified", None, None),
        ],
    )
    def test_odd_values(self, name: str, given: Any, expected: Any):
        changed = {"harvest": given} if name == "harvest_modified" else {name: given}
        assert getattr(read(**changed), name) == expected

    @pytest.mark.parametrize("organisation", [None, [], "Insee", {"name": None}, {}])
    def test_no_organisation(self, organisation: Any):
        assert Resource.parse(DATASET | {"organization": organisation}, RESOURCE).dataset.organisation is None

    @pytest.mark.parametrize(
        ("dataset", "ids"),
        [
            (DATASET | {"resources": [RESOURCE, RESOURCE | {"id": "r2"}]}, ["r1", "r2"]),
            (DATASET | {"resources": [None, 3, {}, {"id": None}, {"id": "r3"}]}, ["r3"]),
            (DATASET | {"resources": {"rel": "subsection", "href": "…", "total": 3}}, []),
            (DATASET | {"resources": None}, []),
            (DATASET, []),
            ({"id": None, "resources": [RESOURCE]}, []),
        ],
    )
    def test_what_has_no_id_is_left_out(self, dataset: dict[str, Any], ids: list[str]):
        assert [Resource.parse(*raw).id for raw in usable_resources(dataset)] == ids

    @given(
        st.dictionaries(
            st.sampled_from(sorted(RESOURCE)),
            st.recursive(
                st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=40),
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
            ),
        )
    )
    def test_nothing_stops_it(self, fields: dict[str, Any]):
        for dataset, resource in usable_resources(DATASET | {"resources": [RESOURCE | fields]}):
            assert len(fingerprint(resource)) == 32
            assert Resource.parse(dataset, resource).id == resource["id"].strip()

    @needs_corpus
    def test_real_datasets(self):
        found: list[Resource] = []
        prints: set[str] = set()
        for each in json.loads((CORPUS / "udata-fixtures-results.json").read_bytes())["datasets"]:
            dataset = each["dataset"] | {"resources": each["resources"], "organization": each["organization"]}
            found += (Resource.parse(*raw) for raw in usable_resources(dataset))
            prints |= {fingerprint(resource) for _, resource in usable_resources(dataset)}
        assert len(found) == len(prints) == 99
        assert all(resource.last_modified and resource.last_modified.tzinfo is UTC for resource in found)
        assert all(
            resource.dataset.organisation and resource.title and is_fetchable(resource.url) for resource in found
        )
        assert sum(resource.filesize is None for resource in found) == 32
        assert sum(resource.harvest_modified is not None for resource in found) > 3
        assert any(bypasses_linkproxy(resource.url or "") for resource in found)

    @needs_corpus
    @pytest.mark.parametrize("name", ["hydra-catalog.csv", "hydra-catalog_harvested.csv"])
    def test_dates_of_the_exported_catalogue(self, name: str):
        with (CORPUS / name).open(encoding="utf-8", newline="") as file:
            cells = [cell for row in csv.reader(file, delimiter=";") for cell in row]
        texts = [cell for cell in cells if re.match(r"\d{4}-\d\d-\d\dT", cell)]
        assert texts
        for text in texts:
            found = parse_moment(text)
            assert found is not None
            assert found.tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-20T12:00:00+00:00", NOON),
        ("2026-11-20T12:00:00Z", NOON),
        ("2026-11-20T12:00:00.000Z", NOON),
        ("2026-11-20T12:00:00", NOON),
        ("2026-11-20 13:00:00+01", NOON),
        ("2026-11-20T13:00:00.000000+01:00", NOON),
        ("2026-11-20", NOON - timedelta(hours=12)),
        ("0001-01-01T00:00:00+14:00", None),
        ("20 novembre 2026", None),
        ("", None),
        (None, None),
        (12, None),
    ],
)
def test_dates_have_a_zone(text: Any, expected: datetime | None):
    assert parse_moment(text) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("https://www.data.gouv.fr/api/1", ("https://www.data.gouv.fr/api/1", "https://www.data.gouv.fr/api/2")),
        ("https://www.data.gouv.fr/api/1/", ("https://www.data.gouv.fr/api/1", "https://www.data.gouv.fr/api/2")),
        ("https://www.data.gouv.fr/api/2/", ("https://www.data.gouv.fr/api/1", "https://www.data.gouv.fr/api/2")),
        ("http://h:7000/api/1/udata/api/1//", ("http://h:7000/api/1/udata/api/1", "http://h:7000/api/1/udata/api/2")),
        ("http://h/api/1x", ("http://h/api/1x", None)),
        ("http://h", ("http://h", None)),
        ("http://h/", ("http://h", None)),
    ],
)
def test_the_roots_of_both_apis(given: str, expected: tuple[str, str | None]):
    assert api_roots(given) == expected


class TestFingerprint:
    @pytest.mark.parametrize(
        "change",
        [
            {"url": "https://files.example.fr/b.csv"},
            {"last_modified": NOON.isoformat()},
            {"last_modified": None},
            {"filesize": 13},
            {"filesize": None},
            {"checksum": {"type": "sha1", "value": "ab13"}},
            {"checksum": None},
        ],
    )
    def test_changes_with_the_file(self, change: dict[str, Any]):
        assert fingerprint(RESOURCE | change) != fingerprint(RESOURCE)

    @pytest.mark.parametrize(
        "change",
        [
            {"title": "autre"},
            {"mime": None},
            {"format": "tsv"},
            {"last_modified": "2026-11-20T06:12:00.104+01:00"},
            {"harvest": None},
            {"checksum": {"type": "SHA1", "value": "AB12"}},
        ],
    )
    def test_does_not_change_with_how_it_is_told(self, change: dict[str, Any]):
        assert fingerprint(RESOURCE | change) == fingerprint(RESOURCE)

    def test_is_the_same_tomorrow(self):
        assert fingerprint(RESOURCE) == "500636b9cd4495fece6819420b09db13"

    def test_knows_a_date_again_without_its_zone(self):
        # As the exported list has it.
        dates = ("2026-11-20T05:12:00.104000+00:00", "2026-11-20T05:12:00.104000", "2026-11-20T06:12:00.104+01:00")
        assert len({fingerprint(RESOURCE | {"last_modified": date}) for date in dates}) == 1


DATE, LATER = "Fri, 20 Nov 2026 05:12:00 GMT", "Fri, 20 Nov 2026 05:13:00 GMT"


@pytest.mark.parametrize(
    ("etag", "modified", "headers", "expected"),
    [
        ('"a"', None, {"ETag": '"a"'}, True),
        ('W/"a"', None, {"etag": '"a"', "Content-Length": "9"}, True),
        ('"a"', DATE, {"ETag": '"b"', "Last-Modified": DATE, "Content-Length": "7"}, False),
        (None, DATE, {"Last-Modified": DATE, "Content-Length": "7"}, True),
        ('"a"', DATE, {"last-modified": DATE}, True),
        (None, DATE, {"Last-Modified": DATE, "Content-Length": "8"}, False),
        (None, DATE, {"Last-Modified": DATE, "Content-Length": "8", "Content-Encoding": "gzip"}, True),
        (None, DATE, {"Last-Modified": LATER, "Content-Length": "7"}, False),
        (None, None, {"Last-Modified": DATE, "ETag": '"a"', "Content-Length": "7"}, False),
        (None, None, {"Content-Length": "7"}, False),
        ("", "", {"ETag": "", "Last-Modified": ""}, False),
    ],
)
def test_what_the_head_of_an_answer_tells(
    etag: str | None, modified: str | None, headers: dict[str, str], expected: bool
):
    assert is_unchanged(etag, modified, 7, headers) is expected


class TestAddresses:
    @pytest.mark.parametrize(
        ("url", "good"),
        [
            ("https://a.fr/x", True),
            ("HTTP://a.fr", True),
            ("ftp://a.fr/x", False),
            ("www.a.fr/x", False),
            ("", False),
            (None, False),
        ],
    )
    def test_fetchable(self, url: str | None, good: bool):
        assert is_fetchable(url) is good

    @pytest.mark.parametrize(
        ("url", "without"),
        [
            ("https://data.gouv.fr/x", True),
            ("https://www.data.gouv.fr/fr/datasets/r/1", True),
            ("https://STATIC.Data.Gouv.FR/a.csv", True),
            ("https://static.data.gouv.fr:8443/a.csv", True),
            ("https://user:word@static.data.gouv.fr./a.csv", True),
            ("https://osm13.openstreetmap.fr/x", True),
            ("https://openstreetmap.fr/x", False),
            ("https://opendata.gouv.fr/x", False),
            ("https://data.gouv.fr.example.org/x", False),
            ("https://example.org/data.gouv.fr", False),
            ("https://example.org/BDTOPO.7z.001", True),
            ("https://example.org/BDTOPO.7z", False),
            ("https://example.org/a?x=.7z.001", False),
            ("https://[broken", True),
        ],
    )
    def test_direct(self, url: str, without: bool):
        assert bypasses_linkproxy(url) is without

    @pytest.mark.parametrize(
        ("url", "by"),
        [
            ("https://files.data.gouv.fr/lcsqa/concentrations-de-polluants-atmospheriques-reglementes/temps-reel", 1),
            (f"https://static.data.gouv.fr/{POLLUTANTS}/x", 0),
            ("https://files.geo.data.gouv.fr/link-proxy/a.csv", 2),
            ("https://files.data.gouv.fr/lcsqa/autre", None),
        ],
    )
    def test_excluded_as_the_original_does(self, url: str, by: int | None):
        patterns = load({}).catalogue_exclude
        assert matching_pattern(url, patterns) == (None if by is None else patterns[by])

    def test_nothing_excluded(self):
        assert matching_pattern("https://a.fr", load({"DATAFAB_CATALOGUE_EXCLUDE": ","}).catalogue_exclude) is None
        assert (
            matching_pattern("https://a.fr/bc", load({"DATAFAB_CATALOGUE_EXCLUDE": "x,/b"}).catalogue_exclude) == "/b"
        )


class Shelf:
    """A list of datasets, newest first, read in pages of two."""

    def __init__(self, count: int = 6) -> None:
        self.rows = [(f"d{n}", NOON - timedelta(days=n)) for n in range(count)]
        self.total: int | None = count
        self.reads = 0

    def page(self, url: str | None) -> Page:
        self.reads += 1
        number = int(url or 1)
        found = self.rows[2 * number - 2 : 2 * number]
        datasets = [{"id": name, "last_update": at.isoformat()} for name, at in found]
        following = str(number + 1) if 2 * number < len(self.rows) else None
        return Page(datasets=datasets, next_page=following, total=self.total)

    def walk(self, pager: CataloguePager, *, between: dict[int, Any] | None = None) -> list[str]:
        told: list[str] = []
        while not pager.finished:
            told += [dataset["id"] for dataset in pager.accept(self.page(pager.url))]
            (between or {}).get(self.reads, lambda: None)()
            assert self.reads < 100
        return told

    def remove(self, name: str) -> None:
        self.rows = [row for row in self.rows if row[0] != name]
        self.total = len(self.rows)

    def change(self, name: str) -> None:
        self.rows = [(name, NOON + timedelta(days=1)), *(row for row in self.rows if row[0] != name)]


class TestWalk:
    def test_all_of_it_in_its_order(self):
        shelf, pager = Shelf(), CataloguePager(None)
        assert shelf.walk(pager) == ["d0", "d1", "d2", "d3", "d4", "d5"]
        assert shelf.reads == 4  # the top is read once more at the end

    @pytest.mark.parametrize(("count", "reads"), [(0, 1), (1, 1), (2, 1), (3, 3)])
    def test_a_short_list(self, count: int, reads: int):
        shelf = Shelf(count)
        assert shelf.walk(CataloguePager(None)) == [f"d{n}" for n in range(count)]
        assert shelf.reads == reads

    @pytest.mark.parametrize(
        ("hours", "told"),
        [(25, ["d0", "d1"]), (24, ["d0", "d1"]), (23, ["d0"]), (72, ["d0", "d1", "d2", "d3"]), (73, 4), (0, ["d0"])],
    )
    def test_as_far_back_as_asked(self, hours: int, told: list[str] | int):
        expected = [f"d{n}" for n in range(told)] if isinstance(told, int) else told
        assert Shelf().walk(CataloguePager(NOON - timedelta(hours=hours))) == expected

    def test_the_overlap_is_read_again(self):
        assert pass_horizon(NOON, timedelta(hours=24)) == NOON - timedelta(days=1)
        assert pass_horizon(None, timedelta(hours=24)) is None

    def test_stops_reading_when_it_is_old_enough(self):
        shelf = Shelf(40)
        shelf.walk(CataloguePager(NOON - timedelta(days=1)))
        assert shelf.reads == 3  # two pages and the top again

    def test_dates_that_are_not_there_end_nothing(self):
        page = Page([{"id": "a", "last_update": None}, {"id": "b"}, {"id": "c", "last_update": "x"}], "2", 3)
        pager = CataloguePager(NOON)
        assert [each["id"] for each in pager.accept(page)] == ["a", "b", "c"]
        assert (pager.finished, pager.url) == (False, "2")

    def test_one_old_row_among_newer_ones_ends_nothing(self):
        old, new = (NOON - timedelta(days=9)).isoformat(), NOON.isoformat()
        pager = CataloguePager(NOON)
        page = Page([{"id": "a", "last_update": old}, {"id": "b", "last_update": new}], "2", 3)
        assert [each["id"] for each in pager.accept(page)] == ["b"]
        assert pager.url == "2"

    def test_what_shifts_down_is_told_once(self):
        shelf, pager = Shelf(), CataloguePager(None)
        told = shelf.walk(pager, between={1: lambda: shelf.change("d4")})
        assert sorted(told) == ["d0", "d1", "d2", "d3", "d4", "d5"]

    def test_what_shifts_up_is_not_missed(self):
        shelf, pager = Shelf(), CataloguePager(None)
        told = shelf.walk(pager, between={1: lambda: shelf.remove("d0")})
        assert sorted(told) == ["d0", "d1", "d2", "d3", "d4", "d5"]

    def test_a_change_that_the_total_hides_is_seen_at_the_top(self):
        shelf, pager = Shelf(), CataloguePager(None)

        def swap() -> None:
            shelf.remove("d0")
            shelf.rows.insert(0, ("new", NOON + timedelta(days=1)))
            shelf.rows[1:3] = shelf.rows[2:0:-1]
            shelf.total = 6

        told = shelf.walk(pager, between={1: swap})
        assert sorted(told) == ["d0", "d1", "d2", "d3", "d4", "d5", "new"]

    def test_a_list_that_never_rests_is_read_to_its_end_nevertheless(self):
        shelf, pager = Shelf(8), CataloguePager(None)

        def shrink() -> None:
            shelf.total = 100 + shelf.reads

        told = shelf.walk(pager, between=dict.fromkeys(range(100), shrink))
        assert sorted(told) == [f"d{n}" for n in range(8)]
        assert shelf.reads <= (MAX_RESTARTS + 1) * 5

    def test_a_list_that_changes_with_each_page_comes_to_its_end(self):
        shelf, pager = Shelf(40), CataloguePager(NOON - timedelta(days=30))
        changes = {read: lambda read=read: shelf.change(f"d{20 + read % 5}") for read in range(99)}
        told = shelf.walk(pager, between=changes)
        assert set(told) >= {f"d{n}" for n in range(20)}
        assert pager.finished
        assert shelf.reads <= (MAX_RESTARTS + 1) * 20 + 1

    def test_goes_on_in_another_process(self):
        shelf, pager = Shelf(), CataloguePager(None)
        told = [each["id"] for each in pager.accept(shelf.page(pager.url))]
        told += [each["id"] for each in pager.accept(shelf.page(pager.url))]
        state = json.loads(json.dumps(pager.state()))
        told += shelf.walk(CataloguePager(None, state))
        assert list(dict.fromkeys(told)) == ["d0", "d1", "d2", "d3", "d4", "d5"]
        assert len(json.dumps(state)) < 200
        assert CataloguePager(None, CataloguePager(None, state).state()).state() == state

    def test_what_is_over_stays_over(self):
        pager = CataloguePager(None)
        Shelf().walk(pager)
        assert CataloguePager(None, pager.state()).finished

    @pytest.mark.parametrize("leads", ["2", "3"])
    def test_a_loop_of_pages_is_refused(self, leads: str):
        pager = CataloguePager(None)
        pager.accept(Page([{"id": "a"}], "2", 9))
        if leads == "3":
            pager.accept(Page([{"id": "b"}], leads, 9))
        with pytest.raises(Retriable, match="form a loop") as error:
            pager.accept(Page([{"id": "c"}], leads, 9))
        assert error.value.field == leads

    def test_an_empty_page_is_the_end(self):
        pager = CataloguePager(None)
        pager.accept(Page([{"id": "a"}], "2", 9))
        pager.accept(Page([], "3", 9))
        assert pager.url is None
        pager.accept(Page([{"id": "a"}], "2", 9))
        assert pager.finished

    @example(moves=[("change", 2), ("change", 1), ("change", 0)], every=1)  # the same one is first again
    @given(
        st.lists(st.tuples(st.sampled_from(["remove", "change"]), st.integers(0, 11)), max_size=6), st.integers(1, 7)
    )
    def test_nothing_that_stays_is_missed_by_a_list_that_comes_to_rest(self, moves, every: int):
        shelf, pager = Shelf(12), CataloguePager(None)
        planned = {
            n * every: (
                lambda kind=kind, row=row: getattr(shelf, kind)(f"d{row}") if f"d{row}" in dict(shelf.rows) else 0
            )
            for n, (kind, row) in enumerate(moves[:MAX_RESTARTS], 1)
        }
        told = shelf.walk(pager, between=planned)
        assert len(told) == len(set(told))
        assert set(dict(shelf.rows)) <= set(told)


class TestLinkProxy:
    @pytest.mark.parametrize(
        ("state", "outcome", "says"),
        [
            ("started", Outcome.WAIT, "is fetching"),
            ("analyzing", Outcome.WAIT, "is analysing"),
            ("finished", Outcome.DOWNLOADS, "has checked it"),
            ("errored", Outcome.DIRECT, "could not fetch it: boom"),
            ("blacklisted", Outcome.DIRECT, "does not fetch from this host"),
            ("unsupported", Outcome.DIRECT, "does not support"),
            ("skipped", Outcome.FRESH, "not long ago"),
            ("archived", Outcome.DIRECT, "unknown state 'archived'"),
        ],
    )
    def test_every_state_has_its_outcome(self, state: str, outcome: Outcome, says: str):
        check = Check.parse({"number": 3, "state": state, "error": "boom" if state == "errored" else None})
        assert check is not None
        assert check.outcome is outcome
        assert says in check.reason

    def test_an_error_without_words_has_its_status(self):
        check = Check.parse({"number": 3, "state": "errored", "statusCode": 404})
        assert check is not None
        assert check.reason.endswith(": HTTP status 404")

    @pytest.mark.parametrize("document", [{}, {"number": "3", "state": "finished"}, {"number": 3, "state": None}])
    def test_no_check(self, document: dict[str, Any]):
        assert Check.parse(document) is None

    @pytest.mark.parametrize(
        ("number", "created", "later"),
        [(3, 0, True), (2, 0, False), (1, 0, False), (2, 5, True), (1, 5, True), (2, -5, False), (2, None, False)],
    )
    def test_a_check_of_before_is_told_from_ours(self, number: int, created: int | None, later: bool):
        def check(number: int, created: int | None) -> Check:
            at = None if created is None else (NOON + timedelta(seconds=created)).isoformat()
            found = Check.parse({"number": number, "state": "finished", "createdAt": at})
            assert found is not None
            return found

        assert check(number, created).is_later_than(check(2, 0)) is later
        assert check(number, created).is_later_than(None)

    def test_all_downloads(self):
        files = [{"name": "a.csv", "size": 3, "digest": "sha384-A"}]
        listed = [
            {
                "_id": "1",
                "name": "a",
                "type": "csv",
                "archive": False,
                "files": files,
                "url": "http://s/1",
                "etag": "e",
            },
            {
                "_id": "2",
                "name": "b",
                "type": "shp",
                "archive": True,
                "files": ["b.shp"],
                "url": "http://s/2",
                "etag": "f",
            },
            {"_id": "3", "url": None},
            None,
            {"_id": "1", "url": "http://s/1", "files": files},
            {"url": "http://s/4", "files": None},
        ]
        found = parse_downloads({"downloads": listed})
        assert [(each.id, each.url, each.type, each.archive, each.version) for each in found] == [
            ("1", "http://s/1", None, False, "sha384-A"),
            ("2", "http://s/2", "shp", True, "f"),
            ("http://s/4", "http://s/4", None, False, "http://s/4"),
        ]

    @pytest.mark.parametrize("link", [{}, {"downloads": None}, {"downloads": "x"}])
    def test_no_downloads(self, link: dict[str, Any]):
        assert parse_downloads(link) == ()

    @pytest.mark.parametrize(
        ("body", "ids"),
        [
            ({"check": {"linkId": "a1", "number": 3}, "links": ["a1", "b2"]}, ("a1", "b2")),
            ({"check": {"linkId": "a1", "number": 3}, "links": ["b2", "b2"], "more": 1}, ("a1", "b2")),
            ({"check": {"linkId": "a1", "number": 3, "state": None, "options": {"noCache": False}}}, ("a1",)),
        ],
    )
    def test_a_webhook_names_all_links(self, body: dict[str, Any], ids: tuple[str, ...]):
        webhook = Webhook.model_validate_json(json.dumps(body))
        assert webhook.ids == ids
        assert webhook.key == "link-proxy:a1:3"

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"[]",
            b'{"links": []}',
            b'{"check": {"linkId": "a"}}',
            b'{"check": {"linkId": "../a", "number": 1}}',
            b'{"check": {"linkId": "a\\n", "number": 1}}',
            b'{"check": {"linkId": "", "number": 1}}',
            b'{"check": {"linkId": "a", "number": "x"}}',
            b'{"check": {"linkId": "a", "number": 1}, "links": [1]}',
            b'{"check": {"linkId": "a", "number": 1}, "links": ["a b"]}',
            b'{"check": {"linkId": "a", "number": 1}, "links": [' + b'"a",' * 10_000 + b'"a"]}',
        ],
    )
    def test_what_is_no_webhook(self, body: bytes):
        with pytest.raises(ValidationError):
            Webhook.model_validate_json(body)
