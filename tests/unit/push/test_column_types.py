"""Types and field names of a datastore, by tables; and the reader that feeds them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from datetime import date
from functools import partial

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datafab.analysis import dialect as table
from datafab.analysis.detective import Detective
from datafab.analysis.tablefile import CellsFile, TableFile
from datafab.errors import Fatal
from datafab.push.column_types import MAX_FIELDS, MAX_NAME_BYTES, analysed_columns, chosen_columns, field_ids, make_plan
from datafab.push.guessed_types import guess_columns
from datafab.push.store_types import StoreType


def decided(*cells: str, separator: str = ";", dictionary: dict | None = None):
    """Return the one field of a column with these cells."""
    described = {"a": dictionary} if dictionary else {}
    chosen = chosen_columns(["a"], None, described, separator=separator)
    rows = [(line, [cell]) for line, cell in enumerate(cells, 2)]
    count, guesses = guess_columns(rows, 1, separator=separator, chosen=chosen)
    (field,) = make_plan(["a"], count, guesses, described).fields
    return field


@pytest.mark.parametrize(
    ("cells", "kind", "sent"),
    [
        (["1", "-20", "0"], "bigint", ["1", "-20", "0"]),
        (["1", "", " 3 "], "bigint", ["1", None, "3"]),
        (["1", "2.50"], "numeric", ["1", "2.50"]),
        (["1,5", "2"], "numeric", ["1.5", "2"]),
        (["123456789012345678"], "bigint", ["123456789012345678"]),
        (["-123456789012345678"], "bigint", ["-123456789012345678"]),
        (["1234567890123456789"], "numeric", ["1234567890123456789"]),
        (["1" * 200], "text", ["1" * 200]),
        (["1.5", "2,5"], "text", ["1.5", "2,5"]),
        (["1", "007"], "text", ["1", "007"]),
        (["01,5"], "text", ["01,5"]),
        (["+33612345678"], "text", ["+33612345678"]),
        (["1e5"], "text", ["1e5"]),
        (["NaN"], "text", ["NaN"]),
        (["1"] * 3000 + ["N/A"], "text", None),
        (["1 234"], "text", ["1 234"]),
        (["1.234.567"], "text", ["1.234.567"]),
        (["\u0661"], "text", ["\u0661"]),
        (["6,200.00", "828.00", "-1,234,567.5", "12"], "numeric", ["6200.00", "828.00", "-1234567.5", "12"]),
        (["1,234,567", "1,234"], "numeric", ["1234567", "1234"]),
        (["6 200,00", "1\u00a0234\u202f567,5", "7,25"], "numeric", ["6200.00", "1234567.5", "7.25"]),
        (["6.200,00", "1.234"], "numeric", ["6200.00", "1234"]),
        (["6'200.00", "1\u2019234.5"], "numeric", ["6200.00", "1234.5"]),
        (["6,200.00", "6.200,00"], "text", ["6,200.00", "6.200,00"]),
        (["6,200.00", "1,5"], "text", ["6,200.00", "1,5"]),
        (["6,200.00", "07"], "text", ["6,200.00", "07"]),
        (["732 829 320"], "text", ["732 829 320"]),
        (["true", "2024-01-02"], "text", ["true", "2024-01-02"]),
        ([" été ", ""], "text", [" été ", None]),
        (["", "  "], "text", [None, "  "]),
    ],
)
def test_a_column_has_the_type_that_holds_all_of_its_values(cells, kind, sent):
    field = decided(*cells)
    assert field.type == kind
    if sent is not None:
        assert [field.value(cell) for cell in cells] == sent


def test_thousands_of_a_quoted_cell_are_numbers():
    assert decided("6,200.00", "828.00", separator=",").type is StoreType.NUMERIC
    assert decided("6 200,00", separator=",").value("6 200,00") == "6200.00"


def test_a_comma_is_no_decimal_one_where_it_separates_the_cells():
    assert decided("1,234", separator=",").type is StoreType.TEXT
    assert decided("1,234", separator=";").type is StoreType.NUMERIC


@pytest.mark.parametrize("separator", ["\t", "|", "", table.NO_SEPARATOR])
def test_what_may_be_thousands_or_decimals_is_text_unless_a_value_decides(separator):
    assert decided("1,234", "5,678", "-12", separator=separator).type is StoreType.TEXT
    for sure in ("1,5", "0,125", "1234,567", "1,2345"):
        field = decided("1,234", sure, separator=separator)
        assert (field.type, field.comma) == (StoreType.NUMERIC, True)


@pytest.mark.parametrize(
    ("header", "ids"),
    [
        (["a", "b"], ["a", "b"]),
        (["Année", "montant (€)", "100%"], ["Année", "montant (€)", "100%"]),
        (["a", "", "  ", "b"], ["a", None, None, "b"]),
        (["_id", "__x", "_"], ["id", "x", "column_3"]),
        (['le "prix"', '"'], ["le prix", "column_2"]),
        ([" a ", "a", "a"], ["a", "a_2", "a_3"]),
        (["a_2", "a", "a"], ["a_2", "a", "a_3"]),
        (["deux\nlignes", "tab\tici", "nul\0"], ["deux lignes", "tab ici", "nul"]),
        (["é" * 40, "é" * 41], ["é" * 31, "é" * 30 + "_2"]),
        (["x" * 64, "x" * 70], ["x" * 63, "x" * 61 + "_2"]),
    ],
)
def test_fields_have_valid_names(header, ids):
    assert field_ids(header) == ids


@given(st.lists(st.text(max_size=80), max_size=30))
def test_any_header_gives_names_that_ckan_and_postgresql_keep(header):
    ids = [name for name in field_ids(header) if name is not None]
    assert len(ids) == len(set(ids)) == sum(1 for cell in header if cell.strip())
    for name in ids:
        assert 0 < len(name.encode(errors="surrogatepass")) <= MAX_NAME_BYTES
        assert name == name.strip()
        assert not name.startswith("_")
        assert '"' not in name


def test_a_blank_header_goes_with_its_own_column():
    rows, guesses = guess_columns([(2, ["1", "x", "2024-01-02"])], 3, separator=";")
    made = make_plan(["n", "", "date"], rows, guesses, {})
    assert made.record(["1", "x", "2024-01-02"]) == {"n": "1", "date": "2024-01-02"}
    assert [(field.id, field.type) for field in made.fields] == [("n", "bigint"), ("date", "text")]


def test_the_data_dictionary_is_kept_and_the_original_name_is_the_label():
    rows, guesses = guess_columns([(2, ["1", "2"])], 2, separator=";")
    known = {"x": {"label": "", "notes": "à revoir", "type_override": ""}, "b": {"label": "Beau", "tags": ["t"]}}
    made = make_plan(["_x ", "b"], rows, guesses, known)
    assert [field.info for field in made.fields] == [
        {"label": "_x", "notes": "à revoir"},
        {"label": "Beau", "tags": ["t"]},
    ]


@pytest.mark.parametrize(("width", "code"), [(0, "header"), (MAX_FIELDS + 1, "columns")])
def test_a_table_without_columns_or_with_too_many_is_refused(width, code):
    header = [f"c{n}" for n in range(width)] or [" "]
    _, guesses = guess_columns([], len(header), separator=";")
    with pytest.raises(Fatal) as raised:
        make_plan(header, 0, guesses, {})
    assert raised.value.code == code


CELLS = st.one_of(
    st.sampled_from(
        [
            "",
            "0",
            "-1",
            "12",
            "007",
            "1,5",
            "2.50",
            " 3 ",
            "N/A",
            "x",
            "1e5",
            "+3",
            "9" * 18,
            "9" * 19,
            "1234.5678",
            "6,200.00",
            "6 200,00",
            "1,234,567",
            "6.200,00",
            "1'234.5",
            "1\u00a0234,5",
            "\u00a07 ",
        ]
    ),
    st.integers(-(10**20), 10**20).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str),
)


@given(
    rows=st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=6),
    separator=st.sampled_from([";", ","]),
)
@settings(max_examples=100, deadline=None)
def test_an_analysis_knows_the_types_that_all_cells_have(tmp_path_factory, rows, separator):
    path = tmp_path_factory.mktemp("table") / "table.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        # A column that is never blank, so that no row is.
        csv.writer(file, delimiter=separator).writerows([["k", "a", "b", "c"], *(["k", *row] for row in rows)])
    analysis = Detective().analyse(path)
    if analysis.get("separator") != separator:
        return
    columns = analysed_columns(analysis, 4)
    _, guesses = guess_columns(((2, ["k", *row]) for row in rows), 4, separator=separator)
    fields = make_plan(["k", "a", "b", "c"], len(rows), columns, {}).fields
    others = make_plan(["k", "a", "b", "c"], len(rows), guesses, {}).fields
    assert [field.type for field in fields] == [field.type for field in others]
    for row in rows:
        cells = ["k", *row]
        assert [field.value(cells[field.position]) for field in fields] == [
            field.value(cells[field.position]) for field in others
        ]


def test_identifiers_are_texts_though_made_of_digits(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("siren;code postal;telephone;nombre\n732829320;75001;0612345678;12\n", encoding="utf-8")
    analysis = Detective().analyse(path)
    assert [column.type for column in analysed_columns(analysis, 4)] == ["text", "text", "text", "bigint"]
    # Unless the data dictionary says otherwise: then each cell is looked at.
    header = ["siren", "code postal", "telephone", "nombre"]
    columns = analysed_columns(analysis, 4)
    assert [*chosen_columns(header, columns, {"siren": {"type_override": "numeric"}}, separator=";")] == [0]
    unchanged = {"siren": {"type_override": "text"}, "nombre": {"type_override": "numeric"}}
    assert chosen_columns(header, columns, unchanged | {"gone": {"type_override": "money"}}, separator=";") == {}


MOMENT_TYPES = {
    "day first": (["13/02/2020", "01/02/2020"], "timestamp", ["2020-02-13T00:00:00", "2020-02-01T00:00:00"]),
    "month first": (["02/13/2020", "02/01/2020"], "timestamp", ["2020-02-13T00:00:00", "2020-02-01T00:00:00"]),
    "ISO 8601": (["2020-02-13", "", "1850-01-31"], "timestamp", ["2020-02-13T00:00:00", None, "1850-01-31T00:00:00"]),
    "with a time": (["2020-02-13 08:30:00"], "timestamp", ["2020-02-13T08:30:00"]),
    "with a zone": (["2020-02-13T08:30:00+02:00"], "timestamptz", ["2020-02-13T08:30:00+02:00"]),
    "one that is none": (["2020-02-13", "2020-02-30"], "text", ["2020-02-13", "2020-02-30"]),
    "a word for none": (["2020-02-13", "NA"], "text", ["2020-02-13", "NA"]),
    "a year of two digits": (["13/02/20", "01/02/20"], "text", ["13/02/20", "01/02/20"]),
    "versions": (["1.2.10", "1.3.11"], "text", ["1.2.10", "1.3.11"]),
    "sizes": (["10*12*2014", "08*10*2012"], "text", ["10*12*2014", "08*10*2012"]),
    "digits by their name": (["20200213", "20200201"], "timestamp", ["2020-02-13T00:00:00", "2020-02-01T00:00:00"]),
    "months": (["202411", "202412"], "bigint", ["202411", "202412"]),
    "stamps cut off": (["20200102030405", "202001020304"], "bigint", ["20200102030405", "202001020304"]),
    "blanks around": (
        ["2020-02-13 ", " 2020-02-01", " "],
        "timestamp",
        ["2020-02-13T00:00:00", "2020-02-01T00:00:00", None],
    ),
    "no-break blanks": (["13/02/2020\u00a0", "\u00a0"], "timestamp", ["2020-02-13T00:00:00", None]),
    "blanks and a time": (["2020-02-13 08:30:00 ", ""], "timestamp", ["2020-02-13T08:30:00", None]),
    "blanks and digits": (["20200213 ", "20200201"], "timestamp", ["2020-02-13T00:00:00", "2020-02-01T00:00:00"]),
    "blanks and a word": (["2020-02-13 ", "NA"], "text", ["2020-02-13 ", "NA"]),
    "months in English": (
        ["24 October 2011", "5 Oct. 2011"],
        "timestamp",
        ["2011-10-24T00:00:00", "2011-10-05T00:00:00"],
    ),
    "months in French": (
        ["1er août 2020", "31 déc. 2020"],
        "timestamp",
        ["2020-08-01T00:00:00", "2020-12-31T00:00:00"],
    ),
    "months first": (["October 24, 2011", ""], "timestamp", ["2011-10-24T00:00:00", None]),
    "months and times": (["24 October 2011 08:30"], "timestamp", ["2011-10-24T08:30:00"]),
    "months in two places": (["24 October 2011", "October 24, 2011"], "text", ["24 October 2011", "October 24, 2011"]),
    "months and short years": (["24 Oct 11"], "text", ["24 Oct 11"]),
    "months and digits": (["24 October 2011", "2011-10-24"], "text", ["24 October 2011", "2011-10-24"]),
    "no month": (["24 Octember 2011"], "text", ["24 Octember 2011"]),
    "no day": (["31 June 2011"], "text", ["31 June 2011"]),
    "noon": (
        ["01/31/2020 01:20:00 PM", "02/01/2020 12:00:00 a.m."],
        "timestamp",
        ["2020-01-31T13:20:00", "2020-02-01T00:00:00"],
    ),
    "two ways": (["13/02/2020", "2020-02-13"], "text", ["13/02/2020", "2020-02-13"]),
}


@pytest.mark.parametrize("case", MOMENT_TYPES)
def test_dates_of_one_way_of_writing_are_moments(tmp_path, case):
    cells, kind, sent = MOMENT_TYPES[case]
    path = tmp_path / "table.csv"
    path.write_text("jour;n\n" + "".join(f"{cell};{n}\n" for n, cell in enumerate(cells)), encoding="utf-8")
    columns = analysed_columns(Detective().analyse(path), 2)
    made = make_plan(["jour", "n"], len(cells), columns, {}).fields[0]
    assert (made.type, [made.value(cell) for cell in cells]) == (kind, sent)
    as_text = make_plan(["jour", "n"], len(cells), columns, {"jour": {"type_override": "text"}}).fields[0]
    assert (as_text.type, as_text.value(cells[0])) == ("text", cells[0])
    if kind.startswith("timestamp"):
        as_moment = make_plan(["jour", "n"], len(cells), columns, {"jour": {"type_override": "timestamp"}}).fields[0]
        utc = "2020-02-13T06:30:00" if kind == "timestamptz" else sent[0]
        assert (as_moment.type, as_moment.value(cells[0])) == ("timestamp", utc)


def test_small_numbers_of_json_are_numbers(tmp_path):
    path = tmp_path / "table"
    path.write_text('[{"a": 0.00005, "b": 1e300}, {"a": 1, "b": 2}]', encoding="utf-8")
    detective = Detective()
    analysis = detective.analyse(path)
    assert [column.type for column in analysed_columns(analysis, 2)] == ["numeric", "text"]
    assert next(CellsFile(partial(detective.rows, path), analysis).rows())[1][0] == "0.00005"


def test_digits_are_numbers_unless_the_column_is_called_a_date(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("ref;n\n20001212121212;1\n20011112111212;2\n", encoding="utf-8")
    assert [column.type for column in analysed_columns(Detective().analyse(path), 2)] == ["bigint", "bigint"]


def test_a_column_of_words_for_nothing_is_no_column_of_moments(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("jour;n\nNA;1\nNA;2\n", encoding="utf-8")
    columns, wanted = analysed_columns(Detective().analyse(path), 2), {"jour": {"type_override": "timestamp"}}
    assert [*chosen_columns(["jour", "n"], columns, wanted, separator=";")] == [0]
    assert decided("", dictionary={"type_override": "timestamp"}).type is StoreType.TIMESTAMP


def test_where_a_cell_holds_a_nul_each_is_looked_at_so_that_the_line_is_told(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(b"a;b\n1;x\0y\n" + b"2;z\n" * 20)
    analysis = Detective().analyse(path)
    assert (analysis["nul"], analysed_columns(analysis, 2)) == (["b"], None)


def test_a_sample_knows_no_types():
    assert analysed_columns({"sampled": True}, 3) is None
    assert analysed_columns({}, 3) is None


@pytest.mark.parametrize(("name", "pack"), [("table.csv", bytes), ("table.csv.gz", gzip.compress)])
def test_the_table_in_a_zip_is_read(tmp_path, name, pack):
    with zipfile.ZipFile(tmp_path / "table.zip", "w") as archive:
        archive.writestr("notes.md", "siehe dort")
        archive.writestr(name, pack("a;b\n1;été\n".encode()))
    analysis = Detective().analyse(tmp_path / "table.zip")
    file = TableFile(tmp_path / "table.zip", analysis, max_unpacked=1000, check=lambda: None)
    assert list(file.rows()) == [(2, ["1", "été"])]


@pytest.mark.parametrize("packed", [False, True])
def test_a_table_is_read_where_its_analysis_says_it_stands(tmp_path, packed):
    text = 'Titre du fichier\n\nnom;"prix;€"\nété;1,5\ncourt\n'.encode("cp1252")
    path = tmp_path / "table"
    path.write_bytes(gzip.compress(text) if packed else text)
    analysis = Detective().analyse(path)
    file = TableFile(path, json.loads(json.dumps(analysis)), max_unpacked=1000, check=lambda: None)
    assert (file.header, file.separator) == (("nom", "prix;€"), ";")
    assert list(file.rows()) == list(file.rows()) == [(4, ["été", "1,5"]), (5, ["court", ""])]


def workbook() -> bytes:
    book = openpyxl.Workbook()
    for row in (["siren", "jour", "n"], ["012345678", date(2024, 2, 29), 1.5], ["732829320", None, 2]):
        book.active.append(row)
    book.save(file := io.BytesIO())
    return file.getvalue()


def parquet() -> bytes:
    table = {"siren": ["012345678", "732829320"], "jour": [date(2024, 2, 29), None], "n": [1.5, 2.0]}
    pq.write_table(pa.table(table), file := io.BytesIO())
    return file.getvalue()


def in_a_zip() -> bytes:
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        archive.writestr("table.xlsx", workbook())
    return file.getvalue()


RECORDS = b'[{"siren": "012345678", "jour": "29/02/2024", "n": 1.5}, {"siren": "732829320", "n": 2}]'


@pytest.mark.parametrize(
    "content",
    [workbook(), parquet(), in_a_zip(), RECORDS, gzip.compress(RECORDS)],
    ids=["xlsx", "parquet", "xlsx in a zip", "records", "records in a gzip"],
)
def test_a_table_that_is_no_text_is_read_as_its_analysis_says(tmp_path, content):
    path = tmp_path / "table"
    path.write_bytes(content)
    detective = Detective()
    analysis = json.loads(json.dumps(detective.analyse(path)))
    file = CellsFile(partial(detective.rows, path), analysis)
    made = make_plan(file.header, 2, analysed_columns(analysis, len(file.header)), {})
    assert [(field.id, field.type) for field in made.fields] == [
        ("siren", "text"), ("jour", "timestamp"), ("n", "numeric")
    ]  # fmt: skip
    for _ in range(2):
        (line, first), (_, second) = file.rows()
        sent = made.record(first)
        assert (line, sent["siren"], sent["jour"][:10], sent["n"]) == (2, "012345678", "2024-02-29", "1.5")
        assert (made.record(second)["jour"], float(made.record(second)["n"])) == (None, 2)
