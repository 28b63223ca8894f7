"""The shape of a table is found by the same rules in a workbook and in the same CSV."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import openpyxl
import pytest
from pandas import DataFrame

from datafab.analysis.detective import Detective
from datafab.analysis.dialect import FileKind
from datafab.analysis.workbook import read_workbook


def xlsx(table: list[list[object]]) -> bytes:
    book = openpyxl.Workbook()
    for row in table:
        book.active.append(row)
    book.save(file := io.BytesIO())
    return file.getvalue()


def ods(table: list[list[object]]) -> bytes:
    # An object each: a column of whole numbers stays one.
    DataFrame(table, dtype=object).to_excel(file := io.BytesIO(), index=False, header=False, engine="odf")
    return file.getvalue()


def biff(table: list[list[object]]) -> bytes:
    """Return a sheet as the oldest of Excels wrote them, which newer readers still take."""

    def record(number: int, content: bytes = b"") -> bytes:
        return struct.pack("<HH", number, len(content)) + content

    def cell(row: int, column: int, value: object) -> bytes:
        place = struct.pack("<HH3x", row, column)
        if isinstance(value, str):
            return record(4, place + struct.pack("B", len(value)) + value.encode())
        return record(3, place + struct.pack("<d", value))

    cells = (
        cell(row, at, value) for row, each in enumerate(table) for at, value in enumerate(each) if value is not None
    )
    return record(9, struct.pack("<HH", 2, 16)) + b"".join(cells) + record(10)


def text(table: list[list[object]]) -> bytes:
    """Return a table as a CSV; its blank rows are blank lines."""
    lines = (";".join("" if cell is None else str(cell) for cell in row) for row in table)
    return "".join(f"{line if line.strip(';') else ''}\n" for line in lines).encode()


N = None
SHAPES: dict[str, tuple[list[list[object]], list[str], list[str]]] = {
    "a title": (
        [["Table 1: Population by region"], [], ["id", "name", "v"], [1, "x", 2]],
        ["id", "name", "v"],
        ["isi"],
    ),
    "a title of a narrow table": ([["Titre"], ["id", "nom"], [1, "x"], [2, "y"]], ["id", "nom"], ["is"]),
    "titles": (
        [["Population"], ["Source : INSEE"], [], ["nom", "dep", "pop"], ["Lyon", "2A", 5]],
        ["nom", "dep", "pop"],
        ["ssi"],
    ),
    "remarks": (
        [["Extrait le", "12/03/2024"], ["Lignes", 1], ["nom", "n", "v"], ["x", 1, 2]],
        ["nom", "n", "v"],
        ["sii"],
    ),
    "off the corner": ([[], [], [N, "id", "nom", "v"], [N, 1, "x", 2]], ["id", "nom", "v"], ["isi"]),
    "a title off the corner": (
        [[], [N, "Titre"], [], [N, "id", "nom", "v"], [N, 1, "x", 2]],
        ["id", "nom", "v"],
        ["isi"],
    ),
    "a note beside": ([["id", "nom"], [1, "x", N, "Note: provisoire"], [2, "y"]], ["id", "nom", "column_4"], ["iss"]),
    "a note beside the header": ([["id", "nom", N, "Note"], [1, "x"], [2, "y"]], ["id", "nom", "Note"], ["iss"]),
    "a nameless remark": ([["id", "nom", N], [1, "x"], [2, "y", "tard"]], ["id", "nom", "column_3"], ["iss"]),
    "a nameless column": ([["id", N, "nom"], [1, 7, "x"], [2, 8, "y"]], ["id", "column_2", "nom"], ["iis"]),
    "a nameless column without values": ([["id", N, "nom"], [1, N, "x"], [2, N, "y"]], ["id", "nom"], ["is"]),
    "blank rows": ([["id", "nom"], [1, "x"], [], [2, "y"], []], ["id", "nom"], ["is"]),
    "years": ([["Titre"], [2019, 2020, 2021], [1, 2, 3], [3, 4, 5]], ["2019", "2020", "2021"], ["iii"]),
    "the same name twice": ([["id", "n", "n"], [1, "x", 2]], ["id", "n", "n.1"], ["isi"]),
    "merged cells": (
        [["commune", 2019, N, 2020, N], [N, "H", "F", "H", "F"], ["Lyon", 1, 2, 3, 4], ["Nice", 1, 2, 3, 4]],
        ["commune", "2019 H", "2019 F", "2020 H", "2020 F"],
        ["siiii"],
    ),
    "groups of names": (
        [["Titre"], [N, "Hommes", N, "Femmes"], ["commune", "0-9", "10+", "0-9", "10+"], ["Lyon", 1, 2, 3, 4]],
        ["commune", "Hommes 0-9", "Hommes 10+", "Femmes 0-9", "Femmes 10+"],
        ["siiii"],
    ),
    "a second header": ([["nom", "pop"], ["name", "people"], ["Lyon", 5], ["Nice", 4]], ["nom", "pop"], ["ss"]),
}


@pytest.mark.parametrize("case", SHAPES)
def test_a_workbook_has_the_shape_of_the_same_text(tmp_path: Path, case: str):
    table, names, (types,) = SHAPES[case]
    width = max(map(len, table))
    padded = [[*row, *[None] * (width - len(row))] for row in table]
    (path := tmp_path / "text").write_bytes(text(padded))
    of_text = Detective().analyse(path)
    assert of_text["header"] == names
    assert "".join(field["type"][0] for field in of_text["schema"]["fields"]) == types
    for content in (xlsx(padded), ods(padded)):
        (path := tmp_path / "book").write_bytes(content)
        found = Detective().analyse(path)
        for key in ("header", "total_lines", "schema", "heading_columns", "profile", "nb_duplicates"):
            assert found[key] == of_text[key]
        for key in ("positions", "header_rows"):
            assert found.get(key) == of_text.get(key)
        warnings = [line.replace("line", "row") for line in of_text.get("warnings", ())]
        assert [line.replace("line", "row") for line in found.get("warnings", ())] == warnings
        assert len(list(Detective().rows(path))) == found["total_lines"]


@pytest.mark.parametrize("case", SHAPES)
def test_an_xls_has_the_shape_of_the_same_xlsx(tmp_path: Path, case: str):
    table, *_ = SHAPES[case]
    (path := tmp_path / "book").write_bytes(xlsx(table))
    one = read_workbook(path, FileKind.XLSX, 10**6, lambda: None)
    path.write_bytes(biff(table))
    other = read_workbook(path, FileKind.XLS, 10**6, lambda: None)
    for key in ("header_row_idx", "header_rows"):
        assert other.facts.get(key) == one.facts.get(key)
    assert (other.header, other.warnings) == (one.header, one.warnings)
    assert [batch.to_pydict() for batch in other.batches] == [batch.to_pydict() for batch in one.batches]
