"""WIS2 messages, topics and events: what is made is right, and each rule finds what breaks it."""

from __future__ import annotations

import base64
import copy
import gzip
import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from datafab.errors import Fatal, FlowError
from datafab.publish.data_id import address_digest, data_id, former
from datafab.publish.event import assets, envelope, geometry, multihash, times
from datafab.publish.finding import errors
from datafab.publish.notification import MessageIdentity, Subject, content, encoded, message, pubtime
from datafab.publish.notification_rules import check
from datafab.publish.topic import check_topic

CORPUS = Path(__file__).resolve().parents[3].parent / "shared" / "corpus" / "wis2"
CATEGORY = "ocean/surface-based-observations/drifting-ocean-profilers"
TOPIC = f"origin/a/wis2/fr-ifremer-argo/data/core/{CATEGORY}"
METADATA_TOPIC = "origin/a/wis2/fr-ifremer-argo/metadata"
URL = "https://data-argo.ifremer.fr/dac/coriolis/7901113/profiles/R7901113_022.nc"
DATA = "données;12,5\n".encode()
FROZEN = MessageIdentity(id="31e9d66a-cd83-4174-9429-b932f1abe1be", pubtime="2025-03-28T14:31:00.250Z")
SUBJECT = Subject(
    data_id=data_id(TOPIC, URL),
    href=URL,
    metadata_id="urn:wmo:md:fr-ifremer-argo:cor:msg:argo",
    sha256=hashlib.sha256(DATA).hexdigest(),
    size=len(DATA),
    media_type="application/x-netcdf",
    geometry={"type": "Point", "coordinates": [21.06, -36.3]},
    times={"datetime": "2024-11-09T21:08:00Z"},
)


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return a right message with one member changed; ``...`` takes it out."""
    made = copy.deepcopy(message(FROZEN, SUBJECT))
    *way, last = path.split(".")
    at: Any = made
    for step in way:
        at = at[int(step) if step.isdigit() else step]
    if value is ...:
        del at[last]
    else:
        at[int(last) if last.isdigit() else last] = value
    return made


def test_a_message_says_what_its_file_is():
    made = message(FROZEN, SUBJECT)
    assert check(made, topic=TOPIC) == []
    assert made["properties"] == {
        "data_id": data_id(TOPIC, URL),
        "metadata_id": "urn:wmo:md:fr-ifremer-argo:cor:msg:argo",
        "pubtime": "2025-03-28T14:31:00.250Z",
        "integrity": {"method": "sha256", "value": base64.b64encode(hashlib.sha256(DATA).digest()).decode()},
        "datetime": "2024-11-09T21:08:00Z",
    }
    assert made["links"] == [{"href": URL, "rel": "canonical", "type": "application/x-netcdf", "length": len(DATA)}]
    assert json.loads(encoded(made)) == made


def test_an_update_differs_in_id_pubtime_and_rel_only():
    before = message(FROZEN, SUBJECT)
    after = message(
        MessageIdentity(id="5f0c6a2e-0000-4000-8000-b932f1abe1be", pubtime=pubtime(1.75e9), rel="update"), SUBJECT
    )
    assert check(after, topic=TOPIC) == []
    assert [link["rel"] for link in after["links"]] == ["update"]
    assert {name for name in before if before[name] != after[name]} == {"id", "properties", "links"}
    assert after["properties"] | {"pubtime": FROZEN.pubtime} == before["properties"]


def test_a_deletion_promises_no_file():
    made = message(FROZEN.evolve(rel="deletion"), SUBJECT, DATA)
    assert check(made, topic=TOPIC) == []
    assert made["links"] == [{"href": URL, "rel": "deletion", "type": "application/x-netcdf"}]
    assert "integrity" not in made["properties"]
    assert "content" not in made["properties"]


def test_what_is_unknown_is_null():
    made = message(FROZEN, SUBJECT.evolve(geometry=None, times={}))
    assert (made["geometry"], made["properties"]["datetime"]) == (None, None)
    assert check(made, topic=TOPIC) == []


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (DATA, "utf-8"),
        (b"\xff\xfe" * 1500, "base64"),  # 3000 bytes are 4000 of base64
        (b"\xff\xfe" * 1540, "gzip"),  # 3080 bytes are 4108 of base64, and compress well
        (hashlib.shake_256(b"seed").digest(3080), None),  # noise does not
        (b"a" * 4096, "utf-8"),
        (b"a" * 4097, None),
    ],
)
def test_only_what_fits_is_inline(data: bytes, encoding: str | None):
    made = message(FROZEN, SUBJECT.evolve(sha256=hashlib.sha256(data).hexdigest(), size=len(data)), data)
    inline = made["properties"].get("content")
    assert check(made, topic=TOPIC) == []
    assert content(data) == inline
    if encoding is None:
        assert inline is None
        return
    assert (inline["encoding"], inline["size"]) == (encoding, len(data))
    assert len(inline["value"].encode()) <= 4096
    decode = {"utf-8": str.encode, "base64": base64.b64decode, "gzip": lambda v: gzip.decompress(base64.b64decode(v))}
    assert decode[encoding](inline["value"]) == data


def inlined(data: bytes = DATA, link: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Return a message with a file in it, but for these members of its content and link."""
    made = message(FROZEN, SUBJECT.evolve(sha256=hashlib.sha256(data).hexdigest(), size=len(data)), data)
    made["properties"]["content"] |= changes
    made["links"][0] |= link or {}
    return made


def packed(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"encoding": "base64", "value": packed(DATA)},
        {"encoding": "gzip", "value": packed(gzip.compress(DATA))},
        {"encoding": "gzip", "value": packed(gzip.compress(DATA[:5]) + gzip.compress(DATA[5:]))},  # two members
        {"data": b""},
    ],
)
def test_content_that_is_the_file(changes: dict[str, Any]):
    assert check(inlined(**changes), topic=TOPIC) == []


@pytest.mark.parametrize(
    ("changes", "rule", "field"),
    [
        ({"size": 457}, "W18", "properties.content.size"),
        ({"size": True}, "W18", "properties.content.size"),
        ({"size": None}, "W18", "properties.content.size"),
        ({"size": -1}, "W18", "properties.content.size"),
        ({"value": "other" + "x" * (len(DATA) - 5)}, "W17", "properties.integrity.value"),
        ({"encoding": "gzip", "value": packed(DATA)}, "W18", "properties.content.value"),
        ({"encoding": "gzip", "value": packed(gzip.compress(DATA)[:-4])}, "W18", "properties.content.value"),
        ({"encoding": "gzip", "value": packed(gzip.compress(DATA) + b"more")}, "W18", "properties.content.value"),
        ({"encoding": "gzip", "value": packed(gzip.compress(b"0" * 10**6))}, "W18", "properties.content.size"),
        ({"encoding": ["gzip"]}, "W18", "properties.content"),
        ({"link": {"length": len(DATA) + 1}}, "W18", "links[0].length"),
        ({"link": {"length": -1}}, "W23", "links[0].length"),
        ({"link": {"length": "7"}}, "W23", "links[0].length"),
    ],
)
def test_content_that_is_another_file(changes: dict[str, Any], rule: str, field: str):
    assert (rule, field) in {(finding.rule, finding.field) for finding in errors(check(inlined(**changes)))}


@pytest.mark.parametrize("member", ["method", "value"])
def test_lists_where_texts_belong_are_found(member: str):
    wrong = message(FROZEN, SUBJECT)
    wrong["properties"]["integrity"][member] = ["sha256"]
    wrong["links"][0]["rel"] = ["canonical"]
    wrong["geometry"] = {"type": ["Point"], "coordinates": [0, 0]}
    assert {finding.rule for finding in errors(check(wrong, topic=TOPIC))} == {"W6", "W17", "W19", "W21"}


@pytest.mark.parametrize(
    ("start", "end", "right"),
    [
        ("2024-11-09T21:08:00.000Z", "2024-11-09T21:08:00Z", True),
        ("2024-11-09t21:08:00z", "2024-11-09T21:08:00+00:00", True),
        ("2016-12-31T23:59:59.9Z", "2016-12-31T23:59:60Z", True),
        ("2016-12-31T23:59:60.5Z", "2017-01-01T00:00:00Z", True),
        ("2024-11-09T21:08:00.0001Z", "2024-11-09T21:08:00Z", False),
        ("2024-11-09T21:08:01Z", "2024-11-09T21:08:00.9Z", False),
        ("2017-01-01T00:00:00Z", "2016-12-31T23:59:60Z", False),
    ],
)
def test_instants_are_compared(start: str, end: str, *, right: bool):
    made = message(FROZEN, SUBJECT.evolve(times={"start_datetime": start, "end_datetime": end}))
    assert [finding.rule for finding in errors(check(made, topic=TOPIC))] == ([] if right else ["W14"])


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("2024-11-09t21:08:00z", "2024-11-09T21:08:00Z"),
        ("2024-11-09T21:08:00+00:00", "2024-11-09T21:08:00Z"),
        ("2024-11-09T21:08:00.120-00:30", "2024-11-09T21:38:00.120Z"),
        ("2017-01-01T00:59:60.5+01:00", "2016-12-31T23:59:60.5Z"),
        ("2024-11-09T21:08:00.000000001Z", "2024-11-09T21:08:00.000000001Z"),
        ("0999-01-01T00:00:00Z", "0999-01-01T00:00:00Z"),
    ],
)
def test_times_of_rfc_3339_are_written_in_utc(given: str, read: str):
    assert times({"data": {"properties": {"datetime": given}}}) == {"datetime": read}


@pytest.mark.parametrize(
    "given", ["2024-11-09T21:08:60Z", "2024-11-09", "20241109T210800Z", "2024-02-30T00:00:00Z", "2024-11-09T21:08:00"]
)
def test_what_is_no_time_of_rfc_3339_is_refused(given: str):
    with pytest.raises(FlowError, match="is not an RFC 3339 time"):
        times({"data": {"properties": {"datetime": given}}})


def test_inline_content_goes_before_the_message_grows_too_large():
    ring = [[x / 1000, 45.123456789] for x in range(200)] + [[0.0, 45.123456789]]
    large = SUBJECT.evolve(geometry={"type": "Polygon", "coordinates": [ring]})
    made = message(FROZEN, large, b"a" * 4096)
    assert "content" not in made["properties"]
    assert "content" in message(FROZEN, large, b"a" * 2000)["properties"]
    assert check(made) == []


LINK = {"href": URL, "rel": "canonical"}
SQUARE = [[0, 0], [0, 1], [1, 1], [1, 0], [0, 0]]
HEX = hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize(
    ("rule", "path", "value", "field"),
    [
        ("W1", "properties.note", "é" * 4096, ""),  # 4096 characters, 8192 bytes
        ("W2", "geometry", ..., "geometry"),
        ("W2", "type", "Thing", "type"),
        ("W2", "links", {}, "links"),
        ("W2", "properties.note", math.nan, ""),
        ("W2", "properties.note", "\ud800", ""),
        ("W3", "id", "not-a-uuid", "id"),
        ("W3", "id", 12, "id"),
        ("W4", "conformsTo", ["http://example.org"], "conformsTo"),
        ("W5", "version", "v04", "version"),
        ("W6", "geometry.type", "MultiPoint", "geometry.type"),
        ("W6", "geometry", [1, 2], "geometry.type"),
        ("W7", "geometry.coordinates", [21.06, 95], "geometry.coordinates"),
        ("W7", "geometry.coordinates", [400, 0], "geometry.coordinates"),
        ("W7", "geometry.coordinates", [math.nan, 0], "geometry.coordinates"),
        ("W7", "geometry.coordinates", ["21", "3"], "geometry.coordinates"),
        ("W7", "geometry", {"type": "Polygon", "coordinates": [SQUARE[:4]]}, "geometry.coordinates"),
        ("W7", "geometry", {"type": "Polygon", "coordinates": [SQUARE[:3]]}, "geometry.coordinates"),
        ("W7", "geometry", {"type": "Polygon", "coordinates": []}, "geometry.coordinates"),
        ("W7", "geometry", {"type": "Polygon", "coordinates": [[*SQUARE[:2], [1, 200], SQUARE[0]]]}, "geometry.coor"),
        ("W8", "properties.pubtime", ..., "properties.pubtime"),
        ("W9", "properties.pubtime", "yesterday", "properties.pubtime"),
        ("W9", "properties.pubtime", "2025-03-28T14:31:00+02:00", "properties.pubtime"),
        ("W9", "properties.pubtime", "2025-03-28T14:31:00", "properties.pubtime"),
        ("W9", "properties.pubtime", "2025-02-30T14:31:00Z", "properties.pubtime"),
        ("W11", "properties.data_id", "", "properties.data_id"),
        ("W12", "properties.metadata_id", ["urn:wmo:md:fr-ifremer-argo:x"], "properties.metadata_id"),
        ("W16", "properties.cache", "false", "properties.cache"),
        ("W16", "properties.cache", None, "properties.cache"),
        ("W14", "properties.datetime", ..., "properties.datetime"),
        ("W14", "properties.start_datetime", "2024-11-09T21:08:00Z", "properties.datetime"),
        ("W15", "properties.datetime", "fooZ", "properties.datetime"),
        ("W17", "properties.integrity.method", "sha3_256", "properties.integrity.method"),
        ("W17", "properties.integrity.value", HEX, "properties.integrity.value"),
        ("W17", "properties.integrity.value", "A2KNxvks...S8qfSCw==", "properties.integrity.value"),
        ("W17", "properties.integrity.value", "c2hvcnQ=", "properties.integrity.value"),
        ("W18", "properties.content", {"encoding": "base64", "value": "é", "size": 1}, "properties.content.value"),
        ("W18", "properties.content", {"encoding": "utf-8", "value": "a" * 4097, "size": 1}, "properties.content.va"),
        ("W18", "properties.content", {"encoding": "hex", "value": "00", "size": 1}, "properties.content"),
        ("W19", "links", [], "links"),
        ("W19", "links", [{"rel": "canonical"}], "links[0]"),
        ("W20", "links.0.href", "httpgarbage", "links[0].href"),
        ("W20", "links.0.href", "file:///etc/passwd", "links[0].href"),
        ("W20", "links.0.href", "s3://bucket/a.nc", "links[0].href"),
        ("W20", "links.0.security", {"default": {"type": "http"}}, "links[0].security"),
        ("W21", "links", [LINK, LINK], "links"),
        ("W21", "links", [LINK, LINK | {"rel": "update"}], "links"),
        ("W21", "links", [LINK, LINK | {"rel": "deletion"}], "links"),
        ("W21", "links", [LINK | {"rel": "item"}], "links"),
        ("W19", "links", [LINK | {"rel": ["canonical"]}], "links[0]"),
        ("W23", "links.0.length", -1, "links[0].length"),
        ("W23", "links.0.length", True, "links[0].length"),
        ("W23", "links.0.length", 3.0, "links[0].length"),
    ],
)
def test_each_rule_finds_what_breaks_it(rule: str, path: str, value: Any, field: str):
    found = errors(check(changed(path, value), topic=TOPIC))
    assert rule in {finding.rule for finding in found}
    (finding, *_) = [one for one in found if one.rule == rule]
    assert finding.field.startswith(field)
    assert finding.problem
    assert finding.fix


def test_a_start_after_its_end_is_found():
    made = message(
        FROZEN, SUBJECT.evolve(times={"start_datetime": "2025-01-02T00:00:00Z", "end_datetime": "2025-01-01T00:00:00Z"})
    )
    assert [finding.rule for finding in check(made)] == ["W14"]


def test_a_deletion_of_metadata_names_its_record():
    topic = METADATA_TOPIC
    subject = SUBJECT.evolve(data_id=data_id(topic, URL), metadata_id=None)
    deletion = message(FROZEN.evolve(rel="deletion"), subject)
    assert [finding.rule for finding in errors(check(deletion, topic=topic))] == ["W13"]
    assert [finding.rule for finding in errors(check(deletion))] == ["W13"]  # the data_id tells it too
    assert errors(check(message(FROZEN, subject), topic=topic)) == []


def test_advice_keeps_nothing_back():
    found = check(message(FROZEN, SUBJECT.evolve(metadata_id=None, sha256=None)), topic=TOPIC)
    assert sorted((finding.rule, finding.level) for finding in found) == [("W12", "advice"), ("W17", "advice")]
    assert errors(found) == []


@pytest.mark.parametrize(
    "thing", [None, [], "text", {}, {"properties": 3, "links": [1], "geometry": {"type": "Point"}}]
)
def test_anything_can_be_checked(thing: Any):
    assert "W2" in {finding.rule for finding in check(thing)}


@pytest.mark.parametrize(
    ("topic", "rules"),
    [
        (TOPIC, []),
        (METADATA_TOPIC, []),
        ("origin/a/wis2/fr-meteofrance-test/data/recommended/weather/experimental/essai", []),
        # that of the original chain: data policy before notification type
        (f"origin/a/wis2/fr-ifremer-argo/core/data/{CATEGORY}", ["T1"]),
        ("origin/a/wis2/fr-ifremer-argo/metadata/core/ocean", ["T3"]),
        ("origin/a/wis2/fr-ifremer-argo/data/core/ocean", ["T2"]),
        ("origin/a/wis2/fr-ifremer-argo/data/core/banana/experimental/x", ["T2"]),
        ("origin/a/wis2/fr-ifremer-argo/data/core/ocean/experimental/foo.bar", ["T5"]),
        ("origin/a/wis2/fr-ifremer-argo/data/core/ocean/Été", ["T5"]),
        ("origin/a/wis2/fr-ifremer-argo/data/open/ocean/a", ["T1"]),
        ("origin/a/wis2/ifremer/data/core/ocean/a", ["T1"]),
        ("cache/b/wis2/fr-ifremer-argo/data/core/ocean/a", ["T1", "T1"]),
        (TOPIC + "/#", ["T5"]),
        (TOPIC + "/", ["T5"]),
        ("", ["T5", "T1", "T1"]),
    ],
)
def test_topics(topic: str, rules: list[str]):
    assert [finding.rule for finding in check_topic(topic)] == rules


def test_the_topic_of_the_original_chain_is_corrected():
    (finding,) = check_topic(f"origin/a/wis2/fr-ifremer-argo/core/data/{CATEGORY}")
    assert TOPIC in finding.fix


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (URL, "dac/coriolis/7901113/profiles/R7901113_022.nc"),
        ("https://e.org/a.nc?x=1", "a.nc?x=1"),
        ("https://e.org/dl/?x=1", "dl?x=1"),
        ("https://e.org/../..//x/./a.nc", "x/a.nc"),
        (f"https://e.org/{'long/' * 60}a.nc", f"{'long/' * 39}a.nc"),
        (f"https://e.org/a.nc?signature={'f' * 300}", "a.nc"),
        (f"https://e.org/{'x' * 300}.nc", f"{'x' * 197}.nc"),
    ],
)
def test_a_data_id_is_its_topic_a_digest_of_the_address_and_its_path(url: str, shown: str):
    made = data_id(TOPIC, url)
    scope = f"wis2/fr-ifremer-argo/data/core/{CATEGORY}"
    assert re.fullmatch(rf"{scope}/[0-9a-f]{{16}}/{re.escape(shown)}", made)
    assert made == data_id(TOPIC, url)


@pytest.mark.parametrize("url", ["https://e.org", "https://e.org/?", "ftp:x", "http://[::1/x", "", "https://e.org:x/a"])
def test_an_odd_address_has_a_data_id_too(url: str):
    assert re.fullmatch(r"wis2/.*/[0-9a-f]{16}(/[^/]+)?", data_id(TOPIC, url))


ADDRESSES = [
    "https://e.org/dl/get?id=1",
    "https://e.org/dl/get?id=2",
    "https://e.org/dl/get",
    "https://e.org/2026-11-28/a/b/c/d.nc",
    "https://e.org/2026-11-29/a/b/c/d.nc",
    "https://f.org/2026-11-29/a/b/c/d.nc",
    "https://e.org:8443/2026-11-29/a/b/c/d.nc",
    "http://e.org/2026-11-29/a/b/c/d.nc",
    "https://e.org/a/b.nc",
    "https://e.org/a%2Fb.nc",
    "https://e.org/a//b.nc",
    "https://e.org/A/b.nc",
    "https://e.org/a/b.nc/",
    "https://e.org/x/../a/b.nc",
    "https://e.org/a%20b.nc",
    "https://e.org/a+b.nc",
    "https://e.org/é.nc",
    "https://e.org/e.nc",
    "https://e.org/",
    f"https://e.org/{'p/' * 3000}1.nc",
    f"https://e.org/{'p/' * 3001}1.nc",
    f"https://e.org/{'x' * 3000}1.nc",
    f"https://e.org/{'x' * 3000}2.nc",
    f"https://e.org/get?token={'x' * 3000}&id=1",
    f"https://e.org/get?token={'x' * 3000}&id=2",
]


def test_two_addresses_are_two_data_ids():
    assert len({data_id(TOPIC, url) for url in ADDRESSES}) == len(ADDRESSES)
    assert max(len(data_id(TOPIC, url)) for url in ADDRESSES) < 400


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("HTTPS://E.org:443/a/b.nc", "https://e.org/a/b.nc"),
        ("http://e.org:80", "http://e.org/"),
        ("https://e.org/%7eargo/%c3%a9.nc", "https://e.org/~argo/é.nc"),
        ("https://e.org/a.nc#part", "https://e.org/a.nc"),
        ("https://argo:secret@e.org/a.nc", "https://argo:other@e.org/a.nc"),
    ],
)
def test_spellings_of_one_address_have_one_digest(one: str, other: str):
    assert address_digest(one) == address_digest(other)


@pytest.mark.parametrize(
    ("url", "named", "whole"),
    [
        (URL, "7901113/profiles/R7901113_022.nc", False),
        ("https://e.org/a.nc?x=1", "a.nc", False),
        ("https://e.org/x/a.nc", "x/a.nc", True),
        ("https://e.org/x//a.nc", "x/a.nc", False),
    ],
)
def test_an_earlier_version_named_a_file_by_the_end_of_its_path(url: str, named: str, whole: bool):
    assert former(TOPIC, url) == (f"wis2/fr-ifremer-argo/data/core/{CATEGORY}/{named}", whole)


EVENT = {
    "id": "Profile7901113_022A",
    "source": "co050203",
    "specversion": "1.0",
    "type": "fr.ifremer.file.diffusion",
    "data": {
        "geometry": {"type": "Point", "coordinates": [21.06, -36.3]},
        "properties": {"datetime": "2024-11-09T22:08:00+01:00"},
        "assets": {
            "a.nc": {"href": URL, "type": "application/x-netcdf", "file:size": 12, "file:checksum": "1620" + "0" * 64},
            "b.bufr": {"href": URL},
        },
    },
}


def event(**changes: Any) -> dict[str, Any]:
    return EVENT | changes


def test_every_asset_of_an_event_is_seen():
    first, second = assets(EVENT)
    assert (first.name, first.size, first.checksum) == ("a.nc", 12, "1620" + "0" * 64)
    assert (second.name, second.size, second.checksum) == ("b.bufr", None, None)
    assert geometry(EVENT) == EVENT["data"]["geometry"]
    assert times(EVENT) == {"datetime": "2024-11-09T21:08:00Z"}


def test_a_delivery_is_known_again_and_a_new_state_is_not():
    again = json.loads(json.dumps(dict(reversed(EVENT.items()))))
    assert envelope(again).key == envelope(EVENT).key
    assert envelope(event(time="2025-03-28T14:31:00Z")).key != envelope(EVENT).key


@pytest.mark.parametrize(
    ("thing", "field"),
    [
        ([], None),
        (event(id=None), "id"),
        (event(source=""), "source"),
        (event(specversion="0.3"), "specversion"),
        (event(data=None), "data"),
    ],
)
def test_what_is_no_event_is_refused(thing: Any, field: str | None):
    with pytest.raises(FlowError) as caught:
        envelope(thing)
    assert (caught.value.code, caught.value.field) == ("bad_event", field)


@pytest.mark.parametrize(
    ("read", "data", "field"),
    [
        (assets, {}, "data.assets"),
        (assets, {"assets": {}}, "data.assets"),
        (assets, {"assets": {"a": {}}}, "data.assets.a.href"),
        (assets, {"assets": {"a": {"href": URL, "file:size": "12"}}}, "data.assets.a.file:size"),
        (geometry, {"geometry": 3}, "data.geometry"),
        (times, {"properties": {"datetime": "hier"}}, "data.properties.datetime"),
        (times, {"properties": {"datetime": "2024-11-09T21:08:00"}}, "data.properties.datetime"),
    ],
)
def test_an_event_that_cannot_be_announced_is_refused(read: Any, data: dict[str, Any], field: str):
    with pytest.raises(FlowError) as caught:
        read(event(data=data))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("properties", "found"),
    [
        ({}, {}),
        ({"datetime": None}, {}),
        (
            {"datetime": None, "start_datetime": "2024-01-01T00:00:00Z", "end_datetime": "2024-01-02T00:00:00Z"},
            {"start_datetime": "2024-01-01T00:00:00Z", "end_datetime": "2024-01-02T00:00:00Z"},
        ),
        ({"datetime": "2024-11-09T21:08:00.000000Z"}, {"datetime": "2024-11-09T21:08:00.000000Z"}),
    ],
)
def test_times_of_events(properties: dict[str, Any], found: dict[str, str]):
    assert times(event(data={"properties": properties})) == found


@pytest.mark.parametrize(
    ("code", "method"),
    [("12", "sha256"), ("20", "sha384"), ("13", "sha512"), ("16", "sha3_256"), ("15", "sha3_384"), ("14", "sha3_512")],
)
def test_multihashes_have_the_messages_names(code: str, method: str):
    digest = hashlib.new(method, DATA).digest()
    found = multihash(f"{code}{len(digest):02x}{digest.hex()}")
    assert found == (method.replace("_", "-"), digest)


@pytest.mark.parametrize("text", ["", "zz", "16", "1620ab", "1140" + "0" * 128, "1220" + "0" * 66, "1210" + "0" * 32])
def test_other_checksums_are_refused(text: str):
    with pytest.raises(Fatal) as caught:
        multihash(text)
    assert caught.value.field == "file:checksum"


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus is not here")
@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("wnm-example1.json", {"W17", "W18"}),  # its digest is cut short, and so is its content
        ("wnm-example2.json", {"W17"}),
        ("wnm-example3.json", set()),
        ("wnm-example4.json", set()),
        ("wnm-eumetsat-msg-seviri-core-notification.json", {"W17"}),  # hex where base64 belongs
        ("ifremer-core-metadata-msg-notification.json", set()),
        ("ifremer-IOPX01_LFVX_251403-msg-notification.json", {"W17"}),  # hex
        ("pywis-pubsub-test_invalid_datetime.json", {"W8", "W15", "W17", "W18"}),
    ],
)
def test_the_corpus(name: str, rules: set[str]):
    found = errors(check(json.loads((CORPUS / name).read_bytes())))
    assert {finding.rule for finding in found} == rules


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus is not here")
@pytest.mark.parametrize("name", ["ifremer-netcdf-creation-cloudevent.json", "ifremer-bufr-creation-cloudevent.json"])
def test_real_events(name: str):
    real = json.loads((CORPUS / name).read_bytes())
    (asset,) = assets(real)
    assert asset.checksum
    assert multihash(asset.checksum).method == "sha3-256"
    subject = Subject(data_id="x", href=asset.href, sha256=HEX, geometry=geometry(real), times=dict(times(real)))
    assert errors(check(message(FROZEN, subject))) == []
