"""Where in a document the words of a query stand. Pure; the same for every index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from datafab.domain.document import Document, Highlight
from datafab.domain.folding import key, written
from datafab.domain.query import Exact, Leaf, Node, Words, wanted

#: Of one document: a wide table has more.
MAX_SHOWN = 50


def highlights(query: Node, documents: Iterable[Document]) -> dict[str, tuple[Highlight, ...]]:
    """Return what of each document made it a result, by its source; nothing of one that no word has led to."""
    terms = list(wanted(query))
    found = ((document.source, tuple(islice(_of(document, terms), MAX_SHOWN))) for document in documents)
    return {source: parts for source, parts in found if parts}


def _of(document: Document, terms: list[Leaf]) -> Iterator[Highlight]:
    texts = {"title": document.title, "dataset": document.dataset_title, "organisation": document.organisation}
    phrases = [term for term in terms if isinstance(term, Words)]
    for field, text in texts.items():
        if spans := _spans(text or "", field, phrases):
            yield Highlight(field=field, spans=spans)
    yield from _columns(document, phrases, {(term.field, term.value) for term in terms if isinstance(term, Exact)})


def _columns(document: Document, phrases: list[Words], exact: set[tuple[str, str]]) -> Iterator[Highlight]:
    for column in document.cols:
        if spans := _spans(column.name, "column", phrases):
            yield Highlight(field="column", position=column.position, spans=spans)
        for field, value in (("format", column.format), ("type", column.python_type)):
            if value and (field, key(value)) in exact:
                yield Highlight(field=field, position=column.position, spans=((0, len(value)),))


def _spans(text: str, field: str, phrases: list[Words]) -> tuple[tuple[int, int], ...]:
    asked = [phrase.words for phrase in phrases if phrase.field in {None, field}]
    if not text or not asked:
        return ()
    there = list(written(text))
    found = set()
    for phrase in asked:
        for first in range(len(there) - len(phrase) + 1):
            run = there[first : first + len(phrase)]
            if all(part[2] == word for part, word in zip(run, phrase, strict=True)):
                found.add((run[0][0], run[-1][1]))
    return tuple(sorted(found))
