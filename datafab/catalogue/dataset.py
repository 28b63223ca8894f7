"""Datasets and resources as a udata catalogue describes them, and which of them need another look."""

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

#: Longest title or publisher's name; longer ones are cut.
MAX_TITLE_CHARS = 200
#: Prefix of the sources that are resources of a catalogue: ``datagouv:<id of the resource>``.
SOURCE_PREFIX = "datagouv:"
#: Hosts from which link-proxy never fetches.
_UNFETCHED_HOSTS = re.compile(r"(?:.+\.)?data\.gouv\.fr|.+\.openstreetmap\.fr")
#: Paths that link-proxy does not support: parts of a split archive.
_ARCHIVE_PART = re.compile(r"\.7z\.\d+$", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A file of a dataset, as the catalogue describes it. A missing or malformed value is None."""

    dataset: Dataset
    id: str
    title: str | None
    #: any text; not always an HTTP URL
    url: str | None
    #: lower case
    format: str | None
    mime: str | None
    #: bytes
    filesize: int | None
    #: ``<type>:<value>``, lower case
    checksum: str | None
    #: UTC
    last_modified: datetime | None
    #: modification date given by the harvested site; UTC
    harvest_modified: datetime | None

    @classmethod
    def parse(cls, dataset: Mapping[str, Any], resource: Mapping[str, Any]) -> Self:
        """Parse a resource of a dataset; both must have an id."""
        return cls(
            dataset=describe_dataset(dataset),
            id=resource["id"].strip(),
            title=_text(resource.get("title")),
            url=_text(resource.get("url")),
            format=_lowercase(resource.get("format")),
            mime=_lowercase(resource.get("mime")),
            filesize=_parse_size(resource.get("filesize")),
            checksum=_parse_checksum(resource.get("checksum")),
            last_modified=parse_moment(resource.get("last_modified")),
            harvest_modified=parse_moment(_submapping(resource, "harvest").get("modified_at")),
        )


def describe_dataset(dataset: Mapping[str, Any]) -> Dataset:
    """Return the id, title and organisation of a dataset that has an id; long names are cut."""
    names = _text(dataset.get("title")), _text(_submapping(dataset, "organization").get("name"))
    title, organisation = (text and text[:MAX_TITLE_CHARS] for text in names)
    return Dataset(id=str(dataset["id"]), title=title, organisation=organisation)


#: Valid ids of resources. They become part of names that are listed one per line.
_ID = re.compile(r"[^\s/]{1,100}")
#: A dataset and one of its resources, as the API describes them.
RawResource = tuple[Mapping[str, Any], Mapping[str, Any]]


def usable_resources(dataset: Mapping[str, Any]) -> Iterator[RawResource]:
    """Yield a dataset with each of its resources; those without a valid id are left out."""
    found = dataset.get("resources")
    if _text(dataset.get("id")) is None or not isinstance(found, list):
        return
    for resource in found:
        if isinstance(resource, dict) and _ID.fullmatch(_text(resource.get("id")) or ""):
            yield dataset, resource


def fingerprint(resource: Mapping[str, Any]) -> str:
    """Return a digest of the fields that change when the file may have changed.

    It takes a resource as the API describes it: a pass computes the digest of hundreds of thousands, and parses few of
    them. 128 bits are enough, and one digest is stored for each source.
    """
    modified = parse_moment(resource.get("last_modified"))
    facts = (
        _text(resource.get("url")) or "",
        modified.isoformat() if modified else "",
        str(_parse_size(resource.get("filesize"))),
        _parse_checksum(resource.get("checksum")) or "",
    )
    return hashlib.sha256("\n".join(facts).encode(errors="surrogatepass")).hexdigest()[:32]


def api_roots(url: str) -> tuple[str, str | None]:
    """Return the roots of a udata's APIs 1 and 2, given either; ``https://host/prefix/api/1/`` gives ``…/api/2``.

    API 1 lists datasets with their resources, and only API 2 accepts extras. For a URL of another form, return the URL
    itself and None.
    """
    root = url.rstrip("/")
    before, slash, version = root.rpartition("/")
    return (f"{before}/1", f"{before}/2") if slash and version in {"1", "2"} else (root, None)


def is_fetchable(url: str | None) -> bool:
    """Tell whether a URL has the scheme http or https."""
    return url is not None and url.lower().startswith(("http://", "https://"))


def matching_pattern(url: str, patterns: Iterable[str]) -> str | None:
    """Return the first pattern that a URL contains; None if it contains none."""
    return next((pattern for pattern in patterns if pattern in url), None)


def bypasses_linkproxy(url: str) -> bool:
    """Tell whether link-proxy never fetches this URL, so that it must be fetched directly."""
    if not usable(url):
        return True
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    return _UNFETCHED_HOSTS.fullmatch(host) is not None or _ARCHIVE_PART.search(parts.path) is not None


def is_unchanged(etag: str | None, modified: str | None, size: int | None, headers: Mapping[str, str]) -> bool:
    """Compare the headers of a response with those of the last one; tell whether the file is the same.

    A length alone proves nothing, as a file may change and keep it. A date and a length together do, for servers
    without ETags.
    """
    now = {name.lower(): value for name, value in headers.items()}
    if etag and now.get("etag"):
        return etag.removeprefix("W/") == now["etag"].removeprefix("W/")
    if not modified or modified != now.get("last-modified"):
        return False
    return "content-encoding" in now or now.get("content-length") in {None, str(size)}


def parse_moment(value: Any) -> datetime | None:
    """Parse a date of the API as UTC; a date without a zone is in UTC. Return None if it is malformed."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value.strip())
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _submapping(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, Mapping) else {}


def _text(value: Any) -> str | None:
    return (value.strip() or None) if isinstance(value, str) else None


def _lowercase(value: Any) -> str | None:
    text = _text(value)
    return text and text.lower()


def _parse_size(value: Any) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,18}\s*", value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return int(value) if value >= 0 else None


def _parse_checksum(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return _lowercase(value)
    digest = _lowercase(value.get("value"))
    return digest and f"{_lowercase(value.get('type')) or '?'}:{digest}"
