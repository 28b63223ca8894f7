"""Recognise texts in encodings that nothing marks: UTF-16, UTF-32, and those of DOS and of the old Mac OS. Pure.

Frequencies of letters prove nothing in short texts. So a text is only taken from cp1252, the default, if half of its
words with accents are impossible there and nearly all are possible in one of the others. The first accent of Hérault in
cp850 is a quotation mark in cp1252.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterable

#: The others than cp1252 in which western texts were written, in the order of preference.
_OTHER_CODECS = ("cp850", "mac_roman")
#: Wide encodings; UTF-32 first, as fewer bytes are valid in it.
_WIDE_CODECS = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
#: Characters from which a wide encoding is recognised.
_HEAD_CHARS = 2000
#: Maximum different words that are judged.
MAX_WORDS = 2000
#: From this share of impossible words on, a text is not in an encoding; up to the second, it may be.
_HALF_OF_WORDS, _FEW_WORDS = 0.5, 0.1
#: Runs of bytes that may be words with accents.
_WORD_BYTES = re.compile(rb"[A-Za-z\x80-\xff]*[\x80-\xff][A-Za-z\x80-\xff]*")
#: Most accented letters in the old encodings; signs in cp1252, and control characters in Latin-1.
_OLD_LETTERS = re.compile(rb"[\x80-\x9f]")
#: Between the parts of a word; signs that stand before or after a word; those that stand alone, or after a number.
_BETWEEN = re.compile(r"[\u2019\-\u2013\u2014/\u00b7\u00a0\u00ad]")
_OPENING, _CLOSING = "«“\u2018¿¡„\u201a\u2039€£¥§†", "»”\u2019…°²³ªº®™€£¥\u203a†‡‰"
_LETTERS = "A-Za-zÀ-ÖØ-öø-ÿŒœŸŠšŽžƒıµ"
_POSSIBLE = re.compile(
    rf"[{_OPENING}]?(?:[A-ZÀ-ÖØ-ÞŒŸŠŽ]?[a-zß-öø-ÿœšž]*|[A-ZÀ-ÖØ-ÞŒŸŠŽß]+)[{_CLOSING}]*|[^{_LETTERS}\x80-\x9f]+"
)


def wide_codec(head: bytes) -> str | None:
    """Return the codec of UTF-16 or UTF-32 without a byte order mark; None if a text is in neither.

    Line ends and separators have NUL bytes in them, and nearly no other bytes make assigned characters throughout.
    """
    if b"\0" not in head:
        return None
    return next((codec for codec in _WIDE_CODECS if _is_text(head[: 4 * _HEAD_CHARS], codec)), None)


def _is_text(head: bytes, codec: str) -> bool:
    """Tell whether bytes are lines of text in a wide encoding."""
    try:
        text = codecs.getincrementaldecoder(codec)().decode(head)
    except UnicodeDecodeError:
        return False
    if not any(end in text for end in "\r\n"):
        return False
    return all(char in "\t\r\n\x1a" or unicodedata.category(char) not in {"Cc", "Cn", "Co", "Cs"} for char in text)


def words_with_accents(block: bytes) -> Iterable[bytes]:
    """Yield the words of a text in an encoding of single bytes that are not ASCII."""
    return (found[0] for found in _WORD_BYTES.finditer(block))


def single_byte_codec(words: Iterable[bytes]) -> str | None:
    """Return the codec in which words are possible of which half are impossible in cp1252; None if there is none."""
    words = [word for word in words if _OLD_LETTERS.search(word)]
    if not words or _impossible(words, "cp1252") < _HALF_OF_WORDS:
        return None
    best = min(_OTHER_CODECS, key=lambda codec: _impossible(words, codec))
    return best if _impossible(words, best) <= _FEW_WORDS else None


def _impossible(words: list[bytes], codec: str) -> float:
    """Return the share of words that are impossible in an encoding."""
    return sum(not _is_possible(word.decode(codec, "replace")) for word in words) / len(words)


def _is_possible(word: str) -> bool:
    """Tell whether a word is written as words are: with capitals at its beginning or throughout, without odd signs."""
    return all(_POSSIBLE.fullmatch(part) for part in _BETWEEN.split(word))
