"""A small open-data portal on 127.0.0.1: files as French portals publish them, good and bad."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import openpyxl

#: Delay of the slow file.
SLOW_SECONDS = 1.5

COMMUNES = (
    ("Ardèche", "07", "Privas", "07186", "07000", "44.735", "4.599"),
    ("Rhône", "69", "Lyon", "69123", "69001", "45.758", "4.835"),
    ("Hérault", "34", "Béziers", "34032", "34500", "43.344", "3.215"),
    ("Finistère", "29", "Quimper", "29232", "29000", "47.996", "-4.097"),
    ("Côte-d'Or", "21", "Dijon", "21231", "21000", "47.322", "5.041"),
)


@dataclass(frozen=True, slots=True)
class File:
    """The answer of a path of the portal."""

    body: bytes
    media_type: str = "text/csv"
    status: HTTPStatus = HTTPStatus.OK
    #: in seconds
    delay: float = 0


def _text(header: Sequence[str], rows: Sequence[Sequence[str]], *, separator: str = ";") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=separator).writerows([header, *rows])
    return text.getvalue()


def _siren(number: int) -> str:
    """Return a number of nine digits with the check digit of a SIREN (Luhn)."""
    digits = f"{number:08d}"
    doubled = [int(digit) * (2 if place % 2 else 1) for place, digit in enumerate(digits)]
    return digits + str(-sum(value - 9 if value > 9 else value for value in doubled) % 10)  # noqa: PLR2004 - Luhn


def _companies() -> bytes:
    """Return companies with semicolons, Latin-1 and decimal commas."""
    rows = [
        (_siren(30_000_000 + 7 * n), f"Société {commune[2]} n° {n}", commune[4], f"{n % 28 + 1:02d}/03/2024", f"{n},50")
        for n in range(200)
        for commune in [COMMUNES[n % len(COMMUNES)]]
    ]
    return _text(("siren", "dénomination", "code_postal", "date_création", "chiffre_affaires"), rows).encode("cp1252")


def _communes() -> bytes:
    """Return communes with their coordinates, UTF-8 and commas."""
    header = ("département", "code_departement", "commune", "code_commune", "code_postal", "latitude", "longitude")
    return _text(header, COMMUNES, separator=",").encode()


def _stations() -> bytes:
    """Return charging stations, gzipped."""
    rows = [(f"station{n}@example.org", f"2024-0{n % 9 + 1}-15", "oui" if n % 2 else "non", str(n)) for n in range(500)]
    return gzip.compress(_text(("contact", "mise_en_service", "gratuit", "bornes"), rows).encode(), mtime=0)


def _budget() -> bytes:
    """Return a budget as a workbook."""
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["année", "chapitre", "montant"])
    for year in range(2015, 2025):
        sheet.append([year, f"chapitre {year % 4}", year * 12.5])
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
FILES: dict[str, Callable[[], File]] = {
    "/entreprises.csv": lambda: File(_companies(), "text/csv; charset=iso-8859-1"),
    "/communes.csv": lambda: File(_communes()),
    "/bornes.csv.gz": lambda: File(_stations(), "application/gzip"),
    "/budget.xlsx": lambda: File(_budget(), XLSX),
    "/lent.csv": lambda: File(_communes() + b"\n", delay=SLOW_SECONDS),
    "/page.csv": lambda: File(b"<!DOCTYPE html><html><body>Connexion</body></html>", "text/html"),
    "/erreur.csv": lambda: File(b"<!DOCTYPE html><html><body>Maintenance</body></html>", "text/csv"),
    "/absent.csv": lambda: File(b"", status=HTTPStatus.NOT_FOUND),
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with the file of the path."""
        make = FILES.get(self.path)
        file = make() if make else File(b"", status=HTTPStatus.NOT_FOUND)
        time.sleep(file.delay)
        self.send_response(file.status)
        self.send_header("Content-Type", file.media_type)
        self.send_header("Content-Length", str(len(file.body)))
        self.end_headers()
        self.wfile.write(file.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Do nothing."""


@contextmanager
def portal() -> Iterator[str]:
    """Serve the files, and yield the portal's URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    Thread(target=server.serve_forever, name="portal", daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def endpoint_csv(url: str) -> str:
    """Return an endpoint.csv with all files of a portal."""
    rows = [(hashlib.sha256((url + path).encode()).hexdigest(), url + path, "", "") for path in FILES]
    return _text(("endpoint", "endpoint-url", "plugin", "end-date"), rows, separator=",")
