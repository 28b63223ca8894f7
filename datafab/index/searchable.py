"""What a search looks at in a document, folded, so that every index finds the same. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from datafab.core.document import Document
from datafab.index.folding import key, words

#: Characters of a title that decide where it stands among others.
SORTED_BY = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Searchable:
    """The fields of the language (``query.py``) as a document has them."""

    #: words, with a blank between them; several texts are apart: no phrase goes from one to the next
    title: str
    dataset: tuple[str, ...]
    organisation: str
    column: tuple[str, ...]
    #: the words of the formats, for a search that names no field
    formats: tuple[str, ...]
    #: whole values of the fields ``format``, ``type``, ``domain`` and ``status``
    exact: dict[str, tuple[str, ...]]
    #: by which titles are sorted
    title_key: str

    @classmethod
    def of(cls, document: Document) -> Searchable:
        """Fold a document."""
        types = {_key(kind) for kind in {column.python_type for column in document.cols} if kind}
        return cls(
            title=_words(document.title),
            dataset=tuple(_words(text) for text in (document.dataset_title, document.dataset_id) if text),
            organisation=_words(document.organisation or ""),
            column=tuple(map(_name, document.header)),
            formats=tuple(_name(name) for name in document.formats),
            exact={
                "format": tuple(_key(name) for name in document.formats),
                "type": tuple(sorted(types)),
                "domain": (_key(document.domain),) if document.domain else (),
                "status": (document.status.value,),
            },
            title_key=key(document.title)[:SORTED_BY],
        )


def _words(text: str) -> str:
    return " ".join(words(text))


# Names of columns, formats, types and hosts are mostly those of other documents.
_name, _key = lru_cache(maxsize=8192)(_words), lru_cache(maxsize=1024)(key)
