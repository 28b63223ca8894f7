"""The ``data_id`` of a file announced over WIS2: one for each address in its topic (WNM, requirement ``data_id`` B)."""

from __future__ import annotations

import hashlib
import re
import string
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from datafab.urls import url_parts

#: longest part of an address that its data_id shows; the digest covers all of it
MAX_SHOWN_CHARS = 200
#: length of the digest of an address, in hex digits
DIGEST_CHARS = 16
#: segments of a path in the data_ids of earlier versions, which had no digest of the address
FORMER_PARTS = 3

_PORTS = {"http": 80, "https": 443, "ftp": 21, "sftp": 22}
_ESCAPE = re.compile("%[0-9A-Fa-f]{2}")
_UNRESERVED = frozenset(string.ascii_letters + string.digits + "-._~")
_ASCII = "".join(map(chr, range(128)))


class FormerId(NamedTuple):
    """The data_id that earlier versions gave to an address.

    Attributes:
        data_id: the topic and the last three segments of the path.
        whole: whether the address has no more segments and no query, so that only an address of another host can have
            the same data_id.
    """

    data_id: str
    whole: bool


def data_id(topic: str, href: str) -> str:
    """Return the data_id of an address: its topic without channel and version, a digest, and its path and query.

    The digest distinguishes addresses with the same path: of other hosts, in other spellings, or too long to be shown.
    """
    return "/".join([_scope(topic), address_digest(href), *_shown(href)])


def address_digest(href: str) -> str:
    """Return a digest of an address; equal for spellings that RFC 3986 (6.2.2, 6.2.3) calls equivalent."""
    return hashlib.sha256(_normal(href).encode()).hexdigest()[:DIGEST_CHARS]


def former(topic: str, href: str) -> FormerId:
    """Return the data_id that earlier versions gave to an address."""
    parts = url_parts(href)
    names = _names(parts.path)
    plain = not parts.query and parts.path == f"/{'/'.join(names)}"
    named = "/".join([_scope(topic), *names[-FORMER_PARTS:]])
    return FormerId(named, plain and len(names) <= FORMER_PARTS)


def _scope(topic: str) -> str:
    return "/".join(topic.split("/")[2:])


def _names(path: str) -> list[str]:
    """Return the segments of a path without ``.`` and ``..``, as receivers may use a data_id as a path."""
    return [part for part in path.split("/") if part not in {"", ".", ".."}]


def _shown(href: str) -> list[str]:
    parts = url_parts(href)
    names = _names(parts.path)
    if parts.query and len("/".join(names)) + len(parts.query) < MAX_SHOWN_CHARS:
        names = [*names[:-1], f"{names[-1] if names else ''}?{parts.query}"]
    while len(names) > 1 and len("/".join(names)) > MAX_SHOWN_CHARS:
        del names[0]
    return [name[-MAX_SHOWN_CHARS:] for name in names]


def _normal(href: str) -> str:
    """Return an address in the normal form of RFC 3986, without fragment and password."""
    try:
        parts = urlsplit(href)
        port = parts.port
    except ValueError:
        return _escaped(href)
    if not parts.netloc:
        return _escaped(href)
    user = f"{parts.username}@" if parts.username else ""
    shown_port = "" if port in {None, _PORTS.get(parts.scheme)} else f":{port}"
    query = f"?{parts.query}" if parts.query else ""
    host = parts.hostname or ""
    return _escaped(f"{parts.scheme}://{user}{host}{shown_port}{parts.path or '/'}{query}")


def _escaped(text: str) -> str:
    """Escape characters that are not ASCII, and normalise all escapes."""
    return _ESCAPE.sub(_one_escape, quote(text, safe=_ASCII, errors="surrogatepass"))


def _one_escape(found: re.Match[str]) -> str:
    character = chr(int(found[0][1:], 16))
    return character if character in _UNRESERVED else found[0].upper()
