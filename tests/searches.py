"""What a search finds, on whatever index: a class of tests to inherit from, with a fixture ``index``."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datafab.core.document import Column, Document
from datafab.core.item import Status
from datafab.errors import FlowError
from datafab.index import Index
from datafab.index.query import And, Everything, Exact, Facet, Node, Not, Or, Range, Sort, Words, depth
from datafab.index.query_parser import MAX_DEPTH, MAX_TERMS, QueryError, parse_query, write_query
from datafab.index.searchable import Searchable


def doc(number: int | str, title: str, **facts) -> Document:
    facts = {"version": number if isinstance(number, int) else 1, "status": Status.OK} | facts
    columns = facts.pop("columns", {})
    cols = tuple(
        Column(name=name, position=position, format=form, python_type=kind)
        for position, (name, (form, kind)) in enumerate(columns.items())
    )
    facts |= {"cols": cols, "header": tuple(columns), "nb_columns": len(columns) or None}
    facts["formats"] = tuple(sorted({form for form, _ in columns.values()}))
    return Document(source=f"file:{number}", title=title, **facts)


TEXT, DATE, INT = ("string", "string"), ("date", "date"), ("int", "int")
TOWNS = (
    doc(
        1,
        "Établissements de santé",
        columns={"code postal": ("code_postal", "string"), "Siret": ("siret", "string"), "nom": TEXT},
        total_lines=10,
        filesize=1000,
        organisation="Ville de Sète",
        domain="data.sete.fr",
        modified="2026-01-31T10:00:00Z",
    ),
    doc(
        2,
        "Écoles & collèges",
        columns={"code": ("code_commune", "string"), "postal": INT, "ouverture": DATE},
        total_lines=2000,
        filesize=2_000_000,
        organisation="Ville de Sète",
        domain="data.sete.fr",
        modified="2025-06-01T00:00:00Z",
    ),
    doc(
        3,
        "Naissances",
        columns={"date_naissance": ("datetime_naive", "datetime"), "œuvre": TEXT},
        total_lines=2000,
        filesize=500,
        organisation="Métropole de Lyon",
        domain="www.data.gouv.fr",
        dataset_title="Population : naissances",
        dataset_id="5de8f397634f4164071119c5",
    ),
    doc(4, "Rien", dataset_title="Données de l'Hérault", status=Status.FAILED, domain="www.data.gouv.fr"),
    doc(5, "école", columns={"x": ("siren", "string")}, total_lines=0, status=Status.UNCHANGED),
)
FINDS = [
    ("", "12345"),
    (" * ", "12345"),
    ("etablissements", "1"),
    ("ETABLISSEMENTS sante", "1"),
    ("E\u0301coles", "25"),
    ("ecoles sante", ""),
    ("ecoles OR sante", "125"),
    ("ecoles collège", "2"),
    ("ECOLE", "25"),
    ("établissement", "1"),
    ("herault", "4"),
    ("sete", "12"),
    ("ville de sete", "12"),
    ("code postal", "12"),
    ('"code postal"', "1"),
    ('"postal code"', ""),
    ("code_postal", "1"),
    ("oeuvre", "3"),
    ("OEUVRE", "3"),
    ("siret", "1"),
    ("format:siret", "1"),
    ("format:SIRET nom", "1"),
    ("format:code_postal", "1"),
    ("format:code", ""),
    ("format:date", "2"),
    ("format:datetime_naive", "3"),
    ("format:siret format:code_postal", "1"),
    ("format:siret OR format:siren", "15"),
    ("-format:siret", "2345"),
    ("NOT (format:siret OR format:siren)", "234"),
    ("type:date", "2"),
    ("type:string", "1235"),
    ("type:string -type:int", "135"),
    ('column:"code postal"', "1"),
    ("column:code_postal", "1"),
    ("column:code", "12"),
    ("column:naissance", "3"),
    ('"date naissance"', "3"),
    ("column:ecoles", ""),
    ("title:ecoles", "25"),
    ("title:sete", ""),
    ("organisation:sete", "12"),
    ('organization:"métropole de lyon"', "3"),
    ("dataset:herault", "4"),
    ("dataset:5de8f397634f4164071119c5", "3"),
    ('dataset:"naissances 5de8f397634f4164071119c5"', ""),
    ("domain:data.sete.fr", "12"),
    ("domain:data", ""),
    ("status:failed", "4"),
    ("status:ok -format:siret", "23"),
    ("rows:>1000", "23"),
    ("rows:2000", "23"),
    ("rows:<2000", "15"),
    ("rows:0", "5"),
    ("rows:0..10", "15"),
    ("NOT rows:>1000", "145"),
    ("columns:>=3", "12"),
    ("columns:>3000000000", ""),
    ("columns:<3000000000 ecoles", "25"),
    ("columns:2..3000000000", "123"),
    ("NOT columns:>3000000000", "12345"),
    ("size:>1MB", "2"),
    ("size:..1KB", "13"),
    ("modified:2026", "1"),
    ("modified:<2026", "2"),
    ("modified:2026-01-31", "1"),
    ("modified:>2026-01-31", ""),
    ("rows:>1000 ecoles", "2"),
    ("rows:>1000 OR sante", "123"),
    ("(rows:>1000 OR sante) -naissances", "12"),
    ("NOT (rows:>1000 OR sante)", "45"),
    ("(rows:>1000 ecole) OR (rows:10 sante) OR status:failed", "124"),
    ("* rows:10", "1"),
    ("* OR ecoles", "12345"),
    ("NOT *", ""),
    ("-rows:10 -ecoles -herault", "3"),
    ("* * -ecoles", "134"),
]
#: Of the documents that are made by chance, and of the queries for them.
VOCABULARY = ("commune", "Écoles", "code", "postal", "eau", "l'eau", "œuvre")
FORMATS = ("siret", "code_postal", "date", "string")


def by_chance(count: int, seed: int = 1) -> list[Document]:
    """Return documents of few words, so that queries of the same words find some."""
    dice = random.Random(seed)

    def text(most: int) -> str:
        return " ".join(dice.choice(VOCABULARY) for _ in range(dice.randint(1, most)))

    def one(number: int) -> Document:
        columns = {text(2): (dice.choice(FORMATS), dice.choice(["int", "date"])) for _ in range(dice.randint(0, 4))}
        modified = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=dice.randint(-400, 400))
        return doc(
            number,
            text(4),
            columns=columns,
            dataset_title=dice.choice([None, text(2)]),
            organisation=dice.choice([None, text(2)]),
            domain=dice.choice([None, "a.fr", "b-c.fr"]),
            status=dice.choice(list(Status)),
            total_lines=dice.choice([None, 0, 10, 1000]),
            filesize=dice.choice([None, 0, 10, 1000]),
            modified=dice.choice([None, modified]),
        )

    return [one(number) for number in range(count)]


def true_of(node: Node, document: Document) -> bool:
    """Say whether a document is what a query asks for: what every index must find."""
    match node:
        case And(nodes) | Or(nodes):
            return (all if isinstance(node, And) else any)(true_of(part, document) for part in nodes)
        case Not(inner):
            return not true_of(inner, document)
        case Range():
            return _within(node, document)
        case Exact(field, value):
            return value in Searchable.of(document).exact[field]
        case Words(words, field):
            return any(f" {' '.join(words)} " in f" {text} " for text in _texts(document, field))
    return True


def _within(asked: Range, document: Document) -> bool:
    names = {"rows": "total_lines", "columns": "nb_columns", "size": "filesize"}
    value = getattr(document, names.get(asked.field, asked.field))
    if isinstance(value, datetime):
        value = round(value.timestamp() * 1000)
    high = value if asked.high is None else asked.high
    return value is not None and (asked.low or 0) <= value <= high


def _texts(document: Document, field: str | None) -> Iterator[str]:
    seen = Searchable.of(document)
    texts = {
        "title": (seen.title,),
        "dataset": seen.dataset,
        "organisation": (seen.organisation,),
        "column": seen.column,
        "formats": seen.formats,
    }
    for name, parts in texts.items():
        if field in {None, name}:
            yield from parts


_LEAVES = st.one_of(
    st.builds(
        Words,
        st.lists(
            st.sampled_from(["commune", "ecole", "code", "postal", "eau", "l", "siret", "rien"]),
            min_size=1,
            max_size=2,
        ).map(tuple),
        st.sampled_from([None, None, "title", "dataset", "organisation", "column"]),
    ),
    st.builds(Exact, st.just("format"), st.sampled_from(FORMATS)),
    st.builds(Exact, st.just("type"), st.sampled_from(["int", "date", "none"])),
    st.builds(Exact, st.just("domain"), st.sampled_from(["a.fr", "b-c.fr"])),
    st.builds(Exact, st.just("status"), st.sampled_from([status.value for status in Status])),
    st.builds(Range, st.sampled_from(["rows", "size"]), st.sampled_from([0, 1, 10]), st.sampled_from([None, 10, 999])),
    st.builds(Range, st.just("columns"), st.none(), st.integers(0, 4)),
    st.just(Range("modified", round(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000))),
    st.just(Everything()),
)


def _joined(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    several = st.lists(inner, min_size=2, max_size=3).map(tuple)
    return several.map(And) | several.map(Or) | inner.map(Not)


QUERIES = st.recursive(_LEAVES, _joined, max_leaves=8)


def sources(hits) -> list[str]:
    return [hit.source.removeprefix("file:") for hit in hits]


class SearchContract:
    """The language, orders, pages, facets and highlights of an index.

    An index that shows what was put only after a while has a fixture ``shown``, called after it.
    """

    @pytest.fixture
    def shown(self):
        return lambda: None

    @pytest.fixture
    def towns(self, index, shown) -> Index:
        index.put_many(TOWNS)
        shown()
        return index

    def test_documents_are_found(self, towns):
        for query, found in FINDS:
            results = towns.search(query)
            assert sorted(sources(results.hits)) == list(found), query
            assert results.total == len(found), query

    def test_any_query_finds_what_it_asks_for(self, index, shown):
        documents = by_chance(60)
        index.put_many(documents)
        shown()

        @given(QUERIES)
        @settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=150)
        def agree(node: Node) -> None:
            results = index.search(write_query(node), limit=100)
            wanted = {document.source for document in documents if true_of(node, document)}
            assert {hit.source for hit in results.hits} == wanted
            assert results.total == len(wanted)

        agree()

    def test_the_deepest_and_the_longest_query_are_answered(self, towns):
        levels = "ecole"
        for level in range(MAX_DEPTH - 1):
            levels = f"({levels} {'OR' if level % 2 else 'AND'} rows:>=0)"
        assert depth(parse_query(levels)) == MAX_DEPTH
        assert towns.search(levels).total == 4
        longest = " OR ".join(f'"ecole {word}"' for word in range(MAX_TERMS - 1)) + " OR sante"
        assert sources(towns.search(longest).hits) == ["1"]

    def test_a_query_that_cannot_be_read_is_an_error(self, towns):
        with pytest.raises(QueryError, match="character 5: the end where a word"):
            towns.search("a OR")

    @pytest.mark.parametrize("letter", ["x", "\U00010330", "é"])
    def test_a_very_long_word_is_one_word(self, index, shown, letter):
        index.put_many([doc(1, letter * 300), doc(2, f"{letter * 255} {letter * 45}")])
        shown()
        assert sources(index.search(letter * 45).hits) == ["2"]
        assert sources(index.search(letter * 60).hits) == []
        assert sorted(sources(index.search(letter * 300).hits)) == ["1", "2"]
        assert sources(index.search(f'"{letter * 300} {letter * 45}"').hits) == ["2"]

    def test_results_come_in_pages_the_newest_first(self, towns):
        pages = [towns.search("", limit=2, offset=offset) for offset in (0, 2, 4, 6)]
        assert [sources(page.hits) for page in pages] == [["5", "4"], ["3", "2"], ["1"], []]
        assert {page.total for page in pages} == {5}
        assert towns.search("ecoles", limit=-1, offset=-1).hits == ()
        assert towns.search("ecoles", limit=0).total == 2
        with pytest.raises(FlowError, match="a search reaches 10,000"):
            towns.search("", limit=10**30)

    @pytest.mark.parametrize(
        ("sort", "order"),
        [("newest", "54321"), ("rows", "32154"), ("size", "21354"), ("title", "52134"), ("relevance", "54321")],
    )
    def test_results_are_sorted(self, towns, sort, order):
        assert sources(towns.search("", sort=Sort(sort)).hits) == list(order)
        pages = [towns.search("* OR ecoles", limit=1, offset=at, sort=Sort(sort)).hits for at in range(5)]
        if sort != "relevance":
            assert [source for hits in pages for source in sources(hits)] == list(order)

    def test_the_best_match_comes_first(self, index, shown):
        index.put_many([doc("column", "x", columns={"communes": TEXT}), doc("title", "communes")])
        shown()
        assert sources(index.search("communes").hits) == ["title", "column"]
        assert sources(index.search("communes OR rows:5").hits) == ["title", "column"]
        assert sources(index.search("communes -rows:5").hits) == ["title", "column"]

    def test_a_filter_makes_no_match_better(self, towns):
        assert sources(towns.search("format:siret OR format:siren OR status:failed").hits) == ["5", "4", "1"]

    def test_results_are_counted(self, towns):
        found = towns.search("", limit=1, facets=list(Facet))
        counts = {name: {one.value: one.count for one in values} for name, values in found.facets.items()}
        assert counts == {
            "format": {
                "string": 2,
                **dict.fromkeys(sorted({f for town in TOWNS for f in town.formats} - {"string"}), 1),
            },
            "organisation": {"Ville de Sète": 2, "Métropole de Lyon": 1},
            "domain": {"data.sete.fr": 2, "www.data.gouv.fr": 2},
            "status": {"ok": 3, "failed": 1, "unchanged": 1},
        }
        assert [one.value for one in found.facets["status"]] == ["ok", "failed", "unchanged"]
        assert towns.search("collèges", facets=[Facet.STATUS]).dump()["facets"] == {
            "status": [{"value": "ok", "count": 1}]
        }
        assert towns.search("nothing", facets=[Facet.STATUS]).facets == {"status": ()}
        assert towns.search("ecoles").facets == {}

    def test_the_most_frequent_are_counted(self, index, shown):
        index.put_many(doc(n, "x", columns={f"c{m}": (f"f{m:02}", "int") for m in range(n + 1)}) for n in range(25))
        shown()
        (counts,) = index.search("", facets=[Facet.FORMAT]).facets.values()
        assert [(one.value, one.count) for one in counts] == [(f"f{n:02}", 25 - n) for n in range(20)]

    def test_what_matched_is_shown(self, towns):
        found = towns.search('sante column:"code postal" format:siret type:string organisation:sete')
        assert found.dump()["highlights"] == {
            "file:1": [
                {"field": "title", "spans": [[18, 23]]},
                {"field": "organisation", "spans": [[9, 13]]},
                {"field": "column", "position": 0, "spans": [[0, 11]]},
                {"field": "type", "position": 0, "spans": [[0, 6]]},
                {"field": "format", "position": 1, "spans": [[0, 5]]},
                {"field": "type", "position": 1, "spans": [[0, 6]]},
                {"field": "type", "position": 2, "spans": [[0, 6]]},
            ]
        }
        assert towns.search("rows:>1000 -herault").highlights == {}
