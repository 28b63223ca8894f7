"""link-proxy's checks, downloads and webhooks: what they say, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from datafab.catalogue.dataset import moment

#: What an id looks like; it becomes part of URLs and keys.
LINK = r"[A-Za-z0-9_-]{1,64}"
#: Links of one webhook: a page that lists many files has many parents.
MAX_LINKS = 10_000
#: Of several files at one address the first by name of the first of these types is the source's own.
TYPES = ("csv", "xls")

LinkId = Annotated[str, StringConstraints(pattern=f"^{LINK}$")]


class State(StrEnum):
    """How far a check is; the last five are its end."""

    STARTED = "started"
    ANALYZING = "analyzing"
    FINISHED = "finished"
    ERRORED = "errored"
    BLACKLISTED = "blacklisted"
    UNSUPPORTED = "unsupported"
    SKIPPED = "skipped"


class Outcome(StrEnum):
    """What is to be done after a check.

    ``wait``: look again. ``downloads``: fetch those downloads of the link that are new; none is: nothing changed.
    ``fresh``: the same, but link-proxy did not look, for its last check is recent enough. ``direct``: fetch the URL
    without link-proxy.
    """

    WAIT = "wait"
    DOWNLOADS = "downloads"
    FRESH = "fresh"
    DIRECT = "direct"


_OUTCOMES = {
    State.STARTED: (Outcome.WAIT, "link-proxy is fetching it"),
    State.ANALYZING: (Outcome.WAIT, "link-proxy looks at what it fetched"),
    State.FINISHED: (Outcome.DOWNLOADS, "link-proxy has checked it"),
    State.ERRORED: (Outcome.DIRECT, "link-proxy could not fetch it"),
    State.BLACKLISTED: (Outcome.DIRECT, "link-proxy does not fetch from this host"),
    State.UNSUPPORTED: (Outcome.DIRECT, "link-proxy does not support this kind of file"),
    State.SKIPPED: (Outcome.FRESH, "link-proxy has checked it not long ago"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check of a link.

    Attributes:
        number: counts the checks of the link.
        created: UTC.
        state: in link-proxy's words; one that is not known is an end, for ``checks/latest`` shows only such.
        status_code: HTTP status of the file's server.
        error: why it failed.
    """

    number: int
    created: datetime | None
    state: str
    status_code: int | None = None
    error: str | None = None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self | None:
        """Read a check; None: it has no number or no state."""
        number, state = _number(document.get("number")), document.get("state")
        if number is None or not isinstance(state, str):
            return None
        return cls(
            number=number,
            created=moment(document.get("createdAt")),
            state=state,
            status_code=_number(document.get("statusCode")),
            error=_words(document.get("error")),
        )

    @property
    def outcome(self) -> Outcome:
        """What is to be done."""
        return _OUTCOMES[State(self.state)][0] if self.state in _OUTCOMES else Outcome.DIRECT

    @property
    def reason(self) -> str:
        """Why, for people."""
        if self.state not in _OUTCOMES:
            return f"link-proxy's check ended as {self.state!r}, which is not known here"
        status = f"HTTP status {self.status_code}" if self.status_code and self.state == State.ERRORED else None
        detail = self.error or status
        return _OUTCOMES[State(self.state)][1] + (f": {detail}" if detail else "")

    def after(self, before: Check | None) -> bool:
        """Tell whether this is a later check than one that was seen before."""
        if before is None or self.number > before.number:
            return True
        return self.created is not None and before.created is not None and self.created > before.created


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A file that link-proxy keeps; several files of one bundle are one zip.

    Attributes:
        id: its own.
        url: where it lies.
        name: of the bundle.
        type: ``csv``, ``xls``, ``shp``, … in link-proxy's words.
        archive: whether it is a zip of several files.
        version: changes with its content.
    """

    id: str
    url: str
    name: str | None
    type: str | None
    archive: bool
    version: str


def downloads(link: Mapping[str, Any]) -> tuple[Download, ...]:
    """Return all downloads of a link, those of its sub-links included, each once; some without a URL are left out."""
    listed = link.get("downloads")
    found = [_download(each) for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []
    return tuple({each.id: each for each in found if each is not None}.values())


def _download(document: Mapping[str, Any]) -> Download | None:
    url, name = _words(document.get("url")), _words(document.get("_id"))
    if url is None:
        return None
    files = document.get("files")
    # Older answers have names there instead of objects.
    digests = [str(file.get("digest")) for file in files or () if isinstance(file, Mapping) and file.get("digest")]
    return Download(
        id=name or url,
        url=url,
        name=_words(document.get("name")),
        type=_words(document.get("type")),
        archive=document.get("archive") is True,
        version=" ".join(sorted(digests)) or _words(document.get("etag")) or name or url,
    )


def rank(one: Download) -> tuple[int, str]:
    """Order files so that it is the same one each time that is the source's own."""
    return TYPES.index(one.type) if one.type in TYPES else len(TYPES), one.name or ""


def parts_of(source: str, found: Iterable[Download]) -> Iterator[tuple[str, Download]]:
    """Yield files with sources of their own, named after them; where names repeat, the later ones are numbered."""
    seen: dict[str, int] = {}
    for each in sorted(found, key=lambda one: (one.name or "", one.type or "")):
        name = " ".join((each.name or each.type or "file").split())
        seen[name] = seen.get(name, 0) + 1
        yield f"{source}/{name}" + (f"/{seen[name]}" if seen[name] > 1 else ""), each


class WebhookCheck(BaseModel):
    """The check of a webhook; what else it says is asked for, not believed."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    link: LinkId = Field(alias="linkId")
    number: int


class Webhook(BaseModel):
    """The body of a webhook: a hint that links may have new downloads."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    check: WebhookCheck
    links: tuple[LinkId, ...] = Field(default=(), max_length=MAX_LINKS)

    @property
    def ids(self) -> tuple[str, ...]:
        """All links that it is about, each once: the checked one and those that contain it."""
        return tuple(dict.fromkeys((self.check.link, *self.links)))

    @property
    def key(self) -> str:
        """The same for each copy of it."""
        return f"link-proxy:{self.check.link}:{self.check.number}"


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _words(value: Any) -> str | None:
    return (value.strip() or None) if isinstance(value, str) else None
