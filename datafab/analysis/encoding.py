"""Detect the encoding of a text. Pure."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from itertools import chain, islice

from datafab.analysis.mixed_encoding import MIXED_ENCODING
from datafab.analysis.unmarked_encoding import MAX_WORDS, single_byte_codec, wide_codec, words_with_accents
from datafab.errors import Fatal

#: Bytes from which the kind of a file and encodings of several bytes are recognised.
HEAD_BYTES = 8192
# UTF-32 before UTF-16, whose byte order mark is the beginning of that of UTF-32.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: Invalid bytes of UTF-8 after which a text may be in another encoding.
_MAX_INVALID_BYTES = 1000
#: Bytes of French text in cp1252 that may be valid UTF-8 by chance, as those of `âŒ«`.
_MAX_CHANCE_BYTES = 8
#: Bytes that cp1252 leaves undefined.
_NOT_CP1252 = b"\x81\x8d\x8f\x90\x9d"


def byte_order_mark_codec(head: bytes) -> str | None:
    """Return the codec of the byte order mark at the beginning of a file; None if there is none."""
    return next((codec for mark, codec in _BYTE_ORDER_MARKS if head.startswith(mark)), None)


def detect_encoding(blocks: Iterable[bytes]) -> str:
    """Return the encoding of a text: that of its byte order mark, else UTF-8 if all bytes are valid, else cp1252.

    A text that is UTF-8 in most places, but not in all, mixes both. UTF-16 is recognised without a mark, and DOS's and
    Mac OS's old encodings by words that cp1252 cannot mean. Statistical detection is avoided on purpose: it takes
    French in cp1252 for Baltic or Central European encodings.

    Raises:
        Fatal: ``encoding``, the text does not match its byte order mark.
    """
    remaining = iter(blocks)
    first = next(remaining, b"")
    marked = byte_order_mark_codec(first) or wide_codec(first[:HEAD_BYTES])
    if marked:
        _check_decodes(chain((first,), remaining), marked)
        return marked
    return _detect_unmarked(chain((first,), remaining))


def _check_decodes(blocks: Iterable[bytes], marked: str) -> None:
    decoder = codecs.getincrementaldecoder(marked)()
    try:
        for block in chain(blocks, (b"",)):
            decoder.decode(block, final=not block)
    except UnicodeDecodeError as error:
        msg = f"begins as {marked} but is not ({error.reason}): save it as UTF-8"
        raise Fatal(msg, code="encoding") from error


def _detect_unmarked(blocks: Iterable[bytes]) -> str:
    decoder = codecs.getincrementaldecoder("utf-8")()
    valid = invalid = 0
    incomplete, undefined = b"", False
    words: set[bytes] = set()
    for block in chain(blocks, (b"",)):
        undefined = undefined or any(byte in block for byte in _NOT_CP1252)
        # In French text in cp1252, invalid sequences soon outnumber those that are valid by chance.
        if invalid > _MAX_INVALID_BYTES and invalid > valid:
            continue
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError:
            decoder.reset()
            if len(words) < MAX_WORDS:
                words.update(islice(words_with_accents(incomplete + block), MAX_WORDS))
            text = (incomplete + block).decode("utf-8", "replace")
            # Some replacement characters stand for invalid bytes, some are in the text itself.
            wrong, incomplete = text.count("\N{REPLACEMENT CHARACTER}"), b""
            invalid += max(1, wrong - block.count("\N{REPLACEMENT CHARACTER}".encode()))
            # Bytes beyond one per character, without those of the replacement characters (three each).
            valid += len(text.encode()) - len(text) - 2 * wrong
        else:
            before, incomplete = incomplete, decoder.getstate()[0]
            valid += len(before) + len(block) - len(incomplete) - len(text)
    if not invalid:
        return "utf-8"
    if valid > invalid + _MAX_CHANCE_BYTES:
        return MIXED_ENCODING
    return single_byte_codec(sorted(words)) or ("latin-1" if undefined else "cp1252")
