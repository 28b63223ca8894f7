"""All features of a layer of a WFS server, page by page, as one collection.

Source: OGC 09-025r2 (WFS 2.0: ``count``, ``startIndex``, ``numberMatched``) and what servers of 1.0 and 1.1 made of it
(``maxFeatures``). The collection is what the server would have answered without pages, less what the plugin ``wfs``
strips: its bytes, and so its digest, are the same for every page size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from datafab.collect.plugins.wfs_page import Page, ServiceError, count, read_page
from datafab.collect.plugins.wfs_timestamp import stripped_wfs
from datafab.fetch.refusal import Refusal
from datafab.fetch.result import Refused
from datafab.fetch.session import Get
from datafab.urls import without_credentials

#: Parameters that are ours to set; all names count in any case.
_OURS = frozenset({"startindex", "count", "maxfeatures", "resulttype", "request"})
#: How the original names the absence of an answer, in logs.
EMPTY = "EmptyWFSResponse"


class Features:
    """What one GetFeature request asks for, in pages."""

    def __init__(self, get: Get, url: str, size: int) -> None:
        self._get = get
        self._parts = urlsplit(url)._replace(fragment="")
        self._size = size
        self.url = url
        given = parse_qsl(self._parts.query, keep_blank_values=True)
        names = {name.lower(): value for name, value in given}
        self._query = [(name, value) for name, value in given if name.lower() not in _OURS]
        self._query += [
            (name, value) for name, value in (("service", "WFS"), ("version", "2.0.0")) if name not in names
        ]
        version = names.get("version", "2")
        self._limit = "count" if version.startswith("2") else "maxFeatures"
        self._counts = not version.startswith("1.0")
        self._layers = [name for name in (names.get("typenames") or names.get("typename") or "").split(",") if name]

    def dump(self) -> Iterator[bytes]:
        """Yield the collection.

        Raises:
            Refused: an answer was no good, or features are missing.
        """
        if len(self._layers) != 1:
            raise self._refused("no_layer", "pages need one layer, named by typeName or typeNames")
        page = first = self._page(0)
        total = page.matched if page.matched is not None else self._count()
        yield first.head
        came, seen = 0, ""
        while page.members:
            body = self._stripped(page)
            digest = hashlib.sha256(body).hexdigest()
            if digest == seen:
                self._same_again(page, total)
                break
            yield (page.between if came else b"\n") + body
            came, seen = came + len(page.members), digest
            if total is not None and came >= total:
                break
            page = self._page(came)
            if page.members and page.form != first.form:
                raise self._refused("bad_answer", f"the page from {came} on has another form than the first")
        if total is not None and came < total:
            raise self._refused("incomplete", f"the layer has {total} features, and {came} came")
        yield first.tail

    def _same_again(self, page: Page, total: int | None) -> None:
        """Refuse a server that cannot page, unless its first answer was all that there is."""
        if total is None and len(page.members) > self._size:
            return
        raise self._refused("no_paging", "the server gives the same features again: leave 'page_size' out")

    @staticmethod
    def _stripped(page: Page) -> bytes:
        kind = "application/json" if page.head.startswith(b"{") else "application/xml"
        return b"".join(stripped_wfs(kind, iter([page.between.join(page.members)])))

    def _page(self, start: int) -> Page:
        """Get the features from one on."""
        data = self._asked({"startIndex": str(start), self._limit: str(self._size)})
        if not data.strip():
            raise self._refused("empty", "the answer is empty", EMPTY)
        try:
            return read_page(data)
        except ServiceError as error:
            raise self._refused("wfs_error", f"the server says: {error}") from error
        except ValueError as error:
            raise self._refused("bad_answer", str(error)) from error

    def _count(self) -> int | None:
        """Return how many features there are; None where the server does not count: one of 1.0 would send them all."""
        if not self._counts:
            return None
        try:
            return count(self._asked({"resultType": "hits"}))
        except (Refused, ValueError):
            return None

    def _asked(self, more: dict[str, str]) -> bytes:
        query = urlencode([*self._query, ("request", "GetFeature"), *more.items()], safe=":,/()*")
        return self._get(urlunsplit(self._parts._replace(query=query)))

    def _refused(self, code: str, sentence: str, exception: str = "WFSError") -> Refused:
        return Refused(Refusal(code, f"{without_credentials(self.url)}: {sentence}", exception))
