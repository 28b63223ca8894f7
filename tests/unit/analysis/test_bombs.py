"""Small files that would take more memory than there is are refused."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datafab.analysis.detective import Detective
from datafab.analysis.refusals import PARSE_FAILURES, translate_failures
from datafab.errors import Fatal

pytestmark = pytest.mark.unmeasured


def refused(path: Path, content: bytes, detective: Detective | None = None) -> str:
    path.write_bytes(content)
    with pytest.raises(Fatal) as failure:
        (detective or Detective()).analyse(path)
    assert failure.value.code == "too_large"
    return failure.value.message


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
    with pytest.raises(MemoryError), translate_failures(PARSE_FAILURES):
        raise pa.ArrowMemoryError


def test_records_that_have_a_column_each(tmp_path: Path):
    records = json.dumps([{f"c{number}": 1} for number in range(5000)])
    assert "has 4,473 rows by 4,473 columns" in refused(tmp_path / "bomb", records.encode())


def test_the_records_of_a_document_are_not_held_all_at_once(tmp_path: Path):
    path = tmp_path / "table"
    path.write_text("[" + ",".join(['{"a":1}'] * 20_000) + "]", encoding="utf-8")
    Detective().analyse(path)  # what is imported late does not count
    tracemalloc.start()
    found = Detective().analyse(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # As objects they are 5 MB.
    assert (found["total_lines"], most < 4e6) == (20_000, True)
