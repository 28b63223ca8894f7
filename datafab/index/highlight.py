"""Where in a document the words of a query stand. Pure; the same for every index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from datafab.core.document import Document, Highlight
from datafab.index.folding import fold, key, written
from datafab.index.query import Exact, Leaf, Node, Words, wanted

#: Of one document: a wide table has more.
MAX_SHOWN = 50
#: Fields of words.
TEXTS = ("title", "dataset", "organisation", "column")


def highlights(query: Node, documents: Iterable[Document]) -> dict[str, tuple[Highlight, ...]]:
    """Return what of each document made it a result, by its source; nothing of one that no word has led to."""
    terms = _Terms(query)
    found = ((document.source, tuple(islice(_of(document, terms), MAX_SHOWN))) for document in documents)
    return {source: parts for source, parts in found if parts}


class _Terms:
    """What a query asks for, by field."""

    def __init__(self, query: Node) -> None:
        terms = list(wanted(query))
        asked = [term for term in terms if isinstance(term, Words)]
        self.phrases = {field: [term.words for term in asked if term.field in {None, field}] for field in TEXTS}
        self.values = {field: _values(terms, field) for field in ("format", "type")}


def _values(terms: Iterable[Leaf], field: str) -> frozenset[str]:
    return frozenset(term.value for term in terms if isinstance(term, Exact) and term.field == field)


def _of(document: Document, terms: _Terms) -> Iterator[Highlight]:
    texts = {"title": document.title, "dataset": document.dataset_title, "organisation": document.organisation}
    for field, text in texts.items():
        if spans := _spans(text or "", terms.phrases[field]):
            yield Highlight(field=field, spans=spans)
    for column in document.cols:
        if spans := _spans(column.name, terms.phrases["column"]):
            yield Highlight(field="column", position=column.position, spans=spans)
        for field, value in (("format", column.format), ("type", column.python_type)):
            if value and terms.values[field] and key(value) in terms.values[field]:
                yield Highlight(field=field, position=column.position, spans=((0, len(value)),))


def _spans(text: str, phrases: Sequence[Sequence[str]]) -> tuple[tuple[int, int], ...]:
    folded = fold(text)
    there: list[tuple[int, int, str]] = []
    found = set()
    for phrase in phrases:
        # Most texts do not even have the beginning of a word, which its plural has too.
        if phrase[0][: max(1, len(phrase[0]) - 2)] not in folded:
            continue
        there = there or list(written(text))
        for first in range(len(there) - len(phrase) + 1):
            run = there[first : first + len(phrase)]
            if all(part[2] == word for part, word in zip(run, phrase, strict=True)):
                found.add((run[0][0], run[-1][1]))
    return tuple(sorted(found))
