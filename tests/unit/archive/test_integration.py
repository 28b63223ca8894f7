"""Plans of archives, what statuses mean, and extents that are small enough."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datafab.archive.extent import count_points, simplify
from datafab.archive.integration import Outcome, execution_outcome, read_plan, upload_outcome
from datafab.archive.upload_content import Content, Part, Steps
from datafab.core.backoff import pause_seconds
from datafab.core.services import Services
from datafab.errors import Fatal, FlowError, NotFound
from datafab.flows.registry import localise
from datafab.settings import load

SHA = "a" * 64
INTEGRATION = {"name": "CANTON_2026", "files": ["https://example.org/d/CANTON.zip"], "output": {"name": "CANTON"}}


def plan(**changes: object) -> dict:
    return {"integrations": [INTEGRATION | changes]}


def test_a_plan_has_the_usual_where_nothing_is_said():
    (found,) = read_plan(plan(), "plan.json").integrations
    assert (found.srs, found.output.storage_tags, found.keep_upload) == ("EPSG:4326", ("ARCHIVE",), False)
    assert found.processing == "12cdc646-3976-4f18-b273-f34fca37e2a6"
    assert [file.name for file in found.files] == ["CANTON.zip"]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "p.json: the plan: Input should be a valid"),
        ({}, "p.json: integrations: Field required"),
        ({"integrations": []}, "p.json: integrations: Tuple should have at least 1 item"),
        ({"integrations": [{}]}, "p.json: integrations, 1, name: Field required"),
        (plan(output={}), "p.json: integrations, 'CANTON_2026', output, name: Field required"),
        (plan(colour="red"), "p.json: integrations, 'CANTON_2026', colour: Extra inputs are not permitted"),
        (plan(files=[]), "'CANTON_2026', files: Tuple should have at least 1 item"),
        (plan(files=[{"path": "a.zip"}]), "files, 0: Value error, give a path, a URL, or store and sha256"),
        (plan(files=["https://example.org/"]), "'https://example.org/' does not name a file"),
        (plan(files=["http://[::1/a.zip"]), "'http://[::1/a.zip' does not name a file"),
        (plan(files=["https://e.org/a/x.zip", "https://e.org/b/x.zip"]), "two files are called 'x.zip'"),
        (plan(files=["https://e.org/__x.zip"]), "no file is left: names that start with __ are ignored"),
        (plan(files=[{"path": "x", "store": "file:///s", "sha256": "1"}]), "files, 0, sha256: String should match"),
        (plan(srs="Lambert 93"), "srs: String should match pattern"),
        (plan(edition={"from": "hier", "to": "2026-01-01"}), "edition, from: Input should be a valid date"),
        ({"integrations": [INTEGRATION, INTEGRATION]}, "two integrations are called 'CANTON_2026'"),
        ({"integrations": [INTEGRATION, INTEGRATION | {"name": "b"}]}, "two outputs are called 'CANTON'"),
    ],
)
def test_a_plan_that_is_no_good_says_where(document, said):
    with pytest.raises(FlowError) as raised:
        read_plan(document, "p.json")
    assert said in raised.value.message
    assert raised.value.code == "bad_plan"


@pytest.mark.parametrize(
    ("execution", "stored", "outcome"),
    [
        ("CREATED", "CREATED", Outcome.IN_PROGRESS),
        ("WAITING", "CREATED", Outcome.IN_PROGRESS),
        ("PROGRESS", "GENERATING", Outcome.IN_PROGRESS),
        ("SUCCESS", "CREATED", Outcome.IN_PROGRESS),
        ("SUCCESS", "MODIFYING", Outcome.IN_PROGRESS),
        ("SUCCESS", "GENERATED", Outcome.DONE),
        ("SUCCESS", "UNSTABLE", Outcome.FAILED),
        ("SUCCESS", "DELETED", Outcome.FAILED),
        ("FAILURE", "GENERATED", Outcome.FAILED),
        ("ABORTED", "UNSTABLE", Outcome.FAILED),
        ("REQUEUED", "CREATED", Outcome.UNKNOWN),
        ("SUCCESS", "ELSEWHERE", Outcome.UNKNOWN),
    ],
)
def test_an_execution_is_done_when_its_output_is(execution, stored, outcome):
    assert execution_outcome(execution, stored) is outcome


@pytest.mark.parametrize(
    ("status", "checks", "outcome"),
    [
        ("CLOSED", {}, Outcome.DONE),
        ("CLOSED", {"passed": [1]}, Outcome.DONE),
        ("CLOSED", {"failed": [1]}, Outcome.FAILED),
        ("CLOSED", {"asked": [1]}, Outcome.IN_PROGRESS),
        ("CHECKING", {"in_progress": [1]}, Outcome.IN_PROGRESS),
        ("CHECKING", {"failed": [1]}, Outcome.FAILED),
        ("UNSTABLE", {}, Outcome.FAILED),
        ("FROZEN", {}, Outcome.UNKNOWN),
    ],
)
def test_an_upload_is_good_when_it_is_closed_and_no_check_has_failed(status, checks, outcome):
    assert upload_outcome(status, checks) is outcome


A, B = Part("a.zip", 3, "0a"), Part("b.zip", 5, "0b")
CONTENT = Content((A, B))
OTHER = "datafab-0000000000000000.md5"
WHOLE = {"data/a.zip": 3, "data/b.zip": 5, CONTENT.sums: 30}


@pytest.mark.parametrize(
    ("tree", "remove", "remove_sums", "push", "push_sums"),
    [
        ({}, [], [], [A, B], True),
        ({"data/a.zip": 3}, [], [], [B], True),
        (WHOLE, [], [], [], False),
        (WHOLE | {"data/b.zip": 4}, ["data/b.zip"], [], [B], False),
        (WHOLE | {"data/c.zip": 1}, ["data/c.zip"], [], [], False),
        # Beside the sums of another content nothing is trusted, nor beside those of somebody else.
        ({"data/a.zip": 3, OTHER: 9}, ["data/a.zip"], [OTHER], [A, B], True),
        (WHOLE | {"md5sum.md5": 9}, ["data/a.zip", "data/b.zip"], ["md5sum.md5"], [A, B], False),
    ],
)
def test_what_is_there_is_not_sent_again(tree, remove, remove_sums, push, push_sums):
    assert CONTENT.steps(tree) == Steps(remove, remove_sums, push, push_sums)


@pytest.mark.parametrize(
    ("tree", "held"),
    [
        (WHOLE, True),
        ({"data/a.zip": 3, "data/b.zip": 5}, True),  # one that does not tell its lists
        (WHOLE | {"data/b.zip": 4}, False),
        (WHOLE | {"data/c.zip": 1}, False),
        ({"data/a.zip": 3}, False),
        ({"data/a.zip": 3, "data/b.zip": 5, OTHER: 30}, False),
        (WHOLE | {"CANTON.md5": 30}, False),
        ({}, False),
    ],
)
def test_an_upload_of_other_files_is_told_apart(tree, held):
    assert CONTENT.held(tree) is held


def test_the_sums_name_their_content_whatever_its_order():
    assert Content((B, A)).sums == CONTENT.sums
    assert Content((A, Part("b.zip", 5, "0c"))).sums != CONTENT.sums


@pytest.mark.parametrize(
    ("looks", "seconds"), [(0, 2.0), (1, 3.0), (2, 4.5), (8, 51.2578125), (9, 60.0), (100_000, 60.0)]
)
def test_looks_come_ever_later(looks, seconds):
    assert pause_seconds(looks, 2.0, 60.0) == seconds


def circle(count: int, radius: float = 1.0) -> list[list[float]]:
    ring = [
        [radius * math.cos(2 * math.pi * n / count), radius * math.sin(2 * math.pi * n / count)] for n in range(count)
    ]
    return [*ring, ring[0]]


@pytest.mark.parametrize(
    "geometry",
    [
        {"type": "Polygon", "coordinates": [circle(20_000)]},
        {"type": "Polygon", "coordinates": [circle(9_000), circle(9_000, 0.5)]},
        {"type": "MultiPolygon", "coordinates": [[circle(30, 0.1)] for _ in range(400)]},
        {"type": "LineString", "coordinates": circle(8_000)[:-1]},
        {"type": "MultiLineString", "coordinates": [circle(8_000)[:-1]] * 3},
    ],
)
def test_an_extent_is_thinned_to_what_is_taken(geometry):
    thin = simplify(geometry)
    assert thin["type"] == geometry["type"]
    assert count_points(thin["coordinates"]) <= 5000
    lines = thin["coordinates"] if geometry["type"].startswith(("Polygon", "MultiLine")) else [thin["coordinates"]]
    if geometry["type"] == "Polygon":
        assert all(ring[0] == ring[-1] and len(ring) >= 4 for ring in lines)
        assert max(math.dist(point, (0, 0)) for point in lines[0]) == pytest.approx(1, abs=1e-6)


def test_a_small_extent_stays_as_it_is():
    geometry = {"type": "Polygon", "coordinates": [circle(4_999)]}
    assert simplify(geometry) is geometry


@pytest.mark.parametrize(
    ("geometry", "said"),
    [
        ({"type": "Feature"}, "'Feature' is not a GeoJSON geometry"),
        ({"type": "Polygon"}, "with coordinates"),
        (
            {"type": "MultiPolygon", "coordinates": [[circle(3)] for _ in range(2_000)]},
            "it still has 8000 points",
        ),
        ({"type": "MultiPoint", "coordinates": [[n, n] for n in range(6_000)]}, "too many parts"),
    ],
)
def test_an_extent_that_cannot_be_taken_says_so(geometry, said):
    with pytest.raises(Fatal) as raised:
        simplify(geometry)
    assert said in raised.value.message


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=4, max_size=200), st.integers(4, 30))
def test_a_ring_stays_a_ring(positions, most):
    ring = [list(position) for position in [*positions, positions[0]]]
    (thin,) = simplify({"type": "Polygon", "coordinates": [ring]}, most)["coordinates"]
    assert 4 <= len(thin) <= max(most, 4)
    assert thin[0] == thin[-1] == ring[0]
    assert all(position in ring for position in thin)


class TestFilesOfThisHost:
    @pytest.fixture
    def services(self, tmp_path: Path) -> Services:
        return Services(load({}, home=tmp_path / "home"))

    def written(self, folder: Path, document: object) -> str:
        (folder / "plan.json").write_text(json.dumps(document), encoding="utf-8")
        return str(folder / "plan.json")

    def test_go_into_the_store(self, services: Services, tmp_path: Path):
        (tmp_path / "é.zip").write_bytes(b"PK")
        given = localise("archive", {"plan": self.written(tmp_path, plan(files=["é.zip"]))}, services)
        store = services.store(services.settings.store)
        kept = json.loads(store.read_list(given["plan"].removeprefix("list:").partition("#")[0]))
        (file,) = kept["integrations"][0]["files"]
        assert (file["path"], file["size"]) == ("é.zip", 2)
        with store.open(file["sha256"]) as opened:
            assert opened.read() == b"PK"
        assert localise("archive", given, services) == given

    @pytest.mark.parametrize(
        ("name", "error", "said"),
        [("absent.zip", NotFound, "absent.zip: No such file"), (".", NotFound, "is a folder, not a regular file")],
    )
    def test_must_be_there(self, services: Services, tmp_path: Path, name, error, said):
        with pytest.raises(error, match=said):
            localise("archive", {"plan": self.written(tmp_path, plan(files=[name]))}, services)

    def test_so_must_the_plan(self, services: Services, tmp_path: Path):
        with pytest.raises(NotFound, match=r"absent\.json: No such file"):
            localise("archive", {"plan": str(tmp_path / "absent.json")}, services)
        (tmp_path / "plan.json").write_bytes(b"{")
        with pytest.raises(FlowError, match=r"plan\.json: not JSON"):
            localise("archive", {"plan": str(tmp_path / "plan.json")}, services)
