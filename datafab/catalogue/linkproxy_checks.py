"""The checks, downloads and webhooks of link-proxy, and what to do after a check."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from datafab.catalogue.dataset import parse_moment

#: Pattern of an id. It becomes part of URLs and keys.
LINK_ID = r"[A-Za-z0-9_-]{1,64}"
#: Links in one webhook. A page that lists many files has many parents.
MAX_LINKS = 10_000
#: Types of the download that becomes the content of a source, if a URL has several: the first type that occurs.
PREFERRED_TYPES = ("csv", "xls")

LinkId = Annotated[str, StringConstraints(pattern=f"^{LINK_ID}$")]


class CheckState(StrEnum):
    """State of a check; the last five are final."""

    STARTED = "started"
    ANALYZING = "analyzing"
    FINISHED = "finished"
    ERRORED = "errored"
    BLACKLISTED = "blacklisted"
    UNSUPPORTED = "unsupported"
    SKIPPED = "skipped"


class Outcome(StrEnum):
    """What to do after a check.

    ``wait``: poll again. ``downloads``: fetch the new downloads of the link; if there are none, nothing has changed.
    ``fresh``: the same, but link-proxy did not fetch the file, as its last check is recent enough. ``direct``: fetch
    the URL without link-proxy.
    """

    WAIT = "wait"
    DOWNLOADS = "downloads"
    FRESH = "fresh"
    DIRECT = "direct"


_OUTCOMES = {
    CheckState.STARTED: (Outcome.WAIT, "link-proxy is fetching it"),
    CheckState.ANALYZING: (Outcome.WAIT, "link-proxy is analysing what it fetched"),
    CheckState.FINISHED: (Outcome.DOWNLOADS, "link-proxy has checked it"),
    CheckState.ERRORED: (Outcome.DIRECT, "link-proxy could not fetch it"),
    CheckState.BLACKLISTED: (Outcome.DIRECT, "link-proxy does not fetch from this host"),
    CheckState.UNSUPPORTED: (Outcome.DIRECT, "link-proxy does not support this kind of file"),
    CheckState.SKIPPED: (Outcome.FRESH, "link-proxy has checked it not long ago"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check of a link.

    Attributes:
        number: number among the checks of the link.
        created: time of creation, UTC.
        state: link-proxy's name of the state. An unknown one is final, as ``checks/latest`` shows final ones only.
        status_code: HTTP status of the file's server.
        error: reason of the failure.
    """

    number: int
    created: datetime | None
    state: str
    status_code: int | None = None
    error: str | None = None

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self | None:
        """Parse a check; return None if it has no number or no state."""
        number, state = _number(document.get("number")), document.get("state")
        if number is None or not isinstance(state, str):
            return None
        return cls(
            number=number,
            created=parse_moment(document.get("createdAt")),
            state=state,
            status_code=_number(document.get("statusCode")),
            error=_text(document.get("error")),
        )

    @property
    def outcome(self) -> Outcome:
        """What to do after this check."""
        return _OUTCOMES[CheckState(self.state)][0] if self.state in _OUTCOMES else Outcome.DIRECT

    @property
    def reason(self) -> str:
        """The reason for the outcome, for logs."""
        if self.state not in _OUTCOMES:
            return f"link-proxy's check ended in the unknown state {self.state!r}"
        status = f"HTTP status {self.status_code}" if self.status_code and self.state == CheckState.ERRORED else None
        detail = self.error or status
        return _OUTCOMES[CheckState(self.state)][1] + (f": {detail}" if detail else "")

    def is_later_than(self, before: Check | None) -> bool:
        """Tell whether this check is later than another."""
        if before is None or self.number > before.number:
            return True
        return self.created is not None and before.created is not None and self.created > before.created


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A file that link-proxy keeps; the files of a bundle, such as a shapefile, are one zip.

    Attributes:
        id: id of the download.
        url: URL of the file.
        name: name of the bundle.
        type: link-proxy's name of the type: ``csv``, ``xls``, ``shp``, …
        archive: whether the file is a zip of several files.
        version: a text that changes with the content.
    """

    id: str
    url: str
    name: str | None
    type: str | None
    archive: bool
    version: str


def parse_downloads(link: Mapping[str, Any]) -> tuple[Download, ...]:
    """Return the distinct downloads of a link, including those of its sub-links; those without a URL are left out."""
    listed = link.get("downloads")
    found = [_download(each) for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []
    return tuple({each.id: each for each in found if each is not None}.values())


def _download(document: Mapping[str, Any]) -> Download | None:
    url, name = _text(document.get("url")), _text(document.get("_id"))
    if url is None:
        return None
    files = document.get("files")
    # Older versions of link-proxy have names there instead of objects.
    digests = [str(file.get("digest")) for file in files or () if isinstance(file, Mapping) and file.get("digest")]
    return Download(
        id=name or url,
        url=url,
        name=_text(document.get("name")),
        type=_text(document.get("type")),
        archive=document.get("archive") is True,
        version=" ".join(sorted(digests)) or _text(document.get("etag")) or name or url,
    )


def download_order(download: Download) -> tuple[int, str]:
    """Return the sort key of a download; the first in this order becomes the content of the source."""
    known = download.type in PREFERRED_TYPES
    return PREFERRED_TYPES.index(str(download.type)) if known else len(PREFERRED_TYPES), download.name or ""


def name_parts(source: str, found: Iterable[Download]) -> Iterator[tuple[str, Download]]:
    """Yield downloads with the names of their sources; of equal names, the second and later ones get a number."""
    seen: dict[str, int] = {}
    for each in sorted(found, key=lambda one: (one.name or "", one.type or "")):
        name = " ".join((each.name or each.type or "file").split())
        seen[name] = seen.get(name, 0) + 1
        yield f"{source}/{name}" + (f"/{seen[name]}" if seen[name] > 1 else ""), each


class WebhookCheck(BaseModel):
    """The check in a webhook. Its other members are not trusted: link-proxy is asked for them."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    link: LinkId = Field(alias="linkId")
    number: int


class Webhook(BaseModel):
    """The body of a webhook, which only says that links may have new downloads."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    check: WebhookCheck
    links: tuple[LinkId, ...] = Field(default=(), max_length=MAX_LINKS)

    @property
    def ids(self) -> tuple[str, ...]:
        """The distinct links of the webhook: the checked one, and those that contain it."""
        return tuple(dict.fromkeys((self.check.link, *self.links)))

    @property
    def key(self) -> str:
        """Dedupe key, equal for each delivery of the webhook."""
        return f"link-proxy:{self.check.link}:{self.check.number}"


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    return (value.strip() or None) if isinstance(value, str) else None
