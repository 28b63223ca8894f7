"""The extras that a catalogue receives for a file, under hydra's names."""

from __future__ import annotations

from typing import Any

import pytest

from datafab.catalogue.resource_extras import NAMES, Observation, resource_extras
from datafab.catalogue.revisit import revisit_delay
from datafab.core.item import CatalogueFacts, Item, ItemError, Status

AT = 1_795_246_247.0
DATE = "2026-11-21T07:30:47+00:00"
FETCHED = {"sha256": "ab", "size": 7, "media_type": "text/csv"}
#: Source: datagouv/hydra, ``udata_hydra/utils/http.py`` (``UdataPayload.HYDRA_UDATA_METADATA``), version 2.13.
HYDRA = """
check:available check:date check:error check:id check:status check:timeout
check:headers:content-type check:headers:content-length
check:cors:status check:cors:error check:cors:allow-origin check:cors:allow-methods check:cors:allow-headers
check:cors:expose-headers check:cors:max-age check:cors:allow-credentials
analysis:checksum analysis:content-length analysis:error analysis:check_id analysis:last-modified-at
analysis:last-modified-detection analysis:mime-type
analysis:parsing:error analysis:parsing:started_at analysis:parsing:finished_at analysis:parsing:parsing_table
analysis:parsing:parquet_size analysis:parsing:parquet_url analysis:parsing:pmtiles_size analysis:parsing:pmtiles_url
analysis:parsing:geojson_size analysis:parsing:geojson_url analysis:parsing:ogc_metadata
"""


def told(code: str | None = None, modified: str | None = None, seen: dict[str, Any] | None = None, **fields: Any):
    error = code and ItemError(type=code, message="it broke")
    status = Status.FAILED if error else Status.OK
    facts = CatalogueFacts(modified=modified)
    item = Item(source="datagouv:1", status=status, error=error, catalogue=facts, **fields)
    return resource_extras(item, Observation(**{"at": AT, "changed": AT} | (seen or {})))


def test_names_are_hydras():
    assert sorted(NAMES) == sorted(HYDRA.split())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({**FETCHED}, {"check:available": True, "check:status": 200, "check:timeout": False, "check:error": None}),
        ({**FETCHED}, {"check:headers:content-type": "text/csv", "check:headers:content-length": 7}),
        ({**FETCHED}, {"analysis:error": None, "analysis:parsing:error": None, "analysis:content-length": 7}),
        (
            {**FETCHED, "seen": {"sha1": "cd", "parsed": (AT + 1, AT + 2.5)}},
            {
                "analysis:checksum": "cd",
                "analysis:parsing:started_at": "2026-11-21T07:30:48+00:00",
                "analysis:parsing:finished_at": "2026-11-21T07:30:49.500000+00:00",
            },
        ),
        (
            {**FETCHED, "modified": "Fri, 20 Nov 2026 06:12:00 +0100"},
            {
                "analysis:last-modified-at": "2026-11-20T05:12:00+00:00",
                "analysis:last-modified-detection": "last-modified-header",
            },
        ),
        (
            {**FETCHED, "modified": "hier"},
            {"analysis:last-modified-at": DATE, "analysis:last-modified-detection": "computed-checksum"},
        ),
        # It came again after it had been away, and is the same as before.
        (
            {**FETCHED, "seen": {"changed": AT - 3600}},
            {
                "analysis:last-modified-at": "2026-11-21T06:30:47+00:00",
                "analysis:last-modified-detection": "previous-check-detection",
            },
        ),
        (
            {**FETCHED, "seen": {"cors": {"status": 204, "allow-origin": "*"}}},
            {"check:cors:status": 204, "check:cors:allow-origin": "*", "check:cors:max-age": None},
        ),
        # It came, and could not be read.
        (
            {**FETCHED, "code": "no_table"},
            {
                "check:available": True,
                "check:status": 200,
                "check:error": None,
                "analysis:error": None,
                "analysis:parsing:error": "no_table:it broke",
            },
        ),
        # Its server answered, and it was not taken.
        ({"code": "too_large"}, {"check:available": True, "check:status": 200, "analysis:error": "it broke"}),
        ({"code": "html"}, {"check:available": True, "check:status": 200, "check:error": None}),
        (
            {"code": "http_404"},
            {"check:available": False, "check:status": 404, "check:error": "it broke", "analysis:checksum": None},
        ),
        ({"code": "http_429"}, {"check:available": None, "check:status": 429}),
        ({"code": "timeout"}, {"check:available": False, "check:status": None, "check:timeout": True}),
        ({"code": "dns"}, {"check:available": False, "check:status": None, "check:timeout": False}),
    ],
)
def test_what_is_told(given: dict[str, Any], expected: dict[str, Any]):
    found = told(**given)
    assert {name: found[name] for name in expected} == expected
    # Each is told each time, so that nothing stays there that is no longer so.
    assert found.keys() == set(NAMES)
    assert found["check:date"] == DATE


@pytest.mark.parametrize(
    ("days", "hours"), [(0, 12), (0.5, 12), (0.51, 24), (1, 24), (1.01, 168), (7, 168), (7.01, 720), (5000, 720)]
)
def test_looks_grow_apart(days: float, hours: float):
    assert revisit_delay(days * 24 * 3600) == hours * 3600
