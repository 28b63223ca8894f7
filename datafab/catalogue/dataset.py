"""What a page of a udata catalogue says, and what of it is to be looked at again."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import urlsplit

from datafab.core.item import Dataset
from datafab.urls import usable

#: Characters of a title, or of a publisher's name, that are kept.
MAX_TITLE = 200
#: Hosts that link-proxy never fetches from: its own files', and these.
_NEVER = re.compile(r"(?:.+\.)?data\.gouv\.fr|.+\.openstreetmap\.fr")
#: Paths that it does not support: parts of an archive.
_PART = re.compile(r"\.7z\.\d+$", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A file of a dataset, as the catalogue describes it; what it says wrongly or not at all is None."""

    dataset: Dataset
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
            dataset=described(dataset),
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


def described(dataset: Mapping[str, Any]) -> Dataset:
    """Return what is kept of a dataset with an id; long names are cut."""
    told = _text(dataset.get("title")), _text(_part(dataset, "organization").get("name"))
    title, organisation = (text and text[:MAX_TITLE] for text in told)
    return Dataset(id=str(dataset["id"]), title=title, organisation=organisation)


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


def api_roots(url: str) -> tuple[str, str | None]:
    """Return the roots of a udata's APIs 1 and 2, given either; ``https://host/prefix/api/1/`` gives ``…/api/2``.

    API 1 lists datasets with their resources, only API 2 takes extras. None: a URL of another form, read as it is.
    """
    root = url.rstrip("/")
    before, slash, version = root.rpartition("/")
    return (f"{before}/1", f"{before}/2") if slash and version in {"1", "2"} else (root, None)


def fetchable(url: str | None) -> bool:
    """Tell whether a URL is one of http or https."""
    return url is not None and url.lower().startswith(("http://", "https://"))


def excluded(url: str, patterns: Iterable[str]) -> str | None:
    """Return the first of the patterns that a URL contains."""
    return next((pattern for pattern in patterns if pattern in url), None)


def direct(url: str) -> bool:
    """Tell whether link-proxy never fetches this URL, so that it must be fetched without it."""
    if not usable(url):
        return True
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
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
