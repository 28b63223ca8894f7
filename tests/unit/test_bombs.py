"""Files of a few bytes that name, or hold, more than a memory does."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datafab.clients.detective.detective import Detective
from datafab.clients.detective.refusals import LOOKING, refusals
from datafab.errors import Fatal

ODS = (
    '<office:document-content xmlns:office="o" xmlns:{t}="table" xmlns:text="t"><office:body><office:spreadsheet>'
    '<{t}:table {t}:name="a"><{t}:table-row {t}:number-rows-repeated="{rows}"><{t}:table-cell '
    'office:value-type="string" {t}:number-columns-repeated="{columns}"><text:p>x</text:p></{t}:table-cell>'
    "</{t}:table-row></{t}:table></office:spreadsheet></office:body></office:document-content>"
)
XLSX = (
    '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData><row r="1">'
    '<c r="A1" t="inlineStr"><is><t>id</t></is></c></row><row><c r="{last}"><v>1</v></c></row></sheetData></worksheet>'
)


def zipped(**members: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), text)
    return file.getvalue()


def refused(path: Path, content: bytes, detective: Detective | None = None) -> str:
    path.write_bytes(content)
    with pytest.raises(Fatal) as failure:
        (detective or Detective()).analyse(path)
    assert failure.value.code == "too_large"
    return failure.value.message


@pytest.mark.parametrize("prefix", ["table", "t"])
@pytest.mark.parametrize(("rows", "columns"), [(1_000_000_000, 1), (1, 1_000_000_000), (100_000, 1000)])
def test_a_cell_that_is_repeated_a_billion_times(tmp_path: Path, prefix: str, rows: int, columns: int):
    said = refused(tmp_path / "bomb", zipped(content_xml=ODS.format(t=prefix, rows=rows, columns=columns)))
    assert f"has {rows:,} rows by {columns:,} columns" in said


@pytest.mark.parametrize("last", ["XFD1048576", "Z1000000"])
def test_a_cell_at_the_end_of_a_sheet(tmp_path: Path, last: str):
    sheet = {"xl__workbook_xml": "<workbook/>", "xl__worksheets__sheet1_xml": XLSX.format(last=last)}
    assert "publish it as CSV" in refused(tmp_path / "bomb", zipped(**sheet))


def test_a_text_that_a_parquet_file_says_once_and_means_a_million_times(tmp_path: Path):
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int32()), pa.array(["x" * 2_000_000]))
    content = io.BytesIO()
    pq.write_table(
        pa.table({"a": texts}), content, compression="zstd", store_schema=False, dictionary_pagesize_limit=2**30
    )
    assert len(content.getvalue()) < 100_000
    before = pa.total_allocated_bytes()
    assert "unpacks to" in refused(tmp_path / "bomb", content.getvalue(), Detective(max_unpacked=10**8))
    # 65,536 of them in one go are 131 GB.
    assert pa.default_memory_pool().max_memory() - before < 1e9


def test_a_lack_of_memory_is_no_fault_of_the_file():
    with pytest.raises(MemoryError), refusals(LOOKING):
        raise pa.ArrowMemoryError


def test_records_that_have_a_column_each(tmp_path: Path):
    records = json.dumps([{f"c{number}": 1} for number in range(5000)])
    assert "has 4,473 rows by 4,473 columns" in refused(tmp_path / "bomb", records.encode())


def test_the_records_of_a_document_are_not_held_all_at_once(tmp_path: Path):
    path = tmp_path / "table"
    path.write_text("[" + ",".join(['{"a":1}'] * 60_000) + "]", encoding="utf-8")
    Detective().analyse(path)  # what is imported late does not count
    tracemalloc.start()
    found = Detective().analyse(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # As objects they are 15 MB.
    assert (found["total_lines"], most < 8e6) == (60_000, True)
