"""The state of a source: how it was last seen, in a hash of Redis with fields of one letter each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple, Self

#: Longer values are not stored; the next fetch is compared by its digest instead.
MAX_ETAG_CHARS, MAX_DATE_CHARS = 200, 64
#: Characters of the part names that are stored. Parts beyond them cannot be withdrawn later.
MAX_PARTS_CHARS = 1_000_000
#: Looks stored for each source, each in a field of its own. Redis packs a hash into a third of the bytes as long as
#: none of its values is longer than 64 characters.
MAX_LOOKS, MAX_LOOK_CHARS = 5, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """How a source was last seen. ``GET /sources`` shows the fields under these names.

    Attributes:
        fingerprint: fingerprint of the catalogue's description at the last completed look.
        address: digest of the URL that the following fields describe.
        etag: ETag of the response; None if there was none, or if it was too long.
        modified: Last-Modified of the response.
        sha256: digest of the content.
        media_type: media type of the content.
        downloads: digest of the downloads that link-proxy kept.
        parts: names of the other files at the same address, one per line; each is a source of its own.
        changed: Unix time at which the content was found to have changed.
        catalogue: root of the catalogue's API, unless it is the one of the settings.
        login_url: the file's URL if it holds a user or a password, which the index does not keep.
        untold: set while the last change has not been reported to the catalogue.
    """

    fingerprint: str | None = None
    address: str | None = None
    etag: str | None = None
    modified: str | None = None
    sha256: str | None = None
    media_type: str | None = None
    downloads: str | None = None
    parts: str | None = None
    changed: str | None = None
    catalogue: str | None = None
    login_url: str | None = None
    untold: str | None = None


#: Field of ``SourceState`` -> field of the hash ``source:<id>``. One letter each: there are hundreds of thousands of
#: these hashes, and Redis repeats the field names in each of them. Stored data depend on the letters: never change one.
STATE_FIELDS = {
    "fingerprint": "f",
    "address": "u",
    "etag": "e",
    "modified": "m",
    "sha256": "s",
    "media_type": "t",
    "downloads": "d",
    "parts": "p",
    "changed": "c",
    "catalogue": "o",
    "login_url": "l",
    "untold": "n",
}
#: Fields of the same hash that are not part of the state: the creation time of the job that made the latest look, and
#: the time at which the source was withdrawn.
LATEST_FIELD, WITHDRAWN_FIELD = "a", "g"
#: The last looks, the latest first.
LOOK_FIELDS = tuple(str(number) for number in range(MAX_LOOKS))
#: The names of the fields for Lua scripts, as the table ``F``.
LUA_FIELDS = "local F = {{{}}}\n".format(
    ", ".join(
        f"{name} = '{field}'"
        for name, field in (STATE_FIELDS | {"latest": LATEST_FIELD, "withdrawn": WITHDRAWN_FIELD}).items()
    )
)


class Look(NamedTuple):
    """A job that looked at a source."""

    #: Unix time at which the job was created; stored to the second
    at: float
    status: str
    job: str
    #: type of its error; the end of a long one is cut off
    error: str | None = None

    @classmethod
    def read(cls, line: str) -> Self:
        """Parse a stored look."""
        at, status, job, *error = line.split(" ")
        return cls(float(at), status, job, error[0] if error else None)

    def __str__(self) -> str:
        """Format the look for storage."""
        return f"{self.at:.0f} {self.status} {self.job}{f' {self.error}' if self.error else ''}"[:MAX_LOOK_CHARS]


def url_digest(url: str) -> str:
    """Return a short digest that identifies a URL."""
    return hashlib.sha256(url.encode(errors="surrogatepass")).hexdigest()[:16]
