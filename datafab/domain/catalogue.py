"""What a page of a udata catalogue says, and what of it is to be looked at again."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from urllib.parse import urlsplit

from datafab.errors import Retriable

#: How often one pass begins again because the catalogue moved under it.
MAX_RESTARTS = 3
#: Hosts that link-proxy never fetches from: its own files', and these.
_NEVER = re.compile(r"(?:.+\.)?data\.gouv\.fr|.+\.openstreetmap\.fr")
#: Paths that it does not support: parts of an archive.
_PART = re.compile(r"\.7z\.\d+$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the list of datasets.

    Attributes:
        datasets: as the API has them.
        next_page: URL of the next one; None on the last.
        total: how many datasets there are, where it says so.
    """

    datasets: list[dict[str, Any]]
    next_page: str | None
    total: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A file of a dataset, as the catalogue describes it; what it says wrongly or not at all is None."""

    dataset: str
    dataset_title: str | None
    organisation: str | None
    id: str
    title: str | None
    #: any text: not all begin with http
    url: str | None
    #: small letters
    format: str | None
    mime: str | None
    #: bytes
    filesize: int | None
    #: ``<type>:<value>``, small letters
    checksum: str | None
    #: UTC
    last_modified: datetime | None
    #: when its source says that it was modified; UTC
    harvest_modified: datetime | None

    @classmethod
    def of(cls, dataset: Mapping[str, Any], resource: Mapping[str, Any]) -> Self:
        """Read a resource of a dataset, both with an id."""
        return cls(
            dataset=str(dataset["id"]),
            dataset_title=_text(dataset.get("title")),
            organisation=_text(_part(dataset, "organization").get("name")),
            id=resource["id"].strip(),
            title=_text(resource.get("title")),
            url=_text(resource.get("url")),
            format=_small(resource.get("format")),
            mime=_small(resource.get("mime")),
            filesize=_size(resource.get("filesize")),
            checksum=_checksum(resource.get("checksum")),
            last_modified=moment(resource.get("last_modified")),
            harvest_modified=moment(_part(resource, "harvest").get("modified_at")),
        )


#: What a resource's id may be: it becomes part of names, which others list one a line.
_ID = re.compile(r"[^\s/]{1,100}")
#: A dataset and one of its resources, as the API has them.
Raw = tuple[Mapping[str, Any], Mapping[str, Any]]


def listed(dataset: Mapping[str, Any]) -> Iterator[Raw]:
    """Yield a dataset with each of its resources. What has no usable id cannot be named, and is left out."""
    found = dataset.get("resources")
    if _text(dataset.get("id")) is None or not isinstance(found, list):
        return
    for resource in found:
        if isinstance(resource, dict) and _ID.fullmatch(_text(resource.get("id")) or ""):
            yield dataset, resource


def resources(dataset: Mapping[str, Any]) -> Iterator[Resource]:
    """Yield a dataset's resources."""
    return (Resource.of(*raw) for raw in listed(dataset))


def fingerprint(resource: Mapping[str, Any]) -> str:
    """Return a few characters that change when the file may have: 128 bits, for one is kept for each source.

    Of a resource as the API has it: a pass asks this of hundreds of thousands, and of few of them more.
    """
    modified = moment(resource.get("last_modified"))
    facts = (
        _text(resource.get("url")) or "",
        modified.isoformat() if modified else "",
        str(_size(resource.get("filesize"))),
        _checksum(resource.get("checksum")) or "",
    )
    return hashlib.sha256("\n".join(facts).encode(errors="surrogatepass")).hexdigest()[:32]


def fetchable(url: str | None) -> bool:
    """Tell whether a URL is one of http or https."""
    return url is not None and url.lower().startswith(("http://", "https://"))


def excluded(url: str, patterns: Iterable[str]) -> str | None:
    """Return the first of the patterns that a URL contains."""
    return next((pattern for pattern in patterns if pattern in url), None)


def direct(url: str) -> bool:
    """Tell whether link-proxy never fetches this URL, so that it must be fetched without it."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
    except ValueError:
        return True
    return _NEVER.fullmatch(host) is not None or _PART.search(parts.path) is not None


def same(etag: str | None, modified: str | None, size: int | None, headers: Mapping[str, str]) -> bool:
    """Tell from an answer's headers whether a file is the one that was answered with these the last time.

    A length alone proves nothing: many a file changes and keeps it. A date does with it, for servers without ETags.
    """
    now = {name.lower(): value for name, value in headers.items()}
    if etag and now.get("etag"):
        return etag.removeprefix("W/") == now["etag"].removeprefix("W/")
    if not modified or modified != now.get("last-modified"):
        return False
    return "content-encoding" in now or now.get("content-length") in {None, str(size)}


def moment(value: Any) -> datetime | None:
    """Read a date of the API as UTC; one without a zone is UTC already."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value.strip())
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def until(cursor: datetime | None, overlap: timedelta) -> datetime | None:
    """Return how far back a pass goes: beyond the last one, for dates arrive late. None: to the end."""
    return cursor and cursor - overlap


class Walk:
    """One pass over the pages, which are sorted by ``last_update``, newest first, while rows move under it.

    A dataset that is changed goes to the top and shifts the others down: they come twice, and are told once. One that
    is deleted shifts the others up: some might never be seen. So when the total or the first dataset is another than
    at the beginning, the walk begins again, at most ``MAX_RESTARTS`` times: what is new is told then, no more.

    Attributes:
        url: of the page to be read next; None: the first.
        over: whether all has been read.
        settled: False once it gave up beginning again: what was deleted meanwhile may have hidden something.
    """

    def __init__(self, until: datetime | None, state: Mapping[str, Any] | None = None) -> None:
        """Begin, or go on where ``state()`` was taken (what was told since the beginning may be told again)."""
        given = state or {}
        self._until = until
        self.url: str | None = given.get("url")
        self.over: bool = given.get("over", False)
        self.settled: bool = given.get("settled", True)
        self._top: list[Any] | None = given.get("top")
        self._restarts: int = given.get("restarts", 0)
        self._ended: bool = given.get("ended", False)
        self._read: set[str] = set()
        self._told: set[str] = set()

    def state(self) -> dict[str, Any]:
        """Return what another process needs to go on: a few bytes of JSON."""
        known = {"url": self.url, "over": self.over, "settled": self.settled, "ended": self._ended}
        return known | {"top": self._top, "restarts": self._restarts}

    def take(self, page: Page) -> list[dict[str, Any]]:
        """Take in the page of ``url``; return its datasets that are recent enough and were not told before.

        Raises:
            Retriable: the pages lead round in a circle.
        """
        fresh = [dataset for dataset in page.datasets if self._is_fresh(dataset)]
        if self.url is None:
            self._at_top(page)
        elif self._top is None or page.total == self._top[0] or not self._again():
            self._onwards(page)
        return fresh

    def _is_fresh(self, dataset: Mapping[str, Any]) -> bool:
        name = _text(dataset.get("id"))
        if name is None or name in self._told or self._is_old(dataset):
            return False
        self._told.add(name)
        return True

    def _is_old(self, dataset: Mapping[str, Any]) -> bool:
        updated = moment(dataset.get("last_update"))
        return self._until is not None and updated is not None and updated < self._until

    def _at_top(self, page: Page) -> None:
        """Read the first page: at the beginning, and once more at the end."""
        # With its date: that the same one is first again may be as it has changed after others had.
        first = page.datasets[0] if page.datasets else {}
        top = [page.total, first.get("id"), first.get("last_update")]
        if self._ended and top == self._top:
            self.over = True
            return
        if self._ended and not self._again():
            self.over = True
            return
        self._top, self._ended = top, False
        self._read.clear()
        self._onwards(page, first=True)

    def _onwards(self, page: Page, *, first: bool = False) -> None:
        dated = [dataset for dataset in page.datasets if moment(dataset.get("last_update")) is not None]
        # By the last one with a date: a single old row among newer ones is no end.
        if page.next_page is None or not page.datasets or (dated and self._is_old(dated[-1])):
            self.over, self._ended, self.url = first, True, None
            return
        if page.next_page in self._read:
            msg = f"{page.next_page}: the catalogue's pages lead round in a circle"
            raise Retriable(msg, code="catalogue_circle", field=page.next_page)
        self._read.add(page.next_page)
        self.url = page.next_page

    def _again(self) -> bool:
        """Begin again at the first page; False: that was done often enough."""
        if self._restarts == MAX_RESTARTS:
            self.settled = False
            return False
        self._restarts += 1
        self.url, self._top, self._ended = None, None, False
        return True


def _part(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, Mapping) else {}


def _text(value: Any) -> str | None:
    return (value.strip() or None) if isinstance(value, str) else None


def _small(value: Any) -> str | None:
    text = _text(value)
    return text and text.lower()


def _size(value: Any) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,18}\s*", value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return int(value) if value >= 0 else None


def _checksum(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return _small(value)
    digest = _small(value.get("value"))
    return digest and f"{_small(value.get('type')) or '?'}:{digest}"
