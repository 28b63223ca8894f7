"""Workbooks: too large for the memory, disguised or damaged ones, and the texts of their cells."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

import openpyxl
import pytest
from odf.opendocument import OpenDocumentSpreadsheet
from odf.style import Style, TableProperties
from odf.table import Table, TableCell, TableRow
from odf.text import P
from openpyxl.chart import BarChart, Reference
from openpyxl.styles import Font
from pandas import DataFrame

from datafab.analysis import ods_size, xlsx_size
from datafab.analysis.detective import Detective
from datafab.analysis.dialect import FileKind
from datafab.analysis.workbook import read_workbook
from datafab.analysis.xlsx_size import MAX_COLUMNS, MAX_ROWS
from datafab.cli.main import main
from datafab.errors import Fatal

HEADER = '<row r="1"><c t="inlineStr"><is><t>a</t></is></c><c t="inlineStr"><is><t>b</t></is></c></row>'
ODS = "<table:table-row {row}><table:table-cell office:value-type='string' {cell}>{text}</table:table-cell>"
SHEET, TEXTS = "xl/worksheets/sheet1.xml", "xl/sharedStrings.xml"
SST = '<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><si><t>{text}</t></si></sst>'
OOXML = "application/vnd.openxmlformats-officedocument.spreadsheetml.{}+xml"

#: More than that many elements are refused in a test.
FEW = 20_000

Change = Callable[[str], str]


def saved(book: openpyxl.Workbook) -> bytes:
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def rows(*table: list[object]) -> openpyxl.Workbook:
    book = openpyxl.Workbook()
    for row in table:
        book.active.append(row)
    return book


def ods(*table: list[object]) -> bytes:
    file = io.BytesIO()
    DataFrame(table[1:], columns=table[0]).to_excel(file, index=False, engine="odf")
    return file.getvalue()


def changed(content: bytes, changes: dict[str, Change], elsewhere: tuple[str, str] = ("", ""), **more: str) -> bytes:
    """Return a workbook with some of its parts changed, one of them elsewhere, and others more."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as after:
        texts = {name: before.read(name).decode() for name in before.namelist()}
        made = texts | {name: change(texts[name]) for name, change in changes.items()}
        assert all(made[name] != texts[name] for name in changes)
        for name, text in (made | more).items():
            after.writestr(name.replace(*elsewhere), text.replace(*elsewhere))
    return file.getvalue()


def sheet(content: str, text: str = "", elsewhere: tuple[str, str] = ("", "")) -> bytes:
    """Return an xlsx whose sheet has this content, and whose cells may share a text."""
    data = re.compile("<sheetData>.*</sheetData>", re.DOTALL)
    kind = f'<Override PartName="/{TEXTS}" ContentType="{OOXML.format("sharedStrings")}"/></Types>'
    parts: dict[str, Change] = {
        SHEET: lambda said: data.sub(f"<sheetData>{HEADER}{content}</sheetData>", said),
        "[Content_Types].xml": lambda said: said.replace("</Types>", kind),
    }
    return changed(saved(rows(["a", "b"], [1, 2])), parts, elsewhere, **{TEXTS: SST.format(text=text)})


def analysed(path: Path, content: bytes, sheet: str | None = None, **limits: int) -> dict[str, object]:
    path.write_bytes(content)
    return Detective(**limits).analyse(path, sheet=sheet)


def refused(path: Path, content: bytes, **limits: int) -> tuple[str, str]:
    with pytest.raises(Fatal) as failure:
        analysed(path, content, **limits)
    return str(failure.value.code), failure.value.message


def repeated(row: str, cell: str, text: str = "<text:p>x</text:p>", prefix: str = "table") -> bytes:
    """Return an ODS with a row as its last that says how often it, and its cell, are meant."""
    more = ODS.format(row=row, cell=cell, text=text) + "</table:table-row>"

    def change(content: str) -> str:
        made = content.replace("</table:table>", f"{more}</table:table>")
        return re.sub(r"\btable:", f"{prefix}:", made).replace("xmlns:table=", f"xmlns:{prefix}=")

    return changed(ods(["a"], ["y"]), {"content.xml": change})


WIDE = f'<row r="2"><c r="A2"><v>1</v></c><c r="XFD2"><v>1</v></c></row><row r="{MAX_ROWS}"><c><v>1</v></c></row>'
TOO_LARGE = {
    "a cell at the end": (sheet(WIDE), "has 1,048,576 rows by 16,384 columns"),
    "in small letters": (sheet(WIDE.replace("XFD", "xfd")), "has 1,048,576 rows by 16,384 columns"),
    "cells in a row without places": (sheet("<row>" + "<c/>" * (MAX_COLUMNS + 1) + "</row>"), "columns in a sheet"),
    "cells in one place": (sheet("<row>" + '<c r="A2"/>' * FEW + "</row>"), "elements in one part"),
    "rows without numbers": (sheet(f'<row r="{MAX_ROWS}"/><row/>'), "rows in a sheet"),
    "a row with a number of another kind": (sheet('<row r="1e9"/>'), "rows in a sheet"),
    "a sheet in another folder": (sheet(WIDE, "", ("/worksheets/", "/foo/")), "rows by"),
    "a sheet by another name": (sheet(WIDE, "", ("sheet1.xml", "sheet1.bin")), "rows by"),
    "empty cells at the end of many rows": (sheet('<row><c r="XFD1"/></row>' * 10_000), "most of them empty"),
    "elements that nobody knows": (sheet("<x/>" * FEW), "elements in one part"),
    "a text that is meant often in a row": (
        sheet('<row r="2">' + '<c t="s"><v>0</v></c>' * 2 + "</row>", "x" * 34_000_000),
        "has a row of more than",
    ),
    "spaces": (repeated("", "", '<text:p><text:s text:c="1000000000"/></text:p>'), "spaces"),
    "elements of an ods": (repeated("", "", "<text:p/>" * FEW), "elements of XML"),
    "styles of an ods": (
        changed(
            ods(["a"], ["x"]),
            {"styles.xml": lambda text: text.replace("<office:styles", "<x/>" * FEW + "<office:styles")},
        ),
        "elements of XML",
    ),
}


@pytest.mark.parametrize("case", TOO_LARGE)
def test_a_workbook_that_no_memory_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str):
    for module in (xlsx_size, ods_size):
        monkeypatch.setattr(module, "MAX_XML_ELEMENTS", FEW)
    content, says = TOO_LARGE[case]
    assert len(content) < 100_000
    code, said = refused(tmp_path / "bomb", content)
    assert (code, says in said) == ("too_large", True), said


@pytest.mark.parametrize("prefix", ["table", "t"])
@pytest.mark.parametrize(("times", "columns"), [(1_000_000_000, 1), (1, 1_000_000_000), (100_000, 1000)])
def test_a_cell_that_is_repeated_a_billion_times(tmp_path: Path, prefix: str, times: int, columns: int):
    said = (f'table:number-rows-repeated="{times}"', f'table:number-columns-repeated="{columns}"')
    code, message = refused(tmp_path / "bomb", repeated(*said, prefix=prefix))
    assert code == "too_large"
    assert f"rows by {columns:,} columns" in message


def test_sheets_that_are_too_large_together(tmp_path: Path):
    content = repeated('table:number-rows-repeated="6000000"', "")
    table = re.compile("<table:table .*</table:table>", re.DOTALL)
    four = {"content.xml": lambda text: table.sub(lambda found: found[0] * 4, text)}
    assert refused(tmp_path / "bomb", changed(content, four)) == (
        "too_large",
        "has more than 20,000,000 cells: publish it as CSV",
    )


def test_a_text_that_is_meant_in_many_rows(tmp_path: Path):
    content = sheet('<row><c t="s"><v>0</v></c></row>' * 100, "x" * 1_000_000)
    assert refused(tmp_path / "bomb", content, max_unpacked=50_000_000) == (
        "too_large",
        "unpacks to more than 50,000,000 bytes: publish it in parts",
    )


def tall() -> openpyxl.Workbook:
    book = rows([f"c{number}" for number in range(20)], *([list(range(20))] * 100))
    book.active.row_dimensions[MAX_ROWS].height = 12.8
    return book


def bold() -> openpyxl.Workbook:
    book = rows(["a", "b"], *([number, 2] for number in range(1300)))
    book.active.cell(1, MAX_COLUMNS).font = Font(bold=True)
    return book


@pytest.mark.parametrize(("book", "total"), [(tall(), 100), (bold(), 1300)])
def test_what_is_empty_takes_no_cells(tmp_path: Path, book: openpyxl.Workbook, total: int):
    found = analysed(tmp_path / "table", saved(book))
    assert (found["total_lines"], found["header"]) == (total, [cell.value for cell in book.active[1] if cell.value])


def test_the_largest_sheet_is_read(tmp_path: Path):
    book = rows(["a"], [1])
    book.create_sheet("large").append(["b", "c"])
    book["large"].append([1, 2])
    content = saved(book)
    assert analysed(tmp_path / "said", content)["header"] == ["b", "c"]
    unsaid = {
        f"xl/worksheets/sheet{number}.xml": lambda text: re.sub("<dimension [^>]*>", "", text) for number in (1, 2)
    }
    found = analysed(tmp_path / "unsaid", changed(content, unsaid))
    assert (found["sheet_name"], found["sheets"], found["total_lines"]) == ("large", ["Sheet", "large"], 1)


def test_a_chart_is_no_sheet(tmp_path: Path):
    book = rows(["a", "b"], [1, 2])
    chart = BarChart()
    chart.add_data(Reference(book.active, min_col=1, min_row=1, max_row=2), titles_from_data=True)
    book.create_chartsheet("chart").add_chart(chart)
    assert analysed(tmp_path / "table", saved(book))["sheets"] == ["Sheet"]


def chart_without_drawing() -> bytes:
    book = rows(["a"], [1])
    book.create_chartsheet("chart")
    return saved(book)


PLAIN = saved(rows(["a", "b"], [1, 2]))
TWO = ods(["a"], ["x"], ["y"])
BROKEN = {
    "an ods that breaks off": changed(TWO, {"content.xml": lambda text: text[: text.index("y</text:p>")]}),
    "an ods whose list of parts is broken": changed(TWO, {"META-INF/manifest.xml": lambda text: text[:-5]}),
    "a chart without its drawing": chart_without_drawing(),
    "a style without its inside": changed(
        PLAIN, {"xl/styles.xml": lambda text: re.sub("<fill><patternFill ?/></fill>", "<fill/>", text)}
    ),
    "a number beyond all": changed(PLAIN, {SHEET: lambda text: text.replace("<v>1</v>", "<v>1e400</v>")}),
    "a sheet that breaks off": changed(PLAIN, {SHEET: lambda text: text[:-30]}),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_workbook(tmp_path: Path, case: str):
    assert refused(tmp_path / "table", BROKEN[case])[0] == "corrupt_archive"


def test_the_standard_output_is_json_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "table.ods"
    # odfpy prints that this part is broken, and goes on.
    path.write_bytes(changed(TWO, {"meta.xml": lambda text: text.replace("ODFPY", "A & B")}))
    with pytest.raises(SystemExit) as left:
        main(["analyse", "--json", str(path)])
    assert (left.value.code or 0, json.loads(capsys.readouterr().out)["total_lines"]) == (0, 2)


CELLS: list[tuple[object, str]] = [
    ("NA", "NA"),
    ("None", "None"),
    ("n/a", "n/a"),
    (None, ""),
    ("007", "007"),
    (1, "1"),
    (1.0, "1"),
    (2.5, "2.5"),
    (0.1, "0.1"),
    (0.00005, "0.00005"),
    (-2.5e-9, "-0.0000000025"),
    (1e20, "100000000000000000000"),
    (True, "True"),
    (date(2020, 1, 2), "2020-01-02 00:00:00"),
    (datetime(2020, 1, 2, 3, 4, 5), "2020-01-02 03:04:05"),  # noqa: DTZ001 - a workbook knows no zones
]


def test_cells_are_what_stands_there(tmp_path: Path):
    path = tmp_path / "table"
    path.write_bytes(saved(rows(["number", "cell"], *([number, cell] for number, (cell, _) in enumerate(CELLS)))))
    found = dict(Detective().rows(path))
    assert found == {str(number): text for number, (_, text) in enumerate(CELLS)}


def test_missing_values_are_counted_as_in_a_text(tmp_path: Path):
    table: list[list[object]] = [["iso", "n"], ["NA", 1], ["None", 2], ["FR", "n/a"], ["FR", 4], [None, 4], ["NA", 1]]
    text = "\n".join(";".join("" if cell is None else str(cell) for cell in row) for row in table)
    of_text = analysed(tmp_path / "csv", text.encode())
    for number, content in enumerate((saved(rows(*table)), ods(*table))):
        found = analysed(tmp_path / str(number), content)
        assert {key: found[key] for key in ("profile", "columns", "schema", "nb_duplicates", "total_lines")} == {
            key: of_text[key] for key in ("profile", "columns", "schema", "nb_duplicates", "total_lines")
        }


def biff(*table: list[str | float]) -> bytes:
    """Return a sheet as the oldest of Excels wrote them, which newer readers still take."""

    def record(number: int, content: bytes = b"") -> bytes:
        return struct.pack("<HH", number, len(content)) + content

    def cell(row: int, column: int, value: str | float) -> bytes:
        place = struct.pack("<HH3x", row, column)
        if isinstance(value, str):
            return record(4, place + struct.pack("B", len(value)) + value.encode())
        return record(3, place + struct.pack("<d", value))

    cells = (cell(row, column, value) for row, each in enumerate(table) for column, value in enumerate(each))
    return record(9, struct.pack("<HH", 2, 16)) + b"".join(cells) + record(10)


def test_an_xls_is_read_as_an_xlsx_is(tmp_path: Path):
    path = tmp_path / "table"
    path.write_bytes(biff(["iso", "n"], ["NA", 0.00005], ["FR", 2.0]))
    found = read_workbook(path, FileKind.XLS, 10**6, lambda: None)
    assert (found.header, found.facts["engine"], len(found.facts["sheets"])) == (["iso", "n"], "xlrd", 1)
    assert [batch.to_pydict() for batch in found.batches] == [{"0": ["NA", "FR"], "1": ["0.00005", "2"]}]


SHEETS = {"Lists": [["x", "y"], *([n, n] for n in range(50))], "Data": [["a", "b"], [1, 2], [3, 4]], "Note": [["n"]]}


def sheets_xlsx(**states: str) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, table in SHEETS.items():
        sheet = book.create_sheet(name)
        sheet.sheet_state = states.get(name, "visible")
        for row in table:
            sheet.append(row)
    book.active = list(SHEETS).index("Data")
    return saved(book)


def sheets_ods(**states: str) -> bytes:
    document = OpenDocumentSpreadsheet()
    for name, table in SHEETS.items():
        shown = "false" if name in states else "true"
        style = Style(name=f"of {name}", family="table")
        style.addElement(TableProperties(display=shown))
        document.automaticstyles.addElement(style)
        made = Table(name=name, stylename=style)
        for row in table:
            line = TableRow()
            for value in row:
                cell = TableCell(valuetype="string")
                cell.addElement(P(text=str(value)))
                line.addElement(cell)
            made.addElement(line)
        document.spreadsheet.addElement(made)
    document.save(file := io.BytesIO())
    return file.getvalue()


@pytest.mark.parametrize("make", [sheets_xlsx, sheets_ods])
@pytest.mark.parametrize(
    ("states", "wanted", "read"),
    [
        ({}, None, "Lists"),
        ({"Lists": "hidden"}, None, "Data"),
        ({"Lists": "veryHidden", "Note": "hidden"}, None, "Data"),
        ({"Lists": "hidden"}, "Lists", "Lists"),
        ({"Lists": "hidden"}, " data ", "Data"),
        ({"Lists": "hidden"}, "2", "Data"),
    ],
)
def test_the_largest_visible_sheet_is_read_unless_another_is_chosen(tmp_path: Path, make, states, wanted, read):
    found = analysed(tmp_path / "table", make(**states), sheet=wanted)
    assert (found["sheet_name"], found["total_lines"]) == (read, len(SHEETS[read]) - 1)
    assert (found["sheets"], found.get("hidden_sheets", [])) == (
        list(SHEETS),
        [each for each in SHEETS if each in states],
    )
    rows = list(Detective().rows(tmp_path / "table", sheet=found["sheet_name"]))
    assert rows == [[str(cell) for cell in row] for row in SHEETS[read][1:]]


def test_the_largest_sheet_is_read_if_all_are_hidden(tmp_path: Path):
    found = analysed(tmp_path / "table", sheets_ods(**dict.fromkeys(SHEETS, "hidden")))
    assert (found["sheet_name"], found["hidden_sheets"]) == ("Lists", list(SHEETS))


@pytest.mark.parametrize("wanted", ["Dat", "0", "4", "-1", "\u00b2"])
def test_a_sheet_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path, wanted: str):
    with pytest.raises(Fatal, match=r"has no sheet .*: choose one of 'Lists', 'Data', 'Note'") as refused:
        analysed(tmp_path / "table", sheets_xlsx(), sheet=wanted)
    assert refused.value.code == "sheet"
