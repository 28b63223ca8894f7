"""Headers are found below titles and remarks, with missing names, on two rows and in one-column texts."""

from __future__ import annotations

import csv
import io
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datafab.analysis import dialect
from datafab.analysis.cell_kind import CellKind, classify_cell, classify_column
from datafab.analysis.detective import Detective
from datafab.analysis.header import find_header
from datafab.analysis.tablefile import TableFile

#: Lines are separated by ``|`` here; a pipe is no separator of these.
ONE_COLUMN = {
    "decimal commas": "taux|1,5|2,7",
    "addresses": "adresse|1 rue de la Paix, Lyon|2 rue de la Gare, Paris",
    "addresses without a number": "adresse|Place Bellecour, Lyon|1 rue de la Gare, Paris|2 rue X, Nice",
    "numbers at the beginning": "adresse|Mairie, Lyon|12, rue de la Gare|13, rue de la Paix",
    "family names": "nom|Dupont,Jean|Martin,Paul",
    "lists": "mots|rouge;vert|bleu;jaune",
    "lists of three": "mots|rouge;vert;bleu|vert;bleu;rouge|bleu;jaune;vert",
    "coordinates": "position|48.85,2.35|45.76,4.83",
    "hours": "horaires|9h-12h; 14h-18h|9h-12h; 14h-17h",
    "grouped thousands": "montant|1,234.50|2,345.00",
    "dates with times": "quand|12/03/2024, 10:30|13/03/2024, 11:00",
    "addresses of pages": "lien|http://example.org/a,1|http://example.org/b,2",
}


def lines(case: str) -> list[str]:
    return [f"{line}\n" for line in case.split("|")]


@pytest.mark.parametrize(
    "text",
    [
        "Adresse complète du site|1 rue X, Lyon|2 rue Y, Paris",
        "Adresse complète du site|1 rue X Lyon|2 rue Y Paris",
        "Nom du maire|Jean de Lyon|Paul de Nice",
        "lieu : ville|Mairie : Lyon|Gare : Paris",
        "08:30|12:30|13:45",
    ],
)
def test_sentences_and_times_are_not_cut(text):
    assert dialect.detect_layout(lines(text)).header == (text.split("|")[0],)


@pytest.mark.parametrize("case", ONE_COLUMN)
def test_a_single_column_is_not_cut(case):
    found = dialect.detect_layout(lines(ONE_COLUMN[case]))
    assert (found.skip, found.header) == (0, (ONE_COLUMN[case].split("|")[0],))
    assert "read as one column" in found.warnings[0]


ABOVE = {
    "a remark, padded": ("Extrait le;12/03/2024;|id;nom;val|1;x;2|2;y;3", 1),
    "a remark": ("Extrait le;12/03/2024|id;nom;val|1;x;2|2;y;3", 1),
    "a remark and a blank line": ("Extrait le;12/03/2024;||id;nom;val|1;x;2|2;y;3", 2),
    "a remark and blank cells": ("Extrait le;12/03/2024;|;;|id;nom;val|1;x;2|2;y;3", 2),
    "two remarks": ("Extrait le;12/03/2024;|Source;INSEE;|id;nom;val|1;x;2|2;y;3", 2),
    "two remarks, a blank line": ("Extrait le;12/03/2024|Source;INSEE||id;nom;val|1;x;2|2;y;3", 3),
    "a number of rows": ("Extrait le;12/03/2024;|Lignes;2;|nom;n;val|x;1;2|y;2;3", 2),
    "a remark above texts": ("Extrait le;12/03/2024;|nom;pays;ville|Jean;France;Lyon|Paul;France;Nice", 1),
    "two remarks above texts": ("Source;INSEE;|Licence;ODbL;|nom;pays;ville|Jean;France;Lyon|Paul;France;Nice", 2),
    "a remark as wide as the table": ("Extrait le;12/03/2024|id;nom|1;x|2;y", 1),
    "a title": ("Liste des communes|nom;region|Lyon;ARA|Nice;PACA", 1),
    "a title, padded": ("Liste des communes;|nom;region|Lyon;ARA|Nice;PACA", 1),
    "a title of one word": ("Communes|nom,pop|Lyon,12|Nice,14", 1),
    "a title and a source": ("Population;;|Source : INSEE;;|;;|commune;dep;pop|Lyon;69;5|Nice;06;4", 3),
    "blank rows": (";;;|;;;|;id;nom;v|;1;x;3|;2;y;4", 2),
    "a comment": ("# comment|f1,f2|11,12|21,22", 1),
    # As in DuckDB's data/csv/auto: notes above, one of them with a separator.
    "notes of DuckDB": ("some notes...|number,text,date|345.0,TEST3,2000-12-13", 1),
    "more notes of DuckDB": ("some notes...|more notes,...|number,text,date|345.0,TEST4,2000-12-13", 2),
    # As in csvkit's examples/test_skip_lines.csv.
    "blank lines of csvkit": ("|||text,date,n,empty|Reader,1971-01-01,40,|Times,1948-01-01,63,", 3),
}


@pytest.mark.parametrize("case", ABOVE)
def test_what_stands_above_a_header_is_passed_over(case):
    text, skip = ABOVE[case]
    found = dialect.detect_layout(lines(text))
    assert (found.skip, list(found.header)) == (skip, text.split("|")[skip].replace(",", ";").split(";"))
    passed = sum(1 for line in text.split("|")[:skip] if line.strip(";"))
    said = [line for line in found.warnings if "passed over" in line]
    assert [line.split()[0] for line in said] == ([str(passed)] if passed else [])


NOTHING_ABOVE = {
    "a nameless column of numbers": ("id;nom;|1;x;3|2;y;4", ";"),
    "a nameless column of texts": ("nom;|Lyon;France|Nice;France", ";"),
    "a nameless first column": (";nom|a;b|c;d", ";"),
    "a nameless column without values": ("id;;nom|1;;3|2;;4", ";"),
    "a remark beside the first row": ("id;nom;;|1;x;;Note: provisoire|2;y;;|3;z;;", ";"),
    "a remark far beside": ("id;nom;;;;;|1;x;;;;;Note: provisoire|2;y;;;;;|3;z;;;;;", ";"),
    "a full row below rows that are not": ("id;nom;|1;x;|2;y;|total;tous;oui|5;y;7|6;z;8", ";"),
    "years": ("id;2019;2020|a;1;2|b;3;4", ";"),
    "a remark and a value that may be names": ("Source;INSEE;|nom;pays;ville|Jean;France;Lyon|Paul;France;Nice", ";"),
    # As in DuckDB's data/csv/auto: missing_header_col, empty_header, missing_many_col, no_header.
    "a missing name of DuckDB": ("a,,c|123,TEST1,text1|345,TEST1,text2", ","),
    "missing names of DuckDB": (",,|123,TEST3,text1|345,TEST3,text2", ","),
    "many missing names of DuckDB": ("a,,,,,|123,TEST2,text1,,,value1|345,TEST2,text2,,,value2", ","),
    "no header of DuckDB": ("123.0,TEST1,2000-12-12|345.0,TEST1,2000-12-13", ","),
    # As in csvkit's examples/test_empty_columns.csv.
    "empty columns of csvkit": ("a,b,c,,|a,,,,|,,c,|,,,,", ","),
    # As in CleverCSV's and CPython's tests of their sniffers.
    "numbers of CleverCSV": (
        "2147483648;43.0e12;17;abc;def|147483648;43.0e2;17;abc;def|47483648;43.0;170;abc;def",
        ";",
    ),
    "places of CleverCSV": (
        "venue,city,state,date|Harry's, Arlington Heights, IL, 2/1/03|Shark City, Glendale Heights, IL, 12/28/02",
        ",",
    ),
    "tabs of CleverCSV": ("aaa\tbbb|AAA\t|BBB\t", "\t"),
}


@pytest.mark.parametrize("case", NOTHING_ABOVE)
def test_a_first_line_that_may_be_the_header_is_it(case):
    text, separator = NOTHING_ABOVE[case]
    found = dialect.detect_layout(lines(text))
    assert (found.separator, found.skip, list(found.header)) == (separator, 0, text.split("|")[0].split(separator))
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("commune;2019;;2020;|;H;F;H;F|Lyon;1;2;3;4|Nice;1;2;3;4", "commune|2019 H|2019 F|2020 H|2020 F"),
        (";2019;;2020;|commune;H;F;H;F|Lyon;1;2;3;4|Nice;1;2;3;4", "commune|2019 H|2019 F|2020 H|2020 F"),
        ("code;nom;Naissances;|;;H;F|69;Lyon;1;2|06;Nice;1;2", "code|nom|Naissances H|Naissances F"),
    ],
)
def test_a_header_of_merged_cells_is_joined(text, names):
    found = dialect.detect_layout(lines(text))
    assert (found.skip, found.depth, "|".join(found.header)) == (0, 2, names)
    assert found.warnings == ("the header stands on 2 lines: their names are joined",)


def test_a_second_header_stays_a_row_and_is_told():
    found = dialect.detect_layout(lines("temperature;wind|°C;m/s|12;3|13;4"))
    assert (found.header, found.depth) == (("temperature", "wind"), 1)
    assert found.warnings == ("the first line below the header may be a second one: it holds texts above values",)
    assert dialect.detect_layout(lines("a;b|NaN;NaN|1;2|3;4")).warnings == ()
    assert dialect.detect_layout(lines("a;b;c|x;inconnu;1|y;2;2|z;3;3")).warnings == ()


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
NAMES = st.lists(st.from_regex(r"[a-z]{2,8}", fullmatch=True), min_size=2, max_size=6, unique=True)


@given(names=NAMES, rows=st.lists(st.lists(CELL, min_size=6, max_size=6), min_size=1, max_size=20))
def test_a_first_row_that_names_all_columns_is_the_header_whatever_is_below(names, rows):
    below = [row[: len(names)] for row in rows if [cell.strip() for cell in row[: len(names)]] != names]
    found = find_header([(line, cells) for line, cells in enumerate([names, *below], 1)])
    assert (found.position, found.depth, list(found.cells)) == (0, 1, names)


def written(rows: list[list[str]], separator: str = ";") -> str:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=separator, lineterminator="\n").writerows(rows)
    return file.getvalue()


def read(text: str) -> tuple[list[str], list[list[str]]]:
    """Return the header of a text and its rows, as an analysis has them and as a push reads them."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "table"
        path.write_text(text, encoding="utf-8", newline="")
        analysis = Detective(max_columns=1).analyse(path)
        file = TableFile(path, analysis, max_unpacked=10**6, check=lambda: None)
        found = [cells for _, cells in file.rows()]
        assert len(found) == analysis["total_lines"]
        assert list(file.header) == analysis["header"]
        return list(file.header), found


def test_a_joined_header_and_a_column_that_is_left_out_are_read_as_analysed():
    text = "Titre;;;;;\ncommune;2019;;;2020;\n;H;F;;H;F\nLyon;1;2;;3;4\nNice;5;6;;7;8\n"
    names = ["commune", "2019 H", "2019 F", "2020 H", "2020 F"]
    assert read(text) == (names, [["Lyon", "1", "2", "3", "4"], ["Nice", "5", "6", "7", "8"]])


WORDS = st.sampled_from(["Lyon", "Paris", "rue de la Gare", "Jean", "Été", "bleu"])
VALUES = [
    st.builds("{0},{1}".format, st.integers(-999, 999), st.integers(0, 99)),
    st.builds("{0} {1}, {2}".format, st.integers(1, 99), WORDS, WORDS),
    st.builds("{0}, {1}".format, WORDS, WORDS),
    st.builds("{0};{1}".format, WORDS, WORDS),
    st.builds("{0},{1},{2}".format, WORDS, WORDS, WORDS),
    st.builds("{0}h-{1}h; {2}h".format, st.integers(0, 9), st.integers(10, 12), st.integers(13, 23)),
    st.one_of(WORDS, st.builds("{0};{1},{2}".format, WORDS, WORDS, WORDS)),
    st.one_of(WORDS, st.integers().map(str), st.just('"')),
]


@given(
    name=st.sampled_from(["taux", "adresse", "nom", "libellé"]),
    values=st.one_of([st.lists(each, min_size=1, max_size=30) for each in VALUES]),
    separator=st.sampled_from(dialect.SEPARATORS),
)
@settings(max_examples=150, deadline=None)
def test_a_single_column_that_was_written_is_read_back(name, values, separator):
    assert read(written([[name], *([value] for value in values)], separator)) == ([name], [[value] for value in values])


def test_a_separator_far_below_the_header_of_a_single_column_is_part_of_a_value():
    values = [f"rue {number}" for number in range(2000)]
    values[1500] = "rue 1; au fond"
    assert read("adresse\n" + "\n".join(values) + "\n")[1][1500] == ["rue 1; au fond"]


REMARKS = st.tuples(
    st.sampled_from(["Extrait le", "Source", "Licence", "Mise à jour", "Lignes"]),
    st.one_of(st.dates(date(1990, 1, 1), date(2030, 1, 1)).map("{:%d/%m/%Y}".format), WORDS, st.integers().map(str)),
)
COLUMNS = [st.integers(-999, 999).map(str), WORDS, st.dates().map(str), st.sampled_from(["", "oui", "non"])]


@given(data=st.data(), width=st.integers(3, 6), padded=st.booleans(), gap=st.booleans(), apart=st.booleans())
@settings(max_examples=150, deadline=None)
def test_remarks_above_a_table_that_was_written_are_passed_over(data, width, padded, gap, apart):
    names = ["id", "nom", "valeur", "date", "type", "zone"][:width]
    kinds = [COLUMNS[0], *(data.draw(st.sampled_from(COLUMNS)) for _ in names[1:])]
    rows = data.draw(st.lists(st.tuples(*kinds).map(list), min_size=1, max_size=12))
    above = [list(pair) + [""] * (width - 2 if padded else 0) for pair in data.draw(st.lists(REMARKS, max_size=3))]
    blank = written([[""] * width]) if padded else "\n"
    text = (blank if apart else "").join(written([remark]) for remark in above) + (blank if gap and above else "")
    assert read(text + written([names, *rows])) == (names, rows)


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        ("", CellKind.BLANK), (" ", CellKind.BLANK), ("2019", CellKind.YEAR), ("12,5", CellKind.NUMBER),
        ("1 234,50 €", CellKind.NUMBER), ("-3 %", CellKind.NUMBER), ("(12)", CellKind.NUMBER), ("$5", CellKind.NUMBER),
        ("12/03/2024", CellKind.MOMENT), ("2024-03-12T10:00:00Z", CellKind.MOMENT), ("12:30", CellKind.MOMENT),
        ("10h30", CellKind.MOMENT), ("2024-03", CellKind.MOMENT), ("https://example.org", CellKind.LINK),
        ("a@example.org", CellKind.LINK), ("1 rue X", CellKind.TEXT), ("2A004", CellKind.TEXT), ("-", CellKind.BLANK),
        ("1" * 81, CellKind.TEXT),
    ],
)  # fmt: skip
def test_cells_are_classified(cell, kind):
    assert classify_cell(cell) is kind


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "2", "n/a", ""], CellKind.NUMBER), (["1", "x"], CellKind.TEXT), (["2019", "2020"], CellKind.YEAR),
        (["2019", "5", "6"], CellKind.NUMBER), (["", "-"], CellKind.BLANK), ([], CellKind.BLANK),
    ],
)  # fmt: skip
def test_columns_are_classified(cells, kind):
    assert classify_column(cells) is kind
