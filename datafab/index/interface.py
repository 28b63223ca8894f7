"""The interface of all indexes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from enum import StrEnum
from typing import Protocol

from datafab.core.document import Document, Results
from datafab.errors import Fatal, Retriable
from datafab.index.query import Facet, Sort


class PutOutcome(StrEnum):
    """The result of putting a document."""

    OK = "ok"
    #: the index has a newer version
    STALE = "stale"


#: Maximum number of values of a facet: the most frequent ones.
MAX_FACET_VALUES = 20
#: The result of putting a document, or why it was refused (permanently or temporarily).
PutResult = PutOutcome | Fatal | Retriable


class Index(Protocol):
    """An index of documents, one per source. Safe for threads and forks; opened on first use."""

    def ping(self) -> None:
        """Raise Retriable or FlowError if the index cannot be used."""

    def close(self) -> None:
        """Close the index; a later use opens it again."""

    def put_many(self, documents: Iterable[Document]) -> list[PutResult]:
        """Put documents; return the result of each. An older version never replaces a newer one.

        Raises:
            Retriable: the index is unavailable, and the result of every document is unknown.
        """

    def get(self, source: str) -> Document | None:
        """Return the document of a source."""

    def delete(self, source: str, *, version: int | None = None) -> bool:
        """Delete the document of a source, unless it has a later version; return whether it was deleted."""

    def documents(self) -> Iterator[Document]:
        """Yield all documents, in no particular order."""

    def count(self) -> int:
        """Return the number of documents."""

    def refresh(self) -> None:
        """Make all documents put so far visible to searches."""

    def search(
        self,
        query: str,
        limit: int = 20,
        offset: int = 0,
        *,
        sort: Sort = Sort.RELEVANCE,
        facets: Collection[Facet] = (),
    ) -> Results:
        """Search documents.

        Args:
            query: in the language of ``docs/search.md``; empty or ``*`` matches all documents.
            limit: maximum number of documents to return.
            offset: number of documents to skip first.
            sort: order of the documents.
            facets: fields whose values are counted over all results.

        Raises:
            FlowError: the query is invalid, or the page is out of reach.
            Retriable: the index is unavailable.
        """
