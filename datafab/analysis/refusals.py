"""What is said of files that cannot be analysed, and which failures of the libraries mean which."""

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
from datafab.analysis.dialect import Kind
from datafab.errors import Fatal

_REFUSED = {
    Kind.EMPTY: ("empty", "is empty: nothing was published here, or the download broke off"),
    Kind.HTML: ("html", "is a web page, not a table: the link leads to a page about the data or to an error page"),
    Kind.XML: ("not_tabular", "is XML, not a table: publish a CSV beside it to have it analysed"),
    Kind.PDF: ("not_tabular", "is a PDF document, not a table: publish its tables as CSV"),
    Kind.BINARY: ("not_tabular", "is neither text nor a workbook: publish the table as CSV"),
}
_BROKEN = "is damaged, incomplete or protected by a password: open it, save it anew and publish that"
#: What comes of a file that is at fault: (types, part of the message, code, what to say). The first that fits counts;
#: what is not listed is our fault, and the runner's business.
Failures = tuple[tuple[tuple[type[Exception], ...], str, str, str], ...]
READING: Failures = (
    ((UnicodeDecodeError,), "", "encoding", "cannot be decoded: save it as UTF-8"),
    ((gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, EOFError), "", "corrupt_archive", _BROKEN),
    ((RuntimeError,), "password", "corrupt_archive", _BROKEN),
    ((NotImplementedError,), "", "unsupported", "is compressed in a way that is not supported: use gzip or deflate"),
)
LOOKING: Failures = (
    ((IndexError,), "out-of-bounds", "empty", "has a sheet without cells"),
    ((ArrowException, XLRDError, CompDocError, ParseError, ExpatError), "", "corrupt_archive", _BROKEN),
    ((zipfile.BadZipFile, zlib.error, EOFError, UnicodeDecodeError, OSError), "", "corrupt_archive", _BROKEN),
    ((IndexError, KeyError, AssertionError, struct.error), "", "corrupt_archive", _BROKEN),
    ((NotImplementedError,), "", "unsupported", "is of a kind that is not supported"),
    ((ValueError,), "", "unsupported", "cannot be read as a table"),
)
#: What openpyxl, xlrd, odfpy and pandas raise besides, by how they stumble over parts that are not as they should be.
#: For nothing but calls of theirs: elsewhere these would be our faults.
BOOK: Failures = (
    *LOOKING,
    ((SAXException, AttributeError, TypeError, OverflowError, RecursionError), "", "corrupt_archive", _BROKEN),
)


def refuse(kind: Kind) -> None:
    """Raise Fatal for what is no table by its kind."""
    if kind in _REFUSED:
        code, say = _REFUSED[kind]
        raise Fatal(say, code=code)


@contextmanager
def refusals(failures: Failures) -> Iterator[None]:
    """Turn what the libraries raise for a bad file into Fatal."""
    try:
        yield
    except tuple(each for types, *_ in failures for each in types) as error:
        # An OSError with a number is the disk's, and a lack of memory the host's, not the file's.
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None):
            raise
        text = str(error)
        fitting = (row for row in failures if isinstance(error, row[0]) and row[1] in text)
        found = next(fitting, None)
        if found is None:
            raise
        _, _, code, say = found
        raise Fatal(f"{say} ({type(error).__name__}: {text[:200]})", code=code) from error
