"""What events may hold: their forms, roles of assets, properties of messages, and geometries of any type."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from datafab.errors import FlowError
from datafab.publish.cloudevent import structured, with_data
from datafab.publish.event import assets, envelope
from datafab.publish.location import box_geometry, message_geometry

URL = "https://example.org/a.nc"
ITEM = {"geometry": None, "assets": {"a": {"href": URL}}}
HEAD = {"id": "1", "source": "s", "specversion": "1.0", "type": "t", "dataset": "argo"}


def encoded(data: Any) -> str:
    return base64.b64encode(data if isinstance(data, bytes) else json.dumps(data).encode()).decode()


def test_the_binary_mode_and_base64_are_the_same_event():
    plain = HEAD | {"datacontenttype": "application/geo+json", "data": ITEM}
    payload = structured(json.dumps(ITEM).encode(), "application/geo+json", list(HEAD.items()))
    binary = with_data(json.loads(payload))
    in_base64 = with_data(
        {name: value for name, value in plain.items() if name != "data"} | {"data_base64": encoded(ITEM)}
    )
    assert binary == in_base64 == plain
    assert envelope(binary).key == envelope(in_base64).key == envelope(plain).key


@pytest.mark.parametrize(
    ("content_type", "properties"),
    [
        ("application/cloudevents+json", [("specversion", "1.0")]),
        ("Application/CloudEvents+JSON; charset=utf-8", [("specversion", "1.0")]),
        (None, []),
        ("application/json", [("traceparent", "00-1")]),
    ],
)
def test_an_event_in_structured_mode_stays_as_it_is(content_type: str | None, properties: list[tuple[str, str]]):
    assert structured(b"{}", content_type, properties) == b"{}"


def test_attributes_cannot_replace_the_payload():
    given = [*HEAD.items(), ("data", "x"), ("data_base64", "x"), ("datacontenttype", "text/plain")]
    event = with_data(json.loads(structured(json.dumps(ITEM).encode(), None, given)))
    assert event == HEAD | {"data": ITEM}


def test_an_attribute_given_twice_is_refused():
    with pytest.raises(FlowError, match="the attribute id twice"):
        structured(b"{}", None, [*HEAD.items(), ("id", "2")])


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"data_base64": "ä"}, "is not base64"),
        ({"data_base64": "e30"}, "is not base64"),
        ({"data_base64": 5}, "is not base64"),
        ({"data_base64": encoded(b"<a/>")}, "are not JSON"),
        ({"data_base64": encoded(b'{"a": NaN}')}, "are not JSON"),
        ({"data_base64": encoded(b"\xff")}, "are not JSON"),
        ({"data_base64": encoded({}), "data": {}}, "both data and data_base64"),
    ],
)
def test_data_that_cannot_be_decoded_are_refused(members: dict[str, Any], says: str):
    with pytest.raises(FlowError, match=says) as caught:
        with_data(HEAD | members)
    assert (caught.value.code, caught.value.field) == ("bad_event", "data_base64")


@pytest.mark.parametrize("event", [[], "x", HEAD | {"data": ITEM}, HEAD | {"data": ITEM, "data_base64": None}])
def test_other_events_stay_as_they_are(event: Any):
    assert with_data(event) is event


@pytest.mark.parametrize(
    ("roles", "announced"),
    [
        ({"a": None, "b": ["thumbnail"]}, ["a"]),
        ({"a": ["data"], "b": ["Thumbnail"], "c": ["overview"], "d": ["graphic"]}, ["a"]),
        ({"a": ["data", "thumbnail"], "b": ["data", "metadata"]}, ["a", "b"]),
        ({"a": ["archive"], "b": [], "c": ["visual"]}, ["a", "b", "c"]),
        ({"a": ["data"], "b": ["metadata"]}, ["a"]),
        ({"a": ["metadata"], "b": ["thumbnail"]}, ["a"]),  # a record to publish
    ],
)
def test_roles_are_respected(roles: dict[str, list[str] | None], announced: list[str]):
    given = {
        name: {"href": f"{URL}/{name}"} | ({} if value is None else {"roles": value}) for name, value in roles.items()
    }
    assert [asset.name for asset in assets({"id": "1", "data": {"assets": given}})] == announced


@pytest.mark.parametrize(
    ("roles", "field", "says"),
    [
        (["thumbnail"], "data.assets", "have only the roles thumbnail"),
        ("data", "data.assets.a.roles", "give a list of texts"),
        ([1], "data.assets.a.roles", "give a list of texts"),
    ],
)
def test_roles_that_leave_no_data_are_refused(roles: Any, field: str, says: str):
    with pytest.raises(FlowError, match=says) as caught:
        assets({"id": "1", "data": {"assets": {"a": {"href": URL, "roles": roles}}}})
    assert caught.value.field == field


def test_an_asset_has_the_properties_of_its_item_and_its_own():
    shared = {"cache": False, "producer": "fr-ifremer", "gts": {"ttaaii": "SMFR01", "cccc": "LFPW"}, "platform": "x"}
    secured = {"default": {"type": "http", "scheme": "basic"}}
    own = {"cache": True, "wigos_station_identifier": "0-20000-0-07510", "security": secured}
    item = {"properties": shared, "assets": {"a": {"href": URL}, "b": {"href": f"{URL}b"} | own}}
    first, second = assets({"id": "1", "data": item})
    known = {name: value for name, value in shared.items() if name != "platform"}
    assert (first.properties, first.security) == (known, None)
    assert second.properties == known | {"cache": True, "wigos_station_identifier": "0-20000-0-07510"}
    assert second.security == secured


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cache", "false"),
        ("cache", 0),
        ("producer", ""),
        ("producer", ["a"]),
        ("producer", "a\nb"),
        ("wigos_station_identifier", "07510"),
        ("wigos_station_identifier", "0-20000-0-0751 0"),
        ("wigos_station_identifier", 7510),
        ("gts", "SMFR01 LFPW"),
        ("gts", {"ttaaii": "SMFR01"}),
        ("gts", {"ttaaii": "smfr01", "cccc": "LFPW"}),
        ("gts", {"ttaaii": "SMFR01", "cccc": "LFPW", "bbb": "RRA"}),
        ("security", {}),
        ("security", {"type": "http"}),
        ("security", {"default": {"type": "secret"}}),
    ],
)
@pytest.mark.parametrize("place", ["properties", "asset"])
def test_properties_in_another_form_are_refused(name: str, value: Any, place: str):
    asset = {"href": URL} | ({name: value} if place == "asset" else {})
    item = {"properties": {name: value} if place == "properties" else {}, "assets": {"a": asset}}
    with pytest.raises(FlowError, match=name) as caught:
        assets({"id": "1", "data": item})
    assert caught.value.field == ("data.properties." if place == "properties" else "data.assets.a.") + name


LINE = {"type": "LineString", "coordinates": [[1, 2], [3, 5], [2, 7.5]]}


def box(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    return {
        "type": "Polygon",
        "coordinates": [[[west, south], [east, south], [east, north], [west, north], [west, south]]],
    }


@pytest.mark.parametrize(
    ("geometry", "bbox", "expected"),
    [
        (None, [0, 0, 1, 1], None),
        ({"type": "Point", "coordinates": [1, 2]}, [0, 0, 1, 1], {"type": "Point", "coordinates": [1, 2]}),
        (LINE, None, box(1, 2, 3, 7.5)),
        (LINE, [0, 1, 4, 8], box(0, 1, 4, 8)),
        (LINE, [0, 1, -100, 4, 8, 2000], box(0, 1, 4, 8)),
        (LINE, [0, 1, 4], box(1, 2, 3, 7.5)),
        (LINE, [0, "1", 4, 8], box(1, 2, 3, 7.5)),
        (LINE, [0, 1, 400, 8], box(1, 2, 3, 7.5)),
        (LINE, [0, 1, float("nan"), 8], box(1, 2, 3, 7.5)),
        (LINE, [170, -10, -170, 10], None),  # over the antimeridian
        ({"type": "LineString", "coordinates": [[1, 2], [1, 5]]}, None, None),
        ({"type": "MultiPoint", "coordinates": [[1, 2], [1, 2, 9]]}, None, {"type": "Point", "coordinates": [1, 2]}),
        (
            {"type": "MultiPolygon", "coordinates": [box(0, 0, 1, 1)["coordinates"], box(5, 5, 6, 7)["coordinates"]]},
            None,
            box(0, 0, 6, 7),
        ),
        (
            {"type": "GeometryCollection", "geometries": [LINE, {"type": "Point", "coordinates": [9, 0]}]},
            None,
            box(1, 0, 9, 7.5),
        ),
        ({"type": "GeometryCollection", "geometries": []}, None, None),
        ({"type": "LineString", "coordinates": []}, None, None),
        ({"type": "LineString", "coordinates": [[1, 2], [3, 95]]}, None, None),
        ({"type": "LineString", "coordinates": [[1, 2], ["3", 5]]}, None, None),
        ({"type": "LineString", "coordinates": "x"}, None, None),
        ({"type": "LineString"}, [0, 0, 1, 1], box(0, 0, 1, 1)),
        ({"type": ["Point"]}, None, None),
        ({}, None, None),
    ],
)
def test_a_message_has_the_geometry_or_its_box(geometry: Any, bbox: Any, expected: Any):
    assert message_geometry(geometry, bbox) == expected


def test_the_box_of_a_polygon():
    assert box_geometry(box(1, 2, 3, 4)) == box(1, 2, 3, 4)
