"""Takes ``timeStamp`` out of JSON and XML, so that two answers that differ only in it are one resource.

As the original does, but for its mending of commas, which it did over the whole body and so inside of strings: here
only the comma that belongs to a removed member goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

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


def stripped(content_type: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Return a body's chunks without its time stamps, if its type is one of ``TYPES``; holds no more than a chunk."""
    if content_type.lower().replace(" ", "").startswith(TYPES):
        return _stripped(chunks)
    return chunks


def _stripped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        rest += chunk
        out, rest = _split(rest, max(0, len(rest) - LONGEST))
        if out:
            yield out
    out, _ = _split(rest, len(rest))
    if out:
        yield out


def _split(data: bytes, limit: int) -> tuple[bytes, bytes]:
    """Return what is clean of the first ``limit`` bytes, and what is to be looked at again with what follows."""
    if b"timeStamp" not in data:
        return data[:limit], data[limit:]
    clean: list[bytes] = []
    at = 0
    for match in _STAMP.finditer(data):
        if match.start() >= limit:
            break
        clean.append(data[at : match.start()])
        at = match.end()
    clean.append(data[at : max(at, limit)])
    return b"".join(clean), data[max(at, limit) :]
