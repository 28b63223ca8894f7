"""The searchable texts of a document, folded, so that all indexes give the same results. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from datafab.core.document import Document
from datafab.index.folding import fold_value, fold_words

#: Characters of a title by which results are sorted.
SORT_KEY_CHARS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Searchable:
    """The values of a document for the fields of the query language (``query.py``)."""

    #: words, separated by blanks; separate texts, so that no phrase spans two of them
    title: str
    dataset: tuple[str, ...]
    organisation: str
    column: tuple[str, ...]
    #: the words of the formats, for searches without a field
    formats: tuple[str, ...]
    #: whole values of the fields ``format``, ``type``, ``domain`` and ``status``
    exact: dict[str, tuple[str, ...]]
    #: folded title, to sort by
    title_key: str

    @classmethod
    def of(cls, document: Document) -> Searchable:
        """Fold a document."""
        types = {_key(kind) for kind in {column.python_type for column in document.cols} if kind}
        return cls(
            title=_join_words(document.title),
            dataset=tuple(_join_words(text) for text in (document.dataset_title, document.dataset_id) if text),
            organisation=_join_words(document.organisation or ""),
            column=tuple(map(_name, document.header)),
            formats=tuple(_name(name) for name in document.formats),
            exact={
                "format": tuple(_key(name) for name in document.formats),
                "type": tuple(sorted(types)),
                "domain": (_key(document.domain),) if document.domain else (),
                "status": (document.status.value,),
            },
            title_key=fold_value(document.title)[:SORT_KEY_CHARS],
        )


def _join_words(text: str) -> str:
    return " ".join(fold_words(text))


# Cached, as documents share most names of columns, formats, types and hosts.
_name, _key = lru_cache(maxsize=8192)(_join_words), lru_cache(maxsize=1024)(fold_value)
