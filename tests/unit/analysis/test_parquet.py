"""Analyses of parquet files, and the types that a datastore gets for their columns."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datafab.analysis.detective import Detective
from datafab.analysis.parquet_chunks import MAX_READ_ROWS, rows_per_read
from datafab.analysis.tablefile import CellsFile
from datafab.errors import Fatal
from datafab.push.column_types import analysed_columns, make_plan

ZONED = pa.array([0, None], pa.timestamp("ms", "UTC"))


def days(*numbers: int) -> pa.Array:
    return pa.array(numbers, pa.int32()).cast(pa.date32())


def pushed(path: Path, column: pa.Array) -> tuple[str, list[str | None]]:
    """Return the type and the values that the datastore gets of a column."""
    pq.write_table(pa.table({"a": column}), path)
    detective = Detective()
    file = CellsFile(partial(detective.rows, path), analysis := detective.analyse(path))
    made = make_plan(file.header, len(column), analysed_columns(analysis, 1) or [], {})
    return made.fields[0].type, [made.record(cells)["a"] for _, cells in file.rows()]


@pytest.mark.parametrize(
    ("column", "kind", "values"),
    [
        (pa.array([2**63 - 1, -(2**63)]), "bigint", ["9223372036854775807", "-9223372036854775808"]),
        (pa.array([2**64 - 1, 1], pa.uint64()), "numeric", ["18446744073709551615", "1"]),
        (pa.array([1.5, float("nan")]), "numeric", ["1.5", "nan"]),
        (pa.array([1.5, float("inf")]), "text", ["1.5", "inf"]),
        (pa.array([-float("inf")], pa.float32()), "text", ["-inf"]),
        (days(0, 2932896, -719162), "timestamp", ["1970-01-01", "9999-12-31", "0001-01-01"]),
        (days(0, 2932897), "text", ["1970-01-01", "10000-01-01"]),
        (days(0, -719163), "text", ["1970-01-01", "0000-12-31"]),
        (pa.array([0, -(10**14)], pa.timestamp("ms")), "text", ["1970-01-01 00:00:00.000", "-1199-02-15 14:13:20.000"]),
        (pa.array([10**17], pa.timestamp("ms")), "text", ["<value out of range: 100000000000000000>"]),
        (pa.array([10**18], pa.timestamp("ns")), "timestamp", ["2001-09-09 01:46:40.000000000"]),
        (pa.array([1577934245123], pa.timestamp("ms", "Asia/Tokyo")), "timestamptz", ["2020-01-02 03:04:05.123Z"]),
        (ZONED.dictionary_encode(), "timestamptz", ["1970-01-01 00:00:00.000Z", None]),
    ],
)  # fmt: skip
def test_a_datastore_gets_a_type_that_holds_all_values(tmp_path: Path, column: pa.Array, kind: str, values: list[Any]):
    assert pushed(tmp_path / "table", column) == (kind, values)


def test_a_cell_is_written_in_one_way_whatever_stands_beside_it(tmp_path: Path):
    number = UUID("47c879d5-cb77-4aa7-b747-ac754e8ff90d")
    of_one_length = pa.array([b"abcd", b"\xff\xfe12"], pa.binary(4))
    assert pushed(tmp_path / "table", pa.array([number.bytes], pa.uuid())) == ("text", [str(number)])
    assert pushed(tmp_path / "table", pa.array([b"abc", b"\xff"])) == ("text", ["abc", r"b'\xff'"])
    assert pushed(tmp_path / "table", pa.array([b"abc", b"def"])) == ("text", ["abc", "def"])
    assert pushed(tmp_path / "table", of_one_length) == ("text", ["abcd", r"b'\xff\xfe12'"])
    assert pushed(tmp_path / "table", pa.array([{"a": b"abc"}, {"a": b"\xff"}])) == (
        "text",
        ['{"a": "abc"}', r"""{"a": "b'\\xff'"}"""],
    )


def typed(detective: Detective, path: Path, name: str) -> tuple[str, list[Any]]:
    detective.analyse(path, parquet=path.with_name("typed"))
    column = pq.read_table(path.with_name("typed")).column(name)
    return str(column.type), column.to_pylist()


@pytest.mark.parametrize(
    ("column", "kind", "values"),
    [
        (pa.array([2**64 - 1, 1], pa.uint64()), "string", ["18446744073709551615", "1"]),
        (pa.array([1.5, float("inf")]), "string", ["1.5", "inf"]),
        (days(0, -1_000_000), "string", ["1970-01-01", "-0768-02-04"]),
        (pa.array([10**17], pa.timestamp("ms")), "string", ["<value out of range: 100000000000000000>"]),
        (ZONED, "timestamp[us, tz=UTC]", ZONED.to_pylist()),
    ],
)
def test_a_typed_table_holds_what_parquet_holds(tmp_path: Path, column: pa.Array, kind: str, values: list[Any]):
    pq.write_table(pa.table({"a": column}), tmp_path / "table")
    assert typed(Detective(), tmp_path / "table", "a") == (kind, values)


def test_a_typed_table_keeps_as_texts_what_its_type_has_no_place_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = [f"2024-01-{day:02}" for day in range(1, 29)]
    (tmp_path / "table").write_text("\n".join(["jour", *rows]))
    assert typed(Detective(), tmp_path / "table", "jour")[0] == "date32[day]"
    # No way of writing is known of which csv-detective reads more than pyarrow and Python do together.
    monkeypatch.setattr("datafab.analysis.parquet_writer.pc.strptime", nothing)
    monkeypatch.setattr("datafab.analysis.parquet_writer.parse_date", nothing)
    assert typed(Detective(), tmp_path / "table", "jour") == ("string", rows)


def nothing(*_: Any) -> Any:
    raise pa.ArrowInvalid


LONG = "x" * 100_000
BOMBS: dict[str, tuple[Callable[[], pa.Array], bool]] = {
    "a text in lists of which the first is empty": (lambda: pa.array([[], *[[LONG]] * 5000]), True),
    "a text in mappings": (lambda: pa.array([[("b", LONG)]] * 5000, pa.map_(pa.string(), pa.string())), True),
    "bytes that are no text": (lambda: pa.array([b"\xff" * 100_000] * 5000), True),
    "bytes of one length": (lambda: pa.array([b"\xff" * 100_000] * 5000, pa.binary(100_000)), True),
    "plain texts behind a short one": (lambda: pa.array(["x", *[LONG] * 5000]), False),
}
READ = """
import os, resource, sys, warnings
from pathlib import Path
from datafab.analysis.detective import Detective
from datafab.errors import Fatal

now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
for path in sys.argv[1:]:
    with warnings.catch_warnings():  # threads of pyarrow are there; the child uses none of what they hold
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()  # each has a memory of its own
    if child:
        os.waitpid(child, 0)
        continue
    resource.setrlimit(resource.RLIMIT_AS, (now + 650_000_000,) * 2)
    try:
        for row in Detective(max_unpacked=100_000_000).rows(Path(path)):
            pass
    except Fatal as failure:
        print(failure.code, flush=True)
    os._exit(0)
"""


@pytest.mark.unmeasured
def test_no_file_of_a_few_bytes_fills_the_memory(tmp_path: Path):
    for name, (column, coded) in BOMBS.items():
        pq.write_table(pa.table({"a": column()}), tmp_path / name, compression="zstd", use_dictionary=coded)
        assert (tmp_path / name).stat().st_size < 200_000
    # Other pools keep addresses that they may never use.
    environment = os.environ | {"ARROW_DEFAULT_MEMORY_POOL": "system", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", READ, *(str(tmp_path / name) for name in BOMBS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["too_large"] * len(BOMBS), "")


def test_of_wide_tables_and_of_long_lists_fewer_rows_are_read_in_one_go(tmp_path: Path):
    table = pa.table({f"c{at}": pa.array(range(20_000)) for at in range(100)})
    pq.write_table(table, tmp_path / "table")
    with pq.ParquetFile(tmp_path / "table") as file:
        assert rows_per_read(tmp_path / "table", file, 10**9) == [64 * 1024**2 // (100 * 64)]
    pq.write_table(table.select([0]), tmp_path / "table")
    with pq.ParquetFile(tmp_path / "table") as file:
        assert rows_per_read(tmp_path / "table", file, 10**9) == [MAX_READ_ROWS]
    pq.write_table(pa.table({"a": [[0] * 10_000] * 200}), tmp_path / "table")
    with pq.ParquetFile(tmp_path / "table") as file:
        assert rows_per_read(tmp_path / "table", file, 10**9) == [64 * 1024**2 // (10_000 * 64)]


def test_a_row_that_is_larger_than_a_table_may_be_is_not_read(tmp_path: Path):
    pq.write_table(pa.table({"a": [[0] * 1_000_000]}), tmp_path / "table")
    with pytest.raises(Fatal, match=r"has rows of more than 50,000,000 bytes"):
        Detective(max_unpacked=50_000_000).analyse(tmp_path / "table")


DAMAGED = """
import sys
from pathlib import Path
from datafab.analysis.parquet import read_parquet
from datafab.errors import Fatal

path, whole = Path(sys.argv[1]), Path(sys.argv[1]).read_bytes()
footer = int.from_bytes(whole[-8:-4], "little")
refused = 0
for at in range(len(whole) - footer - 8, len(whole) - 8):
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    try:
        list(read_parquet(path, 10**9).batches)
    except Fatal:
        refused += 1
print(refused > 50)
"""


@pytest.mark.unmeasured
def test_no_damaged_footer_kills_its_reader(tmp_path: Path):
    table = pa.table({"a": range(50), "b": ["x"] * 50, "c": [[1, 2]] * 50})
    pq.write_table(table, tmp_path / "table", store_schema=False)
    command = [sys.executable, "-c", DAMAGED, str(tmp_path / "table")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr[-1000:]
