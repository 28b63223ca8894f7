from __future__ import annotations

import csv
import hashlib
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datafab.collect.endpoint import FetchStatus, endpoint_error, endpoint_hash, is_expired, read_rows, status_by_row
from datafab.collect.fetchlog import FetchLog, log_name
from datafab.collect.plugins.wfs_timestamp import MAX_MATCH_BYTES, strip_timestamps, strip_wfs
from datafab.core.item import CollectFacts, Item
from datafab.core.long_cells import MAX_CELL_CHARS
from datafab.errors import FlowError
from datafab.fetch.filename import filename, media_type

URL = "https://données.example/é?q=1"
KEY = hashlib.sha256(URL.encode()).hexdigest()
AT = datetime(2026, 11, 20, 22, 0, 53, 167408)  # noqa: DTZ001 - UTC without a zone, as the logs have it
CORPUS = Path(__file__).resolve().parents[3].parent / "shared" / "corpus" / "collect"


def rows(text: str | bytes):
    data = text.encode() if isinstance(text, str) else text
    return list(read_rows(data, "endpoint.csv"))


class TestRows:
    def test_all_columns(self):
        text = (
            "endpoint,endpoint-url,parameters,plugin,entry-date,start-date,end-date\r\n"
            f'{KEY},{URL},"{{""max_page_size"": 5}}",arcgis,2026-01-01,,2026-12-31\r\n'
        )
        (row,) = rows(text)
        assert (row.line, row.url, row.warning) == (2, URL, None)
        assert row.facts == CollectFacts(
            endpoint=KEY, plugin="arcgis", parameters={"max_page_size": 5}, end_date="2026-12-31"
        )

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("endpoint-url,endpoint\n" + URL + "\n", id="short row, no other column"),
            pytest.param("endpoint,endpoint-url,remarque\n," + URL + ",très bien\n", id="unknown column"),
            pytest.param("\ufeffendpoint,endpoint-url\n," + URL + "\n", id="byte order mark"),
            pytest.param("endpoint;endpoint-url\n;" + URL + "\n", id="semicolons"),
            pytest.param(f'endpoint,endpoint-url\r\n"","{URL}"\r\n', id="quoted"),
            pytest.param(f"endpoint,endpoint-url\n{KEY},{URL}\n", id="hash given"),
            pytest.param(f"endpoint,endpoint-url\n,{URL}", id="no line end"),
            pytest.param(f"endpoint,endpoint-url\n,\n\nabc,\n,{URL},,,,\n", id="rows without URL, too many cells"),
            pytest.param(f"endpoint,endpoint-url,note\n,{URL},déjà\n".encode("cp1252"), id="cp1252"),
        ],
    )
    def test_forms_of_the_same_file(self, text):
        (row,) = rows(text)
        assert (row.url, row.facts) == (URL, CollectFacts(endpoint=KEY))

    def test_the_url_is_hashed_as_it_is_written(self):
        (row,) = rows("endpoint,endpoint-url\n, https://x.example/a \n")
        assert row.url == " https://x.example/a "
        assert row.facts.endpoint == endpoint_hash(" https://x.example/a ")

    @pytest.mark.parametrize(
        ("text", "column"),
        [
            ("endpoint-url,geheim\nhttps://x,\n", "endpoint"),
            ("endpoint,geheim\n,https://x\n", "endpoint-url"),
            ("Endpoint,endpoint-url\n,https://geheim\n", "endpoint"),
            ("PASSWORD=geheim\0HOME=/root", "endpoint"),
            ("", "endpoint"),
        ],
    )
    def test_a_missing_column(self, text, column):
        with pytest.raises(FlowError) as caught:
            rows(text)
        said = f"endpoint.csv has no column {column!r}; its first line must name endpoint and endpoint-url"
        assert caught.value.message == said
        assert (caught.value.code, caught.value.field) == ("missing_column", column)

    def test_what_is_no_text(self):
        with pytest.raises(FlowError, match=r"endpoint\.csv is not text"):
            rows(b"endpoint,endpoint-url\n\x81\xff,\n")

    def test_what_is_no_csv(self):
        with pytest.raises(FlowError, match=r"endpoint\.csv, line 3: field larger"):
            rows("endpoint,endpoint-url\n,https://x\n," + "x" * (MAX_CELL_CHARS + 1) + "\n")

    @pytest.mark.parametrize(
        "value",
        ["{", "[1]", "5", '"a"', r'{"a": "\ud800"}', "[" * 100_000, '{"a":' + "[" * 300 + "]" * 300 + "}"],
        ids=["cut", "list", "number", "text", "half a pair", "unread", "deep"],
    )
    def test_parameters_that_cannot_be_read(self, value):
        quoted = value.replace('"', '""')
        (row,) = rows(f'endpoint,endpoint-url,parameters\n,{URL},"{quoted}"\n')
        assert row.facts.parameters is None
        assert row.warning is not None
        assert row.warning.startswith("line 2: the column 'parameters'")

    @given(url=st.text(min_size=1).filter(str.isprintable), end=st.text(max_size=12).filter(str.isprintable))
    def test_any_row_can_cross_the_queue(self, url, end):
        quoted = [text.replace('"', '""') for text in (url, end)]
        for row in rows('endpoint,endpoint-url,end-date\n,"{}","{}"\n'.format(*quoted)):
            item = Item(source="endpoint:x", url=row.url, collect=row.facts)
            assert Item.model_validate_json(item.model_dump_json()) == item
            assert row.facts.endpoint == hashlib.sha256(url.encode()).hexdigest()

    @pytest.mark.parametrize(
        ("path", "count"),
        [
            ("collection/endpoint.csv", 7),
            ("listed-building/csv/endpoint.csv", 10),
            ("central-activities-zone/endpoint.csv", 3),
        ],
    )
    def test_real_files(self, path, count):
        if not CORPUS.exists():
            pytest.skip("no corpus of real files here")
        found = list(read_rows((CORPUS / path).read_bytes(), path))
        assert len(found) == count
        assert [row.facts.endpoint for row in found] == [endpoint_hash(row.url) for row in found]


class TestDecisions:
    @pytest.mark.parametrize(
        ("end_date", "gone"),
        [
            (None, False),
            ("2026-11-19", True),
            ("2026-11-20", True),  # already on the day itself
            ("2026-11-21", False),
            ("2100-01-01", False),
            ("20/11/2020", False),
            ("soon", False),
        ],
    )
    def test_expired(self, end_date, gone):
        assert is_expired(CollectFacts(endpoint=KEY, end_date=end_date), AT) is gone

    def test_not_yet_at_midnight_itself(self):
        midnight = AT.replace(hour=0, minute=0, second=0, microsecond=0)
        facts = CollectFacts(endpoint=KEY, end_date="2026-11-20")
        assert not is_expired(facts, midnight)
        assert is_expired(facts, midnight.replace(microsecond=1))

    @pytest.mark.parametrize(
        ("facts", "status"),
        [
            (CollectFacts(endpoint=KEY), None),
            (CollectFacts(endpoint="0" * 64), FetchStatus.HASH_FAILURE),
            (CollectFacts(endpoint=KEY.upper()), FetchStatus.HASH_FAILURE),
            (CollectFacts(endpoint="0" * 64, end_date="2020-01-01"), FetchStatus.EXPIRED),
            (CollectFacts(endpoint=KEY, end_date="2020-01-01", plugin="nonsense"), FetchStatus.EXPIRED),
            (CollectFacts(endpoint="0" * 64, end_date="nonsense"), FetchStatus.HASH_FAILURE),
            (CollectFacts(endpoint=KEY, end_date="nonsense"), None),
        ],
    )
    def test_the_order(self, facts, status):
        assert status_by_row(facts, URL, AT) is status

    @pytest.mark.parametrize(
        ("facts", "code"),
        [
            ({}, None),
            ({"end_date": "2100-01-01"}, None),
            ({"plugin": "arcgis"}, None),
            ({"plugin": "wfs"}, None),
            ({"plugin": "wfs", "parameters": {"page_size": 10}}, None),
            ({"plugin": "ftp"}, "unknown_plugin"),
            ({"end_date": "31/12/2100"}, "bad_end_date"),
        ],
    )
    def test_what_is_never_asked(self, facts, code):
        error = endpoint_error(CollectFacts(endpoint=KEY, **facts), URL)
        assert (error and error.code) == code

    @pytest.mark.parametrize("plugin", [None, "arcgis", "sparql", "wfs"])
    @pytest.mark.parametrize("url", ["https://[council].gov.uk/x", "http://[::1/x", "http://ex℀mple.com/"])
    def test_an_address_that_cannot_be_taken_apart_is_never_asked(self, plugin, url):
        error = endpoint_error(CollectFacts(endpoint=KEY, plugin=plugin), url)
        assert error is not None
        assert (error.code, error.field) == ("invalid_url", "endpoint-url")


HEADERS = st.dictionaries(st.text("abcXYZ-", min_size=1), st.text(st.characters(max_codepoint=255)))


class TestLog:
    def test_the_original_s_example_byte_for_byte(self):
        log = FetchLog(
            url="http://127.0.0.1:1/a.csv",
            at=AT,
            elapsed=0.0018,
            status=200,
            request_headers={
                "User-Agent": "MHCLG Planning Data Collector",
                "Accept-Encoding": "gzip, deflate",
                "Accept": "*/*",
                "Connection": "keep-alive",
            },
            response_headers={"Server": "x", "Content-Type": "text/csv", "etag": '"é"'},
            resource="6e88" + "0" * 60,
        )
        assert (
            log.encoded()
            == (
                '{"elapsed":"0.002","endpoint-url":"http://127.0.0.1:1/a.csv","entry-date":"2026-11-20T22:00:53.167408",'
                '"request-headers":{"Accept":"*/*","Accept-Encoding":"gzip, deflate","Connection":"keep-alive",'
                '"User-Agent":"MHCLG Planning Data Collector"},"resource":"6e88' + "0" * 60 + '",'
                '"response-headers":{"Content-Type":"text/csv","Server":"x","etag":"\\"é\\""},'
                '"ssl-verify":true,"status":"200"}'
            ).encode()
        )

    def test_a_failure_without_an_answer(self):
        log = FetchLog(url="http://x/\u2028\x7f\n", at=AT.replace(microsecond=0), exception="ConnectionError")
        assert (
            log.encoded()
            == (
                '{"elapsed":"0.0","endpoint-url":"http://x/\u2028\x7f\\n","entry-date":"2026-11-20T22:00:53.000000",'
                '"exception":"ConnectionError","ssl-verify":true}'
            ).encode()
        )

    def test_what_is_more_than_the_original_has_its_own_keys(self):
        log = FetchLog(url=URL, at=AT, status=200, size=12, reason="html", message="une page", plugin="x", attempts=2)
        log = replace(log, redirects=("http://y/",))
        more, less = json.loads(log.encoded(facts=True)), json.loads(log.encoded())
        assert more.keys() - less.keys() == {"bytes", "reason", "message", "plugin", "attempts", "redirects"}
        assert {key: more[key] for key in less} == less
        assert not {"datetime", "url", "endpoint"} & more.keys()

    @given(
        answer=st.none() | st.tuples(st.integers(100, 599), HEADERS),
        elapsed=st.floats(0, 1e5),
        size=st.none() | st.integers(1, 10**12),
        at=st.datetimes(min_value=datetime(1970, 1, 2)),  # noqa: DTZ001 - as the logs have it
    )
    def test_what_is_written_can_be_read(self, answer, elapsed, size, at):
        status, headers = answer or (None, {})
        log = FetchLog(
            url=URL,
            at=at,
            elapsed=round(elapsed, 3),
            status=status,
            request_headers=headers,
            response_headers=headers,
            exception=None if answer else "ReadTimeout",
            resource=KEY if size else None,
            size=size,
        )
        assert FetchLog.decoded(log.encoded(facts=True)) == log
        self.check_as_the_original_s_reader_does(log.encoded(facts=True), log_name(endpoint_hash(URL), at))

    @staticmethod
    def check_as_the_original_s_reader_does(data: bytes, name: str) -> None:
        """The rules of section 3 of the contract: dates can be compared, path and content agree."""
        log = json.loads(data)
        day, endpoint = re.fullmatch(r"log/(\d{4}-\d\d-\d\d)/([0-9a-f]{64})\.json", name).groups()
        at = datetime.fromisoformat(log["entry-date"])
        assert at.tzinfo is None
        assert at > datetime(1970, 1, 1)  # noqa: DTZ001 - naive, or this raises
        assert log["entry-date"].startswith(day)
        assert hashlib.sha256(log["endpoint-url"].encode()).hexdigest() == endpoint
        assert isinstance(log["elapsed"], str)
        assert isinstance(log.get("status", ""), str)
        assert all(isinstance(key, str) for key in log)

    def test_real_logs_of_the_original(self):
        if not CORPUS.exists():
            pytest.skip("no corpus of real files here")
        paths = list(CORPUS.rglob("log/**/*.json"))
        assert len(paths) > 10
        for path in paths:
            data = path.read_bytes()
            log = FetchLog.decoded(data)
            assert log is not None
            assert endpoint_hash(log.url) == path.stem
            if b"bytes" not in data and data.startswith(b'{"elapsed"'):
                assert log.encoded() == data

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b'{"elapsed":"0.0',
            b"[]",
            b"null",
            b"\xff",
            b'{"endpoint-url":"http://x"}',
            b'{"endpoint-url":"http://x","entry-date":"yesterday"}',
            b'{"endpoint-url":"http://x","entry-date":"2026-01-01T00:00:00","resource":"../../etc/passwd"}',
        ],
    )
    def test_what_is_no_log(self, data):
        assert FetchLog.decoded(data) is None

    def test_an_old_one_with_a_zone(self):
        log = FetchLog.decoded(b'{"url":"http://x","datetime":"2026-11-20T23:00:53+01:00","status":"404"}')
        assert log is not None
        assert log.at == AT.replace(microsecond=0)

    def test_since(self):
        unix = AT.replace(tzinfo=UTC).timestamp()
        assert FetchLog(url=URL, at=AT).started_since(unix)
        assert not FetchLog(url=URL, at=AT).started_since(unix + 1)


def original(body: bytes) -> bytes:
    """What the original stores, by the contract's section 4."""
    body = re.sub(rb'"timeStamp"\s*:\s*"[^"]*"\s*,?', b"", body)
    body = re.sub(rb'timeStamp="[^"]*" ', b"", body)
    return re.sub(rb",\s*}", b"}", body)


class TestTimeStamp:
    @pytest.mark.parametrize(
        ("body", "clean"),
        [
            (b'{"timeStamp":"2026-11-20T22:00:53Z","a":1}', b'{"a":1}'),
            (b'{"a":1,"timeStamp":"2026","b":2}', b'{"a":1,"b":2}'),
            (b'{"a":1, "timeStamp" : "2026" , "b":2}', b'{"a":1,  "b":2}'),
            (b'{"a":1,"timeStamp":"2026"}', b'{"a":1}'),
            (b'{"a":1,\n  "timeStamp": "2026"\n}', b'{"a":1}'),
            (b'{"timeStamp":"2026"}', b"{}"),
            (b'{"a":{"timeStamp":"1","b":[]},"timeStamp":"2"}', b'{"a":{"b":[]}}'),
            (b'<wfs:F timeStamp="2026" numberOfFeatures="3">', b'<wfs:F numberOfFeatures="3">'),
            (b'<wfs:F a="1" timeStamp="2026">', b'<wfs:F a="1" timeStamp="2026">'),
            (b'{"a":1,"timestamp":"2026"}', b'{"a":1,"timestamp":"2026"}'),
            (b'{"a":"\\"timeStamp\\":\\"2026\\","}', b'{"a":"\\"timeStamp\\":\\"2026\\","}'),
            (b'{"a":1,"timeStamp":null}', b'{"a":1,"timeStamp":null}'),
        ],
    )
    def test_members_and_attributes_go_as_in_the_original(self, body, clean):
        assert b"".join(strip_timestamps("application/json", iter([body]))) == clean
        assert original(body) == clean

    @pytest.mark.parametrize(
        "body", [b'{"a":"x, }"}', b'{"a":"x, }","b":[1, 2]}', b'["a,}", {"b": "c,\\n}"}]', b'{"a":1,}']
    )
    def test_other_commas_stay(self, body):
        """Defect 10: the original mends commas everywhere, inside of strings too."""
        assert original(body) != body
        assert b"".join(strip_timestamps("application/json", iter([body]))) == body

    @pytest.mark.parametrize(
        ("content_type", "changed"),
        [
            ("application/json", True),
            ("application/json; charset=utf-8", True),
            ("Application/GEO+json", True),
            ("application/xml ; charset=utf-8", True),
            ("text/xml", False),
            ("text/csv", False),
            ("application/octet-stream", False),
            ("", False),
        ],
    )
    def test_for_these_types_only(self, content_type, changed):
        body = b'{"timeStamp":"2026"}'
        assert (b"".join(strip_timestamps(content_type, iter([body]))) != body) is changed

    def test_two_answers_that_differ_only_in_it_are_one(self):
        bodies = [b'{"type":"F","timeStamp":"2026-11-20T22:00:%02dZ","features":[]}' % second for second in (1, 2)]
        assert len({b"".join(strip_timestamps("application/json", iter([body]))) for body in bodies}) == 1

    @given(
        parts=st.lists(
            st.sampled_from(
                [
                    *(
                        b'"timeStamp":"2026",',
                        b',\n"timeStamp" : "2026" }',
                        b'timeStamp="1" ',
                        b'timeStamp="',
                        b",",
                        b"}",
                    ),
                    *(b' fid="a.1"', b'\nfid="', b'gml:id="a.', b'b.1"', b" "),
                ]
            )
            | st.binary(max_size=9)
            | st.just(b" " * 3000)
            | st.just(b"x" * (MAX_MATCH_BYTES + 3)),
            max_size=14,
        ),
        cuts=st.lists(st.integers(0, 20_000), max_size=8),
    )
    def test_however_the_body_is_cut(self, parts, cuts):
        body = b"".join(parts)
        edges = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
        pieces = [body[start:end] for start, end in pairwise(edges)]
        for strip in (strip_timestamps, strip_wfs):
            assert b"".join(strip("application/json", iter(pieces))) == b"".join(
                strip("application/json", iter([body]))
            )

    @pytest.mark.parametrize(
        ("body", "clean"),
        [
            (b'<w timeStamp="2026" n="2">', b'<w n="2">'),
            (b'<w n="2" timeStamp="2026">', b'<w n="2">'),
            (b'<w\n timeStamp="2026"\nfid="x">', b"<w\n\n>"),
            (b'<x fid="x.1" gml:id="x.1.2">', b'<x gml:id="x">'),
            (b'<x gml:id="x"><y gml:id=".1">', b'<x gml:id="x"><y gml:id=".1">'),
            (b'<x my:fid="3" afid="4">fid="5"</x>', b'<x my:fid="3" afid="4">fid="5"</x>'),
        ],
    )
    def test_what_a_wfs_writes_anew_each_time(self, body, clean):
        assert b"".join(strip_wfs("text/xml", iter([body]))) == clean

    def test_memory_stays_flat(self):
        held = 0
        sent = 0

        def body():
            nonlocal sent
            for _ in range(500):
                chunk = b'{"a":1,"timeStamp":"2026","b":"' + b"x" * 60_000 + b'"},'
                sent += len(chunk)
                yield chunk

        came = 0
        for chunk in strip_timestamps("application/json", body()):
            came += len(chunk) + len(b'"timeStamp":"2026",')
            held = max(held, sent - came)
        assert held < 2 * MAX_MATCH_BYTES


class TestNames:
    @pytest.mark.parametrize(
        ("disposition", "url", "name"),
        [
            (None, "https://x.example/a/arr%C3%AAt%C3%A9s.csv?x=/y.z", "arrêtés.csv"),
            (None, "https://x.example/", None),
            (None, "https://x.example", None),
            (None, "http://[::1/a.csv", None),
            (
                'attachment; filename="Central_Activities_Zone.geojson"',
                "https://x/y",
                "Central_Activities_Zone.geojson",
            ),
            ("attachment; filename*=UTF-8''donn%C3%A9es.csv; filename=\"x.csv\"", "https://x/y", "données.csv"),
            ('attachment; filename="données.csv"'.encode().decode("latin-1"), "https://x/y", "données.csv"),
            ('attachment; filename="d\xe9j\xe0.csv"', "https://x/y", "déjà.csv"),
            ("inline", "https://x/y.csv", "y.csv"),
            ("attachment; filename=../../etc/passwd", "https://x/y", "passwd"),
            ('attachment; filename="C:\\\\temp\\\\a.csv"', "https://x/y", "a.csv"),
            ('attachment; filename=".."', "https://x/y", None),
            ('attachment; filename="a\x00b\r\n.csv"', "https://x/y", "ab.csv"),
            (None, "https://x/" + "é" * 300 + ".csv", "é" * 196 + ".csv"),
        ],
    )
    def test_filename(self, disposition, url, name):
        headers = {"content-disposition": disposition} if disposition else {}
        assert filename(headers, url) == name

    @given(st.text(), st.text())
    def test_a_name_never_holds_a_folder(self, disposition, path):
        name = filename({"Content-Disposition": "attachment; filename=" + disposition}, "https://x/" + path)
        assert name is None or ("/" not in name and "\\" not in name and name not in {"", ".", ".."})

    @pytest.mark.parametrize(
        ("headers", "kind"),
        [
            ({"Content-Type": "Text/CSV; charset=cp1252"}, "text/csv"),
            ({"content-type": "application/geo+json"}, "application/geo+json"),
            ({"Content-Type": ""}, None),
            ({}, None),
        ],
    )
    def test_media_type(self, headers, kind):
        assert media_type(headers) == kind


def test_a_long_cell_is_read_in_a_process_that_has_read_no_table():
    before = csv.field_size_limit(131072)  # the csv module's own
    try:
        text = f"endpoint-url,endpoint,note\nhttps://example.org/a.csv,,{'x' * 200_000}\n"
        (row,) = read_rows(text.encode(), "endpoint.csv")
    finally:
        csv.field_size_limit(before)
    assert row.url == "https://example.org/a.csv"
