"""Checking one address: which plugin fits, what is there, and why not."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path

import pytest

from datafab.analysis.detective import Detective
from datafab.collect.service_report import root_element
from datafab.collect.url_probe import UrlCheck
from datafab.collect.urlcheck import find_objection, plugins_for
from datafab.settings import Settings
from tests.servers.esri import Layer
from tests.servers.http import Answer, Site, redirect
from tests.servers.wfs import Wfs

CSV = "id;commune\n1;Évreux\n2;Lyon\n".encode()
REPORT = (
    b"<?xml version='1.0'?><o:ExceptionReport><o:ExceptionText>no &lt;layer&gt;</o:ExceptionText></o:ExceptionReport>"
)


@pytest.fixture
def check(tmp_path):
    settings = Settings(home=tmp_path, allow_private_hosts=("*",), max_bytes=50_000)
    yield UrlCheck(settings, partial(Detective().analyse, mode="sample")).find
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize(
    ("url", "head", "plugins"),
    [
        ("https://a.example/a.csv", b"id;nom", []),
        ("https://a.example/arcgis/rest/services/X/FeatureServer/0", b"", ["arcgis"]),
        ("https://a.example/arcgis/rest/services/X/mapserver/3/query?where=1=1", b"", ["arcgis"]),
        ("https://a.example/x", b'{"currentVersion":11,"layers":[]}', ["arcgis"]),
        ("https://a.example/x", b"<html><title>ArcGIS REST Services Directory", ["arcgis"]),
        ("https://a.example/MapServerless", b"", []),
        ("https://a.example/ows?SERVICE=WFS&request=GetFeature", b"", ["wfs"]),
        ("https://a.example/geoserver/wfs/", b"", ["wfs"]),
        ("https://a.example/x", b'<?xml version="1.0"?><wfs:WFS_Capabilities version="2.0.0">', ["wfs"]),
        ("https://a.example/x", b'<F xmlns="http://www.opengis.net/wfs/2.0">', ["wfs"]),
        ("https://a.example/MapServer/WFSServer?service=WFS", b"", ["arcgis"]),
    ],
)
def test_which_plugins_fit(url, head, plugins):
    assert plugins_for(url, head) == plugins


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\xef\xbb\xbf <?xml version='1.0'?>\n<!-- <no> --><a:Root b='c'>", "Root"),
        (b"<?xml version='1.0'?><a:Root>", "Root"),
        (b"x <a>", ""),
        (b"", ""),
        (b"<", ""),
    ],
)
def test_what_xml_begins_with(head, name):
    assert root_element(head) == name


def test_what_is_wrong_with_a_good_answer():
    found = find_objection(REPORT, REPORT)
    assert found is not None
    assert (found.type, found.message) == ("service_error", "the service says: no <layer>")
    assert find_objection(b"<WFS_Capabilities>", b"") is not None
    assert find_objection(b"id;nom\n", b"") is None


def test_a_table(check):
    with Site({"/moved": redirect("/a.csv"), "/a.csv": Answer(CSV)}) as site:
        found = check(site.url("/moved"))
    assert (found.ok, found.plugin, found.status, found.reason, found.no_table) == (True, None, 200, None, None)
    assert (found.media_type, found.filename, found.size) == ("text/csv", "a.csv", len(CSV))
    assert found.sha256 == hashlib.sha256(CSV).hexdigest()
    assert (found.table.rows, found.table.columns, found.table.separator) == (2, ("id", "commune"), ";")
    assert [(one.plugin, one.status) for one in found.tries] == [(None, 200)]


def test_data_that_are_no_table(check):
    with Site({"/a": Answer(b"%PDF-1.4 x", content_type="application/pdf")}) as site:
        found = check(site.url("/a"))
    assert (found.ok, found.table, found.reason) == (True, None, None)
    assert found.no_table.type == "not_tabular"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Answer(b"gone", 404), "http_404"),
        (Answer(b"<html>", content_type="text/html; charset=utf-8"), "html"),
        (Answer(b""), "empty"),
        (Answer(b"x" * 50_001), "too_large"),
        (Answer(CSV, fault="short"), "incomplete"),
        (redirect("/a"), "too_many_redirects"),
        (Answer(REPORT, content_type="text/xml"), "service_error"),
    ],
)
def test_nothing_to_collect(check, answer, code):
    with Site({"/a": answer}) as site:
        found = check(site.url("/a"))
        assert site.url("/a") in found.reason.message or code == "service_error"
    assert (found.ok, found.reason.type, found.table) == (False, code, None)


def test_a_layer_is_read_as_a_whole(check):
    esri = [{"attributes": {"OBJECTID": n}, "geometry": {"x": n, "y": n}} for n in range(4)]
    layer = Layer(esri, gives=3)
    page = Answer(b"<html>ArcGIS REST Services Directory", content_type="text/html")
    with Site(router=lambda path, headers: layer(path, headers) if "f=json" in path else page) as site:
        found = check(site.url("/layer/0"))
        whole = check(site.url("/layer"))
    assert (found.ok, found.plugin, found.media_type) == (True, "arcgis", "application/geo+json")
    assert [(one.plugin, one.reason and one.reason.type) for one in found.tries] == [(None, "html"), ("arcgis", None)]
    assert (whole.ok, whole.reason.type) == (False, "no_layer")
    assert "0 (Zones)" in whole.reason.message


def test_features_of_a_wfs(check):
    with Site(router=Wfs(3)) as site:
        url = site.url("/wfs?service=WFS&typeNames=z:zone&request=GetFeature")
        found = check(url)
        paged = check(url, "wfs", {"page_size": 2})
    assert (found.ok, found.plugin, paged.ok) == (True, "wfs", True)
    assert [one.plugin for one in found.tries] == [None, "wfs"]
    assert [one.plugin for one in paged.tries] == ["wfs"]
    assert found.sha256 != paged.sha256


def test_a_service_that_refuses_is_left_alone(check):
    with Site({}) as site:
        found = check(site.url("/FeatureServer/0"))
        assert len(site.requests) == 1
    assert found.reason.type == "http_404"


@pytest.mark.parametrize(
    ("url", "plugin", "code"),
    [
        ("file:///etc/hostname", None, "not_http"),
        ("ftp://a.example/x", "arcgis", "not_http"),
        ("http://127.0.0.1:1/", None, "private_address"),
        ("http://127.0.0.1:1/#a.rq", "sparql", "missing_query"),
        ("http://127.0.0.1:1/", "gopher", "unknown_plugin"),
        ("nonsense", None, "not_http"),
        ("http://[::1/", None, "invalid_url"),
        ("http://[::1/", "arcgis", "invalid_url"),
    ],
)
def test_what_is_never_asked(tmp_path, url, plugin, code):
    found = UrlCheck(Settings(home=tmp_path), lambda _: {}).find(url, plugin)
    assert (found.ok, found.reason.type, found.status) == (False, code, None)


def test_a_finding_is_json(tmp_path):
    found = UrlCheck(Settings(home=Path(tmp_path)), lambda _: {}).find("nonsense")
    assert json.loads(found.model_dump_json())["tries"][0]["reason"]["field"] == "url"
