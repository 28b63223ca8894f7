"""Texts are read as Python's csv reads them, and columns in parts give the same counts as whole ones."""

from __future__ import annotations

import csv
import gzip
import io
import tempfile
import tracemalloc
import zipfile
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datafab.analysis.bad_rows import BadRowCount
from datafab.analysis.csv_detective import MISSING_VALUES
from datafab.analysis.detective import Detective, _find_table
from datafab.analysis.distinct import DistinctValues, RowHashes
from datafab.analysis.spool import MAX_MEMORY_BYTES, SpooledTable, spool_sample, spool_table, text_schema
from datafab.analysis.text import NotReadByPyarrow
from datafab.analysis.textfile import TextFile
from datafab.errors import Fatal
from tests.servers.scratch import temporary_files

CELL = st.text(st.sampled_from("ab1é;,\"'\t|: \n\r-"), max_size=6)


def nothing(_done: int = 0) -> None:
    """Ignore the number of bytes read."""


def cells(table: SpooledTable) -> list[tuple[str, ...]]:
    columns = [
        [value for group in table.row_groups(at) for value in group.to_pylist()] for at in range(len(table.schema))
    ]
    return list(zip(*columns, strict=True))


def read(path: Path, encoding: str | None = None) -> tuple[list[tuple[str, ...]] | None, list[tuple[str, ...]] | str]:
    """Return the results of both readers; None if pyarrow declines the text; an error code if it is refused."""
    text = _find_table(TextFile(path=path, max_unpacked=10**9, check=nothing))
    assert encoding in {None, text.encoding}
    schema = text_schema(len(text.layout.header))
    try:
        with spool_table(text.read_with_pyarrow(nothing), schema) as table:
            quick = cells(table)
    except NotReadByPyarrow:
        quick = None
    try:
        with spool_table(text.read_with_csv(nothing, BadRowCount(len(text.layout.header))), schema) as table:
            return quick, cells(table)
    except Fatal as error:
        return quick, error.code


@given(
    rows=st.lists(st.lists(CELL, min_size=2, max_size=2), min_size=1, max_size=30),
    ends=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
)
@settings(max_examples=150, deadline=None)
def test_a_written_table_is_read_as_pythons_csv_reads_it(rows, ends, quoting, encoding):
    file = io.StringIO()
    writer = csv.writer(file, delimiter=";", lineterminator=ends, quoting=quoting)
    writer.writerow(["premier", "deuxième"])
    writer.writerows(rows)
    content = file.getvalue().encode(encoding)
    rows = [row for row in csv.reader(io.StringIO(file.getvalue(), newline=""), delimiter=";") if row][1:]
    # A line end that is not quoted ends a row, which may then be short, or blank.
    expected = [(*row, *[""] * (2 - len(row))) for row in rows if "".join(row).strip() or len(row) > 1]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "table"
        path.write_bytes(content)
        try:
            text = _find_table(TextFile(path=path, max_unpacked=10**9, check=nothing))
        except Fatal:
            return  # all rows are the header again
        if text.layout.separator != ";" or text.layout.skip:
            return  # the cells look more like another table
        quick, exact = read(path)
    assert quick in (None, expected)
    assert exact == expected


@given(lines=st.lists(st.text(st.sampled_from('ab;"\n\r\t é\0'), max_size=12), min_size=1, max_size=40))
@settings(max_examples=150, deadline=None)
def test_whatever_the_text_both_readers_agree(lines):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "table"
        path.write_bytes(("a;b;c\n1;2;3\n1;2;3\n1;2;4\n" + "\n".join(lines)).encode())
        try:
            quick, exact = read(path)
        except Fatal:
            return
    assert quick is None or quick == exact


@pytest.mark.parametrize("compressed", [False, True])
def test_a_table_larger_than_the_memory_that_it_may_have_lies_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compressed: bool
):
    monkeypatch.setattr(tempfile, "tempdir", str(scratch := tmp_path / "scratch"))
    scratch.mkdir()
    path = tmp_path / "table"
    rows = [(str(number), f"{number:0200}") for number in range(MAX_MEMORY_BYTES // 180)]
    content = ("a;b\n" + "".join(f"{a};{b}\n" for a, b in rows)).encode()
    path.write_bytes(gzip.compress(content, 1) if compressed else content)
    text = _find_table(TextFile(path=path, gzipped=compressed, max_unpacked=10**9, check=nothing))
    with spool_table(text.read_with_pyarrow(nothing), text_schema(2)) as table:
        assert table._file is not None
        assert cells(table) == rows
        assert temporary_files(scratch)
    assert not temporary_files(scratch)


def column(values: list[str], rows: int = 100) -> SpooledTable:
    schema = text_schema(1)
    batches = [
        pa.RecordBatch.from_arrays([pa.array(values[at : at + rows], pa.string())], schema=schema)
        for at in range(0, len(values), rows)
    ]
    return spool_table(batches, schema)


@given(values=st.lists(st.one_of(st.text(max_size=4), st.integers(0, 50).map(str)), min_size=1, max_size=400))
@settings(max_examples=50, deadline=None)
@pytest.mark.parametrize("chunk_bytes", [10**9, 300, 20])
def test_a_column_in_parts_counts_as_a_whole_one(chunk_bytes: int, values: list[str]):
    values = [value.encode("utf-8", "replace").decode() for value in values]
    rows = RowHashes(np.zeros(len(values), dtype=np.uint64))
    with column(values) as table:
        parts = list(DistinctValues(table, 0, chunk_bytes).parts(rows))
    counted = [pair for part in parts for pair in zip(part.values.to_pylist(), part.counts.tolist(), strict=True)]
    counts = Counter(values)
    assert len(counted) == len(counts)
    assert dict(counted) == counts
    missing = set(MISSING_VALUES) & counts.keys()
    assert rows.count_duplicates() == len(values) - len(counts) + max(0, len(missing) - 1)


def test_values_that_differ_in_the_middle_only_are_dealt_out_evenly():
    # Sixteen bytes each, so that blank ones stand where a window of the hashing ends; one value is longer than that.
    names = [f"Eaux de {number:06}.." for number in range(40_000)]
    values = [each for name in names for each in (name, "", "")] + ["x" * 300_000] * 2
    with column(values, 60_000) as table:
        parts = list(DistinctValues(table, 0, 300_000).parts())
    assert sum(part.rows for part in parts) == len(values)
    assert len({value for part in parts for value in part.values.to_pylist()}) == 40_002
    assert len(parts) > 4
    assert min(len(part.values) for part in parts) > 0.7 * 40_000 / len(parts)


def test_a_sample_is_fair_and_the_same_each_time():
    schema = text_schema(1)

    def batches():
        for start in range(0, 50_000, 1000):
            yield pa.RecordBatch.from_arrays([pa.array([str(n) for n in range(start, start + 1000)])], schema=schema)

    first, again = spool_sample(batches(), schema, 2000), spool_sample(batches(), schema, 2000)
    chosen = [int(value) for (value,) in cells(first)]
    assert (first.rows, first.total, len(chosen), chosen) == (2000, 50_000, 2000, sorted(set(chosen)))
    assert cells(again) == cells(first)
    # A quarter of the rows has a quarter of the sample, give or take five standard deviations.
    assert all(400 < sum(start <= each < start + 12_500 for each in chosen) < 600 for start in range(0, 50_000, 12_500))


@pytest.mark.unmeasured
def test_columns_beyond_the_limit_are_counted_too(tmp_path: Path):
    path = tmp_path / "wide.csv"
    names = [f"c{number}" for number in range(3000)]
    path.write_text(";".join(names) + "\n" + (";".join(map(str, range(3000))) + "\n") * 5, encoding="utf-8")
    found = Detective(max_columns=20).analyse(path)
    assert (len(found["header"]), len(found["columns"]), len(found["profile"])) == (3000, 20, 3000)
    assert found["profile"]["c2999"]["tops"] == [{"count": 5, "value": "2999"}]
    assert (found["nb_duplicates"], found["schema"]["fields"][2999]["type"]) == (4, "integer")


def test_a_bomb_in_a_zip_is_not_unpacked(tmp_path: Path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("table.csv", b"a;b\n" + b"1;2\n" * 5_000_000)
    tracemalloc.start()
    with pytest.raises(Fatal, match="unpacks to more than 1,000,000") as failure:
        Detective(max_unpacked=10**6).analyse(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (failure.value.code, most < 20e6) == ("too_large", True)
