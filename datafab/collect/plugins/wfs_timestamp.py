"""Removes ``timeStamp`` from JSON and XML, so that two answers that differ only in it are one resource.

The original repairs commas in the whole body afterwards, strings included; here only the comma of a removed member is
removed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

#: Content types whose bodies are changed.
STRIPPED_TYPES = ("application/json", "application/geo+json", "application/xml")

#: Largest number of bytes of a match. The last bytes of a chunk may be the beginning of one: this number is held back.
MAX_MATCH_BYTES = 4096

# White space and values are bounded, so that no match is longer; the value of a timeStamp has some thirty characters.
_BLANK = rb"\s{0,256}"
_MEMBER = rb'"timeStamp"' + _BLANK + rb":" + _BLANK + rb'"[^"]{0,1024}"'
_STAMP = re.compile(
    # the last member of an object goes with the comma before it and the white space around
    rb"," + _BLANK + _MEMBER + _BLANK + rb"(?=\})"
    # any other member goes with the comma after it
    rb"|" + _MEMBER + _BLANK + rb",?"
    # an attribute goes with one blank after it
    rb'|timeStamp="[^"]{0,1024}" '
)


#: What WFS servers change in each answer: times, feature ids, and what follows the first dot of a GML id.
_WFS = re.compile(
    rb'(?: |([\t\r\n]))(?:timeStamp|fid)="[^"]{0,1024}"'
    rb'|(gml:id="[^."]{1,1024})\.[^"]{0,1024}(?=")'
)


def strip_timestamps(content_type: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Return the chunks of a body without time stamps, where its type is one of ``STRIPPED_TYPES``."""
    if content_type.lower().replace(" ", "").startswith(STRIPPED_TYPES):
        return _without(_STAMP, (b"timeStamp",), chunks)
    return chunks


def strip_wfs(content_type: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Return the chunks of a WFS server's answer without what changes in each answer."""
    return _without(_WFS, (b"timeStamp", b"fid", b"gml:id"), strip_timestamps(content_type, chunks))


def _without(pattern: re.Pattern[bytes], hints: Sequence[bytes], chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield chunks with each match replaced by its group, or removed; each match contains one of the hints."""
    rest = b""
    for chunk in chunks:
        rest += chunk
        out, rest = _split(pattern, hints, rest, max(0, len(rest) - MAX_MATCH_BYTES))
        if out:
            yield out
    out, _ = _split(pattern, hints, rest, len(rest))
    if out:
        yield out


def _split(pattern: re.Pattern[bytes], hints: Sequence[bytes], data: bytes, limit: int) -> tuple[bytes, bytes]:
    """Return the cleaned first ``limit`` bytes, and the rest, which may start a match that the next chunk completes."""
    if not any(hint in data for hint in hints):
        return data[:limit], data[limit:]
    clean: list[bytes] = []
    at = 0
    for match in pattern.finditer(data):
        if match.start() >= limit:
            break
        clean += (data[at : match.start()], match[match.lastindex] if match.lastindex else b"")
        at = match.end()
    clean.append(data[at : max(at, limit)])
    return b"".join(clean), data[max(at, limit) :]
