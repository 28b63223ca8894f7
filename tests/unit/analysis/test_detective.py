from __future__ import annotations

import csv
import gzip
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datafab.analysis.detective import Detective
from datafab.analysis.tablefile import TableFile
from datafab.core.document import VERSION
from datafab.core.long_cells import MAX_CELL_CHARS
from datafab.errors import Fatal, Lost
from tests.servers.scratch import temporary_files

TABLES = Path(__file__).resolve().parents[3].parent / "shared" / "corpus" / "tables"
CODES = {
    "empty",
    "html",
    "not_tabular",
    "bad_json",
    "encoding",
    "quote",
    "ragged",
    "header",
    "corrupt_archive",
    "too_large",
    "unsupported",
}

ROWS = "".join(f"{number};Ville {number};{number * 3}\n" for number in range(1, 21))
PLAIN = "id;nom;valeur\n" + ROWS


@pytest.fixture(scope="module")
def detective() -> Detective:
    return Detective(max_columns=10)


@pytest.fixture
def analyse(detective, tmp_path):
    """Analyse bytes as they lie in a store: no suffix, and nothing may appear beside them or stay behind."""
    scratch, folder = tmp_path / "scratch", tmp_path / "resource"
    scratch.mkdir()
    folder.mkdir()
    before, tempfile.tempdir = tempfile.tempdir, str(scratch)

    def run(content: bytes | str, detective: Detective = detective, **options):
        path = folder / "5f0c"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(0o444)
        return detective.analyse(path, **options)

    yield run
    tempfile.tempdir = before
    assert [each.name for each in folder.iterdir()] == ["5f0c"]
    assert temporary_files(scratch) == []


def workbook(*rows: list[object]) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def archive(**members: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        for name, text in members.items():
            target.writestr(name.replace("__", "/").replace("_", "."), text)
    return file.getvalue()


def nested() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target:
        target.writestr("tables.csv", archive(table_csv="a;b\n1;2\n"))
    return file.getvalue()


def protected() -> bytes:
    """A zip whose member says that it is encrypted."""
    content = bytearray(archive(table_csv="a;b\n1;2\n"))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + place] |= 1
    return bytes(content)


BOOK = workbook(["id", "nom"], *([number, f"Ville {number}"] for number in range(9)))

# The rows of the failure table of the contract, and what our own reading makes of them.
REFUSED = {
    "nothing": (b"", "empty"),
    "blank lines only": ("\n\n \n", "empty"),
    "header only": ("id;nom\n", "empty"),
    "separators only": (";;;\n;;\n", "empty"),
    "header on every line": ("id;nom\n" * 20, "header"),
    "web page": ("<!DOCTYPE html>\n<html>\n<body>\n<p>404</p>\n</body></html>\n", "html"),
    "web page on one line": ("<html><body>404</body></html>", "html"),
    "json on one line": ('{"a": [1, 2, 3]}', "not_tabular"),
    "json that is none": ('{"a": [1, 2', "bad_json"),
    "json of texts": ('["a", "b"]', "not_tabular"),
    "geojson without features": ('{\n "type": "FeatureCollection",\n "features": []}', "empty"),
    "xml": ('<?xml version="1.0"?><a/>', "not_tabular"),
    "pdf": (b"%PDF-1.4\n%\xe2\xe3\n", "not_tabular"),
    "random bytes": (bytes(range(256)) * 100, "not_tabular"),
    "quote never closed": (PLAIN + '21;"Ville;3\n22;x;y\n', "quote"),
    "stray mark, and quote never closed": (PLAIN + '21;V"i;3\n22;x;"y\n23;x;y\n24;x;y\n', "quote"),
    "stray mark, and quote never closed at the end": (PLAIN + '21;V"i;3\n22;x;"y', "quote"),
    "too many cells, early": ("a;b\n1;2\n1;2;3\n" + "4;5\n" * 50, "ragged"),
    "too many cells, late": ("a;b\n" + "1;2\n" * 19_800 + "1;2;3\n" * 201, "ragged"),
    "a cell of 50 MB": ('a;b\n1;"' + "x\n" * 25_000_000 + '"\n', "too_large"),
    "a line of 50 MB": ("a;b\n1;" + "x" * 50_000_000 + "\n", "too_large"),
    "mark of UTF-8, text of cp1252": (b"\xef\xbb\xbf" + "nom;é\n1;2\n".encode("cp1252"), "encoding"),
    "zip without a table": (archive(readme_md="a;b\n1;2\n"), "unsupported"),
    "zip in a zip": (nested(), "unsupported"),
    "zip with a password": (protected(), "corrupt_archive"),
    "zip broken off": (archive(table_csv=PLAIN)[:60], "corrupt_archive"),
    "xlsx broken off": (BOOK[: len(BOOK) // 2], "corrupt_archive"),
    "xlsx without its parts": (archive(xl__workbook_xml="<workbook/>"), "corrupt_archive"),
    "xlsx with an empty sheet": (workbook(), "empty"),
    "xlsx with a header only": (workbook(["id", "nom"]), "empty"),
    "xls that is none": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "corrupt_archive"),
    "parquet that is none": (b"PAR1\x15" + b"\0" * 600, "corrupt_archive"),
    "gzip broken off": (gzip.compress(PLAIN.encode())[:-20], "corrupt_archive"),
    "gzip damaged": (gzip.compress(PLAIN.encode())[:30] + b"\xff" * 40, "corrupt_archive"),
    "gzip of nothing": (gzip.compress(b""), "empty"),
    "gzip of a web page": (gzip.compress(b"<html></html>"), "html"),
    "gzip of a workbook": (gzip.compress(BOOK), "unsupported"),
}


@pytest.mark.parametrize(("good", "bad"), [(99, 1), (19_800, 200), (500, 2)])
def test_rows_with_too_many_cells_are_left_out_up_to_one_percent(analyse, good: int, bad: int):
    found = analyse("a;b\n" + "1;2;\n" * (good - 1) + "1;2;x\n" * bad + "3;4\n")
    assert (found["total_lines"], found["bad_rows"]["count"]) == (good, bad)
    assert found["bad_rows"]["first"][0] == {"line": good + 1, "cells": 3}
    assert len(found["bad_rows"]["first"]) == min(bad, 3)
    assert found["unique_values"]["a"] == ["1", "3"]
    assert "with more cells than the header (2) left out: line" in found["warnings"][0]


QUOTED = {
    "single marks": ("a;b\n'x;y';1\n'z';2\n", [["x;y", "1"], ["z", "2"]]),
    "single marks throughout": ("'a';'b'\n'x; y';'1'\n'l''eau';'2'\n", [["x; y", "1"], ["l'eau", "2"]]),
    "marks after backslashes": ('a;b\n"a \\"b; c\\" d";1\n"z";2\n', [['a "b; c" d', "1"], ["z", "2"]]),
    "marks after backslashes, no separator": ('a;b\n"a \\"b\\" c";1\n"z";2\n', [['a "b" c', "1"], ["z", "2"]]),
    "blanks before marks": ('n, t\n1, "a, b"\n2, "c, d"\n', [["1", "a, b"], ["2", "c, d"]]),
    "blanks before marks, no separator": ('n, t\n1, "a"\n2, "c"\n', [["1", "a"], ["2", "c"]]),
    "blanks before single marks": ("n, t\n1, 'a, b'\n2, 'c'\n", [["1", "a, b"], ["2", "c"]]),
    "blanks and backslashes": ('n, t\n1, "a \\"x\\", b"\n2, "c, d"\n', [["1", 'a "x", b'], ["2", "c, d"]]),
    "line ends in single marks": ("a;b\n'x\ny';1\n'z;t';2\n", [["x\ny", "1"], ["z;t", "2"]]),
    "a title above": ("Table 1\n\na;b\n'x;y';1\n'z';2\n'v';3\n", [["x;y", "1"], ["z", "2"], ["v", "3"]]),
    # Marks that quote nothing are part of the value.
    "apostrophes": ("a;b\n'x';1\nl'eau;2\n", [["'x'", "1"], ["l'eau", "2"]]),
    "inches": ('a, b\n5" pipe, 1\n6" pipe, 2\n', [['5" pipe', " 1"], ['6" pipe', " 2"]]),
    "a path": ('a;b\n"C:\\";1\n"D:\\x";2\n', [["C:\\", "1"], ["D:\\x", "2"]]),
    "doubled marks": ('a;b\n"x ""y; z""";1\nv;2\n', [['x "y; z"', "1"], ["v", "2"]]),
    "one apostrophe in many rows": (
        "a;b\n" + "x;1\n" * 9 + "'t;2\nu';3\n",
        [["x", "1"]] * 9 + [["'t", "2"], ["u'", "3"]],
    ),
    # DOS ended a text with a mark, after which some programs wrote a line end.
    "end of file": ("a;b\nx;1\n\x1a", [["x", "1"]]),
    "ends of file": ("a;b\nx;1\n\x1a\x1a\r\n", [["x", "1"]]),
}


@pytest.mark.parametrize("case", QUOTED)
def test_cells_are_quoted_in_several_ways(analyse, tmp_path: Path, case: str):
    text, rows = QUOTED[case]
    found = analyse(text)
    assert found["total_lines"] == len(rows)
    (path := tmp_path / "text").write_text(text, newline="")
    table = TableFile(path, found, max_unpacked=10**9, check=lambda: None)
    assert [cells for _, cells in table.rows()] == rows
    tops = found["profile"][found["header"][1]]["tops"]
    assert {each["value"] for each in tops} == {second for _, second in rows}


PREAMBLES = {
    "a date": "Extrait le;12/03/2024\n",
    "padded": "Extrait le;12/03/2024;\n",
    "two lines": "Source;INSEE\nExtrait le;12/03/2024\n\n",
    "a colon": "Extrait le : 12/03/2024\n",
    "a link": "Source;https://example.org/a\n",
    "padded texts": "Source;INSEE;\n",
}


@pytest.mark.parametrize("case", PREAMBLES)
@pytest.mark.parametrize("separator", [";", ",", "\t"])
def test_remarks_above_the_header_are_passed_over(analyse, case: str, separator: str):
    text = PREAMBLES[case] + "id;nom;val\n1;x;2\n2;y;3\n"
    found = analyse(text.replace(";", separator))
    assert (found["header"], found["total_lines"]) == (["id", "nom", "val"], 2)
    assert "above the header passed over" in found["warnings"][0]


def test_a_header_that_is_shorter_than_all_rows_may_be_a_remark(analyse):
    with pytest.raises(Fatal, match="if the header lacks names, add them; if it is a remark"):
        analyse("Source;INSEE\nid;nom;val\na;x;foo\nb;y;bar\n")


# A busy machine takes minutes for the largest of them under coverage.
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_analysed_is_refused_with_its_reason(analyse, case):
    content, code = REFUSED[case]
    with pytest.raises(Fatal) as failure:
        analyse(content)
    assert failure.value.code == code
    assert len(failure.value.message) > 20


GEOJSON = json.dumps(
    {
        "type": "FeatureCollection",
        "features": [
            {"type": "Feature", "properties": {"nom": nom}, "geometry": {"type": "Point", "coordinates": [4.8, 45.7]}}
            for nom in ("Lyon", "Bron")
        ],
    }
)
FOUND = {
    "plain": (PLAIN, 20, ["id", "nom", "valeur"]),
    "CRLF": (PLAIN.replace("\n", "\r\n"), 20, ["id", "nom", "valeur"]),
    "CR": (PLAIN.replace("\n", "\r"), 20, ["id", "nom", "valeur"]),
    "commas": (PLAIN.replace(";", ","), 20, ["id", "nom", "valeur"]),
    "tabs": (PLAIN.replace(";", "\t"), 20, ["id", "nom", "valeur"]),
    "pipes": (PLAIN.replace(";", "|"), 20, ["id", "nom", "valeur"]),
    "colons": (PLAIN.replace(";", ":"), 20, ["id", "nom", "valeur"]),
    "times are no columns": ("heure\n12:30\n13:45\n14:00\n", 3, ["heure"]),
    "blanks": (PLAIN.replace(";", " ").replace("Ville ", "Ville-"), 20, ["id", "nom", "valeur"]),
    "names are no columns": ("Nom complet\nMarie Curie\nVictor Hugo\nJean Jaurès\n", 3, ["Nom complet"]),
    "mixed line ends": (PLAIN.replace("\n7;", "\r\n7;").replace("\n9;", "\r\n9;"), 20, ["id", "nom", "valeur"]),
    "decimal commas and short rows": (
        "id;lat;lon;rem\n" + "".join(f"{n};48,{n};2,{n};x\n" for n in range(90)) + "90;48,1;2,1\n91;48,1;2,1\n",
        92,
        ["id", "lat", "lon", "rem"],
    ),
    "a header of blanks": (
        "id;;;\n" + "".join(f"{n};a;b;c\n" for n in range(5)),
        5,
        ["id", "column_2", "column_3", "column_4"],
    ),
    "a title with a comma": (
        "Population légale, 2020\ndep;taux\n" + "".join(f"{n:02};{n},5\n" for n in range(20)),
        20,
        ["dep", "taux"],
    ),
    "a title with commas": (
        "Dépenses, recettes, solde\ndep;taux;x\n" + "".join(f"{n:02};{n},5;{n},7\n" for n in range(20)),
        20,
        ["dep", "taux", "x"],
    ),
    "names with commas": (
        "Prix, TTC;Prix, HT\n" + "".join(f"{n},5;{n},3\n" for n in range(20)),
        20,
        ["Prix, TTC", "Prix, HT"],
    ),
    "outlines": (
        "id;geom\n" + "".join(f"{n};POLYGON((0 0,0 1,1 1,1 0,0 0))\n" for n in range(20)),
        20,
        ["id", "geom"],
    ),
    "lists in cells": ("id,tags,n\n" + "".join(f"{n},a;b;c,2\n" for n in range(20)), 20, ["id", "tags", "n"]),
    "years below a title": (
        "Titre;;\n2019;2020;2021\n" + "".join(f"{n};{n};4\n" for n in range(20)),
        20,
        ["2019", "2020", "2021"],
    ),
    "a padded title": ("Population;;;\ncommune;2019;2020;2021\nLyon;1;2;3\n", 1, ["commune", "2019", "2020", "2021"]),
    "a quote that holds the last line end": (PLAIN + '21;x;"y\n"', 21, ["id", "nom", "valeur"]),
    "one row": ("id;nom\n1;x\n", 1, ["id", "nom"]),
    "commas in text": (PLAIN.replace("Ville", "Ville, belle,"), 20, ["id", "nom", "valeur"]),
    "byte order mark": (PLAIN.encode("utf-8-sig"), 20, ["id", "nom", "valeur"]),
    "UTF-16": (PLAIN.encode("utf-16"), 20, ["id", "nom", "valeur"]),
    "one column": ("nom\nLyon\nParis\n", 2, ["nom"]),
    "no final line end": (PLAIN.rstrip("\n"), 20, ["id", "nom", "valeur"]),
    "blank lines": (PLAIN.replace("\n7;", "\n\n \n7;"), 20, ["id", "nom", "valeur"]),
    "quoted line ends": (PLAIN.replace("Ville 7", '"Ville\n\n7"'), 20, ["id", "nom", "valeur"]),
    "short rows": (PLAIN + "21\n22;x\n", 22, ["id", "nom", "valeur"]),
    "NUL bytes": (PLAIN.replace("Ville 7", "Ville\0 7"), 20, ["id", "nom", "valeur"]),
    "duplicate header": (PLAIN.replace("valeur", "nom"), 20, ["id", "nom", "nom.1"]),
    "header cell with line ends": (PLAIN.replace("valeur", '"valeur\n(€)"'), 20, ["id", "nom", "valeur (€)"]),
    "empty header cell": (PLAIN.replace("nom", ""), 20, ["id", "column_2", "valeur"]),
    "trailing separators": (PLAIN.replace("\n", ";\n"), 20, ["id", "nom", "valeur"]),
    "trailing separators of rows": (
        PLAIN.replace("\n", ";\n").replace("valeur;", "valeur"),
        20,
        ["id", "nom", "valeur"],
    ),
    "leading separators": ("".join(f";{line}\n" for line in PLAIN.splitlines()), 20, ["id", "nom", "valeur"]),
    "title rows": ("Liste des villes\n\n" + PLAIN, 20, ["id", "nom", "valeur"]),
    "header twice": ("id;nom;valeur\n" + PLAIN, 20, ["id", "nom", "valeur"]),
    "stray quote": (PLAIN.replace("Ville 7", '5" cuivre'), 20, ["id", "nom", "valeur"]),
    "Unnamed of pandas": (PLAIN.replace("id", "Unnamed: 0"), 20, ["column_1", "nom", "valeur"]),
    "a cell of 1 MB": (PLAIN.replace("Ville 7", "x" * 1024**2), 20, ["id", "nom", "valeur"]),
    "gzip": (gzip.compress(PLAIN.encode()), 20, ["id", "nom", "valeur"]),
    "zip": (archive(notes_md="see there", données__table_csv=PLAIN), 20, ["id", "nom", "valeur"]),
    "geojson": (GEOJSON, 2, ["nom", "geometry"]),
    "json records": ('[{"id": 1, "nom": "Lyon"}, {"id": 2, "pop": 3}]', 2, ["id", "nom", "pop"]),
    "json lines": ('{"id": 1}\n{"id": 2}\n', 2, ["id"]),
    "xlsx": (BOOK, 9, ["id", "nom"]),
    "a mark of an end of DOS": (PLAIN + "\x1a", 20, ["id", "nom", "valeur"]),
    "a mark of an end of DOS behind the last cell": (PLAIN.rstrip("\n") + "\x1a", 20, ["id", "nom", "valeur"]),
    "xlsx with an unnamed column": (workbook(["id", None, "nom"], [1, 2, 3]), 1, ["id", "column_2", "nom"]),
    "xlsx with a title row": (workbook(["Titre"], ["id", "nom"], [1, "x"]), 1, ["id", "nom"]),
    "an unnamed column without values": (PLAIN.replace(";", ";;", 1).replace(";V", ";;V"), 20, ["id", "nom", "valeur"]),
    "json with a blank key": ('[{"": null, "a": 1, " ": 2}, {"a": 3}]', 2, ["a", "column_3"]),
    "xlsx with blank first rows": (workbook([], [], ["id", "nom"], [1, "x"], [2, "y"]), 2, ["id", "nom"]),
}


@pytest.mark.parametrize("case", FOUND)
def test_what_can_be_analysed_is(analyse, case):
    content, total, header = FOUND[case]
    found = analyse(content)
    assert (found["total_lines"], found["header"]) == (total, header)
    assert (found["sampled"], found["sample_rows"]) == (False, total)
    assert sorted(found["columns"]) == sorted(header)
    assert sorted(column for columns in found["formats"].values() for column in columns) == sorted(header)


def test_the_result_is_csv_detectives_with_our_facts(analyse):
    found = analyse("Titre\n" + PLAIN.replace("\n", ";\n"))
    assert found.pop("duration") > 0
    profile = found.pop("profile")
    assert profile["valeur"].pop("tops")[:2] == [{"count": 1, "value": "3"}, {"count": 1, "value": "6"}]
    std = profile["valeur"].pop("std")
    assert (round(std, 6), profile["valeur"]) == (
        17.748239,
        {"min": 3, "max": 60, "mean": 31.5, "nb_distinct": 20, "nb_missing_values": 0},
    )
    assert found.pop("columns_fields").keys() == found.pop("columns_labels").keys() == {"id", "nom", "valeur"}
    assert found == {
        "v": 1,
        "status": "ok",
        "analyser": VERSION,
        "mode": "exact",
        "encoding": "utf-8",
        "separator": ";",
        "heading_columns": 0,
        "trailing_columns": 1,
        "header_row_idx": 1,
        "header": ["id", "nom", "valeur"],
        "total_lines": 20,
        "nb_duplicates": 0,
        "categorical": ["id", "nom", "valeur"],
        "columns": {
            "id": {"format": "int", "python_type": "int", "score": 1.0},
            "nom": {"format": "string", "python_type": "string", "score": 1.0},
            "valeur": {"format": "int", "python_type": "int", "score": 1.0},
        },
        "formats": {"int": ["id", "valeur"], "string": ["nom"]},
        "unique_values": {
            "id": [str(n) for n in range(1, 21)],
            "nom": [f"Ville {n}" for n in range(1, 21)],
            "valeur": [str(n * 3) for n in range(1, 21)],
        },
        "schema": {
            "fields": [
                {"name": "id", "type": "integer"},
                {"name": "nom", "type": "string"},
                {"name": "valeur", "type": "integer"},
            ],
            "missingValues": [""],
        },
        "sampled": False,
        "sample_rows": 20,
        "warnings": ["1 line above the header passed over", "1 column without a name or a value left out"],
    }
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize(("compressed", "name"), [(False, None), (True, "gzip")])
def test_compression_is_told(analyse, compressed, name):
    content = PLAIN.encode()
    assert analyse(gzip.compress(content) if compressed else content).get("compression") == name


def test_a_sheet_is_named(analyse):
    found = analyse(BOOK)
    assert (found["sheet_name"], found["engine"], found["sheets"]) == ("Sheet", "openpyxl", ["Sheet"])


def test_parquet_is_read(analyse, tmp_path):
    pandas = pytest.importorskip("pandas", reason="csv-detective brings pandas")
    pandas.DataFrame({"id": range(50), "ville": [f"Ville {n}" for n in range(50)]}).to_parquet(tmp_path / "table")
    found = analyse((tmp_path / "table").read_bytes())
    assert (found["engine"], found["total_lines"], found["columns"]["id"]["format"]) == ("parquet", 50, "int")


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
def test_french_in_latin_1_stays_french(analyse, encoding):
    places = ["Ardèche", "Rhône", "Corrèze", "Hérault", "Isère", "Lozère", "Nièvre", "Drôme"]
    rows = "".join(f"{number};{place}\n" for number, place in enumerate(places * 6))
    found = analyse(f"numéro;département\n{rows}".encode(encoding))
    assert (found["encoding"], found["header"]) == ("cp1252", ["numéro", "département"])
    assert found["columns"]["département"]["format"] == "departement"


@pytest.mark.parametrize(
    ("text", "encoding", "nom"),
    [
        ("é;Privas\n".encode() * 30 + "à;Dôle\n".encode("cp1252"), "utf-8-cp1252", ["é", "à"]),
        ("é;Privas\n".encode() * 30 + b"\x81;x\n", "utf-8-cp1252", ["é", "\x81"]),
        ("é;Privas\n".encode() * 30 + b"x;\xc3", "utf-8-cp1252", ["é", "x"]),
        ("é;Privas\n".encode() + "à;Dôle\n".encode("cp1252") * 30, "cp1252", ["Ã©", "à"]),
        (
            "\N{REPLACEMENT CHARACTER}é;x\n".encode() * 90 + b"\xe0;y\n",
            "utf-8-cp1252",
            ["\N{REPLACEMENT CHARACTER}é", "à"],
        ),
        ("é;Privas\n".encode() * 300_000 + "à;Dôle\n".encode("cp1252"), "utf-8-cp1252", ["é", "à"]),
    ],
)
def test_accents_of_two_exports_in_one_file_are_read_as_what_they_are(analyse, tmp_path, text, encoding, nom):
    content = b"nom;ville\n" + text
    found = analyse(content)
    assert (found["encoding"], found["unique_values"]["nom"]) == (encoding, nom)
    (path := tmp_path / "table").write_bytes(content)
    rows = TableFile(path, found, max_unpacked=1, check=lambda: None).rows()
    assert list(dict.fromkeys(cells[0] for _, cells in rows)) == nom


def large() -> str:
    # csv-detective by itself says 115,000 rows, and int for a column with 9,000 words in a dropped chunk.
    rows = [f"{n};{'mot' if 110_000 <= n < 119_000 else n};Ville {n % 999}" for n in range(125_000)]
    return "id;melange;nom\n" + "\n".join(rows[:50_000]) + "\n\n\n\n" + "\n".join(rows[50_000:]) + "\n"


def test_a_large_table_is_exact_where_csv_detective_drops_rows(analyse):
    heard = []
    content = large()
    found = analyse(content, progress=lambda *facts: heard.append(facts))
    assert (found["total_lines"], found["sampled"], found["sample_rows"]) == (125_000, False, 125_000)
    assert [found["columns"][name]["format"] for name in ("id", "melange", "nom")] == ["int", "string", "string"]
    assert found["profile"]["melange"]["tops"][0] == {"count": 9000, "value": "mot"}
    assert (found["profile"]["melange"]["nb_distinct"], found["nb_duplicates"]) == (116_001, 0)
    assert [facts for facts in heard if facts[2] == "bytes"][-1][0] > 0.9 * len(content)
    assert heard[-1] == (2, 3, "columns")


def test_a_sample_counts_the_rows_and_says_that_it_is_one(analyse):
    found = analyse(large(), mode="sample")
    assert (found["mode"], found["total_lines"]) == ("sample", 125_000)
    assert (found["sampled"], found["sample_rows"]) == (True, 2000)
    assert [found["columns"][name]["format"] for name in ("id", "melange", "nom")] == ["int", "string", "string"]
    assert not {"nb_duplicates", "categorical", "profile", "unique_values"} & found.keys()


def test_a_large_workbook_is_exact_too(analyse):
    found = analyse(workbook(["id"], *([number] for number in range(3000))))
    assert (found["total_lines"], found["sampled"], found["profile"]["id"]["max"]) == (3000, False, 2999)


def test_the_member_of_a_zip_is_named(analyse):
    found = analyse(FOUND["zip"][0])
    assert (found["compression"], found["member"]) == ("zip", "données/table.csv")
    assert found["members"] == ["notes.md", "données/table.csv"]


def test_the_same_content_is_analysed_alike(analyse):
    content = "id;nom\n" + "".join(f"{n};Ville {n}\n" for n in range(12_000))
    first, second = analyse(content), analyse(content)
    assert first | {"duration": 0} == second | {"duration": 0}


def test_columns_beyond_the_limit_are_named_only(analyse):
    names = [f"c{number}" for number in range(13)]
    found = analyse(",".join(names) + "\n" + (",".join("1" * 13) + "\n") * 3)
    assert found["header"] == names
    assert list(found["columns"]) == names[:10]


def test_values_are_named_unless_they_are_long(analyse):
    found = analyse(f"a;b\nx;{'y' * 1000}\nz;{'y' * 1001}\n")
    assert found["unique_values"] == {"a": ["x", "z"]}
    assert [len(each["value"]) for each in found["profile"]["b"]["tops"]] == [1000, 1000]


@pytest.mark.parametrize("word", ["NA", "null", "N/A"])
def test_a_column_of_dates_with_a_word_for_none_is_of_texts(analyse, tmp_path, word):
    rows = "".join(f"2024-01-{day:02};{day}\n" for day in range(1, 29))
    found = analyse(f"jour;n\n{rows}{word};5\n", parquet=tmp_path / "typed")
    assert (found["columns"]["jour"]["format"], found["schema"]["fields"][0]["type"]) == ("date", "string")
    assert pq.read_table(tmp_path / "typed").column("jour").to_pylist()[-2:] == ["2024-01-28", word]


def test_a_typed_table_keeps_its_types_and_coordinates_their_digits(analyse, tmp_path):
    moments = pa.array([datetime(2024, 1, 2, 3, 4, 5, 678901), None, datetime(2000, 1, 1)], pa.timestamp("us"))  # noqa: DTZ001 - naive ones
    table = pa.table(
        {
            "ouvert": [True, False, None],
            "jour": [date(2024, 1, 2), None, date(1999, 1, 1)],
            "naif": moments,
            "fin": moments.cast(pa.timestamp("ns")),
            "zone": pa.array([datetime(2024, 7, 2, tzinfo=UTC), None, None], pa.timestamp("ms", "Europe/Paris")),
            "latitude": [48.85661400000001, 2e-7, None],
            "rang": [1, 2, None],
        }
    )
    pq.write_table(table, tmp_path / "given")
    analyse((tmp_path / "given").read_bytes(), parquet=tmp_path / "typed")
    typed = pq.read_table(tmp_path / "typed")
    assert typed.to_pylist() == table.to_pylist()
    assert [str(kind) for kind in typed.schema.types] == [
        "bool", "date32[day]", "timestamp[us]", "timestamp[ns]", "timestamp[us, tz=UTC]", "double", "int64",
    ]  # fmt: skip


def test_a_number_of_more_digits_than_a_double_has_stays_a_text(analyse, tmp_path):
    analyse("a;b\n48,85661400000001;1\n0,12345678901234567890;2\n", parquet=tmp_path / "typed")
    assert pq.read_table(tmp_path / "typed").column("a").to_pylist() == ["48,85661400000001", "0,12345678901234567890"]


def test_numbers_and_missing_values_become_strict_json(analyse):
    found = analyse("a;b\nNaN;inf\n1.5;-inf\n;\n")
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize(
    ("content", "limit"),
    [
        (gzip.compress(b"a;b\n" + b"1;2\n" * 50_000), {"max_unpacked": 100_000}),
        (BOOK, {"max_workbook": 1000}),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 2000, {"max_workbook": 1000}),
    ],
)
def test_what_unpacks_to_too_much_is_refused(analyse, content, limit):
    with pytest.raises(Fatal, match="unpacks to") as failure:
        analyse(content, Detective(**limit))
    assert failure.value.code == "too_large"


def test_work_that_is_no_longer_wanted_ends(analyse):
    def check() -> None:
        raise Lost

    with pytest.raises(Lost):
        analyse(PLAIN, check=check)


def test_a_failing_disk_is_no_fault_of_the_file(detective, tmp_path):
    with pytest.raises(FileNotFoundError):
        detective.analyse(tmp_path / "gone")


@pytest.mark.unmeasured
def test_the_import_leaves_logging_and_output_alone():
    script = """
import logging
before = (logging.root.level, list(logging.root.handlers), logging.getLevelName(30), logging.getLevelName(50))
import datafab.analysis.detective
after = (logging.root.level, list(logging.root.handlers), logging.getLevelName(30), logging.getLevelName(50))
assert before == after, (before, after)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_damaged_xls_prints_nothing(analyse, capfd):
    with pytest.raises(Fatal):
        analyse(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + os.urandom(24) + b"\xfe\xff\x09" + b"\0" * 1011)
    assert capfd.readouterr() == ("", "")


def test_the_version_names_the_csv_detective_that_is_there():
    assert VERSION.startswith(f"csv-detective-{version('csv-detective')}-")


@pytest.mark.unmeasured
def test_cells_may_be_as_long_as_the_outline_of_a_country(analyse):
    outline = "1.5 47.5 " * 100_000
    found = analyse(f"name;outline\nCher;{outline}\nIndre;x\n".encode())
    assert found["total_lines"] == 2
    assert csv.field_size_limit() == MAX_CELL_CHARS


@pytest.mark.unmeasured
def test_importing_the_analysis_changes_no_registry_of_the_process():
    script = """
import codecs, csv
import datafab.analysis.detective
assert csv.field_size_limit() == 131_072
for look_up in (codecs.lookup, codecs.lookup_error):
    for name in ("utf-8-cp1252", "datafab.cp1252"):
        try:
            look_up(name)
        except LookupError:
            continue
        raise AssertionError(name)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(not TABLES.is_dir(), reason="the corpus of real tables is not on this machine")
@pytest.mark.unmeasured
def test_every_table_of_the_corpus_is_analysed_or_refused():
    detective = Detective(max_columns=3)  # enough to see csv-detective at work, in a third of the time
    # The widest has 4,000 columns, and is looked at in test_detective_equality.py.
    paths = sorted(path for path in TABLES.iterdir() if path.name != "frictionless-wide.csv")
    analysed = 0
    for path in paths:
        try:
            found = detective.analyse(path)
        except Fatal as refusal:
            assert refusal.code in CODES, path.name  # noqa: PT017 - one of two good ends
            continue
        analysed += 1
        assert json.loads(json.dumps(found, allow_nan=False)) == found, path.name
        assert found["total_lines"] > 0, path.name
        assert found["header"][: len(found["columns"])] == list(found["columns"]), path.name
        assert len(found["schema"]["fields"]) == len(found["header"]) == len(found["profile"]), path.name
        assert set(found["formats"]) == {each["format"] for each in found["columns"].values()}, path.name
        assert all(0 < each["score"] <= 1.5 for each in found["columns"].values()), path.name
    # The names of the refused files were looked at one by one when this was written.
    assert len(paths) - analysed <= 42
