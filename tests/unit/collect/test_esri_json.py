"""Esri's geometries, and whole layers from a server that has their habits."""

from __future__ import annotations

import json

import pytest

from datafab.collect.plugins.arcgis import ArcgisLayer as Reader
from datafab.collect.plugins.esri_json import feature, geometry
from datafab.collect.plugins.parameters import ArcgisParameters, read_parameters
from datafab.fetch.session import Fetcher
from datafab.settings import Settings
from datafab.store.store import Store
from tests.servers.esri import Layer
from tests.servers.http import Answer, Site

SQUARE = [[0, 0], [0, 4], [4, 4], [4, 0], [0, 0]]
HOLE = [[1, 1], [2, 1], [2, 2], [1, 2], [1, 1]]
FAR = [[10, 10], [10, 12], [12, 12], [12, 10], [10, 10]]


@pytest.mark.parametrize(
    ("esri", "geojson"),
    [
        pytest.param({}, None, id="none"),
        pytest.param({"x": 2.5, "y": 48}, {"type": "Point", "coordinates": [2.5, 48]}, id="point"),
        pytest.param({"x": 0, "y": 51.4}, {"type": "Point", "coordinates": [0, 51.4]}, id="on the meridian"),
        pytest.param({"x": 1, "y": 2, "z": 3}, {"type": "Point", "coordinates": [1, 2]}, id="height left out"),
        pytest.param({"x": "NaN", "y": "NaN"}, None, id="empty point"),
        pytest.param({"x": None, "y": None}, None, id="null point"),
        pytest.param({"x": float("nan"), "y": 1.0}, None, id="not a number"),
        pytest.param({"points": [[1, 2]]}, {"type": "Point", "coordinates": [1, 2]}, id="one of many points"),
        pytest.param({"points": [[1, 2], [3, 4]]}, {"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]}, id="two"),
        pytest.param({"paths": [[[0, 0], [1, 1]]]}, {"type": "LineString", "coordinates": [[0, 0], [1, 1]]}, id="line"),
        pytest.param(
            {"paths": [[[0, 0], [1, 1]], [[2, 2], [3, 3]]]},
            {"type": "MultiLineString", "coordinates": [[[0, 0], [1, 1]], [[2, 2], [3, 3]]]},
            id="lines",
        ),
        pytest.param({"rings": []}, None, id="no ring"),
        pytest.param({"rings": [[]]}, None, id="empty ring"),
        pytest.param({"rings": [SQUARE]}, {"type": "Polygon", "coordinates": [SQUARE]}, id="polygon"),
        pytest.param({"rings": [SQUARE[:-1]]}, {"type": "Polygon", "coordinates": [SQUARE]}, id="left open"),
        pytest.param({"rings": [SQUARE[::-1]]}, {"type": "Polygon", "coordinates": [SQUARE[::-1]]}, id="backwards"),
        pytest.param({"rings": [SQUARE, HOLE]}, {"type": "Polygon", "coordinates": [SQUARE, HOLE]}, id="with a hole"),
        pytest.param(
            {"rings": [SQUARE, HOLE, FAR]},
            {"type": "MultiPolygon", "coordinates": [[SQUARE, HOLE], [FAR]]},
            id="two, one with a hole",
        ),
        pytest.param(
            {"rings": [HOLE, SQUARE]},
            {"type": "MultiPolygon", "coordinates": [[HOLE], [SQUARE]]},
            id="a hole in nothing",
        ),
        pytest.param({"rings": [SQUARE[:2], SQUARE]}, {"type": "Polygon", "coordinates": [SQUARE]}, id="a line beside"),
        pytest.param({"curveRings": []}, None, id="of a kind of its own"),
    ],
)  # fmt: skip
def test_geometries(esri, geojson):
    assert geometry(esri) == geojson


def test_a_feature_has_the_keys_in_the_order_of_the_dumps_that_are_there_already():
    esri = {"attributes": {"nom": "Évreux", "OBJECTID": 1}, "geometry": {"x": 1.0, "y": 2}}
    assert json.dumps(feature(esri)) == (
        '{"type": "Feature", "geometry": {"type": "Point", "coordinates": [1.0, 2]}, '
        '"properties": {"nom": "\\u00c9vreux", "OBJECTID": 1}}'
    )
    assert feature({"attributes": {}}) == {"type": "Feature", "geometry": None, "properties": None}


def features(count: int) -> list[dict]:
    return [
        {"attributes": {"OBJECTID": 3 * n, "nom": f"é{n}"}, "geometry": {"x": n / 10, "y": 48.0}} for n in range(count)
    ]


class Dump:
    """Reads a layer into a store."""

    def __init__(self, folder) -> None:
        settings = Settings(home=folder, allow_private_hosts=("127.0.0.0/8",), max_bytes=200_000)
        self.store = Store((folder / "store").as_uri())
        self.fetcher = Fetcher(settings)

    def __call__(self, router, path="/layer/0", *, max_page_size=None, page=20.0):
        given = {"router": router} if callable(router) else {"answers": router}
        with Site(**given) as site, self.fetcher.session() as session:
            url = site.url(path)
            fetched = session.fetch_pages(
                url, self.store, lambda get: Reader(get, url, max_page_size).dump(), page_seconds=page
            )
        if fetched.sha256 is None:
            return fetched.refusal
        with self.store.open(fetched.sha256) as file:
            text = file.read().decode()
        assert fetched.size == len(text.encode())
        return text


@pytest.fixture
def dump(tmp_path) -> Dump:
    return Dump(tmp_path)


@pytest.mark.parametrize(
    ("habits", "max_page_size", "requests"),
    [
        pytest.param({}, None, 1, id="one page"),
        pytest.param({"says": 10, "gives": 10}, None, 3, id="pages"),
        pytest.param({"says": 0}, 10, 3, id="smaller pages than it would give"),
        pytest.param({"says": 1000, "gives": 10}, None, 3, id="it gives less than it says"),
        pytest.param({"says": 1000, "gives": 10, "silent": True}, None, 3, id="and does not say so"),
        pytest.param({"pages": False, "says": 10, "gives": 10}, None, 3, id="by object ids"),
        pytest.param({"pages": False, "says": 1000, "gives": 10}, None, 4, id="by object ids, less than it says"),
        pytest.param({"counts": False, "says": 10, "gives": 10}, None, 3, id="without a count"),
    ],
)
def test_a_layer_comes_whole_whatever_its_habits(dump, habits, max_page_size, requests):
    layer = Layer(features(25), **habits)
    text = dump(layer, max_page_size=max_page_size)
    collection = json.loads(text)
    assert [each["properties"]["OBJECTID"] for each in collection["features"]] == [3 * n for n in range(25)]
    assert text.startswith('{"type":"FeatureCollection","features":[\n{"type": "Feature", ')
    assert text.count(",\n{") == 24
    assert text.endswith("}]}")
    asked = [query for query in layer.queries if "outFields" in query]
    assert len(asked) == requests
    assert all(query["outSR"] == "4326" for query in asked)


SILENT = {"error": {"code": 400, "message": "Invalid", "details": []}}
SMALL = {"says": 10, "gives": 10}


@pytest.mark.parametrize(
    "habits",
    [
        pytest.param({"offsets": False}, id="ignores the offset"),
        pytest.param({"offsets": False, "ids": SILENT}, id="ignores the offset, lists no ids"),
        pytest.param({"stable": False}, id="orders when it is asked to"),
        pytest.param({"stable": False, "order": "ignored"}, id="has no order"),
        pytest.param({"stable": False, "order": "refused"}, id="refuses an order"),
        pytest.param({"order": "refused"}, id="refuses an order, and has one"),
        pytest.param({"count": SILENT, "ids": SILENT}, id="neither counts nor lists"),
        pytest.param({"count": {"count": None}}, id="null features"),
        pytest.param({"count": {"count": 0}}, id="counts none"),
        pytest.param({"count": {"count": 0}, "ids": {"objectIds": None}}, id="counts and lists none"),
        pytest.param({"count": {"count": True}}, id="a count that is none"),
        pytest.param({"count": {"count": 3}}, id="counts too few"),
        pytest.param({"count": {}, "ids": {}, "order": "refused"}, id="answers nothing to either, in its own order"),
        pytest.param({"ids": SILENT, "pages": False}, id="counts, neither pages nor lists"),
        pytest.param({"ids": {"objectIds": None}, "pages": False}, id="counts, and lists none"),
    ],
)
def test_each_feature_comes_once_whatever_the_server_cannot_do(dump, habits):
    collection = json.loads(dump(Layer(features(25), **SMALL, **habits)))
    assert sorted(each["properties"]["OBJECTID"] for each in collection["features"]) == [3 * n for n in range(25)]


@pytest.mark.parametrize(
    ("count", "habits", "code"),
    [
        pytest.param(0, {"count": SILENT, "ids": SILENT}, "no_count", id="neither counts nor lists, gives none"),
        pytest.param(0, {"count": {"count": None}, "ids": {}}, "no_count", id="null, and no ids"),
        pytest.param(0, {"count": SILENT, "cuts": True}, "no_count", id="gives none and says that there are more"),
        pytest.param(0, {"count": {"count": 0}, "cuts": True}, "no_count", id="counts none and says so too"),
        pytest.param(0, {"count": {"count": 5}}, "incomplete", id="counts some, gives none"),
        pytest.param(25, {"offsets": False, "where": False}, "incomplete", id="ignores offset and where"),
        pytest.param(25, {"count": SILENT, "where": False}, "incomplete", id="lists ids and ignores where"),
        pytest.param(25, {"count": SILENT, "ids": SILENT, "where": False}, "no_paging", id="the same again"),
        pytest.param(
            25, {"count": SILENT, "ids": SILENT, "stable": False, "order": "ignored"}, "no_paging", id="no order"
        ),
        pytest.param(25, {"offsets": False, "named": False}, "incomplete", id="ignores the offset, names no ids"),
        pytest.param(25, {"count": SILENT, "lost": 3}, "incomplete", id="lists ids that it does not give"),
        pytest.param(25, {"offsets": False, "clock": True}, "no_paging", id="the same again with another time"),
        pytest.param(25, {"offsets": False, "clock": True, "ids": SILENT}, "no_paging", id="and it lists no ids"),
        pytest.param(25, {"count": {"count": "30"}}, "incomplete", id="counts more than it gives, as a text"),
    ],
)
def test_a_layer_that_cannot_be_read_whole_is_refused(dump, count, habits, code):
    refusal = dump(Layer(features(count), **SMALL, **habits))
    assert getattr(refusal, "code", refusal) == code


@pytest.mark.parametrize(
    "habits",
    [
        pytest.param({}, id="counts and lists none"),
        pytest.param({"ids": SILENT}, id="counts none"),
        pytest.param({"count": SILENT}, id="lists none"),
        pytest.param({"count": {"count": 0}, "ids": {}, "pages": False}, id="counts none, cannot page"),
    ],
)
def test_a_server_that_says_that_there_is_nothing_is_believed(dump, habits):
    assert json.loads(dump(Layer([], **habits))) == {"type": "FeatureCollection", "features": []}


def test_rows_of_a_join_that_share_an_object_id_all_come(dump):
    rows = [{"attributes": {"OBJECTID": n // 2, "nom": f"é{n}"}, "geometry": {"x": n, "y": 1}} for n in range(25)]
    assert len(json.loads(dump(Layer(rows, **SMALL)))["features"]) == 25


def test_rows_of_a_join_on_one_page_are_not_repeated_with_it(dump):
    """A page that comes again has nothing new, however many rows share its object ids."""
    rows = [{"attributes": {"OBJECTID": 1, "nom": f"é{n}"}, "geometry": None} for n in range(3)]
    assert dump(Layer(rows, count={"count": 9}, offsets=False)).code == "incomplete"


@pytest.mark.parametrize("served", [[[1, 2], [1, 2]], [[1, 2], [2, 1]]], ids=["the same", "in another order"])
def test_a_page_without_object_ids_that_comes_again_counts_once(dump, served):
    pages = [{"features": [{"attributes": {"nom": n}} for n in page]} for page in served]

    class Deaf(Layer):
        def answer(self, query: dict[str, str]) -> dict[str, object]:
            return {"count": 4} if "returnCountOnly" in query else pages[len(self.queries) % 2]

    assert dump(Deaf([], named=False, says=2)).code == "incomplete"


ONE = {"attributes": {"OBJECTID": 1}}


@pytest.mark.parametrize(
    "page",
    [
        {"features": [None]},
        {"features": [1, ONE]},
        {"features": [{"attributes": [1]}]},
        {"features": [ONE | {"geometry": "POINT (1 2)"}]},
        {"features": [ONE | {"geometry": {"points": 5}}]},
    ],
)
def test_features_that_are_none_are_a_bad_answer(dump, page):
    class Odd(Layer):
        def answer(self, query: dict[str, str]) -> dict[str, object]:
            return page if "outFields" in query else super().answer(query)

    assert dump(Odd(features(1))).code == "bad_answer"


@pytest.mark.parametrize("ids", [[1, "a", None], [[1], 2], ["a", "b"], [1.5]])
def test_object_ids_that_are_no_numbers_are_a_bad_answer(dump, ids):
    assert dump(Layer(features(5), count=SILENT, ids={"objectIds": ids})).code == "bad_answer"


@pytest.mark.parametrize(
    "facts",
    [
        {"fields": [None]},
        {"fields": "x"},
        {"fields": [{"type": "esriFieldTypeOID"}]},
        {"objectIdField": ["OBJECTID"]},
        {"advancedQueryCapabilities": "all"},
    ],
)
def test_a_layer_that_describes_itself_oddly_is_read(dump, facts):
    layer = Layer(features(3))

    def router(path, headers):
        return layer(path, headers) if "/query" in path else Answer(json.dumps(facts).encode())

    assert len(json.loads(dump(router))["features"]) == 3


def test_an_answer_that_is_nested_too_deeply_is_a_bad_one(dump):
    body = b'{"fields":' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    assert dump(lambda *_: Answer(body, content_type="application/json")).code == "bad_answer"


def test_what_the_endpoint_itself_asks_for_goes_along(dump):
    layer = Layer(features(2))
    assert json.loads(dump(layer, "/layer/0/query?token=abc&f=html&where=nom+is+not+null#part"))["features"]
    assert {query["token"] for query in layer.queries} == {"abc"}
    assert {query["where"] for query in layer.queries} == {"(nom is not null)"}


def test_an_empty_layer_is_a_collection_of_nothing(dump):
    assert json.loads(dump(Layer([]))) == {"type": "FeatureCollection", "features": []}


def told(**error):
    return lambda _path, _headers: Answer(json.dumps({"error": error}).encode(), content_type="application/json")


@pytest.mark.parametrize(
    ("router", "path", "code", "said"),
    [
        (Layer(features(5), lost=2), "/layer/0", "incomplete", "the layer has 5 features, and 3 came"),
        (Layer([]), "/layer", "no_layer", "add a layer's number to the address: 0 (Zones), 1 (Arbres)"),
        (Layer([]), "/other", "http_404", "answered 404"),
        (told(code=499, message="Token Required", details=[]), "/x", "http_499", "the service says: Token Required"),
        (told(code=503, message="Busy", details=["a", "b"]), "/x", "http_503", "says: Busy: a: b"),
        (told(code=503, message="Busy", details="a"), "/x", "http_503", "says: Busy: a"),
        (told(message=None), "/x", "arcgis_error", "an error that it does not name"),
        ({"/x?f=json": Answer(b"[1]", content_type="application/json")}, "/x", "bad_answer", "not a JSON object"),
        ({"/x?f=json": Answer(b"<wfs/>", content_type="text/xml")}, "/x", "bad_answer", "is this an ArcGIS layer?"),
        ({"/x?f=json": Answer(b"<p>", content_type="text/html")}, "/x", "html", "a web page"),
        ({"/x?f=json": Answer(b"{", fault="short")}, "/x", "incomplete", "broke off"),
        ({"/x?f=json": Answer(b" " * 300_000)}, "/x", "too_large", "DATAFAB_MAX_BYTES"),
    ],
)
def test_what_is_no_layer_says_why(dump, router, path, code, said):
    refusal = dump(router, path)
    assert (refusal.code, said in refusal.message) == (code, True), refusal


def test_a_page_that_takes_too_long_is_given_up(dump):
    def slow(path, headers):
        return Layer(features(1))(path, headers) if "/query" not in path else Answer(b"{}", delay=5)

    assert dump(slow, page=0.3).code == "timeout"


@pytest.mark.parametrize(
    ("given", "page", "warned"),
    [
        (None, None, None),
        ({"max_page_size": 100, "timeout": 5}, 100, None),
        ({"max_page_size": 0}, None, "'max_page_size' is invalid"),
        ({"max_page_size": "20", "timeout": 300}, 20, None),
        ({"max_page_size": 500.0}, 500, None),
        ({"max_page_size": " 10 "}, 10, None),
        ({"max_page_size": "20.0", "retries": "3", "retry_backoff_seconds": 2.0}, 20, None),
        ({"max_page_size": None, "timeout": "\t60"}, None, None),
        ({"max_page_size": "0"}, None, "'max_page_size' is invalid"),
        ({"max_page_size": 1.5}, None, "'max_page_size' is invalid"),
        ({"max_page_size": "ten"}, None, "'max_page_size' is invalid"),
        ({"maxpagesize": 1}, None, "'maxpagesize' is invalid"),
    ],
)
def test_parameters_that_are_no_good_are_told_and_ignored(given, page, warned):
    parameters, warning = read_parameters(ArcgisParameters, given)
    assert parameters.max_page_size == page
    assert (warning is None) == (warned is None)
    assert (warned or "") in (warning or "")
