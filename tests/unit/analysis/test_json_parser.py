"""Records are parsed one by one with the same result as json.loads of the whole document."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datafab.analysis.json_parser import parse_records
from datafab.errors import Fatal

POINT = {"type": "Point", "coordinates": [4.8, 45.7]}


def feature(**properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "properties": properties, "geometry": POINT}


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.floats(allow_nan=False)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
)
RECORDS = st.lists(st.dictionaries(st.sampled_from(["a", "type", "features", "é"]), VALUES), min_size=2, max_size=5)
INDENTS = st.sampled_from([None, 0, 2])


@given(records=RECORDS, indent=INDENTS)
def test_a_list_of_records(records: list[dict[str, Any]], indent: int | None):
    assert list(parse_records(f" {json.dumps(records, indent=indent)}\n")) == records


@given(records=RECORDS, between=st.sampled_from(["\n", "\r\n", "", " \n\n"]))
def test_records_one_after_the_other(records: list[dict[str, Any]], between: str):
    assert list(parse_records(between.join(json.dumps(record) for record in records))) == records


@given(records=RECORDS, indent=INDENTS, first=st.booleans())
def test_the_features_of_a_collection(records: list[dict[str, Any]], indent: int | None, first: bool):
    kind, features = {"type": "FeatureCollection"}, {"features": [feature(**record) for record in records]}
    whole = (kind | features if first else features | {"bbox": [1, [2]]} | kind) | {"crs": {"features": [1]}}
    assert list(parse_records(json.dumps(whole, indent=indent))) == [record | {"geometry": POINT} for record in records]


def test_a_record_may_speak_of_collections():
    text = '{"id": 1, "kind": "FeatureCollection"}\n{"id": 2}'
    assert [row["id"] for row in parse_records(text)] == [1, 2]


COLLECTION = json.dumps({"type": "FeatureCollection", "features": [feature(a=1), feature(a=2)]})


@pytest.mark.parametrize("end", range(1, len(COLLECTION)))
def test_a_collection_that_breaks_off_is_refused(end: int):
    with pytest.raises(Fatal) as failure:
        list(parse_records(COLLECTION[:end]))
    assert failure.value.code == "bad_json"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (COLLECTION.replace('"type": "FeatureCollection"', '"type" "FeatureCollection"'), "bad_json"),
        (COLLECTION.replace('"FeatureCollection", ', '"FeatureCollection" '), "bad_json"),
        (COLLECTION.replace("}, {", "} {"), "bad_json"),
        (COLLECTION[:-1] + ', "features": []}', "bad_json"),
        (COLLECTION + "x", "bad_json"),
        ('[{"a": 1} {"a": 2}]', "bad_json"),
        ('[{"a": 1}, 2]', "not_tabular"),
        ('[{"a": 1}] {}', "bad_json"),
        ('{"a": 1}\n[2]', "not_tabular"),
        ('{"type": "FeatureCollection"}', "not_tabular"),
        ('{"a": [1, 2]}', "not_tabular"),
        ("[" * 100_000, "bad_json"),
    ],
)
def test_what_is_no_table_or_no_json_is_refused(text: str, code: str):
    with pytest.raises(Fatal) as failure:
        list(parse_records(text))
    assert failure.value.code == code
