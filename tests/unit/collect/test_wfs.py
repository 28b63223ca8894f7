"""A layer of a WFS server in pages: one collection, whatever the pages were."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datafab.collect.endpoint import endpoint_hash
from datafab.collect.plugins.parameters import GEOJSON, GML, plugin_media_type
from datafab.collect.plugins.wfs import WfsLayer
from datafab.collect.plugins.wfs_page import ServiceError, count_features, read_page
from datafab.fetch.session import Fetcher
from datafab.settings import Settings
from datafab.store.store import Store
from tests.servers.http import Answer, Site
from tests.servers.wfs import Wfs

CORPUS = Path(__file__).resolve().parents[3].parent / "shared" / "corpus" / "collect"
LAYER = "/wfs?SERVICE=WFS&typeNames=z:zone"
N = "{http://z.example}n"


@pytest.fixture
def read(tmp_path):
    """Give a function that reads a layer and returns what was fetched, and what was stored."""

    def fetched(router, size: int = 3, path: str = LAYER):
        store = Store(str(tmp_path / "store"))
        settings = Settings(home=tmp_path, allow_private_hosts=("*",), max_bytes=1_000_000)
        with Site(router=router) as site, Fetcher(settings).session() as session:
            url = site.url(path)
            got = session.fetch_pages(url, store, lambda get: WfsLayer(get, url, size).dump(), page_seconds=60)
        assert not list((tmp_path / "store").glob("tmp/*"))
        assert bool(got.sha256) == bool(list((tmp_path / "store").glob("resource/*")))
        return got, store.read(f"resource/{got.sha256}") if got.sha256 else None

    return fetched


def numbers(data: bytes) -> list[int]:
    if data.startswith(b"{"):
        return [feature["properties"]["n"] for feature in json.loads(data)["features"]]
    return [int(element.text or "") for element in ET.fromstring(data).iter(N)]  # noqa: S314 - of our own server


class TestAllFeatures:
    @pytest.mark.parametrize("form", ["member", "featureMember", "featureMembers", "json"])
    @pytest.mark.parametrize(
        "habits",
        [
            {},
            {"gives": 2},
            {"matched": "unknown"},
            {"matched": "unknown", "hits": "unknown"},
            {"matched": "unknown", "hits": ""},
        ],
        ids=["counts", "gives fewer than asked for", "counts when asked", "never counts", "says nonsense"],
    )
    def test_come_and_are_the_same_bytes_for_every_page_size(self, read, form, habits):
        kept = {read(Wfs(10, form=form, **habits), size)[1] for size in (1, 3, 5, 10, 100)}
        assert len(kept) == 1
        (data,) = kept
        assert numbers(data) == list(range(10))
        assert data.count("é, }".encode()) == (0 if form == "json" else 10)
        assert b"timeStamp" not in data
        assert b"Envelope" not in data
        assert b"numberReturned" not in data
        assert not any(mark in data for mark in (b"fid=", b"zone.1", b"next="))

    @pytest.mark.parametrize("form", ["member", "featureMembers", "json"])
    def test_of_a_layer_without_any(self, read, form):
        got, data = read(Wfs(0, form=form))
        assert got.status == 200
        assert numbers(data) == []

    def test_are_asked_for_as_the_endpoint_says(self, read):
        server = Wfs(4)
        read(server, 3, "/wfs?Version=1.1.0&TYPENAME=z:zone&srsName=EPSG:27700&maxFeatures=7&request=getfeature")
        assert server.queries[0] == {
            "version": "1.1.0",
            "typename": "z:zone",
            "srsname": "EPSG:27700",
            "service": "WFS",
            "request": "GetFeature",
            "startindex": "0",
            "maxfeatures": "3",
        }
        hits, *rest = server.queries[1:]
        assert (hits["resulttype"], [query["startindex"] for query in rest]) == ("hits", ["3"])

    def test_a_server_of_the_first_version_is_not_asked_to_count(self, read):
        server = Wfs(4, matched="")
        _, data = read(server, 3, "/wfs?version=1.0.0&typeName=z:zone")
        assert numbers(data) == [0, 1, 2, 3]
        assert [query.get("resulttype") for query in server.queries] == [None] * 3

    def test_a_server_that_gives_all_at_once(self, read):
        """It pages for nobody: what came is all there is, if it came in one answer."""
        got, data = read(Wfs(5, pages=False, gives=9, matched="unknown", hits="unknown"), 5)
        assert got.refusal.code == "no_paging"

        class Deaf(Wfs):
            def __call__(self, path: str, headers: dict[str, str]) -> Answer:
                return super().__call__(path.replace("count=", "x="), headers)

        got, data = read(Deaf(5, pages=False, matched="unknown", hits="unknown"), 3)
        assert numbers(data) == [0, 1, 2, 3, 4]

    def test_and_memory_stays_flat(self):
        text = "x" * 100_000

        def peak(features: int) -> int:
            def get(url: str) -> bytes:
                members = f"<member><a><n>{endpoint_hash(url)}</n><t>{text}</t></a></member>" * 2
                return f'<FeatureCollection numberMatched="{features}">{members}</FeatureCollection>'.encode()

            tracemalloc.start()
            size = sum(map(len, WfsLayer(get, "https://a.example/wfs?typeName=a", 2).dump()))
            found = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert size > features * len(text)
            return found

        assert peak(200) < 1.2 * peak(10)


class TestRefused:
    def test_an_answer_that_breaks_off_with_a_report(self, read):
        """Nothing else tells it from the last page of a server that does not count."""
        got, _ = read(Wfs(2, matched="unknown", hits="unknown", breaks=True))
        assert (got.refusal.code, got.refusal.exception) == ("wfs_error", "WFSError")
        assert "the server says: the database is away" in got.refusal.message

    REPORT = (
        b'<?xml version="1.0"?><ows:ExceptionReport xmlns:ows="o"><ows:Exception exceptionCode="NoApplicableCode">'
        b"<ows:ExceptionText>no such\n layer</ows:ExceptionText></ows:Exception></ows:ExceptionReport>"
    )
    OLD = b"<ServiceExceptionReport><ServiceException> no such layer </ServiceException></ServiceExceptionReport>"
    JSON = b'{"version":"2.0.0","exceptions":[{"code":"x","text":"no such layer"}]}'

    @pytest.mark.parametrize(
        ("answer", "code", "exception"),
        [
            (Answer(REPORT, content_type="text/xml"), "wfs_error", "WFSError"),
            (Answer(OLD, content_type="text/xml"), "wfs_error", "WFSError"),
            (Answer(JSON, content_type="application/json"), "wfs_error", "WFSError"),
            (Answer(b" \n", content_type="text/xml"), "empty", "EmptyWFSResponse"),
            (Answer(b"", content_type="text/xml"), "empty", "EmptyWFSResponse"),
            (Answer(b"<Capabilities/>"), "bad_answer", "WFSError"),
            (Answer(b"<FeatureCollection>"), "bad_answer", "WFSError"),
            (Answer(b"n;1"), "bad_answer", "WFSError"),
            (Answer(b"{}"), "bad_answer", "WFSError"),
            (
                Answer(b'<!DOCTYPE a [<!ENTITY b "c">]><FeatureCollection>&b;</FeatureCollection>'),
                "bad_answer",
                "WFSError",
            ),
            (Answer(b"<html>", content_type="text/html"), "html", None),
            (Answer(b"", 404), "http_404", None),
        ],
    )
    def test_an_answer(self, read, answer, code, exception):
        got, data = read(lambda *_: answer)
        assert (got.refusal.code, got.refusal.exception, data) == (code, exception, None)
        assert got.status is None
        if code == "wfs_error":
            assert got.refusal.message.endswith("the server says: no such layer")

    def test_half_a_layer(self, read):
        got, _ = read(Wfs(10, lost=3))
        assert got.refusal.code == "incomplete"
        assert got.refusal.message.endswith("the layer has 10 features, and 7 came")

    def test_a_page_that_does_not_fit_into_memory(self, read, monkeypatch):
        monkeypatch.setattr("datafab.fetch.answer.MAX_PAGE_BYTES", 3000)
        got, _ = read(Wfs(100), 100)
        assert (got.refusal.code, got.refusal.exception) == ("too_large", "TooLarge")
        assert "ask for smaller ones" in got.refusal.message
        assert len(numbers(read(Wfs(100), 5)[1])) == 100

    def test_pages_of_another_form(self, read):
        first, second = Wfs(10), Wfs(10, form="featureMembers")

        def changing(path: str, headers: dict[str, str]) -> Answer:
            return (second if first.queries else first)(path, headers)

        got, _ = read(changing)
        assert got.refusal.code == "bad_answer"
        assert "from 3 on" in got.refusal.message

    def test_a_server_that_repeats_its_first_page(self, read):
        got, _ = read(Wfs(10, pages=False))
        assert got.refusal.code == "no_paging"

    @pytest.mark.parametrize("path", ["/wfs?service=WFS", "/wfs?typeNames=a,b"])
    def test_an_address_without_its_one_layer(self, read, path):
        server = Wfs(10)
        assert read(server, 3, path)[0].refusal.code == "no_layer"
        assert server.queries == []


@given(
    st.lists(st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=2), max_size=5),
    st.booleans(),
)
def test_features_of_geojson_stay_as_they_are_written(features, spaced):
    written = [json.dumps(one, indent=1 if spaced else None) for one in features]
    glue = " ,\n" if spaced else ","
    page = read_page(f'\ufeff {{"a": [1, {{}}], "features" : [ {glue.join(written)} ]\t, "z": "]"}}'.encode())
    assert [one.decode() for one in page.members] == written


def test_members_may_be_empty_or_hold_anything():
    page = read_page(
        b"<?xml version='1.0'?><FeatureCollection a='>'><member href='x/>y'/><other><member/></other>"
        b"<member  ><member>in &lt; it</member ></member ><!-- <member/> --></FeatureCollection>"
    )
    assert page.members == [b"<member href='x/>y'/>", b"<member  ><member>in &lt; it</member ></member >"]
    assert page.head == b"<?xml version='1.0'?>\n<FeatureCollection a='>'>"
    assert page.tail == b"\n</FeatureCollection>\n"


@pytest.mark.parametrize(
    "data", [b"{", b'{"features":[1', b'{"features":[1 2]}', b'{"features" []}', b'{"a":1,}', "{'é'".encode("latin-1")]
)
def test_broken_json(data):
    with pytest.raises(ValueError, match=r".") as raised:
        read_page(data)
    assert not isinstance(raised.value, ServiceError)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b'<FeatureCollection numberMatched="12" numberReturned="0"/>', 12),
        (b'<a:FeatureCollection xmlns:a="b" numberOfFeatures="3"/>', 3),
        (b'<FeatureCollection numberMatched="unknown"/>', None),
        (b"<FeatureCollection/>", None),
        (b'{"features": [], "numberMatched": 3}', 3),
        (b'{"features": [], "totalFeatures": "unknown"}', None),
        (b"12", None),
    ],
)
def test_a_count(data, found):
    assert count_features(data) == found


@pytest.mark.parametrize(
    ("plugin", "query", "kind"),
    [("wfs", "OutputFormat=application/JSON", GEOJSON), ("wfs", "", GML), ("arcgis", "", GEOJSON), (None, "", None)],
)
def test_what_a_plugin_makes(plugin, query, kind):
    assert plugin_media_type(plugin, f"https://a.example/wfs?{query}") == kind


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus is not here")
def test_real_answers_lose_no_feature():
    paths = [path for path in CORPUS.rglob("*") if path.is_file() and path.stat().st_size < 3_000_000]
    found = {path: data for path in paths if b"FeatureCollection" in (data := path.read_bytes())[:3000]}
    assert len(found) >= 5
    for data in found.values():
        page = read_page(data)
        whole = page.head + page.between.join(page.members) + page.tail
        assert len(page.members) == len(_features(data)) > 0
        assert _features(whole) == _features(data)


def _features(data: bytes) -> list[object]:
    text = data.decode("utf-8-sig")
    if text.startswith("{"):
        return list(json.loads(text)["features"])
    members = ET.fromstring(text)  # noqa: S314 - real files that were looked at
    return [ET.tostring(member).strip() for member in members if member.tag.endswith("ember")]
