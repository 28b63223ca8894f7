"""Texts as a search sees them: without case, accents, punctuation and plurals. Pure.

Documents and queries are folded here before any index sees them, so that it does not matter which index it is. An index
keeps what was folded: who changes this has its schema changed too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

#: Letters that Unicode does not take apart, as people write them without them.
_LIGATURES = str.maketrans({"œ": "oe", "æ": "ae", "ø": "o", "ł": "l", "đ": "d"})
#: Characters of a word that count: Elasticsearch makes two of one with more than 255, and counts some characters twice.
LONGEST = 120
#: Shorter words are left alone: ``bus``, ``gaz``.
SHORTEST = 4
#: Endings of plurals, the first that fits: ``réseaux``, ``locaux`` (no ``taux``), ``jeux``, ``codes`` (no ``express``).
PLURALS = (
    (re.compile("travaux$"), "travail"),
    (re.compile("(?<=[ey])aux$"), "au"),
    (re.compile("(?<=...)aux$"), "al"),
    (re.compile("(?<=[eo])ux$"), "u"),
    (re.compile("(?<=[^s])s$"), ""),
)
#: What they all end with.
_PLURAL = "sx"
_WORD = re.compile(r"[^\W_]+")
#: A word as it stands in a text, accents that are characters of their own included.
_WRITTEN = re.compile(r"[^\W_](?:[^\W_]|[\u0300-\u036f])*")


def fold(text: str) -> str:
    """Return a text without case and accents; what is no letter stays."""
    if text.isascii():
        return text.lower()
    bare = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(char for char in bare if unicodedata.category(char) != "Mn").translate(_LIGATURES)


def words(text: str) -> list[str]:
    """Return the words of a text, folded: runs of letters and digits, in the singular."""
    folded = fold(text)
    found = _WORD.findall(folded)
    if len(folded) > LONGEST:
        found = [word[:LONGEST] for word in found]
    return [_singular(word) if word[-1] in _PLURAL else word for word in found]


@lru_cache(maxsize=4096)
def _singular(word: str) -> str:
    """Return what the plural and the singular of a French word have in common; most English ones are like them."""
    if len(word) < SHORTEST or not word.isalpha():
        return word
    for plural, singular in PLURALS:
        if plural.search(word):
            return _singular(plural.sub(singular, word))  # so that what is folded again stays as it is
    return word


def key(text: str) -> str:
    """Return what two spellings of one value have in common."""
    return " ".join(fold(text).split())


def written(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield where each folded word of a text begins and ends there."""
    for found in _WRITTEN.finditer(text):
        for word in _folded(found[0]):
            yield found.start(), found.end(), word


@lru_cache(maxsize=4096)
def _folded(word: str) -> tuple[str, ...]:
    return tuple(words(word))
