"""Reports of geographic services that come with HTTP status 200 instead of data, or instead of all of the data.

Sources: OGC 06-121r9 and 09-025r2 (``ExceptionReport``, ``numberMatched``, ``truncatedResponse``), OGC 02-058
(``ServiceExceptionReport``); GeoServer's reports in JSON; the ArcGIS REST API (``error``, ``exceededTransferLimit``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from html import unescape
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from datafab.urls import url_parts

#: First and last bytes of an answer that are searched. A report of an error is shorter than the first.
HEAD_BYTES, TAIL_BYTES = 64 * 1024, 8 * 1024
#: Characters of a report that are quoted.
MAX_QUOTED_CHARS = 500
#: Error codes of ArcGIS in answers with HTTP status 200.
ERROR_CODES = range(400, 600)
#: Parameters by which a URL asks for some features, or for their number, only.
PART_PARAMETERS = frozenset(
    {"count", "maxfeatures", "startindex", "resulttype", "limit", "offset", "page", "resultrecordcount"}
    | {"resultoffset", "returncountonly"}
)

_PROLOG = re.compile(rb"(?:\s|<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^>\[]*>)*", re.DOTALL)
_NAME = re.compile(rb"<(?:[\w.-]+:)?([\w.-]+)")
_ROOT = re.compile(rb"""<(?:[\w.-]+:)?([\w.-]+)((?:[^"'>]|"[^"]*"|'[^']*')*)>""")
_REPORT = re.compile(rb"<(?:[\w.-]+:)?(?:(?:Service)?ExceptionReport|truncatedResponse)[\s/>].*", re.DOTALL)
_CODE = re.compile(r"""\b(?:exceptionCode|code)\s*=\s*["']([^"']+)""")
_CDATA = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.DOTALL)
_TAGS = re.compile(r"<[^>]*>")
_ENCODING = re.compile(rb"""(?:\xef\xbb\xbf)?\s*<\?xml[^>]*\bencoding=["']([\w.-]+)""")
_XML_COUNT = r"""\b%s\s*=\s*["'](\d{1,18})["']"""
_JSON_COUNT = r'"%s"\s*:\s*(\d{1,18})\b'
_CUT = re.compile(rb'"exceededTransferLimit"\s*:\s*true')


class Report(NamedTuple):
    """The error or gap that an answer reports.

    Attributes:
        code: for machines.
        sentence: for people.
        arcgis: whether the service is one of ArcGIS.
    """

    code: str
    sentence: str
    arcgis: bool = False


class BodyEnds:
    """The first and the last bytes of a body, kept while its chunks pass."""

    def __init__(self) -> None:
        self.head = self.tail = b""

    def watch(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the chunks unchanged."""
        for chunk in chunks:
            self.head += chunk[: HEAD_BYTES - len(self.head)]
            self.tail = (self.tail + chunk if len(chunk) < TAIL_BYTES else chunk)[-TAIL_BYTES:]
            yield chunk


def root_element(head: bytes) -> str:
    """Return the name of the root element of XML, by its first bytes; empty when they are no XML."""
    match = _NAME.match(head, _start(head)) if _first_character(head) == b"<" else None
    return match[1].decode(errors="replace") if match else ""


def is_text(head: bytes) -> bool:
    """Tell whether an answer may hold a report: it starts like XML or a JSON object."""
    return _first_character(head) in {b"<", b"{"}


def asks_for_part(url: str) -> bool:
    """Tell whether a URL asks for a part of the features only."""
    names = {name.lower() for name, _ in parse_qsl(url_parts(url).query, keep_blank_values=True)}
    return not PART_PARAMETERS.isdisjoint(names)


def find_report(head: bytes, tail: bytes, *, part: bool = False) -> Report | None:
    """Return the error or gap that an answer reports; None when it reports none.

    Args:
        head: its first bytes, ``HEAD_BYTES`` at most.
        tail: its last ones, ``TAIL_BYTES`` at most.
        part: whether a part of the features was asked for.
    """
    return _of_xml(head, tail, part=part) if _first_character(head) == b"<" else _of_json(head, tail, part=part)


def arcgis_error(answer: Mapping[str, Any]) -> Report | None:
    """Return the error in an answer of ArcGIS, with the HTTP status that it should have had as its code."""
    value = answer.get("error")
    if not value:
        return None
    error = value if isinstance(value, dict) else {"message": value}
    details = error.get("details") or ()
    texts = [error.get("message"), *(details if isinstance(details, list) else (details,))]
    quoted = ": ".join(dict.fromkeys(str(text) for text in texts if text)) or "an error that it does not name"
    code = error.get("code")
    known = f"http_{code}" if isinstance(code, int) and code in ERROR_CODES else "arcgis_error"
    return Report(known, f"the service says: {quoted[:MAX_QUOTED_CHARS]}", arcgis=True)


def _of_xml(head: bytes, tail: bytes, *, part: bool) -> Report | None:
    opening = _ROOT.match(head, _start(head))
    if opening is None:
        return None
    if opening[1].endswith(b"ExceptionReport"):
        return Report("service_error", f"the service says: {_text(head, _encoding(head))}")
    if opening[1] != b"FeatureCollection":
        return None
    broken = _REPORT.search(tail)
    if broken is not None:
        quoted = _text(broken[0], _encoding(head))
        return Report("incomplete", f"the service broke off in the middle of the features: {quoted}")
    return None if part else _fewer(_counts(_XML_COUNT, [opening[2]]))


def _of_json(head: bytes, tail: bytes, *, part: bool) -> Report | None:
    if b'"features"' not in head:
        return _error(head) if len(head) < HEAD_BYTES and (b'"error"' in head or b'"exceptions"' in head) else None
    if part:
        return None
    # Members that describe all features stand before or after them.
    around = [head.partition(b'"features"')[0], tail]
    if any(map(_CUT.search, around)):
        return Report("partial", "the service left features out: the plugin arcgis reads all of them", arcgis=True)
    return _fewer(_counts(_JSON_COUNT, around))


def _error(data: bytes) -> Report | None:
    """Return the error in a complete answer in JSON."""
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        return None
    error, exceptions = answer.get("error"), answer.get("exceptions")
    if isinstance(error, dict) and ("code" in error or "message" in error):
        return arcgis_error(answer)
    if not isinstance(exceptions, list) or not exceptions:
        return None
    quoted = "; ".join(str(one.get("text") if isinstance(one, dict) else one) for one in exceptions)
    return Report("service_error", f"the service says: {quoted[:MAX_QUOTED_CHARS]}")


def _fewer(counts: Iterator[int]) -> Report | None:
    matched, returned = next(counts, None), next(counts, None)
    if matched is None or returned is None or returned >= matched:
        return None
    advice = 'the plugin wfs reads them in pages with the parameters {"page_size": 1000}'
    return Report("partial", f"the service gives {returned} of {matched} features: {advice}")


def _counts(form: str, texts: list[bytes]) -> Iterator[int]:
    """Yield the numbers of features matched and returned; nothing where one is missing."""
    for name in ("numberMatched", "numberReturned"):
        pattern = re.compile((form % name).encode())
        found = next(filter(None, map(pattern.search, texts)), None)
        if found is None:
            return
        yield int(found[1])


def _text(data: bytes, encoding: str) -> str:
    """Return the texts of a report in XML, or its codes when it has no texts."""
    try:
        text = data.decode(encoding, errors="replace")
    except (LookupError, UnicodeError):
        text = data.decode(errors="replace")
    text = text.removeprefix("\ufeff")
    plain = _TAGS.sub(" ", _CDATA.sub(lambda match: match[1].replace("<", " "), text))
    quoted = " ".join(unescape(plain).split()) or ", ".join(_CODE.findall(text))
    return quoted[:MAX_QUOTED_CHARS] or "an error that it does not name"


def _encoding(head: bytes) -> str:
    match = _ENCODING.match(head)
    return match[1].decode() if match else "utf-8"


def _start(head: bytes) -> int:
    """Return the position of the first element."""
    at = len(b"\xef\xbb\xbf") if head.startswith(b"\xef\xbb\xbf") else 0
    match = _PROLOG.match(head, at)
    return match.end() if match else at


def _first_character(head: bytes) -> bytes:
    return head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
