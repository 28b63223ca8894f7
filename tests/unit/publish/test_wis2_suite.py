"""WMO's own suites, with their data laid out in a home."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datafab.publish.wis2_suite import Wis2Suite

SHARED = Path(__file__).resolve().parents[3].parent / "shared"
BUNDLE, CORPUS = SHARED / "wis2-bundle", SHARED / "corpus" / "wis2"
TOPIC = "origin/a/wis2/fr-ifremer-argo/data/core/ocean/surface-based-observations/drifting-ocean-profilers"

pytestmark = [
    pytest.mark.skipif(not (BUNDLE.is_dir() and CORPUS.is_dir()), reason="the suites' data are not here"),
    pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning"),  # pywis-pubsub and pywcmp, imported
]


@pytest.fixture
def suite(tmp_path: Path) -> Wis2Suite:
    for name in ("pywis-pubsub", "pywcmp", "pywis-topics"):
        (tmp_path / f".{name}").symlink_to(BUNDLE / name)
    return Wis2Suite(tmp_path)


#: Records that later releases of pywcmp refuse, and this one does not.
LET_PASS = {
    "pywcmp-wcmp2-failing-invalid-geometry-validity.json",
    "pywcmp-wcmp2-failing-invalid-link-channel-wis2-topic-wss.json",
}


def corpus(pattern: str) -> list[str]:
    return sorted(path.name for path in CORPUS.glob(pattern))


@pytest.mark.parametrize("name", ["ifremer-fr-ifremer-argo-core-metadata.json", *corpus("wcmp2-*.json")])
def test_records_that_pass(suite: Wis2Suite, name: str):
    assert suite.record(json.loads((CORPUS / name).read_bytes())) == ([], "")


@pytest.mark.parametrize("name", corpus("pywcmp-wcmp2-failing*.json"))
def test_records_that_fail(suite: Wis2Suite, name: str):
    findings, missing = suite.record(json.loads((CORPUS / name).read_bytes()))
    assert missing == ""
    assert all(finding.rule.startswith("WCMP2 ") and finding.problem and finding.fix for finding in findings)
    assert bool(findings) is (name not in LET_PASS)


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        *((name, set()) for name in corpus("wnm-*.json")),
        ("ifremer-core-metadata-msg-notification.json", set()),
        ("pywis-pubsub-test_invalid.json", {"WNM schema"}),
        ("pywis-pubsub-test_invalid_datetime.json", {"WNM schema"}),
    ],
)
def test_messages(suite: Wis2Suite, name: str, rules: set[str]):
    findings, missing = suite.notification(json.loads((CORPUS / name).read_bytes()))
    assert ({finding.rule for finding in findings}, missing) == (rules, "")


@pytest.mark.parametrize(
    ("topic", "valid"),
    [(TOPIC, True), (TOPIC.replace("data/core", "core/data"), False), (TOPIC.replace("ifremer", "ifremeer"), False)],
)
def test_topics(suite: Wis2Suite, topic: str, valid: bool):
    assert (suite.topic(topic).findings == []) is valid


def test_a_home_without_the_data_says_what_is_missing(tmp_path: Path):
    bare = Wis2Suite(tmp_path)
    for verdict, name in (
        (bare.notification({}), ".pywis-pubsub"),
        (bare.record({}), ".pywcmp"),
        (bare.topic(TOPIC), "topics"),
    ):
        assert verdict.findings == []
        assert name in verdict.missing
        assert str(tmp_path) in verdict.missing
