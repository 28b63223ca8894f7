"""WCMP2 records: those in order pass, and each rule finds what breaks it, without WMO's tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from datafab.publish.record import judge, judge_file
from datafab.publish.record_rules import check_record, is_record
from datafab.publish.wis2_suite import Wis2Suite
from tests.records import METADATA, RECORD_ID, record

SHARED = Path(__file__).resolve().parents[3].parent / "shared"
BUNDLE, CORPUS = SHARED / "wis2-bundle", SHARED / "corpus" / "wis2"
LINK = {"rel": "items", "href": "https://example.org/argo"}
MQTT = {"rel": "items", "href": "mqtts://example.org", "channel": "origin/a/wis2/fr-ifremer-argo/data/core/ocean"}

needs_corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus is not here")


def without(member: str, **changes: Any) -> list[Any]:
    """Return a list of one contact or theme that lacks a member."""
    (whole,) = record()["properties"][member]
    return [{name: value for name, value in (whole | changes).items() if value is not ...}]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"time": None},
        {"geometry": None},
        {"id": "urn:wmo:md:fr-ifremer-argo:EO:EUM:1"},
        {"geometry": {"type": "Point", "coordinates": [2.3, 48.8, 35]}},
        {"time": {"interval": ["2010-11-11T11:11:11Z", ".."]}},
        {"links": [LINK, MQTT]},
        {"links": [LINK | {"href": "wss://example.org"}]},
        {"wmo:dataPolicy": "recommended", "links": [LINK, LINK | {"rel": "license"}]},
    ],
)
def test_a_record_in_order(tmp_path: Path, changes: dict[str, Any]):
    verdict = judge(record(**changes), Wis2Suite(tmp_path), topic=METADATA)
    assert verdict.findings == []
    assert ".pywcmp" in verdict.missing


@pytest.mark.parametrize(
    ("rule", "field", "changes"),
    [
        ("C3", "id", {"id": ...}),
        ("C1", "id", {"id": 7}),
        ("C1", "id", {"id": "argo"}),
        ("C1", "id", {"id": "urn:wmo:md:fr-ifremer-argo:"}),
        ("C1", "id", {"id": "urn:wmo:md:fr-ifremer-argo:a b"}),
        ("C1", "id", {"id": "urn:wmo:md:fr-ifremer-argo:a;b"}),
        ("C1", "id", {"id": "urn:wmo:md:fr-ifremer-argo:é"}),
        ("C1", "id", {"id": "urn:wmo:md:ifremer:a", "links": [LINK]}),
        ("C1", "id", {"id": "urn:wmo:md:de-dwd:argo", "links": [LINK]}),
        ("C2", "conformsTo", {"conformsTo": ["http://wis.wmo.int/spec/wnm/1/conf/core"]}),
        ("C2", "conformsTo", {"conformsTo": "http://wis.wmo.int/spec/wcmp/2/conf/core"}),
        ("C3", "geometry", {"geometry": ...}),
        ("C3", "geometry.type", {"geometry": {"type": ["Point"], "coordinates": [0, 0]}}),
        ("C3", "geometry.coordinates", {"geometry": {"type": "Point", "coordinates": [-242, 28]}}),
        ("C3", "geometry.coordinates", {"geometry": {"type": "Polygon", "coordinates": []}}),
        ("C3", "time", {"time": ...}),
        ("C3", "time", {"time": "2024"}),
        ("C3", "time", {"time": {"interval": ["2024"]}}),
        ("C3", "time", {"time": {"date": "yesterday"}}),
        ("C3", "time.resolution", {"time": {"interval": ["2024", ".."], "resolution": "P1H"}}),
        ("C3", "properties", {"properties": []}),
        ("C4", "properties.type", {"type": "series"}),
        ("C4", "properties.type", {"type": ["dataset"]}),
        ("C4", "properties.title", {"title": " "}),
        ("C4", "properties.description", {"description": ...}),
        ("C4", "properties.created", {"created": "None"}),
        ("C4", "properties.created", {"created": "2024-13-09T21:08:00Z"}),
        ("C5", "properties.contacts", {"contacts": []}),
        ("C5", "properties.contacts[0].organization", {"contacts": without("contacts", organization=...)}),
        ("C5", "properties.contacts[0].roles", {"contacts": without("contacts", roles=...)}),
        ("C6", "properties.themes", {"themes": ...}),
        ("C6", "properties.themes", {"themes": without("themes", scheme="https://example.org/")}),
        ("C6", "properties.themes[0]", {"themes": without("themes", concepts=[{"title": "ocean"}])}),
        ("C7", "properties.wmo:dataPolicy", {"wmo:dataPolicy": ["core"], "links": [LINK]}),
        ("C7", "links", {"wmo:dataPolicy": "recommended", "links": [LINK]}),
        ("C8", "links", {"links": []}),
        ("C8", "links[0]", {"links": [{"href": "https://example.org/"}]}),
        ("C8", "links[0]", {"links": [LINK | {"rel": ["items"]}]}),
        ("C8", "links[0].channel", {"links": [LINK | {"href": "mqtt://example.org"}]}),
        ("C8", "links[1].channel", {"links": [LINK, MQTT | {"channel": "origin/a/wis2/de-dwd/data/core/ocean"}]}),
        ("C8", "links[0].channel", {"links": [MQTT | {"channel": MQTT["channel"].replace("data/core", "core/data")}]}),
        ("C8", "links[0].channel", {"links": [MQTT | {"href": "wss://example.org", "channel": "origin/a/wis2"}]}),
        ("C8", "links[0].channel", {"links": [MQTT | {"channel": MQTT["channel"].replace("core", "recommended")}]}),
    ],
)
def test_what_breaks_a_rule(rule: str, field: str, changes: dict[str, Any]):
    found = check_record(record(**changes), topic=METADATA)
    assert (rule, field) in {(finding.rule, finding.field) for finding in found}
    assert all(finding.problem and finding.fix for finding in found)


def test_a_record_is_a_feature():
    (finding,) = check_record(record() | {"type": ["Feature"]}, topic=METADATA)
    assert (finding.rule, finding.field) == ("C3", "type")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"id;nom\n1;a\n", "it is not JSON: "),
        (b"[]", "it is not a JSON object"),
        (b'{"id": NaN}', "NaN is not a number"),
        (b'{"id": 1, "id": 2}', "has the member 'id' twice"),
        (b'{"id": "\\ud800"}', "half of a surrogate pair"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}", "nested too deeply"),
        (b"\xff\xfe{\x00}\x00", "utf-8"),
        (b'{"id": 1e999}', "beyond the range of a double"),
    ],
)
def test_what_is_no_record_at_all(tmp_path: Path, data: bytes, says: str):
    _, (findings, _) = judge_file(data, Wis2Suite(tmp_path))
    assert says in findings[0].problem


@pytest.mark.parametrize(
    "coordinates",
    [
        [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]],
        [[[0, 0], [1, 0], [1, 1], [0, 0]], [[5, 5], [6, 5], [6, 6], [5, 5]]],
        [[[0, 0], [1, 1]]],
    ],
)
def test_a_geometry_that_crosses_itself_is_none(tmp_path: Path, coordinates: list[Any]):
    wrong = record(geometry={"type": "Polygon", "coordinates": coordinates})
    (finding,) = judge(wrong, Wis2Suite(tmp_path)).findings
    assert (finding.rule, finding.field) == ("C3", "geometry")


def test_a_record_is_known_by_its_id_or_conformance():
    assert is_record(record())
    assert is_record({"id": RECORD_ID})
    assert not is_record({"id": "x", "conformsTo": "http://wis.wmo.int/spec/wcmp/2/conf/core"})
    assert not is_record([])


def corpus(pattern: str) -> list[str]:
    return sorted(path.name for path in CORPUS.glob(pattern))


@needs_corpus
@pytest.mark.parametrize(
    "name", [*corpus("wcmp2-*.json"), *corpus("pywcmp-wcmp2-passing*.json"), *corpus("ifremer-fr*.json")]
)
def test_real_records_pass(tmp_path: Path, name: str):
    assert judge_file((CORPUS / name).read_bytes(), Wis2Suite(tmp_path))[1].findings == []


@needs_corpus
@pytest.mark.parametrize("name", corpus("pywcmp-wcmp2-failing*.json"))
@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")  # pywcmp, imported
def test_records_that_the_newest_suite_refuses_are_refused(tmp_path: Path, name: str):
    """Also those that the pinned release lets pass; one of them is wrong in WMO's tables only."""
    if BUNDLE.is_dir():
        for folder in ("pywis-pubsub", "pywcmp", "pywis-topics"):
            (tmp_path / f".{folder}").symlink_to(BUNDLE / folder)
    assert judge_file((CORPUS / name).read_bytes(), Wis2Suite(tmp_path))[1].findings


@needs_corpus
@pytest.mark.skipif(not BUNDLE.is_dir(), reason="the suites' data are not here")
@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")  # pywcmp, imported
def test_what_passes_our_rules_and_not_the_suite_is_refused(tmp_path: Path):
    (tmp_path / ".pywcmp").symlink_to(BUNDLE / "pywcmp")
    unknown = record(id="urn:wmo:md:fr-nobody:floats", links=[LINK])
    assert check_record(unknown) == []
    found, missing = judge(unknown, Wis2Suite(tmp_path))
    assert ({finding.rule for finding in found}, missing) == ({"WCMP2 identifier"}, "")
    assert judge(record(), Wis2Suite(tmp_path)) == ([], "")
