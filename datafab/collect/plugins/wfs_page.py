"""One page of a WFS server's answer, split into parts from which all pages are joined to one collection.

Features are kept byte for byte. What describes the page only is removed: counts, links, times, its bounding box.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

#: Attributes of a collection that describe the page only.
_PAGE_ATTRIBUTES = re.compile(
    rb"""\s(?:timeStamp|next|previous|numberMatched|numberReturned|numberOfFeatures)\s*=\s*(?:"[^"]*"|'[^']*')"""
)
_NAMESPACE = re.compile(rb"""\sxmlns(?::[^\s=]+)?\s*=\s*(?:"[^"]*"|'[^']*')""")
_DECLARATION = re.compile(rb"<\?xml\s[^>]*\?>")
_TAG = re.compile(rb"""<(?:[^"'>]|"[^"]*"|'[^']*')*>""")
#: Elements that hold one feature, and the element that holds several.
_MEMBER_ELEMENTS, _MEMBERS_ELEMENT = frozenset({"member", "featureMember"}), "featureMembers"
#: Element after the features where the server broke off (OGC 09-025r2, 11.3).
_TRUNCATED = "truncatedResponse"
#: Members of a GeoJSON collection that describe the whole collection.
_KEPT_MEMBERS = ("name", "crs")

_SCAN = json.JSONDecoder()
_BLANK = re.compile(r"[ \t\r\n]*")


class ServiceError(ValueError):
    """The server reports an error instead of features."""


@dataclass(slots=True)
class Page:
    """The features of a page, and the bytes before, between and after them.

    Attributes:
        form: name spaces and encoding, which the bytes of members depend on: the same in all pages.
        members: the features, as the server wrote them.
        matched: number of features in all pages, where the server states it.
    """

    head: bytes = b""
    form: frozenset[bytes] = frozenset()
    members: list[bytes] = field(default_factory=list)
    between: bytes = b"\n"
    tail: bytes = b""
    matched: int | None = None


def read_page(data: bytes) -> Page:
    """Split a page, GML or GeoJSON, into its parts.

    Raises:
        ServiceError: the answer is the report of an error.
        ValueError: it is neither GML nor GeoJSON.
    """
    start = data.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"{"):
        return _geojson(start.decode())
    if start.startswith(b"<"):
        return _GmlParser(start).page
    msg = "the answer is neither XML nor JSON"
    raise ValueError(msg)


def count_features(data: bytes) -> int | None:
    """Return the number of features in the answer to ``resultType=hits``."""
    start = data.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"{"):
        return _geojson(start.decode()).matched
    if not start.startswith(b"<"):
        return None
    given = _GmlParser(start).attributes
    return _number(given.get("numberMatched") or given.get("numberOfFeatures"))


def _number(value: Any) -> int | None:
    """Return a count; None for ``unknown`` and the like."""
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() else None


class _GmlParser:
    """Finds where the children of the root element start and end."""

    def __init__(self, data: bytes) -> None:
        self.page = Page()
        self.attributes: dict[str, str] = {}
        self._data = data
        self._path: list[str] = []
        #: position of the last child, and of its end when it has no end tag
        self._at = self._closed = 0
        self._wrapper = b""
        self._report: list[str] = []
        parser = expat.ParserCreate()
        parser.StartElementHandler = self._start_element
        parser.EndElementHandler = self._end_element
        parser.StartDoctypeDeclHandler = self._doctype
        self._parser = parser
        try:
            parser.Parse(data, True)
        except expat.ExpatError as error:
            msg = f"the answer is not XML: {error}"
            raise ValueError(msg) from error
        finally:
            del self._parser  # a cycle of references: the page would stay in memory until garbage collection
        if self._report:
            text = " ".join(" ".join(self._report).split())
            raise ServiceError(text or "an error without a text")
        self.page.head += self._wrapper
        self.page.form |= {self.page.tail}

    def _start_element(self, name: str, attributes: dict[str, str]) -> None:
        path, local = self._path, name.rpartition(":")[2]
        if not path:
            self._root(local, attributes)
        elif len(path) == 1 and local == _TRUNCATED:
            self._start_report()
        elif len(path) == 1 or (len(path) == 2 and path[1] == _MEMBERS_ELEMENT):  # noqa: PLR2004 - a feature in featureMembers
            self._at = self._parser.CurrentByteIndex
            tag = self._tag()
            self._closed = self._at + len(tag) if tag.endswith(b"/>") else 0
            if local == _MEMBERS_ELEMENT and len(path) == 1 and not self._wrapper:
                self._wrapper = b"\n" + tag.rstrip(b"/> \t\r\n") + b">"
                self.page.tail = b"\n</" + name.encode() + b">" + self.page.tail
        path.append(local)

    def _root(self, local: str, attributes: dict[str, str]) -> None:
        self.attributes = attributes
        if local.endswith("ExceptionReport"):
            self._start_report()
            return
        if local != "FeatureCollection":
            msg = f"the answer is <{local}>, not a collection of features"
            raise ValueError(msg)
        declaration, tag = _DECLARATION.match(self._data), self._tag()
        name = re.split(rb"[\s/>]", tag[1:], maxsplit=1)[0]
        opened = _PAGE_ATTRIBUTES.sub(b"", tag).rstrip(b"/>").rstrip() + b">"
        self.page.form = frozenset(_NAMESPACE.findall(tag)) | {declaration[0] if declaration else b""}
        self.page.head = (declaration[0] + b"\n" if declaration else b"") + opened
        self.page.tail = b"\n</" + name + b">\n"
        self.page.matched = _number(attributes.get("numberMatched"))

    def _start_report(self) -> None:
        """Collect the text of the elements from here on: the report of an error."""
        self._report = [""]
        self._parser.CharacterDataHandler = self._report.append

    def _end_element(self, _name: str) -> None:
        path = self._path
        local = path.pop()
        if (len(path) == 1 and local in _MEMBER_ELEMENTS) or (len(path) == 2 and path[1] == _MEMBERS_ELEMENT):  # noqa: PLR2004 - as above
            end = self._closed or self._parser.CurrentByteIndex + len(self._tag())
            self.page.members.append(self._data[self._at : end])

    def _tag(self) -> bytes:
        """Return the tag that the parser is at."""
        match = _TAG.match(self._data, self._parser.CurrentByteIndex)
        assert match is not None
        return match[0]

    def _doctype(self, *_: Any) -> None:
        msg = "the answer declares a document type, which no WFS needs"
        raise ValueError(msg)


def _geojson(text: str) -> Page:
    parts = dict(_members(text))
    features = parts.get("features")
    if features is None or not features.startswith("["):
        errors = json.loads(parts.get("exceptions", "null"))
        if isinstance(errors, list) and errors:
            raise ServiceError("; ".join(str(one.get("text") if isinstance(one, dict) else one) for one in errors))
        msg = "the answer has no list of features"
        raise ValueError(msg)
    kept = "".join(f',"{name}":{parts[name]}' for name in _KEPT_MEMBERS if name in parts)
    return Page(
        head=f'{{"type":"FeatureCollection"{kept},"features":['.encode(),
        form=frozenset({kept.encode()}),
        members=[one.encode(errors="surrogatepass") for one in _elements(features)],
        between=b",\n",
        tail=b"\n]}\n",
        matched=_number(parts.get("numberMatched") or parts.get("totalFeatures")),
    )


def _members(text: str) -> Iterator[tuple[str, str]]:
    """Yield the members of an object, each value as it is written."""
    for key, start in _values(text, "}"):
        yield key, text[start : _SCAN.raw_decode(text, start)[1]]


def _elements(text: str) -> Iterator[str]:
    """Yield the elements of a list as they are written."""
    for _, start in _values(text, "]"):
        yield text[start : _SCAN.raw_decode(text, start)[1]]


def _values(text: str, close: str) -> Iterator[tuple[str, int]]:
    """Yield the positions of the values of an object or a list, with their keys in an object."""
    at = _skip_blanks(text, 1)
    while not text.startswith(close, at):
        key = ""
        if close == "}":
            key, at = _SCAN.raw_decode(text, at)
            at = _expect(text, _skip_blanks(text, at), ":")
        yield str(key), at
        at = _skip_blanks(text, _SCAN.raw_decode(text, at)[1])
        if not text.startswith(close, at):
            at = _expect(text, at, ",")


def _expect(text: str, at: int, mark: str) -> int:
    if not text.startswith(mark, at):
        raise json.JSONDecodeError(f"{mark!r} is missing", text, at)
    return _skip_blanks(text, at + 1)


def _skip_blanks(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    assert match is not None
    return match.end()
