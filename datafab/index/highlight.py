"""Find the words of a query in a document, to highlight them; the same for all indexes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from datafab.core.document import Document, Highlight
from datafab.index.folding import fold, fold_value, word_positions
from datafab.index.query import Exact, Leaf, Node, Words, positive_terms

#: Maximum number of highlights of a document, as a wide table may have more.
MAX_HIGHLIGHTS = 50
#: Fields that are searched by words.
TEXT_FIELDS = ("title", "dataset", "organisation", "column")


def find_highlights(query: Node, documents: Iterable[Document]) -> dict[str, tuple[Highlight, ...]]:
    """Return the matching parts of each document by its source; documents without any are left out."""
    terms = _QueryTerms(query)
    found = (
        (document.source, tuple(islice(_document_highlights(document, terms), MAX_HIGHLIGHTS)))
        for document in documents
    )
    return {source: parts for source, parts in found if parts}


class _QueryTerms:
    """The terms of a query by field."""

    def __init__(self, query: Node) -> None:
        terms = list(positive_terms(query))
        phrases = [term for term in terms if isinstance(term, Words)]
        self.phrases = {field: [term.words for term in phrases if term.field in {None, field}] for field in TEXT_FIELDS}
        self.values = {field: _exact_values(terms, field) for field in ("format", "type")}


def _exact_values(terms: Iterable[Leaf], field: str) -> frozenset[str]:
    return frozenset(term.value for term in terms if isinstance(term, Exact) and term.field == field)


def _document_highlights(document: Document, terms: _QueryTerms) -> Iterator[Highlight]:
    texts = {"title": document.title, "dataset": document.dataset_title, "organisation": document.organisation}
    for field, text in texts.items():
        if spans := _find_spans(text or "", terms.phrases[field]):
            yield Highlight(field=field, spans=spans)
    for column in document.cols:
        if spans := _find_spans(column.name, terms.phrases["column"]):
            yield Highlight(field="column", position=column.position, spans=spans)
        for field, value in (("format", column.format), ("type", column.python_type)):
            if value and terms.values[field] and fold_value(value) in terms.values[field]:
                yield Highlight(field=field, position=column.position, spans=((0, len(value)),))


def _find_spans(text: str, phrases: Sequence[Sequence[str]]) -> tuple[tuple[int, int], ...]:
    folded = fold(text)
    positions: list[tuple[int, int, str]] = []
    found = set()
    for phrase in phrases:
        # A quick test: most texts do not even contain the beginning of the word, which its plural has, too.
        if phrase[0][: max(1, len(phrase[0]) - 2)] not in folded:
            continue
        positions = positions or list(word_positions(text))
        for first in range(len(positions) - len(phrase) + 1):
            run = positions[first : first + len(phrase)]
            if all(part[2] == word for part, word in zip(run, phrase, strict=True)):
                found.add((run[0][0], run[-1][1]))
    return tuple(sorted(found))
