"""Fold texts for searching: remove case, accents, punctuation and plurals. Pure.

Documents and queries are folded here before they are passed to an index, so that all indexes give the same results. An
index stores folded texts, so a change here needs a new schema version of both indexes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

#: Letters that Unicode does not decompose, and their replacements.
_LIGATURES = str.maketrans({"œ": "oe", "æ": "ae", "ø": "o", "ł": "l", "đ": "d"})
#: Maximum characters of a word: Elasticsearch splits words of more than 255, and counts some characters twice.
MAX_WORD_CHARS = 120
#: Shorter words are not treated as plurals: ``bus``, ``gaz``.
MIN_PLURAL_CHARS = 4
#: Endings of plurals; the first match counts: ``réseaux``, ``locaux`` (not ``taux``), ``jeux``, ``codes`` (not
#: ``express``).
PLURAL_ENDINGS = (
    (re.compile("travaux$"), "travail"),
    (re.compile("(?<=[ey])aux$"), "au"),
    (re.compile("(?<=...)aux$"), "al"),
    (re.compile("(?<=[eo])ux$"), "u"),
    (re.compile("(?<=[^s])s$"), ""),
)
#: The last letters of all plurals.
_PLURAL_LETTERS = "sx"
_WORD = re.compile(r"[^\W_]+")
#: A word in a text, including accents that are characters of their own.
_WORD_WITH_ACCENTS = re.compile(r"[^\W_](?:[^\W_]|[\u0300-\u036f])*")


def fold(text: str) -> str:
    """Return a text without case and accents; other characters are kept."""
    if text.isascii():
        return text.lower()
    bare = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(char for char in bare if unicodedata.category(char) != "Mn").translate(_LIGATURES)


def fold_words(text: str) -> list[str]:
    """Return the folded words of a text: runs of letters and digits, in the singular."""
    folded = fold(text)
    found = _WORD.findall(folded)
    if len(folded) > MAX_WORD_CHARS:
        found = [word[:MAX_WORD_CHARS] for word in found]
    return [_to_singular(word) if word[-1] in _PLURAL_LETTERS else word for word in found]


@lru_cache(maxsize=4096)
def _to_singular(word: str) -> str:
    """Return the common form of the plural and the singular of a French word, which suits most English words, too."""
    if len(word) < MIN_PLURAL_CHARS or not word.isalpha():
        return word
    for plural, singular in PLURAL_ENDINGS:
        if plural.search(word):
            return _to_singular(plural.sub(singular, word))  # so that folding is idempotent
    return word


def fold_value(text: str) -> str:
    """Return a value without case, accents and repeated blanks."""
    return " ".join(fold(text).split())


def word_positions(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield the start, the end and the folded form of each word of a text."""
    for found in _WORD_WITH_ACCENTS.finditer(text):
        for word in _fold_word(found[0]):
            yield found.start(), found.end(), word


@lru_cache(maxsize=4096)
def _fold_word(word: str) -> tuple[str, ...]:
    return tuple(fold_words(word))
