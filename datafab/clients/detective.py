"""csv-detective, behind one function. Only this module knows it.

Texts are read by our own reader, which decides encoding, separator and header, counts the rows and samples them;
csv-detective sees a clean, small copy and says what the columns hold. Workbooks and parquet files it reads itself.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import logging
import struct
import sys
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree.ElementTree import ParseError
from xml.parsers.expat import ExpatError

from datafab.clients.textfile import TextFile
from datafab.domain import table
from datafab.domain.document import MAX_COLUMNS, VERSION
from datafab.domain.sample import SAMPLE_ROWS, Sample, sample
from datafab.domain.table import Kind, Layout
from datafab.errors import Fatal


class _Nowhere(io.TextIOBase):
    """Where xlrd complains to."""

    def write(self, text: str) -> int:
        return len(text)


# xlrd prints to what is the standard output when it is imported, which may be somebody's JSON.
with redirect_stdout(_Nowhere()):
    from xlrd import XLRDError  # type: ignore[import-untyped]
    from xlrd.compdoc import CompDocError  # type: ignore[import-untyped]

# On import csv-detective gives the root logger a handler and a level, and paints the names of two levels.
_root = logging.getLogger()
_level, _handlers = _root.level, [*_root.handlers]
if sys.platform == "linux":
    import pylibmagic  # noqa: F401 - brings the libmagic that csv-detective looks for
import csv_detective  # noqa: E402 - after libmagic
from csv_detective.utils import sanitize_for_json  # noqa: E402
from pyarrow import ArrowException  # type: ignore[import-untyped]  # noqa: E402

_root.setLevel(_level)
_root.handlers[:] = _handlers
logging.addLevelName(logging.WARNING, "WARNING")
logging.addLevelName(logging.CRITICAL, "CRITICAL")

GIB = 1024**3
#: Characters in which ``table.layout`` looks for a header.
BEGINNING = 4 * 1024**2

#: Called with the number of rows that have passed, None (their total is not known) and "rows".
Told = Callable[[int, int | None, str], None]

_REFUSED = {
    Kind.EMPTY: ("empty", "is empty: nothing was published here, or the download broke off"),
    Kind.HTML: ("html", "is a web page, not a table: the link leads to a page about the data or to an error page"),
    Kind.JSON: ("not_tabular", "is JSON, not a table: publish a CSV beside it to have it analysed"),
    Kind.XML: ("not_tabular", "is XML, not a table: publish a CSV beside it to have it analysed"),
    Kind.PDF: ("not_tabular", "is a PDF document, not a table: publish its tables as CSV"),
    Kind.BINARY: ("not_tabular", "is neither text nor a workbook: publish the table as CSV"),
    Kind.ZIP: ("unsupported", "is a ZIP archive without a workbook's parts: publish the tables in it one by one"),
}
_BROKEN = "is damaged, incomplete or protected by a password: open it, save it anew and publish that"
#: What comes of a file that is at fault: (types, part of the message, code, what to say). The first that fits counts;
#: what is not listed is our fault, and the runner's business.
_Failures = tuple[tuple[tuple[type[Exception], ...], str, str, str], ...]
_READING: _Failures = (
    ((UnicodeDecodeError,), "", "encoding", "cannot be decoded: save it as UTF-8"),
    ((gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, EOFError), "", "corrupt_archive", _BROKEN),
)
_LOOKING: _Failures = (
    ((ValueError,), "seems to be empty", "empty", "has a header but no rows"),
    ((IndexError,), "out-of-bounds", "empty", "has a sheet without cells"),
    ((ValueError,), "file's columns", "header", "has columns without a name: the first filled row must name them all"),
    ((ValueError,), "headers position", "header", "repeats its header: header and rows cannot be told apart"),
    ((ArrowException, XLRDError, CompDocError, ParseError, ExpatError), "", "corrupt_archive", _BROKEN),
    ((zipfile.BadZipFile, zlib.error, EOFError, UnicodeDecodeError, OSError), "", "corrupt_archive", _BROKEN),
    ((IndexError, KeyError, AssertionError, struct.error), "", "corrupt_archive", _BROKEN),
    ((NotImplementedError,), "", "unsupported", "is of a kind that is not supported"),
    ((ValueError,), "", "unsupported", "cannot be read as a table"),
)


@contextmanager
def _refusals(failures: _Failures) -> Iterator[None]:
    """Turn what the libraries raise for a bad file into Fatal."""
    try:
        yield
    except tuple(each for types, *_ in failures for each in types) as error:
        # An OSError with a number is the disk's, not the file's.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        text = str(error)
        code, say = next(
            (code, say) for types, part, code, say in failures if isinstance(error, types) and part in text
        )
        raise Fatal(f"{say} ({type(error).__name__}: {text[:200]})", code=code) from error


class Detective:
    """Finds out what the columns of a table hold.

    Args:
        max_unpacked: bytes that a gzip may unpack to.
        max_workbook: bytes that a workbook may unpack to: it is held in memory as a whole, several times over.
        max_columns: columns of a text that are looked at, the rest are only named: each costs 25 ms at least.
    """

    def __init__(
        self, *, max_unpacked: int = 100 * GIB, max_workbook: int = GIB // 4, max_columns: int = MAX_COLUMNS
    ) -> None:
        self._max_unpacked = max_unpacked
        self._max_workbook = max_workbook
        self._max_columns = max_columns

    def analyse(
        self, path: Path, *, progress: Told = lambda *_: None, check: Callable[[], None] = lambda: None
    ) -> dict[str, Any]:
        """Analyse a file; what it is called and was served as does not matter, its bytes do.

        Args:
            path: the file; nothing is written beside it.
            progress: hears how many rows have passed.
            check: raises when the work is no longer wanted.

        Returns:
            csv-detective's result without ``unique_values``, as JSON values, with
            ``v, status, analyser, sampled, sample_rows, duration`` (seconds) and, where it applies, ``compression``.
            ``total_lines`` is exact: rows below the header, blank lines not counted. Where ``sampled``, formats and
            scores are those of ``sample_rows`` rows. ``header_row_idx`` is the number of physical lines above the
            header; column ``i`` of ``header`` is cell ``heading_columns + i`` of a record.

        Raises:
            Fatal: the file cannot be analysed, now or ever. ``code``: ``empty``, ``html``, ``not_tabular``,
                ``encoding``, ``quote``, ``ragged``, ``header``, ``corrupt_archive``, ``too_large``, ``unsupported``.
        """
        started = time.perf_counter()
        file = TextFile(path=path, max_unpacked=self._max_unpacked, check=check)
        with _refusals(_READING):
            found = self._look(file, progress)
        duration = round(time.perf_counter() - started, 3)
        return {"v": 1, "status": "ok", "analyser": VERSION, **found, "duration": duration}

    def _look(self, file: TextFile, progress: Told) -> dict[str, Any]:
        kind = table.kind(file.head())
        if kind is Kind.GZIP:
            return self._unpacked(replace(file, gzipped=True), progress) | {"compression": "gzip"}
        if kind is Kind.ZIP:
            kind = self._zipped(file.path)
        _refuse(kind)
        if kind is Kind.TEXT:
            return self._text(file, progress)
        return _parquet(file.path) if kind is Kind.PARQUET else self._workbook(file.path, kind)

    def _unpacked(self, file: TextFile, progress: Told) -> dict[str, Any]:
        kind = table.kind(file.head())
        _refuse(kind)
        if kind is not Kind.TEXT:
            raise Fatal(f"is a gzip of {kind}: publish the {kind} itself", code="unsupported")
        return self._text(file, progress)

    def _text(self, file: TextFile, progress: Told) -> dict[str, Any]:
        encoding = table.encoding(file.blocks())
        with closing(file.lines(encoding)) as lines:
            layout = table.layout(_beginning(lines))
        with closing(file.lines(encoding)) as lines:
            below = islice(lines, layout.skip, None)
            records = table.records(below, layout.separator, first=layout.skip + 1)
            next(records)
            rows = sample(records, layout.header, lambda count: progress(count, None, "rows"))
        return {"encoding": encoding, **_described(layout, rows, self._max_columns)}

    def _zipped(self, path: Path) -> Kind:
        with _refusals(_LOOKING), zipfile.ZipFile(path) as archive:
            self._fits(sum(member.file_size for member in archive.infolist()))
            return table.zipped(archive.namelist())

    def _workbook(self, path: Path, kind: Kind) -> dict[str, Any]:
        """Ask csv-detective about the largest sheet; it tests one row less than ``num_rows``."""
        self._fits(path.stat().st_size)
        found = _linked(path, kind, num_rows=SAMPLE_ROWS + 1)
        sampled = found["total_lines"] > SAMPLE_ROWS
        if sampled:
            del found["categorical"]
        return found | {"sampled": sampled, "sample_rows": min(found["total_lines"], SAMPLE_ROWS)}

    def _fits(self, size: int) -> None:
        if size > self._max_workbook:
            msg = f"unpacks to {size:,} bytes, more than {self._max_workbook:,}: publish it as CSV, which may be larger"
            raise Fatal(msg, code="too_large")


def _refuse(kind: Kind) -> None:
    if kind in _REFUSED:
        code, say = _REFUSED[kind]
        raise Fatal(say, code=code)


def _beginning(lines: Iterable[str]) -> list[str]:
    beginning: list[str] = []
    size = 0
    for line in lines:
        beginning.append(line)
        size += len(line)
        if len(beginning) == table.HEAD_LINES or size > BEGINNING:
            break
    return beginning


def _described(layout: Layout, rows: Sample, max_columns: int) -> dict[str, Any]:
    """Describe a text; columns without a name at its sides are left out when no row has anything there either."""
    if not rows.total:
        raise Fatal("has a header but no rows", code="empty")
    used = [at for at in range(len(layout.header)) if at not in rows.unused]
    if not used:
        raise Fatal("has separators only, neither names nor values", code="empty")
    first, end = used[0], used[-1] + 1
    names = table.names(layout.header)[first:end]
    return {
        "separator": layout.separator,
        "heading_columns": first,
        "trailing_columns": len(layout.header) - end,
        "header_row_idx": layout.skip,
        "header": names,
        "total_lines": rows.total,
        **_formats(names[:max_columns], rows, first, whole=rows.whole and len(names) <= max_columns),
        "sampled": not rows.whole,
        "sample_rows": len(rows.rows),
    }


def _formats(names: list[str], rows: Sample, first: int, *, whole: bool) -> dict[str, Any]:
    """Ask csv-detective about a clean copy of the rows."""
    with TemporaryDirectory(prefix="datafab-") as folder:
        path = Path(folder) / "table.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(names)
            for row in rows.rows:
                cells = row[first : first + len(names)]
                writer.writerow(cells + [""] * (len(names) - len(cells)))
        found = _routine(path, num_rows=-1, encoding="utf-8", sep=",")
    wanted = ["columns_fields", "columns_labels", "columns", "formats"]
    if whole:
        wanted += ["nb_duplicates", "categorical"]
    return {key: found[key] for key in wanted}


def _parquet(path: Path) -> dict[str, Any]:
    """Ask csv-detective about a parquet file; it may stop before it has counted the repeated rows."""
    found = _linked(path, Kind.PARQUET, num_rows=-1)
    del found["nb_duplicates"], found["categorical"]
    return found | {"sampled": False, "sample_rows": found["total_lines"]}


def _linked(path: Path, kind: Kind, **options: Any) -> dict[str, Any]:
    """Give the file the suffix by which the libraries choose their reader."""
    with TemporaryDirectory(prefix="datafab-") as folder:
        link = Path(folder) / f"table.{kind}"
        link.symlink_to(path.absolute())
        return _routine(link, **options)


def _routine(path: Path, **options: Any) -> dict[str, Any]:
    with warnings.catch_warnings(), _refusals(_LOOKING):
        # Of styles that a workbook loses and of what pandas will change one day.
        warnings.simplefilter("ignore")
        found = csv_detective.routine(str(path), save_results=False, **options)
    del found["unique_values"]
    text = json.dumps(sanitize_for_json(found), default=lambda number: number.item(), allow_nan=False)
    plain: dict[str, Any] = json.loads(text)
    return plain
