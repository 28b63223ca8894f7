"""Servers that lie, stall and break off, name servers that hang, certificates that are no good."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from datafab.fetch import resolver
from datafab.fetch.certificate import expiry_date
from datafab.fetch.refusal import Refusal
from datafab.fetch.result import FetchResult
from datafab.fetch.session import Fetcher
from datafab.settings import Settings
from datafab.store.store import Store
from tests.servers.http import Answer, Site
from tests.unit.fetch.test_session import CSV, fetch, leftovers

#: Generous: a loaded machine must not turn one failure into another.
LONG = 20.0


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


def refused(fetched: FetchResult, store: Store) -> Refusal:
    assert fetched.refusal is not None
    assert fetched.sha256 is None
    assert leftovers(store) == []
    return fetched.refusal


def test_interim_answers_are_read_over(site, store):
    """RFC 9110, 15.2: any number of 1xx may come before the answer, asked for or not."""
    site.answers["/interim"] = Answer(CSV, fault="interim")
    for _ in range(2):  # the second on the same connection
        fetched = fetch(site.url("/interim"), store, read_timeout=LONG)
        assert (fetched.refusal, fetched.status, fetched.header("link")) == (None, 200, "")
        with store.open(str(fetched.sha256)) as file:
            assert file.read() == CSV


@pytest.mark.parametrize("status", [101, 199])
def test_an_interim_status_without_a_final_answer_is_none(site, store, status):
    site.answers["/only"] = Answer(b"", status=status, content_type=None, close=True)
    refusal = refused(fetch(site.url("/only"), store, read_timeout=LONG), store)
    assert refusal.code == ("http_101" if status == 101 else "disconnected")


@pytest.mark.parametrize(
    ("answer", "exception", "code"),
    [
        pytest.param(Answer(CSV * 100, fault="reset"), "ChunkedEncodingError", "incomplete", id="reset in mid-body"),
        pytest.param(
            Answer(CSV, headers={f"X-{n}": "x" for n in range(200)}), "ConnectionError", "bad_answer", id="200 headers"
        ),
        pytest.param(Answer(CSV, headers={"X": "x" * 70_000}), "ConnectionError", "bad_answer", id="a long header"),
        pytest.param(
            Answer(CSV, headers={"Location": "x" * 70_000}, status=302),
            "ConnectionError",
            "bad_answer",
            id="a long way",
        ),
    ],
)
def test_an_answer_that_lies(site, store, answer, exception, code):
    site.answers["/lies"] = answer
    refusal = refused(fetch(site.url("/lies"), store, read_timeout=LONG), store)
    assert (refusal.exception, refusal.code) == (exception, code)


@pytest.mark.parametrize("length", ["-5", "five", ""])
def test_a_length_that_is_none_is_ignored(site, store, length):
    site.answers["/odd"] = Answer(CSV, headers={"Content-Length": length}, close=True)
    fetched = fetch(site.url("/odd"), store, read_timeout=LONG)
    assert fetched.size == len(CSV)


@pytest.mark.parametrize("more", [10, 300_000])
def test_what_comes_beyond_the_announced_length_is_nobodys(site, store, more):
    site.answers["/long"] = Answer(CSV + b"x" * more, headers={"Content-Length": str(len(CSV))})
    site.answers["/next"] = Answer(b"next\n")
    with Fetcher(Settings(allow_private_hosts=("127.0.0.1",))).session() as session:
        first = session.fetch(site.url("/long"), store)
        second = session.fetch(site.url("/next"), store)
    assert first.size == len(CSV)
    assert second.sha256
    with store.open(second.sha256) as file:
        assert file.read() == b"next\n"


def test_a_body_that_stops_half_way(site, store):
    site.answers["/stall"] = Answer(CSV * 100, fault="stall")
    fetched = fetch(site.url("/stall"), store, read_timeout=0.3)
    assert refused(fetched, store).code == "timeout"


def test_three_gigabytes_are_refused_by_their_announcement(site, store):
    site.answers["/large"] = Answer(CSV, headers={"Content-Length": str(3 * 1024**3)})
    refusal = refused(fetch(site.url("/large"), store, max_bytes=1024**3, read_timeout=LONG), store)
    assert (refusal.code, refusal.exception) == ("too_large", "TooLarge")
    assert f"{3 * 1024**3} bytes are announced; the limit is DATAFAB_MAX_BYTES" in refusal.message


def test_a_handshake_that_nobody_answers(store):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(5)  # the system takes connections, and nobody reads them
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
        refusal = refused(fetch(url, store, connect_timeout=0.3, read_timeout=0.3), store)
    assert refusal.code == "timeout"


class TestNames:
    @pytest.fixture
    def hanging(self, monkeypatch) -> Iterator[None]:
        """A name server that says nothing."""
        end = threading.Event()
        known = socket.getaddrinfo

        def hang(name: str, *rest):
            if name.endswith(".example"):
                end.wait(60)
            return known(name, *rest)

        monkeypatch.setattr(resolver.socket, "getaddrinfo", hang)
        yield
        end.set()

    @pytest.mark.parametrize("limits", [{"connect_timeout": 0.2}, {"connect_timeout": LONG, "total_timeout": 0.2}])
    def test_name_servers_that_hang(self, hanging, store, limits):
        refusal = refused(fetch("http://slow.example/a.csv", store, **limits), store)
        assert (refusal.code, refusal.exception) == ("dns", "ConnectionError")
        assert "the name servers do not answer" in refusal.message

    def test_an_address_asks_nobody(self, hanging, site, store):
        site.answers["/a.csv"] = Answer(CSV)
        threads = threading.active_count()
        assert fetch(site.url("/a.csv"), store).sha256
        assert threading.active_count() <= threads

    def test_a_name_that_is_none(self, store):
        refusal = refused(fetch("http://nosuchhost.invalid/", store, connect_timeout=LONG), store)
        assert refusal.code == "dns"


@pytest.fixture(scope="module")
def signed(tmp_path_factory) -> Callable[..., tuple[Path, ssl.SSLContext]]:
    """Make a certificate that vouches for itself; return it and a server's context with it."""
    folder = tmp_path_factory.mktemp("certificates")
    key = ec.generate_private_key(ec.SECP256R1())

    def make(name: str, first: int, last: int, host: str = "127.0.0.1") -> tuple[Path, ssl.SSLContext]:
        """``first`` and ``last`` are days from now."""
        now = datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "essai")])
        kind = x509.IPAddress(ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=first))
            .not_valid_after(now + timedelta(days=last))
            .add_extension(x509.SubjectAlternativeName([kind]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        cert = folder / f"{name}.pem"
        cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        private = folder / "key.pem"
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, private)
        return cert, context

    return make


class TestCertificates:
    @pytest.mark.parametrize(
        ("made", "trusted", "says"),
        [
            (("expired", -9, -2), True, "certificate has expired on {last}; its owner must renew it"),
            (("address", -9, 9, "127.0.0.2"), True, "it belongs to another server"),
            (("name", -9, 9, "data.example"), True, "it belongs to another server"),
            (("early", 2, 9), True, "certificate is not yet valid; it is valid from a later day on"),
            (("own", -9, 9), False, "it is self-signed; its owner must get one from a certificate authority"),
        ],
        ids=lambda value: value[0] if isinstance(value, tuple) else "",
    )
    def test_why_one_is_no_good_and_what_to_do(self, signed, store, made, trusted, says):
        cert, context = signed(*made)
        with Site({"/a.csv": Answer(CSV)}, context=context) as site:
            changes = {"ca_bundle": cert} if trusted else {}
            refusal = refused(fetch(site.url("/a.csv"), store, **changes), store)
        assert (refusal.code, refusal.exception) == ("tls", "SSLError")
        assert says.format(last=f"{datetime.now(UTC) + timedelta(days=made[2]):%Y-%m-%d}") in refusal.message

    def test_a_port_that_speaks_no_tls(self, site, store):
        refusal = refused(fetch(site.url("/").replace("http:", "https:"), store), store)
        assert "http:// instead of https://?" in refusal.message

    @pytest.mark.parametrize("days", [9, 40 * 365])  # beyond 2050 years have four digits
    def test_the_last_day_is_read(self, signed, days):
        cert, _ = signed("dates", -9, days)
        der = ssl.PEM_cert_to_DER_cert(cert.read_text())
        assert expiry_date(der) == f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d}"

    def test_of_what_is_no_certificate_there_is_none(self):
        assert expiry_date(b"\x17\x0d250101000000Z") is None
