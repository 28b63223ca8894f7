"""Takes ``timeStamp`` out of JSON and XML, so that two answers that differ only in it are one resource.

As the original does, but for its mending of commas, which it did over the whole body and so inside of strings: here
only the comma that belongs to a removed member goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

#: Content types whose bodies are changed.
TYPES = ("application/json", "application/geo+json", "application/xml")

#: No match is longer: what could still become one is held back until this much has followed.
LONGEST = 4096

# White space and value are bounded, so that LONGEST holds; the value of a timeStamp has some thirty characters.
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


#: What WFS servers write anew into each answer: times, feature ids, and what follows the first dot of a GML id.
_WFS = re.compile(
    rb'(?: |([\t\r\n]))(?:timeStamp|fid)="[^"]{0,1024}"'
    rb'|(gml:id="[^."]{1,1024})\.[^"]{0,1024}(?=")'
)


def stripped(content_type: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Return a body's chunks without its time stamps, if its type is one of ``TYPES``; holds no more than a chunk."""
    if content_type.lower().replace(" ", "").startswith(TYPES):
        return _without(_STAMP, (b"timeStamp",), chunks)
    return chunks


def stripped_wfs(content_type: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Return the chunks of a WFS server's answer without what changes from one answer to the next."""
    return _without(_WFS, (b"timeStamp", b"fid", b"gml:id"), stripped(content_type, chunks))


def _without(pattern: re.Pattern[bytes], hints: Sequence[bytes], chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield chunks in which what matches is replaced by its group, if it has one; a match holds one of the hints."""
    rest = b""
    for chunk in chunks:
        rest += chunk
        out, rest = _split(pattern, hints, rest, max(0, len(rest) - LONGEST))
        if out:
            yield out
    out, _ = _split(pattern, hints, rest, len(rest))
    if out:
        yield out


def _split(pattern: re.Pattern[bytes], hints: Sequence[bytes], data: bytes, limit: int) -> tuple[bytes, bytes]:
    """Return what is clean of the first ``limit`` bytes, and what is to be looked at again with what follows."""
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
