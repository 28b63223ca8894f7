"""Analyse a file: detect its kind, read its rows, analyse its columns one by one, assemble the result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from datafab.analysis import dialect, json_records
from datafab.analysis import zip as zip_archive
from datafab.analysis.bad_rows import BadRowCount, bad_rows_warning
from datafab.analysis.columns import Columns
from datafab.analysis.day_order import NO_PREFERENCE, DateOrderPreference
from datafab.analysis.dialect import FileKind, Layout
from datafab.analysis.distinct import DistinctValues, RowHashes
from datafab.analysis.encoding import detect_encoding
from datafab.analysis.mixed_encoding import codec_and_errors
from datafab.analysis.parquet import read_parquet
from datafab.analysis.parquet_writer import write_parquet
from datafab.analysis.records import csv_reader
from datafab.analysis.refusals import READ_FAILURES, refuse_kind, translate_failures
from datafab.analysis.shape import table_shape
from datafab.analysis.spool import CHUNK_BYTES, SpooledTable, spool_sample, spool_table, text_schema
from datafab.analysis.text import NotReadByPyarrow, TextTable
from datafab.analysis.textfile import TextFile
from datafab.analysis.workbook import read_workbook
from datafab.core.document import MAX_COLUMNS, VERSION
from datafab.core.services import Client, Services
from datafab.errors import Fatal
from datafab.settings import MAX_UNPACK_RATIO
from datafab.store.scratch import work_folder

GIB = 1024**3
#: Characters at the beginning of a text in which ``dialect.detect_layout`` looks for a header.
MAX_BEGINNING_CHARS = 4 * 1024**2
#: Rows of a sample.
SAMPLE_ROWS = 2000

#: Lets only one thread of a process hold a whole table in memory.
_ONE_TABLE = Lock()

Mode = Literal["exact", "sample"]
#: Called with the amount done, the total (None if unknown) and the unit.
OnProgress = Callable[[int, int | None, str], None]


@dataclass(frozen=True, slots=True)
class _Request:
    """The options of one analysis."""

    mode: Mode
    progress: OnProgress
    check: Callable[[], None]
    parquet: Path | None


class Detective(Client):
    """Analyses what the columns of a table hold.

    Args:
        max_unpacked: maximum unpacked bytes of a gzip or of a member of a zip.
        max_workbook: maximum unpacked bytes of a workbook or a JSON document, which is held in memory as a whole.
        max_columns: maximum number of columns whose formats are detected; for the rest only counts are made.
        chunk_bytes: bytes of a column that are processed at once; an analysis takes several times as much memory.
        use_filters: whether vectorised filters are tried before csv-detective's functions are called value by value.
        date_order: preferred order of day and month in ambiguous dates.
    """

    def __init__(
        self,
        *,
        max_unpacked: int = 100 * GIB,
        max_workbook: int = GIB // 4,
        max_columns: int = MAX_COLUMNS,
        chunk_bytes: int = CHUNK_BYTES,
        use_filters: bool = True,
        date_order: DateOrderPreference = NO_PREFERENCE,
    ) -> None:
        self._max_unpacked = max_unpacked
        self._max_workbook = max_workbook
        self._max_columns = max_columns
        self._chunk_bytes = chunk_bytes
        self._use_filters = use_filters
        self._date_order = date_order

    @classmethod
    def connect(cls, services: Services) -> Self:
        """Return the detective of this process, with the limits of its settings."""
        settings = services.settings
        return cls(
            max_unpacked=MAX_UNPACK_RATIO * settings.max_bytes,
            max_workbook=settings.max_workbook_bytes,
            chunk_bytes=settings.analysis_slab_bytes,
            date_order=DateOrderPreference(settings.date_order),
        )

    def analyse(
        self,
        path: Path,
        *,
        mode: Mode = "exact",
        progress: OnProgress = lambda *_: None,
        check: Callable[[], None] = lambda: None,
        parquet: Path | None = None,
        sheet: str | None = None,
    ) -> dict[str, Any]:
        """Analyse a file. Only its bytes matter, not its name or media type.

        Args:
            path: the file; nothing is written next to it.
            mode: ``sample`` detects formats in 2,000 rows only, and counts nothing but the rows.
            progress: called with the bytes read, then with the columns analysed.
            check: called often; raises an exception to cancel the analysis.
            parquet: a file to write all rows to, with the types of the schema.
            sheet: name or number of the sheet of a workbook; None: the largest visible one.

        Returns:
            csv-detective's result with its ``profile``, as JSON values, and ``v, status, analyser, mode, sampled,
            sample_rows, duration`` (seconds), ``schema`` (Frictionless Table Schema) and, where they apply,
            ``compression``, ``member``, ``members``, ``sheets``, ``hidden_sheets``, ``nul`` (columns that hold NUL
            characters). All figures are computed over all rows, except in a sample. ``total_lines`` is exact: it counts
            the rows below the header without blank lines. ``header_row_idx`` is the number of physical lines (rows in a
            workbook) above the header, which takes ``header_rows`` records if that is more than one. Column ``i`` of
            ``header`` is cell ``positions[i]`` of a record or, without ``positions``, cell ``heading_columns + i``.
            ``warnings`` lists what a reader should know about the table's shape.

        Raises:
            Fatal: the file can never be analysed. ``code``: ``empty``, ``html``, ``not_tabular``,
                ``bad_json``, ``encoding``, ``quote``, ``ragged``, ``header``, ``corrupt_archive``,
                ``too_large``, ``unsupported``, ``sheet``.
        """
        started = time.perf_counter()
        file = TextFile(path=path, max_unpacked=self._max_unpacked, check=check)
        with translate_failures(READ_FAILURES), ExitStack() as cleanup:
            request = _Request(mode, progress, check, parquet)
            source, facts = self._open(file, cleanup, sheet)
            found = (
                self._analyse_text(source, request)
                if isinstance(source, TextFile)
                else self._analyse_table(source, request)
            )
        duration = round(time.perf_counter() - started, 3)
        return {"v": 1, "status": "ok", "analyser": VERSION, "mode": mode, **found, **facts, "duration": duration}

    def rows(
        self, path: Path, *, check: Callable[[], None] = lambda: None, sheet: str | None = None
    ) -> Iterator[list[str]]:
        """Yield the rows of a non-text table as texts. Only one such table at a time is read into memory.

        Raises:
            Fatal: see ``analyse``.
        """
        file = TextFile(path=path, max_unpacked=self._max_unpacked, check=check)
        with translate_failures(READ_FAILURES), ExitStack() as cleanup:
            with _ONE_TABLE:
                source, _ = self._open(file, cleanup, sheet)
                assert isinstance(source, json_records.NonTextTable), "a text must be read by TableFile"
                width = len(source.header)
                table = cleanup.enter_context(spool_table(source.batches, text_schema(width)))
                del source
            for batch in table.batches(range(width)):
                check()
                yield from map(list, zip(*(column.to_pylist() for column in batch.columns), strict=True))

    def _open(
        self, file: TextFile, cleanup: ExitStack, sheet: str | None
    ) -> tuple[TextFile | json_records.NonTextTable, dict[str, Any]]:
        """Find the table in a file; return it and the facts about its compression."""
        kind = dialect.detect_kind(file.head())
        if kind is FileKind.GZIP:
            return self._open_gzip(replace(file, gzipped=True)), {"compression": "gzip"}
        if kind is FileKind.ZIP:
            kind = zip_archive.read_zip_kind(file.path)
        if kind is FileKind.ZIP:
            return self._open_member(file, cleanup, sheet)
        refuse_kind(kind)
        if kind is FileKind.TEXT:
            return file, {}
        if kind is FileKind.JSON:
            return self._read_json(file), {}
        if kind is FileKind.PARQUET:
            return read_parquet(file.path, self._max_unpacked), {}
        self._check_size(zip_archive.declared_size(file.path) if kind is not FileKind.XLS else file.path.stat().st_size)
        return read_workbook(file.path, kind, self._max_unpacked, file.check, sheet), {}

    def _open_gzip(self, file: TextFile) -> TextFile | json_records.NonTextTable:
        kind = dialect.detect_kind(file.head())
        refuse_kind(kind)
        if kind is FileKind.JSON:
            return self._read_json(file)
        if kind is not FileKind.TEXT:
            raise Fatal(f"is a gzip of {kind}: publish the {kind} itself", code="unsupported")
        return file

    def _open_member(
        self, file: TextFile, cleanup: ExitStack, sheet: str | None
    ) -> tuple[TextFile | json_records.NonTextTable, dict[str, Any]]:
        folder = cleanup.enter_context(work_folder())
        target = Path(folder) / "member"
        member, members = zip_archive.extract_table(file.path, target, self._max_unpacked, file.check)
        inner = replace(file, path=target)
        if dialect.detect_kind(inner.head()) is FileKind.ZIP and zip_archive.read_zip_kind(target) is FileKind.ZIP:
            raise Fatal(f"holds {member}, an archive in an archive: publish the table itself", code="unsupported")
        found, _ = self._open(inner, cleanup, sheet)
        return found, {"compression": "zip", "member": member, "members": members}

    def _analyse_text(self, file: TextFile, request: _Request) -> dict[str, Any]:
        text = _find_table(file)
        total = file.path.stat().st_size if not file.gzipped else None

        def on_bytes(done: int) -> None:
            request.check()
            request.progress(min(done, total or done), total, "bytes")

        schema, bad = text_schema(len(text.layout.header)), BadRowCount(len(text.layout.header))
        try:
            table = _spool(text.read_with_pyarrow(on_bytes), schema, request)
        except NotReadByPyarrow:
            table = _spool(text.read_with_csv(on_bytes, bad), schema, request)
        with table:
            skipped = bad.facts(table.total)
            if not table.total:
                raise Fatal("has a header but no rows", code="empty")
            layout = text.layout
            between = dialect.delimiter(layout.separator, len(layout.header))
            warnings = (*layout.warnings, bad_rows_warning(skipped)) if skipped else layout.warnings
            found = self._analyse_columns(table, layout.header, request, warnings, separator=between)
            depth = {"header_rows": layout.depth} if layout.depth > 1 else {}
            facts = {"encoding": text.encoding, "separator": layout.separator, "header_row_idx": layout.skip}
            return {**facts, **layout.quoting.facts(), **depth, **skipped, **found}

    def _read_json(self, file: TextFile) -> json_records.NonTextTable:
        blocks, size = [], 0
        for block in file.blocks():
            blocks.append(block)
            size += len(block)
            self._check_size(size)
        whole = b"".join(blocks)
        blocks.clear()
        text = whole.decode(*codec_and_errors(detect_encoding([whole])))
        del whole
        return json_records.read_json_records(text, file.check)

    def _analyse_table(self, other: json_records.NonTextTable, request: _Request) -> dict[str, Any]:
        with _spool(other.batches, text_schema(len(other.header)), request) as table:
            if not table.total:
                raise Fatal("has a header but no rows", code="empty")
            found = self._analyse_columns(
                table, other.header, request, other.warnings, declared_types=other.declared_types
            )
            return {"header_row_idx": 0, **other.facts, **found}

    def _check_size(self, size: int) -> None:
        if size > self._max_workbook:
            limit = f"{self._max_workbook:,}"
            msg = f"unpacks to {size:,} bytes, more than {limit}: publish it as CSV, for which the limit is higher"
            raise Fatal(msg, code="too_large")

    def _analyse_columns(
        self,
        table: SpooledTable,
        header: Sequence[str],
        request: _Request,
        warnings: Sequence[str],
        *,
        separator: str | None = None,
        declared_types: Mapping[int, str] | None = None,
    ) -> dict[str, Any]:
        """Analyse the columns one by one; those with neither a name nor values are left out."""
        rows = RowHashes(np.zeros(table.rows, dtype=np.uint64))
        whole = table.rows == table.total
        columns = Columns(whole, table.rows, separator, self._use_filters, self._max_columns, self._date_order)
        names = dialect.unique_names(header)
        for position, name in enumerate(names):
            request.check()
            request.progress(position, len(names), "columns")
            parts = list(DistinctValues(table, position, self._chunk_bytes).parts(rows))
            columns.add(
                name,
                parts,
                named=dialect.is_name(header[position]),
                declared_type=(declared_types or {}).get(position),
            )
        used = columns.used()
        found = columns.result()
        if request.parquet is not None:
            write_parquet(table, used, found["schema"]["fields"], request.parquet)
        return {
            **table_shape(header, used, warnings),
            "total_lines": table.total,
            **({"nb_duplicates": rows.count_duplicates()} if whole else {}),
            **found,
            "sampled": not whole,
            "sample_rows": table.rows,
        }


def _spool(batches: Iterable[pa.RecordBatch], schema: pa.Schema, request: _Request) -> SpooledTable:
    return spool_table(batches, schema) if request.mode == "exact" else spool_sample(batches, schema, SAMPLE_ROWS)


def _find_table(file: TextFile) -> TextTable:
    """Detect the encoding and the layout of a table in a text, reading all of it once."""
    quotes = 0

    def blocks() -> Iterator[bytes]:
        nonlocal quotes
        for block in file.blocks():
            quotes += block.count(b'"')
            yield block

    encoding = detect_encoding(blocks())
    with closing(file.lines(encoding)) as lines:
        head = _read_beginning(lines)
    layout = dialect.detect_layout(head)
    return TextTable(file, encoding, layout, layout.skip + _header_lines(head, layout), quotes)


def _header_lines(head: Sequence[str], layout: Layout) -> int:
    """Return the number of physical lines of the header."""
    between = dialect.delimiter(layout.separator, len(layout.header))
    reader = csv_reader(head[layout.skip :], between, layout.quoting)
    for _ in range(layout.depth):
        next(reader)
    return reader.line_num


def _read_beginning(lines: Iterable[str]) -> list[str]:
    beginning: list[str] = []
    size = 0
    for line in lines:
        beginning.append(line)
        size += len(line)
        if len(beginning) == dialect.HEAD_LINES or size > MAX_BEGINNING_CHARS:
            break
    return beginning
