"""What a geographic service answers instead of data, or instead of all of them, although the HTTP status is 200.

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

#: First and last bytes that are looked at. A report of what went wrong is shorter than the first.
HEAD, TAIL = 64 * 1024, 8 * 1024
#: Characters of a report that are quoted.
QUOTED = 500
#: Codes that ArcGIS puts into answers whose HTTP status is 200.
CODES = range(400, 600)
#: Parameters by which a URL asks for a part, or for the count only.
PARTS = frozenset(
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
    """What is wrong with an answer.

    Attributes:
        code: for machines.
        sentence: for people.
        arcgis: whether a service of ArcGIS speaks.
    """

    code: str
    sentence: str
    arcgis: bool = False


class Ends:
    """The first and the last bytes of a body."""

    def __init__(self) -> None:
        self.head = self.tail = b""

    def watched(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the chunks as they are."""
        for chunk in chunks:
            self.head += chunk[: HEAD - len(self.head)]
            self.tail = (self.tail + chunk if len(chunk) < TAIL else chunk)[-TAIL:]
            yield chunk


def root(head: bytes) -> str:
    """Return the name of the element that XML begins with; empty where it is none."""
    match = _NAME.match(head, _start(head)) if _mark(head) == b"<" else None
    return match[1].decode(errors="replace") if match else ""


def is_text(head: bytes) -> bool:
    """Tell whether an answer may hold a report: it begins as XML or a JSON object does."""
    return _mark(head) in {b"<", b"{"}


def asks_for_part(url: str) -> bool:
    """Tell whether a URL itself asks for some of the features only."""
    names = {name.lower() for name, _ in parse_qsl(url_parts(url).query, keep_blank_values=True)}
    return not PARTS.isdisjoint(names)


def report(head: bytes, tail: bytes, *, part: bool = False) -> Report | None:
    """Return what is wrong with an answer; None: nothing that it tells.

    Args:
        head: its first bytes, ``HEAD`` at most.
        tail: its last ones, ``TAIL`` at most.
        part: whether a part of the features was asked for.
    """
    return _of_xml(head, tail, part=part) if _mark(head) == b"<" else _of_json(head, tail, part=part)


def arcgis_error(answer: Mapping[str, Any]) -> Report | None:
    """Return the error that an answer of ArcGIS is; its code is the HTTP status that it should have had."""
    told = answer.get("error")
    if not told:
        return None
    error = told if isinstance(told, dict) else {"message": told}
    details = error.get("details") or ()
    texts = [error.get("message"), *(details if isinstance(details, list) else (details,))]
    said = ": ".join(dict.fromkeys(str(text) for text in texts if text)) or "an error that it does not name"
    code = error.get("code")
    known = f"http_{code}" if isinstance(code, int) and code in CODES else "arcgis_error"
    return Report(known, f"the service says: {said[:QUOTED]}", arcgis=True)


def _of_xml(head: bytes, tail: bytes, *, part: bool) -> Report | None:
    begun = _ROOT.match(head, _start(head))
    if begun is None:
        return None
    if begun[1].endswith(b"ExceptionReport"):
        return Report("service_error", f"the service says: {_text(head, _encoding(head))}")
    if begun[1] != b"FeatureCollection":
        return None
    broken = _REPORT.search(tail)
    if broken is not None:
        said = _text(broken[0], _encoding(head))
        return Report("incomplete", f"the service broke off in the middle of the features: {said}")
    return None if part else _fewer(_counts(_XML_COUNT, [begun[2]]))


def _of_json(head: bytes, tail: bytes, *, part: bool) -> Report | None:
    if b'"features"' not in head:
        return _error(head) if len(head) < HEAD and (b'"error"' in head or b'"exceptions"' in head) else None
    if part:
        return None
    # What describes all features stands before or after them.
    around = [head.partition(b'"features"')[0], tail]
    if any(map(_CUT.search, around)):
        return Report("partial", "the service left features out: the plugin arcgis reads all of them", arcgis=True)
    return _fewer(_counts(_JSON_COUNT, around))


def _error(data: bytes) -> Report | None:
    """Return the error that a whole answer in JSON is."""
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        return None
    error, exceptions = answer.get("error"), answer.get("exceptions")
    if isinstance(error, dict) and ("code" in error or "message" in error):
        return arcgis_error(answer)
    if not isinstance(exceptions, list) or not exceptions:
        return None
    said = "; ".join(str(one.get("text") if isinstance(one, dict) else one) for one in exceptions)
    return Report("service_error", f"the service says: {said[:QUOTED]}")


def _fewer(counts: Iterator[int]) -> Report | None:
    matched, returned = next(counts, None), next(counts, None)
    if matched is None or returned is None or returned >= matched:
        return None
    advice = 'the plugin wfs reads them in pages with the parameters {"page_size": 1000}'
    return Report("partial", f"the service gives {returned} of {matched} features: {advice}")


def _counts(form: str, texts: list[bytes]) -> Iterator[int]:
    """Yield how many features there are, and how many came; nothing where one is not told."""
    for name in ("numberMatched", "numberReturned"):
        pattern = re.compile((form % name).encode())
        found = next(filter(None, map(pattern.search, texts)), None)
        if found is None:
            return
        yield int(found[1])


def _text(data: bytes, encoding: str) -> str:
    """Return what a report in XML says: its texts, or its codes where it has none."""
    try:
        text = data.decode(encoding, errors="replace")
    except (LookupError, UnicodeError):
        text = data.decode(errors="replace")
    text = text.removeprefix("\ufeff")
    plain = _TAGS.sub(" ", _CDATA.sub(lambda match: match[1].replace("<", " "), text))
    said = " ".join(unescape(plain).split()) or ", ".join(_CODE.findall(text))
    return said[:QUOTED] or "an error that it does not name"


def _encoding(head: bytes) -> str:
    match = _ENCODING.match(head)
    return match[1].decode() if match else "utf-8"


def _start(head: bytes) -> int:
    """Return where the first element begins."""
    at = len(b"\xef\xbb\xbf") if head.startswith(b"\xef\xbb\xbf") else 0
    match = _PROLOG.match(head, at)
    return match.end() if match else at


def _mark(head: bytes) -> bytes:
    return head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
