"""What every index can do, whatever keeps it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from enum import StrEnum
from typing import Protocol

from datafab.core.document import Document, Results
from datafab.errors import Fatal, Retriable
from datafab.index.query import Facet, Sort


class Outcome(StrEnum):
    """What became of a document that was put."""

    OK = "ok"
    #: a newer one stands there
    STALE = "stale"


#: Values of a facet that are counted: the most frequent.
MAX_FACET = 20
#: Of one document: what became of it, or why it was refused (for good, or for now).
Put = Outcome | Fatal | Retriable


class Index(Protocol):
    """Documents, one per source, to be searched. Safe for threads and forks; opened when it is first used."""

    def ping(self) -> None:
        """Raise Retriable or FlowError when the index cannot be used."""

    def close(self) -> None:
        """Close what is open; a later use opens it anew."""

    def put_many(self, documents: Iterable[Document]) -> list[Put]:
        """Put documents; return what became of each. An older version never replaces a newer one.

        Raises:
            Retriable: the index is away, and nothing is known of any document.
        """

    def get(self, source: str) -> Document | None:
        """Return a source's document."""

    def delete(self, source: str, *, version: int | None = None) -> bool:
        """Forget a source's document, unless that is of a later version than this; False: nothing was forgotten."""

    def documents(self) -> Iterator[Document]:
        """Yield every document, in no order."""

    def count(self) -> int:
        """Return how many documents there are."""

    def refresh(self) -> None:
        """Let searches see what was put."""

    def search(
        self,
        query: str,
        limit: int = 20,
        offset: int = 0,
        *,
        sort: Sort = Sort.RELEVANCE,
        facets: Collection[Facet] = (),
    ) -> Results:
        """Find documents.

        Args:
            query: in the language of ``docs/search.md``; empty or ``*``: everything.
            limit: documents to return at most.
            offset: documents to leave out first.
            sort: their order.
            facets: what all results are to be counted by.

        Raises:
            FlowError: the query cannot be read, or the page is too far.
            Retriable: the index is away.
        """
