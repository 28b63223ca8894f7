"""All features of a layer of a WFS server, page by page, as one collection.

Source: OGC 09-025r2 (WFS 2.0: ``count``, ``startIndex``, ``numberMatched``) and the practice of servers of 1.0 and 1.1
(``maxFeatures``). The collection is the server's answer without paging, less what the plugin ``wfs`` removes: its
bytes, and so its digest, are the same for every page size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from datafab.collect.plugins.wfs_page import Page, ServiceError, count_features, read_page
from datafab.collect.plugins.wfs_timestamp import strip_wfs
from datafab.fetch.refusal import Refusal
from datafab.fetch.result import Refused
from datafab.fetch.session import Get
from datafab.urls import without_credentials

#: Parameters that this plugin sets; names in upper and lower case are the same.
_SET_PARAMETERS = frozenset({"startindex", "count", "maxfeatures", "resulttype", "request"})
#: The original's exception for an empty answer, in logs.
EMPTY_EXCEPTION = "EmptyWFSResponse"


class WfsLayer:
    """The features of one GetFeature request, read in pages."""

    def __init__(self, get: Get, url: str, size: int) -> None:
        self._get = get
        self._parts = urlsplit(url)._replace(fragment="")
        self._size = size
        self.url = url
        given = parse_qsl(self._parts.query, keep_blank_values=True)
        names = {name.lower(): value for name, value in given}
        self._query = [(name, value) for name, value in given if name.lower() not in _SET_PARAMETERS]
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
            Refused: an answer cannot be used, or features are missing.
        """
        if len(self._layers) != 1:
            raise self._refused("no_layer", "pages need one layer, named by typeName or typeNames")
        page = first = self._page(0)
        total = page.matched if page.matched is not None else self._count()
        yield first.head
        received, last_digest = 0, ""
        while page.members:
            body = self._stripped(page)
            digest = hashlib.sha256(body).hexdigest()
            if digest == last_digest:
                self._check_repeat(page, total)
                break
            yield (page.between if received else b"\n") + body
            received, last_digest = received + len(page.members), digest
            if total is not None and received >= total:
                break
            page = self._page(received)
            if page.members and page.form != first.form:
                raise self._refused("bad_answer", f"the page from {received} on has another form than the first")
        if total is not None and received < total:
            raise self._refused("incomplete", f"the layer has {total} features, and {received} came")
        yield first.tail

    def _check_repeat(self, page: Page, total: int | None) -> None:
        """Refuse a server without paging, unless its first answer had all features."""
        if total is None and len(page.members) > self._size:
            return
        raise self._refused("no_paging", "the server gives the same features again: leave 'page_size' out")

    @staticmethod
    def _stripped(page: Page) -> bytes:
        kind = "application/json" if page.head.startswith(b"{") else "application/xml"
        return b"".join(strip_wfs(kind, iter([page.between.join(page.members)])))

    def _page(self, start: int) -> Page:
        """Get the page that starts at one feature."""
        data = self._request({"startIndex": str(start), self._limit: str(self._size)})
        if not data.strip():
            raise self._refused("empty", "the answer is empty", EMPTY_EXCEPTION)
        try:
            return read_page(data)
        except ServiceError as error:
            raise self._refused("wfs_error", f"the server says: {error}") from error
        except ValueError as error:
            raise self._refused("bad_answer", str(error)) from error

    def _count(self) -> int | None:
        """Return the number of features; None where the server does not count: one of 1.0 would send all of them."""
        if not self._counts:
            return None
        try:
            return count_features(self._request({"resultType": "hits"}))
        except (Refused, ValueError):
            return None

    def _request(self, more: dict[str, str]) -> bytes:
        query = urlencode([*self._query, ("request", "GetFeature"), *more.items()], safe=":,/()*")
        return self._get(urlunsplit(self._parts._replace(query=query)))

    def _refused(self, code: str, sentence: str, exception: str = "WFSError") -> Refused:
        return Refused(Refusal(code, f"{without_credentials(self.url)}: {sentence}", exception))
