from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datafab.core.item import Status
from datafab.errors import FlowError
from datafab.index.folding import fold, fold_value, fold_words, word_positions
from datafab.index.query import (
    FIELDS,
    Everything,
    Exact,
    Facet,
    FieldKind,
    Node,
    Range,
    Sort,
    Words,
    check_page,
    depth,
    join_and,
    join_or,
    leaves,
    negate,
    parse_facets,
    parse_sort,
    positive_terms,
)
from datafab.index.query_parser import MAX_DEPTH, MAX_QUERY_CHARS, MAX_TERMS, QueryError, parse_query, write_query
from datafab.index.query_values import MAX_NUMBER


def word(*found: str, field: str | None = None) -> Words:
    return Words(found, field)


A, B, C = word("a"), word("b"), word("c")


def day(*parts: int) -> int:
    return round(datetime(*parts, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("", Everything()),
        ("  ", Everything()),
        ("*", Everything()),
        ("a", A),
        ("Été", word("ete")),
        ("cœur ÆSIR", join_and([word("coeur"), word("aesir")])),
        ("l'eau-vive", word("l", "eau", "vive")),
        ('"code postal"', word("code", "postal")),
        ("code_postal", word("code", "postal")),
        ("a b", join_and([A, B])),
        ("a AND b", join_and([A, B])),
        ("a OR b", join_or([A, B])),
        ("a b OR c", join_or([join_and([A, B]), C])),
        ("a (b OR c)", join_and([A, join_or([B, C])])),
        ("a OR b OR c", join_or([A, B, C])),
        ("a OR (b OR c)", join_or([A, B, C])),
        ("((((a))))", A),
        ("NOT a", negate(A)),
        ("-a b", join_and([negate(A), B])),
        ("a -(b OR c)", join_and([A, negate(join_or([B, C]))])),
        ('-"a b"', negate(word("a", "b"))),
        ("NOT NOT a", A),
        ("NOT NOT *", Everything()),
        ("NOT a b", join_and([negate(A), B])),
        ("a-b", word("a", "b")),
        ("a - b & c", join_and([A, B, C])),
        ("a : b", join_and([A, B])),
        ("and or not", join_and([word("and"), word("or"), word("not")])),
        ("ORLY ANDRE NOTRE", join_and([word("orly"), word("andre"), word("notre")])),
        ('"OR"', word("or")),
        ("* -a", join_and([Everything(), negate(A)])),
        ("title:a", word("a", field="title")),
        ("TITLE:Été", word("ete", field="title")),
        ("dataset: a", word("a", field="dataset")),
        ('column:"code postal"', word("code", "postal", field="column")),
        ("column:code_postal", word("code", "postal", field="column")),
        ("organization:insee", word("insee", field="organisation")),
        ("organisation:insee", word("insee", field="organisation")),
        ("format:SIRET", Exact("format", "siret")),
        ("format:code_postal", Exact("format", "code_postal")),
        ("type:date", Exact("type", "date")),
        ("domain:www.Data.gouv.fr", Exact("domain", "www.data.gouv.fr")),
        ("status:failed", Exact("status", "failed")),
        ("-status:ok", negate(Exact("status", "ok"))),
        ("rows:5", Range("rows", 5, 5)),
        ("rows:=5", Range("rows", 5, 5)),
        ("rows:>1000", Range("rows", 1001)),
        ("rows: >= 1000", Range("rows", 1000)),
        ("rows:<1000", Range("rows", None, 999)),
        ("rows:<=1000", Range("rows", None, 1000)),
        ("rows:10..20", Range("rows", 10, 20)),
        ("rows:10..", Range("rows", 10)),
        ("rows:..20", Range("rows", None, 20)),
        ("columns:>3", Range("columns", 4)),
        ("size:>1MB", Range("size", 1_000_001)),
        ("size:>=1.5Mo", Range("size", 1_500_000)),
        ("size:1KiB..2g", Range("size", 1024, 2 * 10**9)),
        ('size:<"2 kb"', Range("size", None, 1999)),
        ("modified:2026", Range("modified", day(2026, 1, 1), day(2027, 1, 1) - 1)),
        ("modified:>2026", Range("modified", day(2027, 1, 1))),
        ("modified:2026-12", Range("modified", day(2026, 12, 1), day(2027, 1, 1) - 1)),
        ("modified:2026-02", Range("modified", day(2026, 2, 1), day(2026, 3, 1) - 1)),
        ("modified:>2026-01-01", Range("modified", day(2026, 1, 2))),
        ("modified:>=2026-01-01", Range("modified", day(2026, 1, 1))),
        ("modified:<2026-01-01", Range("modified", None, day(2026, 1, 1) - 1)),
        ("modified:2025..2026-06", Range("modified", day(2025, 1, 1), day(2026, 7, 1) - 1)),
        ("modified:>2026-01-01T10:30", Range("modified", day(2026, 1, 1, 10, 31))),
        ("modified:>=2026-01-01T10:30:15.250Z", Range("modified", day(2026, 1, 1, 10, 30, 15) + 250)),
    ],
)
def test_a_query_is_read(text, node):
    assert parse_query(text) == node
    assert parse_query(write_query(node)) == node


@pytest.mark.parametrize(
    ("text", "at", "why"),
    [
        ("(a", 3, "the end where `)` should be"),
        ("a)", 2, "`)` where the end should be"),
        ("()", 2, "`)` where a word or a field should be"),
        ("a OR", 5, "the end where a word or a field should be"),
        ("a OR  ", 5, "the end"),
        ("AND", 1, "`AND` where a word or a field should be; quote it"),
        ("a OR AND b", 6, "`AND` where a word or a field"),
        ("a AND AND b", 7, "`AND` where"),
        ("NOT", 4, "the end where a word or a field"),
        ('a "b', 3, "this quote is not closed"),
        ('column:"b', 8, "this quote is not closed"),
        ("colum:b", 1, "there is no field colum; is column meant?"),
        ("a http://b", 3, "there is no field http; quote words with a colon; the fields are title,"),
        ("l'eau:b", 6, "`:` comes after the name of a field"),
        ("eco*", 4, "`*` must stand alone"),
        ("*a", 1, "`*` must stand alone"),
        ("column:eco*", 11, "`*` must stand alone"),
        ("format:*", 8, "`*` must stand alone"),
        ("rows > 3", 6, "`>` comes after a field and a colon, such as rows:>1000"),
        ("rows>3", 5, "`>` comes after"),
        ("a=b", 2, "`=` comes after"),
        ("title:>a", 7, "`>` compares numbers and dates; title holds words"),
        ("format:=a", 8, "format holds a whole value"),
        ("format:", 8, "the end where a value should be"),
        ("format:(a)", 8, "`(` where a value should be"),
        ("column:''", 8, "no word in ''"),
        ('format:"-"', 8, 'no value in "-"'),
        ("status:fialed", 8, "status is one of ok, unchanged, skipped, failed"),
        ("rows:many", 6, "many where a whole number such as 1000"),
        ("rows:-1", 6, "-1 where a whole number"),
        ("rows:1.5", 6, "1.5 where a whole number"),
        ("rows:²", 6, "² where a whole number"),
        ("rows:>1..2", 7, "1..2 where a whole number"),
        ("rows:..", 6, "`..` needs a bound"),
        ("rows:20..10", 6, "the range ends before it begins"),
        ("rows:10..x", 10, "x where a whole number"),
        ("rows:<0", 7, "nothing is less than 0"),
        (f"rows:{MAX_NUMBER + 1}", 6, "is more than anything has"),
        ("size:9999999999999T", 6, "is more than anything has"),
        ("size:1X", 6, "1X where a size such as >1MB"),
        ('size:""', 6, "nothing where a size"),
        ("modified:yesterday", 10, "yesterday where a date such as 2026"),
        ("modified:2026-02-30", 10, "2026-02-30 where a date"),
        ("modified:9999", 10, "9999 where a date"),
        ("modified:0999", 10, "0999 where a date"),
        ("modified:<1000", 11, "nothing is less than 1000"),
        ("& +", 1, "there is no word to look for"),
        ("\ud800", 1, "there is no word to look for"),
        ("a" * (MAX_QUERY_CHARS + 1), MAX_QUERY_CHARS + 1, "a query has 1,000 characters at most, this one 1,001"),
        ("a " * (MAX_TERMS + 1), 1, "there are more than 50 words and fields"),
        ("(a OR b) " * (MAX_TERMS // 2 + 1), 1, "there are more than 50 words and fields"),
        ("column:" + "-".join("a" * 51), 8, "there are more than 50 words in it"),
        ("(a -" * MAX_DEPTH + "a" + ")" * MAX_DEPTH, 1, "too deeply: 20"),
    ],
)
def test_an_error_points_at_the_character(text, at, why):
    with pytest.raises(QueryError) as caught:
        parse_query(text)
    first, shown, pointer = caught.value.message.split("\n")
    assert first.startswith(f"the query cannot be read at character {at}: ")
    assert why in first
    assert (caught.value.position, caught.value.code, caught.value.field) == (at - 1, "query", "q")
    under = shown[len(pointer) - 1 :]
    assert pointer.strip() == "^"
    assert under == re.sub(r"[^ -~]", lambda found: found[0] if found[0].isprintable() else " ", text[at - 1 : at + 39])


_WORD = st.text(min_size=1, max_size=8).map(fold_words).filter(bool).map(lambda found: tuple(found[:4]))
_NAMES = {kind: [name for name, each in FIELDS.items() if each is kind] for kind in FieldKind}
_TIMES = st.integers(day(1000, 1, 2), day(9999, 1, 1))
_NUMBERS = st.integers(0, MAX_NUMBER)


@st.composite
def _range(draw: st.DrawFn) -> Range:
    field = draw(st.sampled_from([*_NAMES[FieldKind.NUMBER], *_NAMES[FieldKind.SIZE], *_NAMES[FieldKind.DATE]]))
    numbers = _TIMES if FIELDS[field] is FieldKind.DATE else _NUMBERS
    low, high = sorted([draw(numbers), draw(numbers)])
    return draw(st.sampled_from([Range(field, low, high), Range(field, low), Range(field, None, high)]))


_EXACT = (
    st.text('ab-_./é"*() :', min_size=1, max_size=6)
    .map(lambda text: fold_value(text.replace('"', "")))
    .filter(fold_words)
)
LEAVES = st.one_of(
    st.builds(Words, _WORD, st.sampled_from([None, *_NAMES[FieldKind.TEXT]])),
    st.builds(Exact, st.sampled_from([name for name in _NAMES[FieldKind.EXACT] if name != "status"]), _EXACT),
    st.builds(Exact, st.just("status"), st.sampled_from([status.value for status in Status])),
    _range(),
    st.just(Everything()),
)


def _joined(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    several = st.lists(inner, min_size=2, max_size=4)
    return several.map(join_and) | several.map(join_or) | inner.map(negate)


NODES = st.recursive(LEAVES, _joined, max_leaves=12)


@given(NODES)
@settings(deadline=None)
def test_what_is_written_is_read_as_the_same(node):
    text = write_query(node)
    if len(text) <= MAX_QUERY_CHARS:
        assert parse_query(text) == node


PIECES = st.sampled_from(
    ["a", "Été", "AND ", " OR ", "NOT ", "-", "(", ")", '"', ":", "*", " ", ">", "<=", "..", "10", "2026-01", "1MB"]
    + [f"{name}:" for name in FIELDS]
)
TEXTS = st.text(max_size=40) | st.lists(PIECES | st.characters(), max_size=25).map("".join)


@given(TEXTS)
@settings(max_examples=1000, deadline=None)
def test_any_text_is_read_or_refused_with_a_place(text):
    read: Node | QueryError
    try:
        read = parse_query(text)
    except QueryError as error:
        read = error
    if isinstance(read, QueryError):
        assert 0 <= read.position <= len(text)
        return
    assert depth(read) <= MAX_DEPTH
    assert sum(1 for _ in leaves(read)) <= MAX_TERMS
    if len(write_query(read)) <= MAX_QUERY_CHARS:
        assert parse_query(write_query(read)) == read


@given(st.text(max_size=40))
def test_folding_again_changes_nothing(text):
    assert fold(fold(text)) == fold(text)
    assert fold_value(fold_value(text)) == fold_value(text)
    assert fold_words(" ".join(fold_words(text))) == fold_words(text)
    assert fold_words(text.upper()) == fold_words(text.upper().lower())


@given(st.text("aéÉœß'_- ½²\u0301", max_size=20))
def test_the_words_of_a_text_are_found_where_they_stand(text):
    found = list(word_positions(text))
    assert [word for _, _, word in found] == fold_words(text)
    assert all(word in fold_words(text[begin:end]) for begin, end, word in found)


@pytest.mark.parametrize(
    ("plural", "singular"),
    [
        ("communes", "commune"),
        ("Écoles", "ECOLE"),
        ("réseaux", "réseau"),
        ("eaux", "eau"),
        ("départementaux", "départemental"),
        ("travaux", "travail"),
        ("lieux", "lieu"),
        ("bijoux", "bijou"),
        ("codes_postaux", "code-postal"),
        ("stops", "stop"),
    ],
)
def test_a_plural_is_its_singular(plural, singular):
    assert fold_words(plural) == fold_words(singular)


@pytest.mark.parametrize("word", ["bus", "gaz", "taux", "express", "siret", "2024s", "prix"])
def test_what_is_no_plural_is_left_alone(word):
    assert fold_words(word) == [word]


def test_what_is_not_wanted_is_left_out():
    assert list(positive_terms(parse_query("a -b (c OR NOT format:x) rows:1"))) == [A, C, Range("rows", 1, 1)]


def test_a_page_has_limits():
    assert check_page(-1, -5) == (0, 0)
    assert check_page(100, 9900) == (100, 9900)
    with pytest.raises(FlowError, match="a search reaches 10,000"):
        check_page(100, 9901)


def test_orders_and_facets_have_names():
    assert parse_sort("rows") is Sort.ROWS
    assert parse_facets(["status", "all", "status"]) == [Facet.STATUS, Facet.FORMAT, Facet.ORGANISATION, Facet.DOMAIN]
    with pytest.raises(FlowError, match="'best' is not an order; the orders are relevance, newest, rows, size, title"):
        parse_sort("best")
    with pytest.raises(FlowError, match="'x' is not a facet; the facets are format, organisation, domain, status, all"):
        parse_facets(["status", "x"])
