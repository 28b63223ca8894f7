"""What a catalogue is told of a file."""

from __future__ import annotations

from typing import Any

import pytest

from datafab.domain.again import next_look
from datafab.domain.extras import ANALYSIS, CHECK, extras
from datafab.domain.payload import CatalogueFacts, Item, ItemError, Status

AT = 1_795_246_247.0
FETCHED = {"sha256": "ab", "size": 7, "media_type": "text/csv"}


def told(code: str | None = None, modified: str | None = None, **fields: Any) -> dict[str, Any]:
    error = code and ItemError(type=code, message="it broke")
    status = Status.FAILED if error else Status.OK
    facts = CatalogueFacts(modified=modified)
    return extras(Item(source="datagouv:1", status=status, error=error, catalogue=facts, **fields), AT)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({**FETCHED}, {"check:available": True, "check:status": 200, "analysis:error": None}),
        (
            {**FETCHED, "modified": "Fri, 20 Nov 2026 06:12:00 +0100"},
            {
                "analysis:last-modified-at": "2026-11-20T05:12:00+00:00",
                "analysis:last-modified-detection": "last-modified-header",
            },
        ),
        ({**FETCHED, "modified": "hier"}, {"analysis:last-modified-detection": "computed-checksum"}),
        # It came, and could not be read.
        ({**FETCHED, "code": "no_table"}, {"check:available": True, "check:status": 200, "analysis:error": "it broke"}),
        ({"code": "http_404"}, {"check:available": False, "check:status": 404, "analysis:checksum": None}),
        ({"code": "timeout"}, {"check:available": False, "check:status": None, "check:timeout": True}),
        ({"code": "dns"}, {"check:available": False, "check:status": None, "check:timeout": False}),
    ],
)
def test_what_is_told(given: dict[str, Any], expected: dict[str, Any]):
    found = told(**given)
    assert {name: found[name] for name in expected} == expected
    # Each is told each time, so that nothing stays there that is no longer so.
    assert found.keys() == {f"check:{name}" for name in CHECK} | {f"analysis:{name}" for name in ANALYSIS}
    assert found["check:date"] == "2026-11-21T07:30:47+00:00"


@pytest.mark.parametrize(
    ("days", "hours"), [(0, 12), (0.5, 12), (0.51, 24), (1, 24), (1.01, 168), (7, 168), (7.01, 720), (5000, 720)]
)
def test_looks_grow_apart(days: float, hours: float):
    assert next_look(days * 24 * 3600) == hours * 3600
