"""The way of a file through the analysis: its kind, its rows, its columns one by one, the result."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from datafab.analysis import dialect as table
from datafab.analysis import json_records as others
from datafab.analysis import zip as archive
from datafab.analysis.columns import Columns
from datafab.analysis.day_order import FREE, Wish
from datafab.analysis.dialect import Kind, Layout
from datafab.analysis.distinct import Distinct, Rows
from datafab.analysis.parquet import parquet_table
from datafab.analysis.parquet_writer import write
from datafab.analysis.refusals import READING, refusals, refuse
from datafab.analysis.shape import shape
from datafab.analysis.spool import AT_ONCE, Landed, land, sample, schema
from datafab.analysis.text import Text, Unlike
from datafab.analysis.textfile import TextFile
from datafab.analysis.workbook import workbook
from datafab.core.document import MAX_COLUMNS, VERSION
from datafab.core.services import Client, Services
from datafab.errors import Fatal
from datafab.settings import MAX_UNPACK_RATIO
from datafab.store.scratch import work_folder

GIB = 1024**3
#: Characters in which ``table.layout`` looks for a header.
BEGINNING = 4 * 1024**2
#: Rows of which a sample consists.
SAMPLE_ROWS = 2000

#: One table at once is held in memory by a process that has many threads.
_ONE = Lock()

Mode = Literal["exact", "sample"]
#: Called with what has passed, the total where it is known, and the unit.
Told = Callable[[int, int | None, str], None]


@dataclass(frozen=True, slots=True)
class _Job:
    """What one analysis is asked for."""

    mode: Mode
    progress: Told
    check: Callable[[], None]
    parquet: Path | None


class Detective(Client):
    """Finds out what the columns of a table hold.

    Args:
        max_unpacked: bytes that a gzip or a member of a zip may unpack to.
        max_workbook: bytes that a workbook or a JSON document may have unpacked: it is held in memory as a whole.
        max_columns: columns whose formats are looked for; the rest are only counted.
        at_once: bytes of a column that are looked at in one go; an analysis takes some times as much memory.
        quick: whether columns are filtered before csv-detective is asked for single values.
        order: of day and month, for dates that do not say.
    """

    def __init__(
        self,
        *,
        max_unpacked: int = 100 * GIB,
        max_workbook: int = GIB // 4,
        max_columns: int = MAX_COLUMNS,
        at_once: int = AT_ONCE,
        quick: bool = True,
        order: Wish = FREE,
    ) -> None:
        self._max_unpacked = max_unpacked
        self._max_workbook = max_workbook
        self._max_columns = max_columns
        self._at_once = at_once
        self._quick = quick
        self._order = order

    @classmethod
    def connect(cls, services: Services) -> Self:
        """Return the detective of a process, within the limits of its settings."""
        settings = services.settings
        return cls(
            max_unpacked=MAX_UNPACK_RATIO * settings.max_bytes,
            max_workbook=settings.max_workbook_bytes,
            at_once=settings.analysis_slab_bytes,
            order=Wish(settings.date_order),
        )

    def analyse(
        self,
        path: Path,
        *,
        mode: Mode = "exact",
        progress: Told = lambda *_: None,
        check: Callable[[], None] = lambda: None,
        parquet: Path | None = None,
    ) -> dict[str, Any]:
        """Analyse a file; what it is called and was served as does not matter, its bytes do.

        Args:
            path: the file; nothing is written beside it.
            mode: ``sample`` looks for formats in 2,000 rows only, and counts no more than the rows.
            progress: hears how many bytes, then how many columns have passed.
            check: raises when the work is no longer wanted.
            parquet: a file to be written with all rows and the types of the schema.

        Returns:
            csv-detective's result with its ``profile``, as JSON values, and ``v, status, analyser, mode, sampled,
            sample_rows, duration`` (seconds), ``schema`` (Frictionless Table Schema) and, where it applies,
            ``compression``, ``member``, ``members``, ``sheets``, ``nul`` (columns that hold NUL characters). All
            figures are those of all rows, but in a sample. ``total_lines`` is exact: rows below the header, blank
            lines not counted. ``header_row_idx`` is the number of physical lines (of a workbook: rows) above the
            header, which takes ``header_rows`` records where that is more than one; column ``i`` of ``header`` is cell
            ``positions[i]`` of a record, without ``positions`` cell ``heading_columns + i``. ``warnings`` says what a
            reader should know of the table's shape.

        Raises:
            Fatal: the file cannot be analysed, now or ever. ``code``: ``empty``, ``html``, ``not_tabular``,
                ``bad_json``, ``encoding``, ``quote``, ``ragged``, ``header``, ``corrupt_archive``,
                ``too_large``, ``unsupported``.
        """
        started = time.perf_counter()
        file = TextFile(path=path, max_unpacked=self._max_unpacked, check=check)
        with refusals(READING), ExitStack() as left:
            job = _Job(mode, progress, check, parquet)
            source, facts = self._open(file, left)
            found = self._text(source, job) if isinstance(source, TextFile) else self._other(source, job)
        duration = round(time.perf_counter() - started, 3)
        return {"v": 1, "status": "ok", "analyser": VERSION, "mode": mode, **found, **facts, "duration": duration}

    def rows(self, path: Path, *, check: Callable[[], None] = lambda: None) -> Iterator[list[str]]:
        """Yield the rows of a table that is no text, as texts: what is held in memory to read it is so for one at once.

        Raises:
            Fatal: as ``analyse`` does.
        """
        file = TextFile(path=path, max_unpacked=self._max_unpacked, check=check)
        with refusals(READING), ExitStack() as left:
            with _ONE:
                source, _ = self._open(file, left)
                assert isinstance(source, others.Other), "a text is read by TableFile"
                width = len(source.header)
                landed = left.enter_context(land(source.batches, schema(width)))
                del source
            for batch in landed.batches(range(width)):
                check()
                yield from map(list, zip(*(column.to_pylist() for column in batch.columns), strict=True))

    def _open(self, file: TextFile, left: ExitStack) -> tuple[TextFile | others.Other, dict[str, Any]]:
        """Find the table in a file; return it, and what is to be said of how it was packed."""
        kind = table.kind(file.head())
        if kind is Kind.GZIP:
            return self._unpacked(replace(file, gzipped=True)), {"compression": "gzip"}
        if kind is Kind.ZIP:
            kind = archive.kind(file.path)
        if kind is Kind.ZIP:
            return self._member(file, left)
        refuse(kind)
        if kind is Kind.TEXT:
            return file, {}
        if kind is Kind.JSON:
            return self._json(file), {}
        if kind is Kind.PARQUET:
            return parquet_table(file.path, self._max_unpacked), {}
        self._fits(archive.unpacked_size(file.path) if kind is not Kind.XLS else file.path.stat().st_size)
        return workbook(file.path, kind, self._max_unpacked, file.check), {}

    def _unpacked(self, file: TextFile) -> TextFile | others.Other:
        kind = table.kind(file.head())
        refuse(kind)
        if kind is Kind.JSON:
            return self._json(file)
        if kind is not Kind.TEXT:
            raise Fatal(f"is a gzip of {kind}: publish the {kind} itself", code="unsupported")
        return file

    def _member(self, file: TextFile, left: ExitStack) -> tuple[TextFile | others.Other, dict[str, Any]]:
        folder = left.enter_context(work_folder())
        target = Path(folder) / "member"
        member, members = archive.extract(file.path, target, self._max_unpacked, file.check)
        inner = replace(file, path=target)
        if table.kind(inner.head()) is Kind.ZIP and archive.kind(target) is Kind.ZIP:
            raise Fatal(f"holds {member}, an archive in an archive: publish the table itself", code="unsupported")
        found, _ = self._open(inner, left)
        return found, {"compression": "zip", "member": member, "members": members}

    def _text(self, file: TextFile, job: _Job) -> dict[str, Any]:
        text = _text(file)
        total = file.path.stat().st_size if not file.gzipped else None

        def passed(done: int) -> None:
            job.check()
            job.progress(min(done, total or done), total, "bytes")

        of = schema(len(text.layout.header))
        try:
            landed = _landed(text.quick(passed), of, job)
        except Unlike:
            landed = _landed(text.exact(passed), of, job)
        with landed:
            if not landed.total:
                raise Fatal("has a header but no rows", code="empty")
            layout = text.layout
            found = self._columns(landed, layout.header, job, layout.warnings, separator=layout.separator)
            depth = {"header_rows": layout.depth} if layout.depth > 1 else {}
            facts = {"encoding": text.encoding, "separator": layout.separator, "header_row_idx": layout.skip}
            return {**facts, **depth, **found}

    def _json(self, file: TextFile) -> others.Other:
        blocks, size = [], 0
        for block in file.blocks():
            blocks.append(block)
            size += len(block)
            self._fits(size)
        whole = b"".join(blocks)
        blocks.clear()
        text = whole.decode(table.encoding([whole]))
        del whole
        return others.records(text, file.check)

    def _other(self, other: others.Other, job: _Job) -> dict[str, Any]:
        with _landed(other.batches, schema(len(other.header)), job) as landed:
            if not landed.total:
                raise Fatal("has a header but no rows", code="empty")
            found = self._columns(landed, other.header, job, other.warnings, known=other.known)
            return {"header_row_idx": 0, **other.facts, **found}

    def _fits(self, size: int) -> None:
        if size > self._max_workbook:
            msg = f"unpacks to {size:,} bytes, more than {self._max_workbook:,}: publish it as CSV, which may be larger"
            raise Fatal(msg, code="too_large")

    def _columns(
        self,
        landed: Landed,
        header: Sequence[str],
        job: _Job,
        warnings: Sequence[str],
        *,
        separator: str | None = None,
        known: Mapping[int, str] | None = None,
    ) -> dict[str, Any]:
        """Look at the columns one by one; those without a name are left out when they are empty too."""
        rows = Rows(np.zeros(landed.rows, dtype=np.uint64))
        whole = landed.rows == landed.total
        columns = Columns(whole, landed.rows, separator, self._quick, self._max_columns, self._order)
        names = table.names(header)
        for position, name in enumerate(names):
            job.check()
            job.progress(position, len(names), "columns")
            parts = list(Distinct(landed, position, self._at_once).parts(rows))
            columns.add(name, parts, named=table.is_name(header[position]), known=(known or {}).get(position))
        used = columns.used()
        found = columns.result()
        if job.parquet is not None:
            write(landed, used, found["schema"]["fields"], job.parquet)
        return {
            **shape(header, used, warnings),
            "total_lines": landed.total,
            **({"nb_duplicates": rows.repeated()} if whole else {}),
            **found,
            "sampled": not whole,
            "sample_rows": landed.rows,
        }


def _landed(batches: Iterable[pa.RecordBatch], of: pa.Schema, job: _Job) -> Landed:
    return land(batches, of) if job.mode == "exact" else sample(batches, of, SAMPLE_ROWS)


def _text(file: TextFile) -> Text:
    """Find out how a table stands in a text, reading all of it once."""
    quotes = 0

    def blocks() -> Iterator[bytes]:
        nonlocal quotes
        for block in file.blocks():
            quotes += block.count(b'"')
            yield block

    encoding = table.encoding(blocks())
    with closing(file.lines(encoding)) as lines:
        head = _beginning(lines)
    layout = table.layout(head)
    return Text(file, encoding, layout, layout.skip + _height(head, layout), quotes)


def _height(head: Sequence[str], layout: Layout) -> int:
    """Return on how many physical lines the header stands."""
    reader = csv.reader(head[layout.skip :], delimiter=table.delimiter(layout.separator, len(layout.header)))
    for _ in range(layout.depth):
        next(reader)
    return reader.line_num


def _beginning(lines: Iterable[str]) -> list[str]:
    beginning: list[str] = []
    size = 0
    for line in lines:
        beginning.append(line)
        size += len(line)
        if len(beginning) == table.HEAD_LINES or size > BEGINNING:
            break
    return beginning
