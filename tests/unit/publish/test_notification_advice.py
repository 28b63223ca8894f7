"""Advice on messages, by the name of its rule."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from datafab.publish.notification import MessageIdentity, Subject, message
from datafab.publish.notification_advice import advise

TOPIC = "origin/a/wis2/fr-ifremer-argo/data/core/ocean/surface-based-observations/drifting-ocean-profilers"
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


def found(
    topic: str | None = TOPIC, pubtime: str = "2026-11-29T12:00:00Z", rel: Any = "canonical", **facts: Any
) -> list[str]:
    given = {
        "data_id": "wis2/fr-ifremer-argo/data/core/a.nc",
        "href": "https://data.example.org/a.nc",
        "metadata_id": "urn:wmo:md:fr-ifremer-argo:cor:msg:argo",
        "size": 3,
    } | facts
    made = message(MessageIdentity(id="x", pubtime=pubtime, rel=rel), Subject(**given))
    advice = advise(made, topic=topic, now=NOW)
    assert {one.level for one in advice} <= {"advice"}
    return [f"{one.rule} {one.field}" for one in advice]


HREF, LENGTH, RECORD = "links[0].href", "W23 links[0].length", "W12 properties.metadata_id"


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, []),
        ({"href": "https://8.8.8.8/a"}, []),
        ({"href": "https://127.0.0.1/a"}, [f"W20 {HREF}"]),
        ({"href": "https://[::1]:8443/a"}, [f"W20 {HREF}"]),
        ({"href": "https://10.1.2.3/a"}, [f"W20 {HREF}"]),
        ({"href": "https://169.254.1.1/a"}, [f"W20 {HREF}"]),
        ({"href": "https://[fd00::1]/a"}, [f"W20 {HREF}"]),
        ({"href": "https://LOCALHOST/a"}, [f"W20 {HREF}"]),
        ({"href": "https://data.localhost./a"}, [f"W20 {HREF}"]),
        ({"href": "https://fileserver/a"}, [f"W20 {HREF}"]),
        ({"href": "https://files.centre.internal/a"}, [f"W20 {HREF}"]),
        ({"href": "https://localhost.example.org/a"}, []),
        ({"href": "http://data.example.org/a"}, [f"W23 {HREF}"]),
        ({"href": "ftp://data.example.org/a"}, [f"W23 {HREF}"]),
        ({"href": "sftp://data.example.org/a"}, []),
        ({"href": "https://["}, []),
        ({"size": None}, [LENGTH]),
        ({"size": 0}, []),
        ({"size": None, "rel": "update"}, [LENGTH]),
        ({"size": None, "rel": "deletion"}, []),
        ({"data_id": TOPIC + "/a.nc"}, ["W11 properties.data_id"]),
        ({"data_id": "cache/a/wis2/x/a.nc"}, ["W11 properties.data_id"]),
        ({"data_id": "origin/a/b.nc"}, []),
        ({"metadata_id": "urn:wmo:md:fr-meteofrance:x"}, [RECORD]),
        ({"metadata_id": "urn:wmo:md:fr-meteofrance:x", "topic": None}, [RECORD]),
        ({"metadata_id": "urn:wmo:md:fr-meteofrance:x", "topic": None, "data_id": "a/b"}, []),
        ({"metadata_id": "urn:wmo:md:fr-ifremer-argo-2:x"}, [RECORD]),
        ({"metadata_id": "argo"}, [RECORD]),
        ({"metadata_id": None}, []),  # the rules say so
        ({"pubtime": "2026-11-29T12:01:00Z"}, []),
        ({"pubtime": "2026-11-29T12:01:01Z"}, ["W10 properties.pubtime"]),
        ({"pubtime": "2027-01-01T00:00:00Z"}, ["W10 properties.pubtime"]),
        ({"pubtime": "tomorrow"}, []),
    ],
)
def test_advice_has_its_rule(facts: dict[str, Any], expected: list[str]):
    assert found(**facts) == expected


@pytest.mark.parametrize(
    "document",
    [
        [],
        None,
        {},
        {"links": {}},
        {"links": [1, {"href": 1}]},
        {"properties": []},
        {"properties": {"data_id": 1, "metadata_id": [], "pubtime": {}}},
    ],
)
def test_advice_on_anything(document: Any):
    assert [one.rule for one in advise(document, topic="x", now=NOW)] == []
