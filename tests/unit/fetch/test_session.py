from __future__ import annotations

import gzip
import hashlib
import json
import random
import socket
import ssl
import subprocess
import sys
import threading
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from datafab.errors import FlowError, SettingError
from datafab.fetch.connection import FetchLimits, LimitedConnection, PrivateAddress
from datafab.fetch.result import FetchResult
from datafab.fetch.session import Fetcher
from datafab.settings import Settings
from datafab.store.store import Store
from datafab.urls import without_credentials
from tests.servers.http import Answer, Site, redirect

CSV = "id;commune\n1;Évreux\n".encode()
#: does not get smaller when packed
NOISE = random.Random(1).randbytes(120_000)
LOOPBACK = ("127.0.0.0/8",)


@pytest.fixture(scope="module")
def site():
    with Site() as site:
        yield site


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


def fetch(url: str, store: Store, *, transform=None, html=True, **changes) -> FetchResult:
    settings = Settings(**{"allow_private_hosts": LOOPBACK, "max_bytes": 100_000} | changes)
    fetcher = Fetcher(settings)
    try:
        return fetcher.fetch(url, store, transform=transform, accept_html=html)
    finally:
        fetcher.close()


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def leftovers(store: Store) -> list[Path]:
    root = Path(store.root)
    return [path for path in root.rglob("*") if path.is_file()]


def test_a_body_becomes_a_resource(site, store):
    site.answers["/a.csv"] = Answer(CSV, headers={"ETag": '"x"', "X-Two": "1"})
    fetched = fetch(site.url("/a.csv"), store, user_agent="datafab-test")
    assert fetched.refusal is None
    assert fetched.sha256 == hashlib.sha256(CSV).hexdigest()
    assert fetched.size == len(CSV)
    assert store.path(fetched.sha256).read_bytes() == CSV
    assert (fetched.status, fetched.url) == (200, site.url("/a.csv"))
    assert fetched.headers == {"Content-Type": "text/csv", "ETag": '"x"', "X-Two": "1", "Content-Length": "21"}
    assert fetched.request_headers == {
        "Accept": "*/*",
        "Accept-Encoding": "gzip, deflate",
        "Connection": "keep-alive",
        "User-Agent": "datafab-test",
    }
    assert 0 < fetched.elapsed < 5
    path, sent = site.requests[-1]
    assert path == "/a.csv"
    assert {name: sent[name] for name in fetched.request_headers} == fetched.request_headers


@given(body=st.binary(min_size=1, max_size=3000), chunked=st.booleans(), packed=st.booleans())
@hypothesis_settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=40, deadline=None
)
def test_any_body_is_stored_under_its_digest(site, store, body, chunked, packed):
    site.answers["/any"] = Answer(body, chunked=chunked, gzip=packed)
    fetched = fetch(site.url("/any"), store)
    assert (fetched.sha256, fetched.size) == (hashlib.sha256(body).hexdigest(), len(body))
    assert store.path(fetched.sha256).read_bytes() == body


@pytest.mark.parametrize(
    ("answer", "exception", "code"),
    [
        pytest.param(Answer(b"gone", 404), None, "http_404", id="404"),
        pytest.param(Answer(b"gone", 404, chunked=True), None, "http_404", id="404 chunked"),
        pytest.param(Answer(b"oops", 500), None, "http_500", id="500"),
        pytest.param(Answer(b"odd", 299), None, "http_299", id="a status without a name"),
        pytest.param(Answer(b""), None, "empty", id="empty"),
        pytest.param(Answer(b"", gzip=True), None, "empty", id="empty, gzipped"),
        pytest.param(Answer(b"<html>", content_type="text/html; charset=utf-8"), None, "html", id="html"),
        pytest.param(Answer(b"<html>", content_type="Text/HTML"), None, "html", id="HTML"),
        pytest.param(Answer(b"x" * 100_001), "TooLarge", "too_large", id="announced too large"),
        pytest.param(Answer(b"x" * 100_001, chunked=True), "TooLarge", "too_large", id="comes too large"),
        pytest.param(Answer(fault="endless"), "TooLarge", "too_large", id="endless"),
        pytest.param(Answer(NOISE, gzip=True, fault="no-length"), "TooLarge", "too_large", id="packed too large"),
        pytest.param(Answer(b"x" * 1_000_001, gzip=True), "TooLarge", "too_large", id="unpacks too large"),
    ],
)
def test_an_answer_that_is_refused(site, store, answer, exception, code):
    site.answers["/refused"] = answer
    fetched = fetch(site.url("/refused"), store, html=False)
    assert fetched.refusal is not None
    assert (fetched.refusal.code, fetched.refusal.exception) == (code, exception)
    assert site.url("/refused") in fetched.refusal.message
    assert fetched.status == answer.status
    assert fetched.headers["Content-Type"] == answer.content_type
    assert fetched.sha256 is None
    assert leftovers(store) == []


@pytest.mark.parametrize(
    ("answer", "exception", "code"),
    [
        pytest.param(Answer(CSV, fault="short"), "ChunkedEncodingError", "incomplete", id="ends too soon"),
        pytest.param(Answer(CSV, fault="reset-chunk", chunked=True), "ChunkedEncodingError", "incomplete", id="chunk"),
        pytest.param(Answer(fault="hang-up"), "ConnectionError", "disconnected", id="hangs up"),
        pytest.param(Answer(fault="garbage"), "ConnectionError", "bad_answer", id="not HTTP"),
        pytest.param(
            Answer(CSV, headers={"Content-Encoding": "gzip"}), "ContentDecodingError", "bad_encoding", id="not gzip"
        ),
        pytest.param(Answer(CSV, headers={"Content-Length": "5, 6"}), "InvalidHeader", "bad_answer", id="two lengths"),
        pytest.param(redirect("/round"), "TooManyRedirects", "too_many_redirects", id="round in circles"),
        pytest.param(redirect("ftp://example.com/a"), "InvalidSchema", "not_http", id="redirect to ftp"),
        pytest.param(redirect("file:///etc/passwd"), "InvalidSchema", "not_http", id="redirect to a file"),
        pytest.param(redirect("http://[::1/x"), "InvalidURL", "invalid_url", id="redirect nowhere"),
    ],
)
def test_an_answer_that_fails_is_none(site, store, answer, exception, code):
    """As in the original's log: the name of the exception, and no status."""
    site.answers["/round"] = answer
    fetched = fetch(site.url("/round"), store)
    assert fetched.refusal is not None
    assert (fetched.refusal.exception, fetched.refusal.code) == (exception, code)
    assert site.url("/round") in fetched.refusal.message
    assert (fetched.status, fetched.headers, fetched.request_headers, fetched.sha256) == (None, {}, {}, None)
    assert leftovers(store) == []


@pytest.mark.parametrize(
    ("url", "exception", "code"),
    [
        ("example.com/a.csv", "MissingSchema", "not_http"),
        ("", "MissingSchema", "not_http"),
        ("ftp://example.com/a.csv", "InvalidSchema", "not_http"),
        ("file:///etc/passwd", "InvalidSchema", "not_http"),
        ("mailto:a@example.com", "InvalidSchema", "not_http"),
        ("httpx://example.com/a.csv", "InvalidSchema", "not_http"),
        ("http://", "InvalidURL", "invalid_url"),
        ("http://*.example.com/", "InvalidURL", "invalid_url"),
        ("http://exa mple.com:99999999/", "InvalidURL", "invalid_url"),
        ("http://[::1/", "InvalidURL", "invalid_url"),
        ("http://%E2%82%AC:secret@127.0.0.1:{closed}/", "InvalidURL", "invalid_url"),
        ("http://127.0.0.1:{closed}/a.csv", "ConnectionError", "connection_refused"),
        ("http://nosuchhost.invalid/a.csv", "ConnectionError", "dns"),
        ("http://" + "a" * 64 + ".example/", "ConnectionError", "dns"),
        ("https://127.0.0.1:{plain}/a.csv", "SSLError", "tls"),
    ],
)
def test_a_url_that_cannot_be_fetched(site, store, url, exception, code):
    url = url.format(closed=closed_port(), plain=site.ports[0])
    fetched = fetch(url, store)
    assert fetched.refusal is not None
    assert (fetched.refusal.exception, fetched.refusal.code) == (exception, code)
    assert fetched.status is None


@given(text=st.text(), form=st.sampled_from(["{}", "http:{}", "http://127.0.0.1:9/{}", "http://u:{}@127.0.0.1:9/"]))
@hypothesis_settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=150, deadline=None
)
def test_no_url_at_all_raises(store, text, form):
    fetched = fetch(form.format(text), store, allow_private_hosts=())
    assert fetched.refusal is not None
    assert fetched.refusal.code != "failed"


class TestTime:
    def test_the_total_is_over_before_the_read_timeout(self, site, store):
        site.answers["/slow"] = Answer(CSV, delay=2)
        fetched = fetch(site.url("/slow"), store, read_timeout=5, total_timeout=0.1)
        assert fetched.refusal is not None
        assert fetched.refusal.code == "timeout"
        assert fetched.elapsed < 1

    def test_no_more_is_read_once_it_is_over(self):
        limits = FetchLimits(())
        limits.start(-0.1, 0)
        with pytest.raises(TimeoutError):
            limits.seconds_left()

    def test_a_silent_server(self, site, store):
        site.answers["/slow"] = Answer(CSV, delay=2)
        fetched = fetch(site.url("/slow"), store, read_timeout=0.1)
        assert fetched.refusal is not None
        assert (fetched.refusal.exception, fetched.refusal.code) == ("ReadTimeout", "timeout")

    @pytest.mark.parametrize(("fault", "exception"), [("drip", "ConnectionError"), ("slow-head", "ReadTimeout")])
    def test_a_server_that_drips_within_the_read_timeout(self, site, store, fault, exception):
        site.answers["/drip"] = Answer(CSV * 20, fault=fault)
        fetched = fetch(site.url("/drip"), store, read_timeout=5, total_timeout=0.3)
        assert fetched.refusal is not None
        assert (fetched.refusal.exception, fetched.refusal.code) == (exception, "timeout")
        assert 0.25 < fetched.elapsed < 1

    def test_a_host_that_does_not_answer(self, store):
        with socket.socket() as full:  # a queue of one that nobody empties: the next connection gets no answer
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            address = full.getsockname()
            waiting = [socket.socket() for _ in range(3)]
            for sock in waiting:
                sock.setblocking(False)
                sock.connect_ex(address)
            fetched = fetch(f"http://127.0.0.1:{address[1]}/", store, connect_timeout=0.2)
            for sock in waiting:
                sock.close()
        assert fetched.refusal is not None
        assert (fetched.refusal.exception, fetched.refusal.code) == ("ConnectTimeout", "timeout")

    def test_redirects_share_the_total_time(self, site, store):
        site.answers["/again"] = Answer(status=302, headers={"Location": "/again"}, delay=0.1)
        fetched = fetch(site.url("/again"), store, total_timeout=0.25)
        assert fetched.refusal is not None
        assert fetched.refusal.code == "timeout"


class TestPrivateAddresses:
    def test_a_private_server_never_hears_of_us(self, site, store):
        site.answers["/secret"] = Answer(CSV)
        before = site.connections
        fetched = fetch(site.url("/secret"), store, allow_private_hosts=())
        assert fetched.refusal is not None
        assert (fetched.refusal.code, fetched.refusal.exception) == ("private_address", "PrivateAddress")
        assert "DATAFAB_ALLOW_PRIVATE_HOSTS" in fetched.refusal.message
        assert site.connections == before

    @pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"])
    def test_whatever_it_is_called(self, site, store, host):
        fetched = fetch(f"http://{host}:{site.ports[0]}/a.csv", store, allow_private_hosts=())
        assert fetched.refusal is not None
        assert fetched.refusal.code == "private_address"

    def test_the_peer_counts_whatever_its_name_resolved_to(self, site):
        class Fooled(LimitedConnection):
            limits = FetchLimits(())

            def _addresses(self, name: str) -> list[str]:
                return ["127.0.0.1"]

        before = len(site.requests)
        with pytest.raises(PrivateAddress):
            Fooled("data.example", site.ports[0]).request("GET", "/a.csv")
        Fooled.limits.finish()
        assert len(site.requests) == before

    def test_the_next_address_is_tried_when_one_does_not_answer(self, site):
        class Listed(LimitedConnection):
            limits = FetchLimits(LOOPBACK)

            def _addresses(self, name: str) -> list[str]:
                return ["127.0.0.2", "127.0.0.1"]  # nothing listens at the first

        connection = Listed("data.example", site.ports[0])
        connection.connect()
        assert connection.sock.getpeername()[0] == "127.0.0.1"
        assert connection.host == "data.example"
        connection.close()
        Listed.limits.finish()

    def test_a_closed_port_cannot_be_told_from_an_open_one(self, store):
        fetched = fetch(f"http://127.0.0.1:{closed_port()}/", store, allow_private_hosts=())
        assert fetched.refusal is not None
        assert fetched.refusal.code == "private_address"

    def test_after_a_redirect_too(self, site, store):
        with Site({"/a.csv": Answer(CSV)}) as inner:
            other = inner.url("/a.csv", host="127.0.0.2")
            site.answers["/out"] = redirect(inner.url("/a.csv").replace("127.0.0.1", "localhost"))
            assert fetch(site.url("/out"), store).sha256
            site.answers["/out"] = redirect(other.replace("127.0.0.2", "10.255.255.1"))
            fetched = fetch(site.url("/out"), store)
        assert fetched.refusal is not None
        assert fetched.refusal.code == "private_address"
        assert "redirected to http://10.255.255.1" in fetched.refusal.message

    @pytest.mark.parametrize("allowed", [("*",), ("10.0.0.0/8", "127.0.0.1")])
    def test_those_that_are_allowed(self, site, store, allowed):
        site.answers["/a.csv"] = Answer(CSV)
        assert fetch(site.url("/a.csv"), store, allow_private_hosts=allowed).sha256


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_they_are_followed(self, site, store, status):
        site.answers |= {
            "/from": redirect("../là/é%20b.csv?q=1".encode().decode("latin-1"), status),
            "/l%C3%A0/%C3%A9%20b.csv?q=1": Answer(CSV),
        }
        fetched = fetch(site.url("/from"), store)
        assert fetched.sha256
        assert fetched.status == 200
        assert fetched.url == site.url("/l%C3%A0/%C3%A9%20b.csv?q=1")

    def test_as_often_as_the_setting_says(self, site, store):
        site.answers |= {f"/{n}": redirect(f"/{n + 1}") for n in range(3)} | {"/3": Answer(CSV)}
        assert fetch(site.url("/0"), store, max_redirects=3).sha256
        fetched = fetch(site.url("/0"), store, max_redirects=2)
        assert fetched.refusal is not None
        assert fetched.refusal.code == "too_many_redirects"

    def test_a_status_without_a_place_to_go_is_an_answer(self, site, store):
        site.answers["/nowhere"] = Answer(status=302)
        fetched = fetch(site.url("/nowhere"), store)
        assert fetched.refusal is not None
        assert fetched.refusal.code == "http_302"

    def test_a_cookie_goes_along(self, site, store):
        def route(path: str, headers: dict[str, str]) -> Answer:
            if headers.get("Cookie") == "seen=1":
                return Answer(CSV)
            return redirect(path, 302, **{"Set-Cookie": "seen=1; Path=/"})

        with Site(router=route) as fussy:
            fetched = fetch(fussy.url("/a.csv"), store)
            assert fetched.sha256
            assert "Cookie" not in fetched.request_headers

    def test_a_password_does_not(self, site, store):
        with Site({"/a.csv": Answer(CSV)}) as other:
            site.answers["/private"] = redirect(other.url("/a.csv"))
            fetched = fetch(site.url("/private").replace("//", "//user:secret@"), store)
            assert site.requests[-1][1]["Authorization"].startswith("Basic ")
            assert "Authorization" not in other.requests[-1][1]
        assert fetched.sha256
        assert "Authorization" not in fetched.request_headers

    def test_messages_keep_it_secret(self, store):
        fetched = fetch(f"http://user:secret@127.0.0.1:{closed_port()}/a?b=c@d", store)
        assert fetched.refusal is not None
        assert "secret" not in fetched.refusal.message
        assert without_credentials("https://u:p@h/a@b and http://x@y/") == "https://h/a@b and http://y/"
        assert without_credentials("https://u:p@ss@h/a@b, //x@y?@z") == "https://h/a@b, //y?@z"


class TestConnections:
    def test_a_session_keeps_its_connection(self, store):
        with Site({"/a": Answer(CSV), "/b": Answer(b"gone", 404), "/c": redirect("/a")}) as site:
            with Fetcher(Settings(allow_private_hosts=LOOPBACK)).session() as session:
                for path in ("/a", "/b", "/c", "/a", "/b"):
                    session.fetch(site.url(path), store)
            assert site.hits == {"/a": 3, "/b": 2, "/c": 1}
            assert site.connections == 1

    def test_a_thread_keeps_its_own(self, store):
        with Site({"/a": Answer(CSV)}) as site:
            fetcher = Fetcher(Settings(allow_private_hosts=LOOPBACK))
            threads = [
                threading.Thread(target=lambda: [fetcher.fetch(site.url("/a"), store) for _ in range(3)])
                for _ in range(2)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            fetcher.close()
            assert (site.hits["/a"], site.connections) == (6, 2)

    def test_one_that_the_server_closed_meanwhile_is_made_anew(self, store):
        """A server may close an idle connection at the very moment that we use it: that is no failure."""
        turns = iter([Answer(CSV), Answer(fault="hang-up"), Answer(CSV), Answer(fault="hang-up")])
        with (
            Site(router=lambda _path, _headers: next(turns)) as site,
            Fetcher(Settings(allow_private_hosts=LOOPBACK)).session() as session,
        ):
            assert session.fetch(site.url("/a"), store).sha256
            assert session.fetch(site.url("/b"), store).sha256
            assert site.connections == 2

    def test_but_a_new_one_that_is_closed_is(self, store):
        with Site({"/a": Answer(fault="hang-up")}) as site:
            assert fetch(site.url("/a"), store).refusal
            assert site.hits["/a"] == 1

    def test_bodies_do_not_run_into_each_other_after_a_failure(self, store):
        answers = {"/a": Answer(b"a" * 90_000), "/big": Answer(b"b" * 200_000), "/page": Answer(b"<p>" * 40_000, 404)}
        with (
            Site(answers) as site,
            Fetcher(Settings(allow_private_hosts=LOOPBACK, max_bytes=100_000)).session() as session,
        ):
            for path in ("/big", "/a", "/page", "/a"):
                fetched = session.fetch(site.url(path), store)
                assert (fetched.size == 90_000) is (path == "/a")


class TestProxy:
    def test_it_is_asked_for_the_whole_url(self, store):
        with Site({"http://data.example/a.csv": Answer(CSV)}) as proxy:
            fetched = fetch("http://data.example/a.csv", store, proxy=proxy.url(""), allow_private_hosts=())
            assert fetched.sha256
            assert proxy.requests[-1][1]["Host"] == "data.example"

    def test_one_that_is_down_is_named(self, store):
        fetched = fetch("http://data.example/a.csv", store, proxy=f"http://127.0.0.1:{closed_port()}")
        assert fetched.refusal is not None
        assert (fetched.refusal.code, fetched.refusal.exception) == ("proxy", "ProxyError")

    def test_the_environment_has_none(self, site, store, tmp_path):
        site.answers["/a.csv"] = Answer(CSV)
        script = (
            "from datafab.fetch.session import Fetcher; from datafab.store.store import Store;"
            "from datafab.settings import Settings;"
            f"f = Fetcher(Settings()).fetch({site.url('/a.csv')!r}, Store({str(tmp_path / 'other')!r}));"
            "print(f.sha256)"
        )
        proxy = f"http://127.0.0.1:{closed_port()}"
        environment = {"HTTP_PROXY": proxy, "http_proxy": proxy, "DATAFAB_ALLOW_PRIVATE_HOSTS": "127.0.0.1"}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=30
        )
        assert done.stdout.strip() == hashlib.sha256(CSV).hexdigest()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that only we trust, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=30)
    except FileNotFoundError:
        pytest.skip("no openssl command to make a certificate with")
    return folder / "cert.pem", folder / "key.pem"


class TestCertificates:
    def test_an_unknown_one_is_refused_and_a_given_one_trusted(self, certificate, store):
        cert, key = certificate
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        with Site({"/a.csv": Answer(CSV)}, context=context) as site:
            fetched = fetch(site.url("/a.csv"), store)
            assert fetched.refusal is not None
            assert (fetched.refusal.code, fetched.refusal.exception) == ("tls", "SSLError")
            assert "self-signed certificate" in fetched.refusal.message
            assert fetch(site.url("/a.csv"), store, ca_bundle=cert).sha256
            fetched = fetch(site.url("/a.csv", host="localhost"), store, ca_bundle=cert)
            assert fetched.refusal is not None
            assert fetched.refusal.code == "tls"

    def test_a_bundle_that_is_none(self, tmp_path):
        with pytest.raises(SettingError, match="DATAFAB_CA_BUNDLE"):
            Fetcher(Settings(ca_bundle=tmp_path / "missing.pem"))


def test_the_body_may_be_changed_on_its_way(site, store):
    site.answers["/a.json"] = Answer(b"[1]", content_type="application/json")
    seen = []

    def transform(content_type, chunks):
        seen.append(content_type)
        yield from (chunk.replace(b"1", b"22") for chunk in chunks)

    fetched = fetch(site.url("/a.json"), store, transform=transform)
    assert fetched.sha256 == hashlib.sha256(b"[22]").hexdigest()
    assert (fetched.size, seen) == (4, ["application/json"])


def test_what_is_announced_too_large_is_not_even_read(site, store):
    site.answers["/huge"] = Answer(CSV, headers={"Content-Length": str(10**15)})
    fetched = fetch(site.url("/huge"), store, read_timeout=5)
    assert fetched.refusal is not None
    assert "1000000000000000 bytes are announced" in fetched.refusal.message
    assert fetched.elapsed < 1


def test_a_server_that_never_comes_to_an_answer(site, store):
    site.answers["/continues"] = Answer(fault="continues")
    fetched = fetch(site.url("/continues"), store, max_bytes=1000)
    assert fetched.refusal is not None
    assert (fetched.refusal.code, fetched.status) == ("too_large", None)
    assert fetched.elapsed < 5


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])
def test_a_bomb_costs_neither_memory_nor_time(site, store, pack):
    """300 MB in 300 KB: cut off at ten times the limit, long before it is unpacked."""
    encoding = "gzip" if pack is gzip.compress else "deflate"
    site.answers["/bomb"] = Answer(pack(b"\0" * 300_000_000), headers={"Content-Encoding": encoding})
    settings = Settings(allow_private_hosts=LOOPBACK, max_bytes=1_000_000)
    fetcher = Fetcher(settings)
    tracemalloc.start()
    try:
        fetched = fetcher.fetch(site.url("/bomb"), store)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        fetcher.close()
    assert fetched.refusal is not None
    assert fetched.refusal.code == "too_large"
    assert peak < 20_000_000
    assert fetched.elapsed < 5
    assert leftovers(store) == []


def test_memory_stays_flat_over_a_large_body(site, store):
    site.answers["/large"] = Answer(fault="endless")
    fetcher = Fetcher(Settings(allow_private_hosts=LOOPBACK, max_bytes=50_000_000))
    tracemalloc.start()
    try:
        fetched = fetcher.fetch(site.url("/large"), store)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        fetcher.close()
    assert fetched.refusal is not None
    assert "more than 50000000 bytes" in fetched.refusal.message
    assert peak < 8_000_000  # of which the server in this process holds one


def test_a_store_that_cannot_be_written_stops_everybody(site, tmp_path):
    (tmp_path / "file").write_text("")
    site.answers["/a.csv"] = Answer(CSV)
    with pytest.raises(FlowError, match="Not a directory"):
        fetch(site.url("/a.csv"), Store(str(tmp_path / "file")))


def test_the_benchmark_server_starts_by_itself():
    command = [sys.executable, "-m", "tests.servers.http", "--ports", "2", "--size", "500"]
    root = Path(__file__).resolve().parents[3]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        ports = json.loads(server.stdout.readline())["ports"]
        assert len(ports) == 2
        server.communicate(timeout=10)
    assert server.returncode == 0
