"""Refuse files that cannot be analysed, and translate the exceptions that libraries raise for them."""

from __future__ import annotations

import gzip
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from xml.etree.ElementTree import ParseError
from xml.parsers.expat import ExpatError
from xml.sax import SAXException

from pyarrow import ArrowException  # type: ignore[import-untyped]

from datafab.analysis.csv_detective import CompDocError, XLRDError
from datafab.analysis.dialect import FileKind
from datafab.errors import Fatal

_REFUSED_KINDS = {
    FileKind.EMPTY: ("empty", "is empty: nothing was published here, or the download broke off"),
    FileKind.HTML: ("html", "is a web page, not a table: the link leads to a page about the data or to an error page"),
    FileKind.XML: ("not_tabular", "is XML, not a table: publish a CSV beside it to have it analysed"),
    FileKind.PDF: ("not_tabular", "is a PDF document, not a table: publish its tables as CSV"),
    FileKind.BINARY: ("not_tabular", "is neither text nor a workbook: publish the table as CSV"),
}
_DAMAGED = "is damaged, incomplete or protected by a password: open it, save it anew and publish that"
#: Exceptions caused by a faulty file: (types, part of the message, code, text). The first match counts; an exception
#: that is not listed is a bug, which is left to the runner.
Failures = tuple[tuple[tuple[type[Exception], ...], str, str, str], ...]
READ_FAILURES: Failures = (
    ((UnicodeDecodeError,), "", "encoding", "cannot be decoded: save it as UTF-8"),
    ((gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, EOFError), "", "corrupt_archive", _DAMAGED),
    ((RuntimeError,), "password", "corrupt_archive", _DAMAGED),
    ((NotImplementedError,), "", "unsupported", "is compressed in a way that is not supported: use gzip or deflate"),
)
PARSE_FAILURES: Failures = (
    ((IndexError,), "out-of-bounds", "empty", "has a sheet without cells"),
    ((ArrowException, XLRDError, CompDocError, ParseError, ExpatError), "", "corrupt_archive", _DAMAGED),
    ((zipfile.BadZipFile, zlib.error, EOFError, UnicodeDecodeError, OSError), "", "corrupt_archive", _DAMAGED),
    ((IndexError, KeyError, AssertionError, struct.error), "", "corrupt_archive", _DAMAGED),
    ((NotImplementedError,), "", "unsupported", "is of a kind that is not supported"),
    ((ValueError,), "", "unsupported", "cannot be read as a table"),
)
#: Exceptions that openpyxl, xlrd, odfpy and pandas also raise for malformed parts. Only for calls of these libraries:
#: elsewhere such exceptions are bugs.
WORKBOOK_FAILURES: Failures = (
    *PARSE_FAILURES,
    ((SAXException, AttributeError, TypeError, OverflowError, RecursionError), "", "corrupt_archive", _DAMAGED),
)


def refuse_kind(kind: FileKind) -> None:
    """Raise Fatal for a kind of file that holds no table."""
    if kind in _REFUSED_KINDS:
        code, message = _REFUSED_KINDS[kind]
        raise Fatal(message, code=code)


@contextmanager
def translate_failures(failures: Failures) -> Iterator[None]:
    """Translate the exceptions that libraries raise for a faulty file into Fatal."""
    try:
        yield
    except tuple(each for types, *_ in failures for each in types) as error:
        # An OSError with an errno is a fault of the disk, and a lack of memory one of the host, not of the file.
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None):
            raise
        text = str(error)
        fitting = (row for row in failures if isinstance(error, row[0]) and row[1] in text)
        found = next(fitting, None)
        if found is None:
            raise
        _, _, code, message = found
        raise Fatal(f"{message} ({type(error).__name__}: {text[:200]})", code=code) from error
