from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from datafab.collect import endpoints_stage as endpoints
from datafab.collect import stages as collect
from datafab.collect.endpoint import PLUGINS, endpoint_hash
from datafab.collect.fetchlog import FetchLog
from datafab.collect.history import History
from datafab.core.item import Batch, Item, Status
from datafab.core.job import Job
from datafab.core.lease import Lease
from datafab.core.memory_jobs import MemoryJobs
from datafab.core.runner import Attempt, expand, load_items, run_inline, run_stage
from datafab.core.services import Services
from datafab.core.stage import Stage
from datafab.errors import FlowError, Lost, Wait
from datafab.settings import Settings
from tests.servers.esri import Layer
from tests.servers.http import Answer, Site, redirect
from tests.servers.wfs import Wfs

(SOURCE,), (COLLECT,) = endpoints.STAGES, collect.STAGES
CSV = "id;commune\n1;Évreux\n".encode()
TODAY = f"{datetime.now(UTC):%Y-%m-%d}"


WFS2 = (
    b'<?xml version="1.0"?><!-- a > b --><wfs:FeatureCollection xmlns:wfs="w" numberMatched="%b" numberReturned="%b">'
)
MEMBERS = b"<w:member><z:a>a</z:a></w:member>" * 3000
FEATURES = b'{"type":"Feature","properties":{"n":1},"geometry":null},' * 2000 + b'{"type":"Feature"}'
#: answers with HTTP 200 that hold no data, or not all: body, (exception in the log, code, what is said)
REPORTS = [
    pytest.param(
        b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- x --><ows:ExceptionReport version="2.0.0">'
        b'<ows:Exception exceptionCode="InvalidParameterValue">'
        b"<ows:ExceptionText>no &lt;zone&gt;</ows:ExceptionText></ows:Exception></ows:ExceptionReport>",
        ("WFSError", "service_error", "the service says: no <zone>"),
        id="report of WFS 1.1 and 2.0",
    ),
    pytest.param(
        b'<?xml version="1.0" encoding="ISO-8859-1"?><!DOCTYPE ServiceExceptionReport SYSTEM "http://x/e.dtd">'
        b'<ServiceExceptionReport version="1.0.0"><ServiceException><![CDATA[\xe9chec <a>]]></ServiceException>'
        b"</ServiceExceptionReport>",
        ("WFSError", "service_error", "the service says: échec a"),
        id="report of WFS 1.0",
    ),
    pytest.param(
        b'<ExceptionReport><Exception exceptionCode="NoApplicableCode"/></ExceptionReport>',
        ("WFSError", "service_error", "the service says: NoApplicableCode"),
        id="report without a text",
    ),
    pytest.param(
        b'{"version":"2.0.0","exceptions":[{"code":"noApplicableCode","locator":"x","text":"no zone"}]}',
        ("WFSError", "service_error", "the service says: no zone"),
        id="report in JSON",
    ),
    pytest.param(
        b'{"error":{"code":400,"message":"Failed to execute query.","details":["no table"]}}',
        ("EsriDownloadError", "http_400", "the service says: Failed to execute query.: no table"),
        id="error of ArcGIS",
    ),
    pytest.param(
        b' {"error": {"code": 499, "message": "Token Required", "details": []}}',
        ("EsriDownloadError", "http_499", "the service says: Token Required"),
        id="token of ArcGIS",
    ),
    pytest.param(
        WFS2 % (b"9000", b"3000") + MEMBERS + b"</w:FeatureCollection>",
        ("WFSError", "partial", "the service gives 3000 of 9000 features"),
        id="part of a WFS",
    ),
    pytest.param(
        b'{"type":"FeatureCollection","features":[' + FEATURES + b'],"totalFeatures":"unknown","numberMatched":9000,'
        b'"numberReturned":2001,"links":[{"href":"http://x/]"}],"crs":null}',
        ("WFSError", "partial", "the service gives 2001 of 9000 features"),
        id="part in JSON, counted at the end",
    ),
    pytest.param(
        b'{"numberReturned":2001,"numberMatched":2002,"type":"FeatureCollection","features":[' + FEATURES + b"]}",
        ("WFSError", "partial", "the service gives 2001 of 2002 features"),
        id="part in JSON, counted at the beginning",
    ),
    pytest.param(
        b'{"type":"FeatureCollection","features":[' + FEATURES + b'],"properties":{"exceededTransferLimit":true}}',
        ("EsriDownloadError", "partial", "the service left features out: the plugin arcgis reads all of them"),
        id="part of ArcGIS in GeoJSON",
    ),
    pytest.param(
        b'{"objectIdFieldName":"n","exceededTransferLimit" : true,"features":[' + FEATURES + b"]}",
        ("EsriDownloadError", "partial", "the service left features out: the plugin arcgis reads all of them"),
        id="part of ArcGIS in JSON",
    ),
]
#: those of them that a URL may have asked for
PARTIAL = {str(report.id) for report in REPORTS if str(report.id).startswith("part ")}
ALL_DATA = [
    WFS2 % (b"3000", b"3000") + MEMBERS + b"</w:FeatureCollection>",
    WFS2 % (b"unknown", b"3000") + MEMBERS + b"</w:FeatureCollection>",
    b'<kml><name>ExceptionReport</name><a numberMatched="2" numberReturned="1"/></kml>',
    b'{"type":"FeatureCollection","features":[' + FEATURES + b'],"numberMatched":2001,"numberReturned":2001}',
    b'{"type":"FeatureCollection","features":[' + FEATURES + b'],"exceededTransferLimit":false}',
    b'{"error":null,"rows":[1]}',
    b'{"error":"0.5","unit":"m","exceptions":[]}',
    b'{"error":{"code":1}',
    b'"error" <ExceptionReport>',
]


def sha(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@pytest.fixture(scope="module")
def site():
    with Site({"/a.csv": Answer(CSV), "/b.csv": Answer(b"b\n2\n"), "/c.csv": Answer(b"c\n3\n")}) as site:
        yield site


def until_ready(stage: Stage, batch: Batch, services: Services, attempt: Attempt) -> list[Item]:
    """Run a stage as often as it asks for."""
    while True:
        try:
            return run_stage(stage, batch, services, attempt)
        except Wait as wait:
            if wait.delay > 1:
                raise
            time.sleep(wait.delay)
            attempt = replace(attempt, lease=attempt.lease.next())


class Collection:
    """A collection folder with an endpoint.csv, and what collecting it gives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "collection"
        self.csv = folder / "endpoint.csv"
        self.settings = Settings(
            home=folder / "home", allow_private_hosts=("127.0.0.0/8",), max_bytes=50_000, retry_delay=0.01
        )
        self.jobs = MemoryJobs()
        self.order: list[str] = []

    def write(self, *rows: str, header: str = "endpoint,endpoint-url,plugin,parameters,end-date") -> None:
        self.order = [row.split(",")[1] for row in rows]
        self.csv.write_text("\n".join([header, *rows, ""]), encoding="utf-8")

    def run(self, *rows: str, stage: Stage = COLLECT, created: float | None = None, check=None, **params) -> list[Item]:
        """Collect in one go; return the items in the order of the file (batches are dealt by host)."""
        if rows:
            self.write(*rows)
        self.jobs = MemoryJobs()
        services = Services(self.settings, jobs=self.jobs)
        given = {"endpoints": str(self.csv), "collection": str(self.folder), "log_facts": True} | params
        attempt = Attempt(Lease(job_created=time.time() if created is None else created))
        items: list[Item] = []
        for batch in expand(SOURCE, Batch(job="j", flow="collect", params=given), services, attempt):
            attempt = replace(attempt, check=check or attempt.check)
            items += until_ready(stage, batch, services, attempt)
        services.close()
        for item in items:
            assert Item.model_validate_json(item.model_dump_json()) == item
        self.check_files()
        assert not (self.folder / "tmp").exists()
        return sorted(items, key=lambda item: self.order.index(item.url) if item.url in self.order else 0)

    def check_files(self) -> None:
        """Nothing but whole logs and resources under their digests is ever left."""
        for path in self.folder.rglob("*"):
            if path.is_file():
                if path.parent.name == "resource":
                    assert path.name == sha(path.read_bytes())
                elif path.parent.name == "history":
                    assert History.decoded(path.read_bytes())
                else:
                    assert path.parent.parent.name == "log"
                    assert json.loads(path.read_bytes())["entry-date"].startswith(path.parent.name)

    def one(self, *rows: str, **params) -> Item:
        (item,) = self.run(*rows, **params)
        return item

    def logs(self) -> list[Path]:
        return sorted(self.folder.glob("log/*/*"))

    def log(self, url: str, day: str = TODAY) -> dict:
        return json.loads((self.folder / "log" / day / f"{endpoint_hash(url)}.json").read_bytes())

    def put_log(self, log: FetchLog) -> None:
        path = self.folder / "log" / f"{log.at:%Y-%m-%d}" / f"{endpoint_hash(log.url)}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(log.encoded(facts=True))


@pytest.fixture
def collection(tmp_path) -> Collection:
    return Collection(tmp_path)


def row(url: str, *, key: str = "", plugin: str = "", parameters: str = "", end: str = "") -> str:
    return f"{key},{url},{plugin},{parameters},{end}"


def now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class TestOk:
    def test_a_resource_a_log_and_an_item(self, collection, site):
        url = site.url("/a.csv")
        item = collection.one(row(url, key=endpoint_hash(url)))
        assert (item.source, item.url) == (f"endpoint:{endpoint_hash(url)}", url)
        assert (item.status, item.error) == (Status.OK, None)
        assert (item.sha256, item.size) == (sha(CSV), len(CSV))
        assert (item.media_type, item.filename) == ("text/csv", "a.csv")
        assert item.store == collection.folder.as_uri()
        assert item.collect is not None
        assert (item.collect.status, item.collect.http_status) == ("OK", 200)
        assert (collection.folder / "resource" / sha(CSV)).read_bytes() == CSV

    def test_the_log_byte_for_byte(self, collection, site):
        url = site.url("/a.csv")
        before = now()
        collection.run(row(url), log_facts=False)
        (path,) = collection.logs()
        assert path == collection.folder / "log" / TODAY / f"{endpoint_hash(url)}.json"
        data = path.read_bytes()
        log = json.loads(data)
        assert before <= datetime.fromisoformat(log["entry-date"]) <= now()
        assert 0 <= float(log["elapsed"]) < 60
        agent = collection.settings.user_agent
        assert data.decode() == (
            f'{{"elapsed":"{log["elapsed"]}","endpoint-url":"{url}","entry-date":"{log["entry-date"]}",'
            '"request-headers":{"Accept":"*/*","Accept-Encoding":"gzip, deflate","Connection":"keep-alive",'
            f'"User-Agent":"{agent}"}},"resource":"{sha(CSV)}",'
            '"response-headers":{"Content-Length":"21","Content-Type":"text/csv"},"ssl-verify":true,"status":"200"}'
        )

    def test_the_size_is_of_what_is_stored(self, collection, site):
        """Defect 8: Content-Length is missing when chunked, and of the packed bytes when gzipped."""
        site.answers |= {
            "/packed": Answer(CSV * 100, gzip=True),
            "/chunked": Answer(CSV, chunked=True, headers={"Content-Disposition": 'attachment; filename="données"'}),
        }
        packed, chunked = collection.run(row(site.url("/packed")), row(site.url("/chunked")))
        assert (packed.size, collection.log(site.url("/packed"))["bytes"]) == (2100, 2100)
        assert (chunked.size, collection.log(site.url("/chunked"))["bytes"]) == (21, 21)

    def test_equal_contents_are_one_resource(self, collection, site):
        site.answers["/same.csv"] = Answer(CSV)
        collection.run(row(site.url("/a.csv")), row(site.url("/same.csv")))
        assert len(list(collection.folder.glob("resource/*"))) == 1
        assert len(collection.logs()) == 2

    def test_answers_that_differ_in_their_time_stamp_are_one_resource(self, collection, site):
        kinds = {"xml": b'<F timeStamp="%d" n="1"/>', "json": b'{"features":[],"timeStamp":"%d"}'}
        for kind, body in kinds.items():
            for second in (1, 2):
                answer = Answer(body % second, content_type=f"application/{kind}")
                site.answers[f"/{kind}/{second}"] = answer
        items = collection.run(*(row(site.url(f"/{kind}/{second}")) for kind in kinds for second in (1, 2)))
        digests = [sha(b'<F n="1"/>')] * 2 + [sha(b'{"features":[]}')] * 2
        assert [item.sha256 for item in items] == digests

    def test_the_last_answer_after_redirects(self, collection, site):
        site.answers["/moved"] = redirect("/a.csv", 301)
        item = collection.one(row(site.url("/moved")))
        assert (item.sha256, item.filename) == (sha(CSV), "a.csv")
        log = collection.log(site.url("/moved"))
        assert (log["status"], "Location" in log["response-headers"]) == ("200", False)


class TestTenBadInputs:
    """Each with the right status and reason, and nobody else stopped."""

    @pytest.mark.parametrize("column", ["endpoint", "endpoint-url"])
    def test_a_file_without_a_required_column(self, collection, site, column):
        header = "endpoint,endpoint-url,plugin".replace(column, "adresse", 1)
        collection.write(f",{site.url('/a.csv')},", header=header)
        with pytest.raises(FlowError) as caught:
            collection.run()
        assert caught.value.code == "missing_column"
        assert str(collection.csv) in caught.value.message
        assert f"'{column}'" in caught.value.message
        assert "adresse" not in caught.value.message
        assert not collection.folder.exists() or collection.logs() == []

    def test_a_file_with_a_byte_order_mark(self, collection, site):
        collection.write("," + site.url("/a.csv"), header="\ufeffendpoint,endpoint-url")
        assert collection.one().status is Status.OK

    CASES = (
        pytest.param("wrong-hash", ("HASH_FAILURE", Status.FAILED, "hash_failure", None), id="wrong hash"),
        pytest.param("ended", ("EXPIRED", Status.SKIPPED, "expired", None), id="ended"),
        pytest.param("ftp://example.com/a.csv", ("FAILED", Status.FAILED, "not_http", None), id="not http"),
        pytest.param("closed", ("FAILED", Status.FAILED, "connection_refused", None), id="refused connection"),
        pytest.param("/404", ("FAILED", Status.FAILED, "http_404", 404), id="404"),
        pytest.param("/page", ("FAILED", Status.FAILED, "html", 200), id="a web page"),
        pytest.param("/empty", ("FAILED", Status.FAILED, "empty", 200), id="empty"),
        pytest.param("/large", ("FAILED", Status.FAILED, "too_large", 200), id="too large"),
        pytest.param("/500", ("FAILED", Status.FAILED, "http_500", 500), id="500"),
        pytest.param("bad-date", ("FAILED", Status.FAILED, "bad_end_date", None), id="malformed end-date"),
        pytest.param("sparql", ("FAILED", Status.FAILED, "missing_query", None), id="no query file"),
        pytest.param("arcgis", ("FAILED", Status.FAILED, "http_404", None), id="no layer"),
        pytest.param("gopher", ("FAILED", Status.FAILED, "unknown_plugin", None), id="unknown plugin"),
        pytest.param("/cut", ("FAILED", Status.FAILED, "incomplete", None), id="broken off"),
    )

    @staticmethod
    def bad(site: Site, case: str) -> str:
        site.answers |= {
            "/404": Answer(b"gone", 404),
            "/500": Answer(b"oops", 500),
            "/page": Answer(b"<html>", content_type="text/html"),
            "/empty": Answer(b""),
            "/large": Answer(b"x" * 50_001),
            "/cut": Answer(CSV, fault="short"),
        }
        match case:
            case "wrong-hash":
                return row(site.url("/b.csv"), key="0" * 64)
            case "ended":
                return row(site.url("/b.csv"), end="2020-01-01")
            case "bad-date":
                return row(site.url("/b.csv"), end="31/12/2100")
            case "closed":
                return row(f"http://127.0.0.1:{closed_port()}/b.csv")
            case "arcgis" | "gopher" | "sparql":
                return row(site.url("/b.csv"), plugin=case)
        return row(site.url(case) if case.startswith("/") else case)

    @pytest.mark.parametrize(("case", "expected"), CASES)
    def test_a_bad_endpoint(self, collection, site, case, expected):
        first, bad, last = collection.run(row(site.url("/a.csv")), self.bad(site, case), row(site.url("/c.csv")))
        assert (first.status, last.status) == (Status.OK, Status.OK)
        assert bad.collect is not None
        assert bad.error is not None
        assert (bad.collect.status, bad.status, bad.error.type, bad.collect.http_status) == expected
        assert bad.error.field in {"endpoint-url", "endpoint", "end-date", "plugin"}
        assert bad.sha256 is None
        (line,) = [line for line in self.lines(collection) if line["level"] == "warning"]
        assert (line["source"], line["error"]) == (bad.source, bad.error.type)

    @staticmethod
    def lines(collection: Collection) -> list[dict]:
        return collection.jobs.logs()

    def test_all_of_them_at_once(self, collection, site):
        good = [row(site.url("/a.csv")), row(site.url("/c.csv"))]
        # The same URL may not stand there twice: each bad row of /b.csv gets one of its own.
        bad = [
            self.bad(site, str(case.values[0])).replace("/b.csv", f"/b.csv?{index}")
            for index, case in enumerate(self.CASES)
        ]
        collection.write(good[0], *bad, good[1])
        services = Services(collection.settings, jobs=collection.jobs)
        params = {"endpoints": str(collection.csv), "collection": str(collection.folder)}
        job = Job(id="j", flow="collect", params=params, created=time.time(), deadline=time.time() + 60)
        told = []
        counts = run_inline([COLLECT], SOURCE, job, services, lambda: told.append(1))
        services.close()
        assert (counts.ok, counts.skipped, counts.failed, counts.unchanged) == (2, 1, len(bad) - 1, 0)
        assert counts.bytes == len(CSV) + 4
        assert told
        assert len(collection.jobs.failures()) == len(bad) - 1
        # EXPIRED and HASH_FAILURE write no log, everything else does.
        assert len(collection.logs()) == len(bad)
        collection.check_files()

    def test_unusable_addresses_fail_alone_with_a_log_each(self, collection, site):
        urls = ["https://[council].gov.uk/x", "http://[::1/x", "http://ex℀mple.com/", "file://[x/a.csv"]
        deep = '"{""a"":' + "[" * 300 + "]" * 300 + '}"'
        good = [row(site.url("/a.csv"), parameters="[" * 100_000), row(site.url("/c.csv"), parameters=deep)]
        bad = [row(f"{url}?{n}", plugin=plugin) for url in urls for n, plugin in enumerate(PLUGINS)]
        first, *failed, last = collection.run(good[0], *bad, *map(row, urls), good[1])
        assert (first.status, last.status) == (Status.OK, Status.OK)
        assert len(failed) == len(urls) * (len(PLUGINS) + 1)
        for item in failed:
            assert (item.status, item.error.type) == (Status.FAILED, "invalid_url")
            log = collection.log(item.url)
            assert (log["exception"], log["reason"]) == ("InvalidURL", "invalid_url")
            assert log.get("ssl-verify") is (None if log.get("plugin") else True)
        assert len(collection.logs()) == len(failed) + 2


class TestLogsOfFailures:
    @pytest.mark.parametrize(
        ("answer", "keys"),
        [
            (Answer(b"gone", 404), {"status": "404", "reason": "http_404"}),
            (Answer(b"<p>", content_type="text/html"), {"status": "200", "reason": "html"}),
            (Answer(b""), {"status": "200", "reason": "empty"}),
            (Answer(b"x" * 50_001), {"status": "200", "reason": "too_large", "exception": "TooLarge"}),
        ],
        ids=["404", "html", "empty", "too large"],
    )
    def test_an_answer_that_was_refused(self, collection, site, answer, keys):
        """Defect 6: in the original HTML and empty bodies look the same. Here an own key tells."""
        site.answers["/x"] = answer
        collection.run(row(site.url("/x")))
        log = collection.log(site.url("/x"))
        assert "resource" not in log
        assert "response-headers" in log
        assert {key: log.get(key) for key in ("status", "reason", "exception")} == {"exception": None} | keys
        assert site.url("/x") in log["message"]

    @pytest.mark.parametrize(
        ("answer", "exception"),
        [
            (Answer(CSV, fault="short"), "ChunkedEncodingError"),
            (Answer(CSV, headers={"Content-Encoding": "gzip"}), "ContentDecodingError"),
            (Answer(fault="hang-up"), "ConnectionError"),
            (redirect("/x"), "TooManyRedirects"),
            (redirect("gopher://x"), "InvalidSchema"),
        ],
        ids=["short", "not gzip", "hang-up", "circles", "gopher"],
    )
    def test_an_exception(self, collection, site, answer, exception):
        site.answers["/x"] = answer
        collection.run(row(site.url("/x")))
        log = collection.log(site.url("/x"))
        assert log["exception"] == exception
        assert log["ssl-verify"] is True
        assert not {"status", "resource", "request-headers", "response-headers", "bytes"} & log.keys()

    @pytest.mark.parametrize(("plugin", "exception"), [("sparql", "FileNotFoundError"), ("gopher", "UnknownPlugin")])
    def test_a_plugin(self, collection, site, plugin, exception):
        """Defect 2: an unknown plugin or a missing query stopped the whole run, and no log was written."""
        before = site.hits["/a.csv"]
        collection.run(row(site.url("/a.csv"), plugin=plugin))
        log = collection.log(site.url("/a.csv"))
        assert (log["exception"], log["plugin"], log["elapsed"]) == (exception, plugin, "0.0")
        assert "ssl-verify" not in log
        assert site.hits["/a.csv"] == before

    @pytest.mark.parametrize("given", ['{""max_page_size"":0}', '{""pages"":1}'])
    def test_a_layer(self, collection, given):
        """Defect 3: half a layer was taken for a fault of its own, and the reason was lost."""
        esri = [{"attributes": {"OBJECTID": n}, "geometry": {"x": n, "y": n}} for n in range(4)]
        with Site(router=Layer(esri, gives=3)) as site, Site(router=Layer(esri, lost=1)) as half:
            whole, broken = collection.run(
                row(site.url("/layer/0"), plugin="arcgis", parameters=f'"{given}"'),
                row(half.url("/layer/0"), plugin="arcgis", parameters='"{""retries"":0}"'),
            )
        log = collection.log(whole.url)
        assert log.keys() == {
            "attempts",
            "bytes",
            "elapsed",
            "endpoint-url",
            "entry-date",
            "plugin",
            "resource",
            "status",
        }
        assert (log["status"], log["bytes"], whole.media_type) == ("200", whole.size, "application/geo+json")
        features = json.loads((collection.folder / "resource" / log["resource"]).read_bytes())["features"]
        assert [feature["properties"]["OBJECTID"] for feature in features] == [0, 1, 2, 3]
        assert any("parameters are ignored" in line["event"] for line in collection.jobs.logs())
        log = collection.log(broken.url)
        assert (log["exception"], log["reason"]) == ("EsriDownloadError", "incomplete")
        assert not {"status", "resource", "ssl-verify"} & log.keys()

    def test_a_wfs(self, collection, site):
        body = '<a timeStamp="{}" n="1"><b fid="b.{}" gml:id="zone.{}.x">é</b></a>'
        site.answers["/wfs"] = Answer(body.format(1, 2, 3).encode(), content_type="text/xml; subtype=gml/3.1.1")
        first = collection.one(row(site.url("/wfs"), plugin="wfs"))
        site.answers["/wfs"] = Answer(body.format(4, 5, 6).encode(), content_type="text/xml; subtype=gml/3.1.1")
        assert collection.one(row(site.url("/wfs"), plugin="wfs"), refill_todays_logs=True).sha256 == first.sha256
        kept = (collection.folder / "resource" / str(first.sha256)).read_bytes()
        assert kept == '<a n="1"><b gml:id="zone">é</b></a>'.encode()
        assert collection.log(site.url("/wfs"))["ssl-verify"] is True

    def test_a_wfs_in_pages(self, collection):
        given = '"{""page_size"":4}"'
        report = b"<ExceptionReport><ExceptionText>no such layer</ExceptionText></ExceptionReport>"
        with Site(router=Wfs(10)) as site, Site(router=lambda *_: Answer(report, content_type="text/xml")) as bad:
            whole, broken = collection.run(
                row(site.url("/wfs?typeName=z:zone"), plugin="wfs", parameters=given),
                row(bad.url("/wfs?typeName=z:zone"), plugin="wfs", parameters=given),
            )
            assert len(site.requests) == 3
        log = collection.log(whole.url)
        assert log.keys() == {
            "attempts",
            "bytes",
            "elapsed",
            "endpoint-url",
            "entry-date",
            "plugin",
            "resource",
            "status",
        }
        assert (log["status"], whole.media_type) == ("200", "application/gml+xml")
        assert (collection.folder / "resource" / log["resource"]).read_bytes().count(b"<z:zone ") == 10
        log = collection.log(broken.url)
        assert (log["exception"], log["reason"]) == ("WFSError", "wfs_error")
        assert not {"status", "resource", "ssl-verify"} & log.keys()

    @pytest.mark.parametrize("plugin", ["", "wfs"])
    @pytest.mark.parametrize(("body", "refused"), REPORTS)
    def test_a_service_that_answers_200_and_gives_no_data_or_not_all(self, collection, site, plugin, body, refused):
        exception, code, said = refused
        collection.settings = collection.settings.model_copy(update={"max_bytes": 1_000_000})
        site.answers["/service?typeNames=zone"] = Answer(body, content_type="application/octet-stream")
        line = row(site.url("/service?typeNames=zone"), plugin=plugin)
        item = collection.one(line, log_facts=True)
        assert (item.status, item.error.type, item.sha256) == (Status.FAILED, code, None)
        assert f"{item.url}: {said}" in item.error.message
        assert "--as-served" in item.error.message
        log = collection.log(item.url)
        assert (log["exception"], log["status"], log["reason"]) == (exception, "200", code)
        assert "resource" not in log
        assert not (collection.folder / "resource").exists() or not list((collection.folder / "resource").iterdir())
        kept = collection.one(line, as_served=True, refill_todays_logs=True)  # as the original does
        assert (kept.status, kept.sha256) == (Status.OK, sha(body.replace(b' timeStamp="now"', b"")))

    @pytest.mark.parametrize("body", [*ALL_DATA, *(report.values[0] for report in REPORTS if report.id in PARTIAL)])
    def test_what_is_all_that_was_asked_for_is_kept(self, collection, site, body):
        collection.settings = collection.settings.model_copy(update={"max_bytes": 1_000_000})
        url = "/service?COUNT=2" if body not in ALL_DATA else "/service"
        site.answers[url] = Answer(body, content_type="application/octet-stream")
        assert collection.one(row(site.url(url))).sha256 == sha(body)

    def test_nothing_leaks_from_one_log_into_the_next(self, collection, site):
        """Defect 4."""
        closed = f"http://127.0.0.1:{closed_port()}/"
        collection.run(row(site.url("/a.csv")), row(closed), row(site.url("/c.csv")))
        assert collection.log(closed).keys() == {
            "attempts",
            "elapsed",
            "endpoint-url",
            "entry-date",
            "exception",
            "message",
            "reason",
            "ssl-verify",
        }

    def test_credentials_stay_out_of_messages(self, collection):
        item = collection.one(row(f"http://user:secret@127.0.0.1:{closed_port()}/"))
        assert item.error is not None
        assert "secret" not in item.error.message
        assert "secret" not in json.dumps(collection.jobs.logs())


class TestOncePerDay:
    def test_a_second_job_leaves_it_alone(self, collection, site):
        collection.run(row(site.url("/a.csv")))
        before, log = site.hits["/a.csv"], collection.logs()[0].read_bytes()
        item = collection.one()
        assert item.collect is not None
        assert (item.status, item.collect.status, item.error) == (Status.UNCHANGED, "ALREADY_FETCHED", None)
        assert (item.sha256, item.size, item.media_type, item.filename) == (sha(CSV), len(CSV), "text/csv", "a.csv")
        assert site.hits["/a.csv"] == before
        assert [path.read_bytes() for path in collection.logs()] == [log]

    def test_unless_it_is_to_be_refilled(self, collection, site):
        collection.run(row(site.url("/a.csv")))
        before = collection.log(site.url("/a.csv"))
        assert collection.one(refill_todays_logs=True).status is Status.OK
        assert collection.log(site.url("/a.csv"))["entry-date"] > before["entry-date"]
        assert len(collection.logs()) == 1

    def test_a_log_of_the_original_counts(self, collection, site):
        url = site.url("/a.csv")
        resource = collection.folder / "resource" / sha(b"old")
        resource.parent.mkdir(parents=True)
        resource.write_bytes(b"old")
        collection.put_log(FetchLog(url=url, at=now() - timedelta(seconds=1), status=200, resource=sha(b"old")))
        item = collection.one(row(url))
        assert (item.status, item.sha256, item.size) == (Status.UNCHANGED, sha(b"old"), 3)

    def test_one_whose_resource_is_gone_names_none(self, collection, site):
        collection.run(row(site.url("/a.csv")))
        (collection.folder / "resource" / sha(CSV)).unlink()
        item = collection.one()
        assert (item.status, item.sha256, item.size) == (Status.UNCHANGED, None, None)

    def test_even_one_that_was_cut_short(self, collection, site):
        url = site.url("/a.csv")
        path = collection.folder / "log" / TODAY / f"{endpoint_hash(url)}.json"
        path.parent.mkdir(parents=True)
        path.write_bytes(b'{"elapsed":')
        with pytest.raises(json.JSONDecodeError):  # which `check_files` finds: it is still there
            collection.run(row(url))
        assert collection.jobs.done("j", "collect", None)[0].status is Status.UNCHANGED
        assert collection.one(refill_todays_logs=True).status is Status.OK

    def test_a_failure_stays_one_that_day(self, collection, site):
        """The original asks once a day (defect 9); ``retry_failed`` asks failures only again.

        A second run, such as a scheduler's retry, must not turn green.
        """
        site.answers["/late"] = Answer(b"not yet", 500)
        rows = (row(site.url("/late")), row(site.url("/a.csv")))
        assert [item.status for item in collection.run(*rows)] == [Status.FAILED, Status.OK]
        site.answers["/late"] = Answer(CSV)
        late, other = collection.run()
        assert late.collect is not None
        assert (late.status, late.collect.status, late.sha256) == (Status.FAILED, "ALREADY_FETCHED", None)
        assert late.error is not None
        assert (late.error.type, late.collect.http_status, other.status) == ("http_500", 500, Status.UNCHANGED)
        assert "/late: the server answered 500" in late.error.message
        assert "--retry-failed asks again" in late.error.message
        assert list(collection.jobs.failures()) == [late.source]
        assert collection.log(site.url("/late"))["status"] == "500"
        late, other = collection.run(retry_failed=True)
        assert (late.status, other.status) == (Status.OK, Status.UNCHANGED)
        assert collection.log(site.url("/late"))["status"] == "200"
        assert len(collection.logs()) == 2

    @pytest.mark.parametrize(
        ("log", "code", "said"),
        [
            ({"status": 404}, "http_404", "the server answered 404 (today at "),
            ({"status": 200}, "failed", "the server answered 200, but with nothing that can be kept (today at "),
            (
                {
                    "status": 200,
                    "request_headers": {"Accept": "*/*"},
                    "response_headers": {"Content-Type": "text/html"},
                },
                "html",
                "the server answered with a web page instead of data (today at ",
            ),
            (
                {"status": 200, "exception": "ChunkedEncodingError"},
                "ChunkedEncodingError",
                "nothing that can be kept",
            ),
            ({"exception": "SSLError"}, "SSLError", "there was no answer (today at "),
        ],
    )
    def test_a_failure_that_the_original_logged_stays_one(self, collection, site, log, code, said):
        before = site.hits["/a.csv"]
        collection.put_log(FetchLog(url=site.url("/a.csv"), at=now() - timedelta(milliseconds=1), **log))
        item = collection.one(row(site.url("/a.csv")))
        assert item.error is not None
        assert (item.status, item.error.type) == (Status.FAILED, code)
        assert said in item.error.message
        assert site.hits["/a.csv"] == before

    def test_another_day_is_another_fetch(self, collection, site):
        """Defect 1: the original's clock stood still from import on; ours is read for every fetch."""
        times = iter(
            datetime.fromisoformat(text)
            for text in ("2026-11-20T23:59:59.9", "2026-11-21T00:00:00.1", "2026-11-21T00:00:00.2")
        )
        stage = Stage(name="collect", queue="io", run_many=partial(collect.collect, clock=lambda: next(times)))
        url = site.url("/a.csv")
        items = collection.run(row(url), row(site.url("/b.csv")), stage=stage, created=time.time())
        assert [item.status for item in items] == [Status.OK, Status.OK]
        assert collection.one(row(url), stage=stage).status is Status.OK
        assert collection.log(url, "2026-11-20")["entry-date"] == "2026-11-20T23:59:59.900000"
        assert collection.log(site.url("/b.csv"), "2026-11-21")["entry-date"] == "2026-11-21T00:00:00.100000"
        assert collection.log(url, "2026-11-21")["entry-date"] == "2026-11-21T00:00:00.200000"


#: Collects what its arguments say, as a worker would.
CHILD = """
import sys, time
from datafab.core.lease import Lease
from datafab.core.memory_jobs import MemoryJobs
from datafab.core.item import Batch
from datafab.core.runner import Attempt, expand, run_stage
from datafab.core.services import Services
from datafab.settings import Settings
from datafab.flows.chains import STAGES

services = Services(Settings(allow_private_hosts=("*",)), jobs=MemoryJobs())
attempt = Attempt(Lease(job_created=time.time()))
batch = Batch(job="j", flow="f", params={"endpoints": sys.argv[1], "collection": sys.argv[2]})
for dealt in expand(STAGES["endpoints"], batch, services, attempt):
    run_stage(STAGES["collect"], dealt, services, attempt)
"""


class TestAfterACrash:
    """A log that this job wrote is its own result, though the attempt that wrote it died before it could tell."""

    def test_a_success(self, collection, site):
        created = time.time()
        collection.run(row(site.url("/a.csv")), created=created)
        before = site.hits["/a.csv"]
        item = collection.one(created=created, refill_todays_logs=True)
        assert item.collect is not None
        assert (item.status, item.collect.status, item.collect.http_status) == (Status.OK, "OK", 200)
        assert (item.sha256, item.size, item.media_type, item.filename) == (sha(CSV), len(CSV), "text/csv", "a.csv")
        assert site.hits["/a.csv"] == before

    def test_a_failure_is_asked_for_again(self, collection, site):
        """A log tells less than an answer does, and costs one more when it is wrong."""
        created = time.time()
        site.answers["/gone"] = Answer(b"", 410)
        first = collection.one(row(site.url("/gone")), created=created, log_facts=False)
        assert collection.one(created=created) == first
        assert first.error is not None
        assert first.error.type == "http_410"
        assert site.hits["/gone"] == 2

    def test_attempts_and_redirects_are_logged_when_they_are_asked_for(self, collection, site):
        created = time.time()
        site.answers["/moved"] = redirect("/then")
        site.answers["/then"] = Answer(b"", 410)
        collection.one(row(site.url("/moved")), created=created)
        site.answers["/then"] = redirect("/a.csv")
        collection.one(created=created)
        (log,) = collection.logs()
        told = json.loads(log.read_text(encoding="utf-8"))
        assert (told["attempts"], told["redirects"]) == (2, [site.url("/then"), site.url("/a.csv")])

    def test_a_resource_that_is_gone_is_fetched_again(self, collection, site):
        created = time.time()
        collection.run(row(site.url("/a.csv")), created=created)
        (collection.folder / "resource" / sha(CSV)).unlink()
        assert collection.one(created=created).sha256 == sha(CSV)

    def test_a_process_that_is_killed_leaves_no_part(self, collection, site):
        """Defect 5: and the next attempt ends what it began."""
        site.answers["/drip"] = Answer(b"x" * 300_000, fault="drip", pause=0.01)
        collection.write(row(site.url("/a.csv")), row(site.url("/drip")))
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(collection.csv), str(collection.folder)])
        until = time.monotonic() + 120
        while site.hits["/drip"] == 0 and time.monotonic() < until:
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
        child.wait(10)
        assert site.hits["/drip"] == 1
        collection.check_files()
        assert [path.stem for path in collection.logs()] == [endpoint_hash(site.url("/a.csv"))]
        site.answers["/drip"] = Answer(CSV)
        assert [item.status for item in collection.run()] == [Status.UNCHANGED, Status.OK]

    def test_a_cancelled_job_stops_between_two_endpoints(self, collection, site):
        turns = iter([None, None, None, Lost("cancelled")])

        def check() -> None:
            turn = next(turns)
            if turn:
                raise turn

        with pytest.raises(Lost):
            collection.run(*(row(site.url(f"/{name}.csv")) for name in "abc"), check=check)
        assert 0 < len(collection.logs()) < 3


def turns(*answers: Answer) -> Site:
    """Return a site that answers so, one after another; the last answer stays."""
    left = list(answers)
    return Site(router=lambda *_: left.pop(0) if len(left) > 1 else left[0])


class TestTriesAgain:
    @pytest.mark.parametrize(
        "fault",
        [
            Answer(b"", 503),
            Answer(b"", 429),
            Answer(b"", 408),
            Answer(CSV, fault="hang-up"),
            Answer(CSV, fault="short"),
        ],
    )
    def test_what_may_pass(self, collection, fault):
        with turns(fault, fault, Answer(CSV)) as site:
            item = collection.one(row(site.url("/a")))
            assert site.hits["/a"] >= 3
        assert (item.status, item.sha256) == (Status.OK, sha(CSV))
        assert len(collection.logs()) == 1
        assert collection.log(item.url)["resource"] == sha(CSV)

    def test_what_does_not_pass_in_time(self, collection):
        with turns(Answer(b"", 503)) as site:
            item = collection.one(row(site.url("/a")))
            assert site.hits["/a"] == 3
        assert item.collect is not None
        assert item.error is not None
        assert (item.status, item.collect.status, item.collect.http_status) == (Status.FAILED, "FAILED", 503)
        assert item.error.message == f"{item.url}: the server answered 503 Service Unavailable (3 tries)"
        assert (collection.log(item.url)["status"], len(collection.logs())) == ("503", 1)

    @pytest.mark.parametrize("fault", [Answer(b"", 404), Answer(b"", 401), Answer(b"<p>", content_type="text/html")])
    def test_what_never_passes_is_asked_for_once(self, collection, fault):
        with turns(fault, Answer(CSV)) as site:
            assert collection.one(row(site.url("/a"))).status is Status.FAILED
            assert site.hits["/a"] == 1

    def test_a_server_says_when(self, collection, site):
        with turns(Answer(b"", 503, headers={"Retry-After": "41"})) as busy:
            with pytest.raises(Wait, match="answered 503") as raised:
                collection.run(row(site.url("/a.csv")), row(busy.url("/a")))
            assert busy.hits["/a"] == 1
        assert raised.value.delay == 41

    @pytest.mark.parametrize(("retries", "pause"), [(0, None), (1, 7)])
    def test_a_layer_says_how_often_and_when(self, collection, retries, pause):
        given = f'"{{""retries"":{retries},""retry_backoff_seconds"":7}}"'
        with Site(router=Layer([{"attributes": {"OBJECTID": 1}}], lost=1)) as site:
            endpoint = row(site.url("/layer/0"), plugin="arcgis", parameters=given)
            if pause:
                with pytest.raises(Wait) as raised:
                    collection.run(endpoint)
                assert raised.value.delay == pause
            else:
                assert collection.one(endpoint).status is Status.FAILED
        (log,) = collection.logs()
        assert json.loads(log.read_bytes())["reason"] == "incomplete"


class TestTheSameEndpointTwice:
    def test_is_fetched_once(self, collection, site):
        before = site.hits["/a.csv"]
        first, second = collection.run(row(site.url("/a.csv")), row(site.url("/a.csv")))
        assert second.collect is not None
        assert (first.status, second.status, second.collect.status) == (
            Status.OK,
            Status.UNCHANGED,
            "ALREADY_FETCHED",
        )
        assert site.hits["/a.csv"] == before + 1

    @pytest.mark.parametrize("refill", [False, True])
    def test_what_would_not_be_fetched_does_not_count(self, collection, site, refill):
        url = site.url("/a.csv")
        rows = [row(url, end="2020-01-01"), row(url, key="0" * 64), row(url), row(url, end="2020-01-01"), row(url)]
        items = collection.run(*rows, refill_todays_logs=refill)
        statuses = [item.collect.status for item in items if item.collect]
        assert statuses == ["EXPIRED", "HASH_FAILURE", "OK", "EXPIRED", "ALREADY_FETCHED"]


class TestParameters:
    def test_the_list_may_lie_in_the_default_store(self, collection, site):
        services = Services(collection.settings, jobs=MemoryJobs())
        sha256 = services.store(collection.settings.store).write_list(
            f"endpoint,endpoint-url\n,{site.url('/a.csv')}\n".encode()
        )
        assert collection.one(endpoints=f"list:{sha256}").status is Status.OK

    def test_the_file_may_be_a_url(self, collection, site, tmp_path):
        folder = tmp_path / "données ouvertes"
        folder.mkdir()
        (folder / "endpoint.csv").write_text(f"endpoint,endpoint-url\n,{site.url('/a.csv')}\n")
        item = collection.one(endpoints=(folder / "endpoint.csv").as_uri(), collection=folder.as_uri())
        assert item.store == folder.as_uri()
        assert (folder / "resource" / sha(CSV)).exists()

    @pytest.mark.parametrize(
        ("params", "field"),
        [
            ({"endpoints": ""}, "endpoints"),
            ({"endpoints": "/nowhere/endpoint.csv"}, "endpoints"),
            ({"endpoints": "list:../../etc/passwd"}, None),
            ({"collection": ""}, "collection"),
        ],
    )
    def test_what_cannot_be(self, collection, site, params, field):
        collection.write(row(site.url("/a.csv")))
        with pytest.raises(FlowError) as caught:
            collection.run(**params)
        assert caught.value.field == field

    def test_parameters_reach_the_item_and_bad_ones_a_warning(self, collection, site):
        good, bad = collection.run(
            row(site.url("/a.csv"), plugin="arcgis", parameters='"{""max_page_size"": 7}"'),
            row(site.url("/b.csv"), plugin="arcgis", parameters="{seven}"),
        )
        assert good.collect is not None
        assert good.collect.parameters == {"max_page_size": 7}
        assert bad.collect is not None
        assert bad.collect.parameters is None
        (line,) = [line for line in collection.jobs.logs() if "parameters" in line["event"]]
        assert line["endpoint"] == endpoint_hash(site.url("/b.csv"))
        assert line["event"].startswith("line 3: ")


def test_one_host_cannot_hold_up_the_others(collection):
    """Defect 7: a batch is one host's, as many of them as it may have connections."""
    hosts = ["slow.example"] * 10 + ["a.example", "b.example", "c.example"]
    collection.write(*(row(f"https://{host}/{index}.csv") for index, host in enumerate(hosts)))
    services = Services(collection.settings, jobs=MemoryJobs())
    params = {"endpoints": str(collection.csv), "collection": str(collection.folder)}
    batches = list(expand(SOURCE, Batch(job="j", flow="f", params=params), services, Attempt()))
    hosts_of = [{urlsplit(item.url or "").netloc for item in load_items(batch, services)} for batch in batches]
    assert [hosts for hosts in hosts_of if "slow.example" in hosts] == [{"slow.example"}] * collection.settings.per_host
    assert hosts_of[-1] == {"a.example", "b.example", "c.example"}
    assert services.jobs.total == len(hosts)


def test_what_killed_processes_left_is_swept(collection, site):
    left = collection.folder / "tmp" / "half"
    left.parent.mkdir(parents=True)
    left.write_text("half a body")
    os.utime(left, (time.time() - 90_000,) * 2)
    collection.run(row(site.url("/a.csv")))
    assert not left.exists()


def test_a_batch_is_one_session(collection):
    with Site({f"/{index}": Answer(CSV) for index in range(4)}) as site:
        collection.run(*(row(site.url(f"/{index}")) for index in range(4)))
        assert (sum(site.hits.values()), site.connections) == (4, 1)


def test_a_full_or_forbidden_collection_stops_the_job(collection, site):
    collection.folder.write_text("a file, not a folder")
    with pytest.raises(FlowError, match=r"collection/.*: Not a directory"):
        collection.run(row(site.url("/a.csv")))


def test_an_item_of_another_kind_is_refused(collection):
    services = Services(collection.settings, jobs=MemoryJobs())
    batch = Batch(job="j", flow="f", items=(Item(source="file:/x"),))
    (item,) = run_stage(COLLECT, batch, services, Attempt())
    assert item.error is not None
    assert item.error.type == "not_an_endpoint"
