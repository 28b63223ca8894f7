# ruff: noqa: RUF001 - texts in several alphabets, with their quotation marks
from __future__ import annotations

import codecs
import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datafab.analysis import dialect
from datafab.analysis.dialect import FileKind, Layout
from datafab.analysis.encoding import HEAD_BYTES, detect_encoding
from datafab.analysis.mixed_encoding import codec_and_errors
from datafab.analysis.records import read_records
from datafab.core.long_cells import MAX_CELL_CHARS
from datafab.errors import Fatal

FRENCH = "département;région\nArdèche;Rhône-Alpes\nÎle-d'Yeu;œuvre à 3 €\n"


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"", FileKind.EMPTY),
        (b"\n\r\n  \n", FileKind.EMPTY),
        (codecs.BOM_UTF8, FileKind.EMPTY),
        (b"a;b\n1;2\n", FileKind.TEXT),
        (b"\xff\xfea\0;\0b\0\n\0", FileKind.TEXT),
        (b"name,comment\nx,\0\n" + b"y,plain\n" * 9, FileKind.TEXT),
        (b"\n" * HEAD_BYTES, FileKind.TEXT),
        (b"<18 ans;>18 ans\n1;2\n", FileKind.TEXT),
        (b"[id];name\n1;x\n", FileKind.TEXT),
        (b"PAR1;PAR2\n1;2\n", FileKind.TEXT),
        (b"\r\n <!DOCTYPE html><html><body>", FileKind.HTML),
        (codecs.BOM_UTF8 + b"<HTML>", FileKind.HTML),
        (b'<?xml version="1.0"?><!DOCTYPE html PUBLIC "x"><html>', FileKind.HTML),
        ("<html>".encode("utf-16"), FileKind.HTML),
        (b'<?xml version="1.0"?><rdf:RDF/>', FileKind.XML),
        (b'{"type": "FeatureCollection"', FileKind.JSON),
        (b'{\n  "a": 1}\n{"a": 2}\n', FileKind.JSON),
        (b'[\n {"id": 1}]', FileKind.JSON),
        (b"[[1, 2]]", FileKind.JSON),
        (b"%PDF-1.4\n", FileKind.PDF),
        (b"\x1f\x8b\x08\0", FileKind.GZIP),
        (b"PK\x03\x04\x14\0", FileKind.ZIP),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0", FileKind.XLS),
        (b"PAR1\x15\x04\x15", FileKind.PARQUET),
        (bytes(range(256)) * 4, FileKind.BINARY),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0", FileKind.BINARY),
    ],
)
def test_a_file_is_what_its_bytes_say(head, kind):
    assert dialect.detect_kind(head) is kind


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["[Content_Types].xml", "xl/workbook.xml"], FileKind.XLSX),
        (["mimetype", "content.xml"], FileKind.ODS),
        (["[Content_Types].xml", "word/document.xml"], FileKind.ZIP),
        (["data.csv"], FileKind.ZIP),
        ([], FileKind.ZIP),
    ],
)
def test_a_zip_is_what_its_members_say(names, kind):
    assert dialect.detect_zip_kind(names) is kind


@given(head=st.binary(max_size=200))
def test_every_file_is_of_some_kind(head):
    assert dialect.detect_kind(head) in FileKind


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (b"", "utf-8"),
        (b"plain;ascii\n", "utf-8"),
        (FRENCH.encode(), "utf-8"),
        (FRENCH.encode("utf-8-sig"), "utf-8-sig"),
        (FRENCH.encode("utf-16"), "utf-16"),
        (codecs.BOM_UTF16_BE + FRENCH.encode("utf-16-be"), "utf-16"),
        (FRENCH.encode("utf-32"), "utf-32"),
        (FRENCH.encode("cp1252"), "cp1252"),
        ("Ardèche;Rhône\n".encode("latin-1"), "cp1252"),
        ("id,name\n1,café".encode("latin-1"), "cp1252"),
        (b"ascii " * 5000 + "tout à la fin : é".encode("cp1252"), "cp1252"),
        ("Ardèche\x81\n".encode("latin-1"), "latin-1"),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_the_encoding_is_that_of_the_whole_text(content, encoding, size):
    blocks = [content[at : at + size] for at in range(0, len(content), size)]
    found = detect_encoding(blocks if size > 1 or not encoding.startswith("utf-") else [content])
    assert found == encoding
    content.decode(*codec_and_errors(found))


#: Words that may begin with a capital, in quotes or with a sign after them.
WORDS = st.from_regex(r"[«“‘€]?[A-ZÉÀÇŒ]?[éèêëàâùûüçôöîïœæaeiou]*(’[éèaeiouœ]+)?[»”…€ ]?[ ;\n–]", fullmatch=True)


@given(text=st.lists(WORDS).map("".join))
def test_french_in_cp1252_is_never_taken_for_another_encoding(text):
    assert detect_encoding([text.encode("cp1252")]) in {"cp1252", "utf-8"}


HERAULT = "id;département;région\n34;Hérault;Languedoc\n7;Ardèche;Rhône-Alpes\n30;Nîmes;« Provence »\n"
OTHERS = {
    "cp850": HERAULT.replace("« ", "").replace(" »", ""),
    "mac_roman": HERAULT + "29;Îles de l’Atlantique – œuvre;15 €…\n",
}


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize(
    "text", [HERAULT, "编号;名称\n1;北京\n", "α;β\n1;Αθήνα\n", "a\n1\n" * 5000 + "Ā;ﬀ\n", "a;b\r1;𝄞\r"]
)
def test_a_wide_encoding_without_a_mark_is_recognised(codec: str, text: str):
    content = text.encode(codec)
    assert dialect.detect_kind(content[:HEAD_BYTES]) is FileKind.TEXT
    assert detect_encoding([content]) == codec


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        *((text, codec) for codec, text in OTHERS.items()),
        ("id;n\n1;Hérault\n", "mac_roman"),
        ("id;n\n1;Hérault\n", "cp850"),
        ("id;ville\n1;Köln\n2;Düsseldorf\n3;Straße\n", "cp850"),
        ("id;ville\n1;Köln\n2;Düsseldorf\n3;Straße\n", "mac_roman"),
        ("id;ville\n1;Málaga\n2;Coruña\n3;São Tomé\n", "cp850"),
    ],
)
def test_an_old_encoding_is_recognised_by_words_that_cp1252_cannot_mean(text: str, codec: str):
    assert detect_encoding([text.encode(codec)]) == codec


@pytest.mark.parametrize(
    "content",
    [
        "1;prix 5 €\n2;l’été\n3;Noël – œuvre…\n".encode("cp1252"),
        "œuvre;Œuvre;ŒUVRE;Škoda;Žižkov;Citroën™;50 ‰;“a”;€uro\n".encode("cp1252"),
        "Łódź;Gdańsk;Częstochowa;Źródło\n".encode("cp1250"),
        "Ελλάδα;Αθήνα\n".encode("cp1253"),
        "prix\x85;l\x92été;No\x9d\n".encode("latin-1"),
    ],
)
def test_what_cp1252_can_mean_is_not_taken_for_an_old_encoding(content: bytes):
    assert detect_encoding([content]) in {"cp1252", "latin-1"}


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"a,b\n1,x\n2,y\0z\n3,w\n", FileKind.TEXT),
        (b"a,b\0\n1,x\n", FileKind.TEXT),
        (b"a,b\n1,x\n" + b"\0" * 3000, FileKind.TEXT),
        (b"a\0\0\0\0b\n\0\0\0\0", FileKind.BINARY),
        (b"\0" * 300, FileKind.BINARY),
        (b"a,b\0\1\2\3\n", FileKind.BINARY),
    ],
)
def test_a_text_with_some_nuls_is_a_text(content: bytes, kind: FileKind):
    assert dialect.detect_kind(content) is kind


@given(content=st.binary(max_size=100))
def test_whatever_the_bytes_the_encoding_reads_them(content):
    try:
        found = detect_encoding([content])
    except Fatal as error:
        assert error.code == "encoding"  # noqa: PT017 - a broken mark is the one way out
    else:
        content.decode(*codec_and_errors(found))


@pytest.mark.parametrize("content", [codecs.BOM_UTF8 + b"caf\xe9;b", codecs.BOM_UTF16_LE + b"a\0;"])
def test_a_text_that_breaks_the_word_of_its_mark_is_refused(content):
    with pytest.raises(Fatal, match="save it as UTF-8") as failure:
        detect_encoding([content])
    assert failure.value.code == "encoding"


@pytest.mark.parametrize(
    ("text", "separator", "skip", "header"),
    [
        ("a;b\n1;2\n", ";", 0, ("a", "b")),
        ("a,b\n1,2\n", ",", 0, ("a", "b")),
        ("a\tb\n1\t2\n", "\t", 0, ("a", "b")),
        ("a|b\n1|2\n", "|", 0, ("a", "b")),
        ("a;b\r\n1;2\r\n", ";", 0, ("a", "b")),
        ("a;b\r1;2\r", ";", 0, ("a", "b")),
        # decimal commas, commas in text, semicolons in quotes
        ("x;y\n1,5;2,5\n3,5;4,5\n", ";", 0, ("x", "y")),
        ("id;texte\n1;un, deux, trois\n2;quatre\n", ";", 0, ("id", "texte")),
        ('id,texte\n1,"a;b;c"\n2,"d;e;f"\n', ",", 0, ("id", "texte")),
        ('id;texte\n1;"deux\nlignes"\n2;x\n', ";", 0, ("id", "texte")),
        # one column
        ("nom\nLyon\nParis\n", ";", 0, ("nom",)),
        ("a:b:c\n1:2:3\n", ";", 0, ("a:b:c",)),
        ("ville\nLyon, Rhône\nParis\nLille\n", ";", 0, ("ville",)),
        # blank lines, titles, a repeated header
        ("\n\na;b\n1;2\n", ";", 2, ("a", "b")),
        ("Liste des communes\n\na;b;c\n1;2;3\n4;5;6\n", ";", 2, ("a", "b", "c")),
        ("Titre;;;\nSource: X;;;\na;b;c;d\n1;2;3;4\n", ";", 2, ("a", "b", "c", "d")),
        ("# Titre, avec virgule\na;b;c\n1;2;3\n4;5;6\n", ";", 1, ("a", "b", "c")),
        ("a;b\na;b\n1;2\n", ";", 1, ("a", "b")),
        ('"long\ntitre"\na;b;c\n1;2;3\n4;5;6\n', ";", 2, ("a", "b", "c")),
        # headers with gaps
        ("a;b;\n1;2;\n", ";", 0, ("a", "b", "")),
        (";valeur\n0;x\n1;y\n", ";", 0, ("", "valeur")),
        ("a;b\n1;2;3\n4;5;6\n", ";", 0, ("a", "b")),
        ('a;b\n1;2\n3;"never closed\n4;5\n', ";", 0, ("a", "b")),
        ("a;b;c\n", ";", 0, ("a", "b", "c")),
        (";;;\n", ";", 0, ("", "", "", "")),
    ],
)
def test_separator_and_header_are_found(text, separator, skip, header):
    found = dialect.detect_layout(text.splitlines(keepends=True))
    assert (found.separator, found.skip, found.header) == (separator, skip, header)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("\n \n\n", "empty"),
        ("a;b\na;b\na;b\n", "header"),
        ('"a;b\n1;2\n', "quote"),
        ("a;" + "x" * (MAX_CELL_CHARS + 1) + "\n", "too_large"),
    ],
)
def test_what_has_no_layout_is_refused(text, code):
    with pytest.raises(Fatal) as failure:
        dialect.detect_layout(text.splitlines(keepends=True))
    assert failure.value.code == code


def test_a_beginning_may_end_within_a_record():
    lines = ["a;b\n", "1;2\n", '3;"broken\n']
    assert dialect.detect_layout(lines) == Layout(";", 0, ("a", "b"))
    assert list(read_records(lines, ";", truncated=True)) == [(1, ["a", "b"]), (2, ["1", "2"])]


def test_records_are_no_lines_and_know_where_they_begin():
    lines = ["a;b\n", "\n", '1;"x\n', 'y"\n', "  \n", "\n", "2;z\n"]
    assert list(read_records(lines, ";", first_line=5)) == [
        (5, ["a", "b"]),
        (7, ["1", "x\ny"]),
        (11, ["2", "z"]),
    ]


def test_a_quote_that_is_never_closed_is_named_by_its_line():
    with pytest.raises(Fatal, match="line 3 is never closed") as failure:
        list(read_records(["a;b\n", "1;2\n", '3;"x\n', "4;y\n"], ";"))
    assert (failure.value.code, failure.value.field) == ("quote", "line 3")


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@given(
    rows=st.lists(st.lists(cells, min_size=2, max_size=4), min_size=1, max_size=8),
    separator=st.sampled_from(dialect.SEPARATORS),
)
def test_what_a_writer_wrote_is_read_back(rows, separator):
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=separator).writerows(rows)
    file.seek(0)
    assert [row for _, row in read_records(file, separator)] == rows


@pytest.mark.parametrize(
    ("header", "names"),
    [
        (["a", "b"], ["a", "b"]),
        (["", "b", " "], ["column_1", "b", "column_3"]),
        (["id", "id", "id"], ["id", "id.1", "id.2"]),
        (["id", "id.1", "id"], ["id", "id.1", "id.2"]),
        ([" code  postal ", "deux\nlignes", "in\0sécable\u200b"], ["code postal", "deux lignes", "insécable"]),
        (["Unnamed: 0", "x"], ["column_1", "x"]),
        (["column_2", ""], ["column_2", "column_2.1"]),
    ],
)
def test_columns_are_named(header, names):
    assert dialect.unique_names(header) == names


@given(header=st.lists(cells))
def test_names_are_unique_on_one_line_and_not_blank(header):
    names = dialect.unique_names(header)
    assert len(set(names)) == len(header)
    assert all(name.isprintable() and name.strip() for name in names)
