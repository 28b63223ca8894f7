from __future__ import annotations

import pytest

from datafab.core.document import Column, Document
from datafab.index.highlight import MAX_HIGHLIGHTS, find_highlights
from datafab.index.query_parser import parse_query
from tests.searches import doc


def shown(query: str, document: Document) -> list[str]:
    """Return the marked parts of a document as they stand there."""
    texts = {"title": document.title, "dataset": document.dataset_title, "organisation": document.organisation}
    parts = []
    for one in find_highlights(parse_query(query), [document]).get(document.source, ()):
        column = None if one.position is None else document.cols[one.position]
        values = column and {"column": column.name, "format": column.format, "type": column.python_type}
        text = (values or texts)[one.field]
        parts += [f"{one.field}:{text[begin:end]}" for begin, end in one.spans]
    return parts


@pytest.mark.parametrize(
    ("query", "parts"),
    [
        ("reseau", ["title:Réseaux"]),
        ("travail travaux", ["title:travaux"]),
        ("oeuvre", ["title:Œuvre"]),
        ("eau", ["title:eau", "column:Eaux"]),
        ('"d eau"', ["title:d'eau"]),
        ('"eau travaux"', ["title:eau : travaux"]),
        ('"travaux eau"', []),
        ("column:eau", ["column:Eaux"]),
        ("title:eau -column:eau", ["title:eau"]),
        ("eau OR rows:5", ["title:eau", "column:Eaux"]),
        ("ete", ["column:e\u0301té"]),
        ("insee dataset:commune", ["dataset:COMMUNES", "organisation:INSEE"]),
        ("format:siret", ["format:siret"]),
        ("type:int -format:siret", ["type:int"]),
        ("*", []),
    ],
)
def test_what_matched_is_marked_as_it_is_written(query, parts):
    columns = {"Eaux": ("siret", "string"), "e\u0301té": ("int", "int")}
    document = doc(
        1, "Réseaux d'eau : travaux, Œuvre", columns=columns, dataset_title="COMMUNES", organisation="l'INSEE"
    )
    assert shown(query, document) == parts


def test_of_a_wide_table_only_some_is_marked():
    cols = tuple(Column(name=f"code {position}", position=position) for position in range(2000))
    document = Document(source="file:1", version=1, status="ok", title="x", cols=cols)
    assert len(find_highlights(parse_query("code"), [document])["file:1"]) == MAX_HIGHLIGHTS
