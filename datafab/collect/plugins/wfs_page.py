"""One page of a WFS server's answer, taken apart so that all pages can be put together as one collection.

Features are kept byte for byte. What describes a page only goes: counts, links to other pages, times, its bounding box.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

#: Attributes of a collection that say something of the page.
_OF_THE_PAGE = re.compile(
    rb"""\s(?:timeStamp|next|previous|numberMatched|numberReturned|numberOfFeatures)\s*=\s*(?:"[^"]*"|'[^']*')"""
)
_NAMESPACE = re.compile(rb"""\sxmlns(?::[^\s=]+)?\s*=\s*(?:"[^"]*"|'[^']*')""")
_DECLARATION = re.compile(rb"<\?xml\s[^>]*\?>")
_TAG = re.compile(rb"""<(?:[^"'>]|"[^"]*"|'[^']*')*>""")
#: Elements that hold one feature, and the one that holds many.
_ONE, _MANY = frozenset({"member", "featureMember"}), "featureMembers"
#: Element that follows the features where the server has broken off (OGC 09-025r2, 11.3).
_TRUNCATED = "truncatedResponse"
#: Members of a GeoJSON collection that describe all of it.
_KEPT = ("name", "crs")

_SCAN = json.JSONDecoder()
_BLANK = re.compile(r"[ \t\r\n]*")


class ServiceError(ValueError):
    """The server says why there are no features."""


@dataclass(slots=True)
class Page:
    """Features, and what stands before, between and after them in a collection.

    Attributes:
        form: what pages must have in common: their members' own text leans on it (name spaces, encoding).
        members: as the server wrote them.
        matched: features that there are in all, where the server says.
    """

    head: bytes = b""
    form: frozenset[bytes] = frozenset()
    members: list[bytes] = field(default_factory=list)
    between: bytes = b"\n"
    tail: bytes = b""
    matched: int | None = None


def read_page(data: bytes) -> Page:
    """Take a page apart: GML or GeoJSON.

    Raises:
        ServiceError: it is a report of what went wrong.
        ValueError: it is neither.
    """
    start = data.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"{"):
        return _geojson(start.decode())
    if start.startswith(b"<"):
        return _Gml(start).page
    msg = "the answer is neither XML nor JSON"
    raise ValueError(msg)


def count(data: bytes) -> int | None:
    """Return the number of features that the answer to ``resultType=hits`` tells."""
    start = data.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"{"):
        return _geojson(start.decode()).matched
    if not start.startswith(b"<"):
        return None
    given = _Gml(start).attributes
    return _number(given.get("numberMatched") or given.get("numberOfFeatures"))


def _number(value: Any) -> int | None:
    """Return a count; None for such as ``unknown``."""
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() else None


class _Gml:
    """A parser that notes where the children of the root begin and end."""

    def __init__(self, data: bytes) -> None:
        self.page = Page()
        self.attributes: dict[str, str] = {}
        self._data = data
        self._path: list[str] = []
        #: where the last child began, and where it ended if it has no end tag
        self._at = self._closed = 0
        self._wrapper = b""
        self._said: list[str] = []
        parser = expat.ParserCreate()
        parser.StartElementHandler = self._begins
        parser.EndElementHandler = self._ends
        parser.StartDoctypeDeclHandler = self._doctype
        self._parser = parser
        try:
            parser.Parse(data, True)
        except expat.ExpatError as error:
            msg = f"the answer is no XML: {error}"
            raise ValueError(msg) from error
        finally:
            del self._parser  # which holds us: the page would stay until the garbage is collected
        if self._said:
            text = " ".join(" ".join(self._said).split())
            raise ServiceError(text or "an error that it does not name")
        self.page.head += self._wrapper
        self.page.form |= {self.page.tail}

    def _begins(self, name: str, attributes: dict[str, str]) -> None:
        path, local = self._path, name.rpartition(":")[2]
        if not path:
            self._root(local, attributes)
        elif len(path) == 1 and local == _TRUNCATED:
            self._listen()
        elif len(path) == 1 or (len(path) == 2 and path[1] == _MANY):  # noqa: PLR2004 - a feature in featureMembers
            self._at = self._parser.CurrentByteIndex
            tag = self._tag()
            self._closed = self._at + len(tag) if tag.endswith(b"/>") else 0
            if local == _MANY and len(path) == 1 and not self._wrapper:
                self._wrapper = b"\n" + tag.rstrip(b"/> \t\r\n") + b">"
                self.page.tail = b"\n</" + name.encode() + b">" + self.page.tail
        path.append(local)

    def _root(self, local: str, attributes: dict[str, str]) -> None:
        self.attributes = attributes
        if local.endswith("ExceptionReport"):
            self._listen()
            return
        if local != "FeatureCollection":
            msg = f"the answer is <{local}>, no collection of features"
            raise ValueError(msg)
        declaration, tag = _DECLARATION.match(self._data), self._tag()
        name = re.split(rb"[\s/>]", tag[1:], maxsplit=1)[0]
        opened = _OF_THE_PAGE.sub(b"", tag).rstrip(b"/>").rstrip() + b">"
        self.page.form = frozenset(_NAMESPACE.findall(tag)) | {declaration[0] if declaration else b""}
        self.page.head = (declaration[0] + b"\n" if declaration else b"") + opened
        self.page.tail = b"\n</" + name + b">\n"
        self.page.matched = _number(attributes.get("numberMatched"))

    def _listen(self) -> None:
        """Note what the server says from here on of what went wrong."""
        self._said = [""]
        self._parser.CharacterDataHandler = self._said.append

    def _ends(self, _name: str) -> None:
        path = self._path
        local = path.pop()
        if (len(path) == 1 and local in _ONE) or (len(path) == 2 and path[1] == _MANY):  # noqa: PLR2004 - as above
            end = self._closed or self._parser.CurrentByteIndex + len(self._tag())
            self.page.members.append(self._data[self._at : end])

    def _tag(self) -> bytes:
        """Return the tag that the parser is at."""
        match = _TAG.match(self._data, self._parser.CurrentByteIndex)
        assert match is not None
        return match[0]

    def _doctype(self, *_: Any) -> None:
        msg = "the answer brings a document type of its own, which no WFS needs"
        raise ValueError(msg)


def _geojson(text: str) -> Page:
    parts = dict(_top(text))
    features = parts.get("features")
    if features is None or not features.startswith("["):
        told = json.loads(parts.get("exceptions", "null"))
        if isinstance(told, list) and told:
            raise ServiceError("; ".join(str(one.get("text") if isinstance(one, dict) else one) for one in told))
        msg = "the answer has no list of features"
        raise ValueError(msg)
    kept = "".join(f',"{name}":{parts[name]}' for name in _KEPT if name in parts)
    return Page(
        head=f'{{"type":"FeatureCollection"{kept},"features":['.encode(),
        form=frozenset({kept.encode()}),
        members=[one.encode(errors="surrogatepass") for one in _elements(features)],
        between=b",\n",
        tail=b"\n]}\n",
        matched=_number(parts.get("numberMatched") or parts.get("totalFeatures")),
    )


def _top(text: str) -> Iterator[tuple[str, str]]:
    """Yield the members of an object, each value as it is written."""
    for key, start in _values(text, "}"):
        yield key, text[start : _SCAN.raw_decode(text, start)[1]]


def _elements(text: str) -> Iterator[str]:
    """Yield the elements of a list as they are written."""
    for _, start in _values(text, "]"):
        yield text[start : _SCAN.raw_decode(text, start)[1]]


def _values(text: str, close: str) -> Iterator[tuple[str, int]]:
    """Yield where the values of an object or a list begin, with their keys in an object."""
    at = _after(text, 1)
    while not text.startswith(close, at):
        key = ""
        if close == "}":
            key, at = _SCAN.raw_decode(text, at)
            at = _expected(text, _after(text, at), ":")
        yield str(key), at
        at = _after(text, _SCAN.raw_decode(text, at)[1])
        if not text.startswith(close, at):
            at = _expected(text, at, ",")


def _expected(text: str, at: int, mark: str) -> int:
    if not text.startswith(mark, at):
        raise json.JSONDecodeError(f"{mark!r} is missing", text, at)
    return _after(text, at + 1)


def _after(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    assert match is not None
    return match.end()
