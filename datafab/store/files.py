"""Where a store's bytes lie: a folder of this host (``folder.py``), or a bucket (``bucket.py``).

Nothing is forced to disk (fsync): it would cost more than the fetch, and whatever a power cut takes can be fetched
again. A file that it left short is found by its size when the same bytes come in again (``Store.incoming``).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, NoReturn, Protocol

from datafab.errors import FlowError


class Files(Protocol):
    """Named bytes below a root. What goes wrong is a FlowError that names the path, or a Wait where it will pass.

    Attributes:
        side_by_side: how many files are best looked at at once.
        renews: whether ``renew`` does anything.
    """

    side_by_side: int
    renews: bool

    def ping(self) -> None:
        """Raise FlowError unless a file can be written."""

    def require_marked(self) -> None:
        """Raise FlowError unless somebody has pinged it: a folder that is not the other hosts' may have its name."""

    def size(self, name: str) -> int | None:
        """Return the bytes of a file; None when there is none."""

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading; FileNotFoundError when there is none."""

    def write(self, name: str, data: bytes) -> None:
        """Write a whole file over what was there: readers see the one or the other, never a part."""

    def create(self) -> BinaryIO:
        """Open a new local file for writing, which nobody will take for a finished one; its ``name`` is its path."""

    def adopt(self, path: str, name: str) -> None:
        """Make the file at ``path`` (one of ``create``) the one called ``name``."""

    def local(self, name: str) -> AbstractContextManager[Path]:
        """Have a file at a path of this host, not to be changed, until the end of ``with``.

        Raises:
            FileNotFoundError: there is none.
        """

    def names(self, folder: str) -> Iterator[str]:
        """Yield the names of all files below a folder, in no order."""

    def aged(self, folder: str) -> Iterator[tuple[str, int, float]]:
        """Yield all files below a folder: name, bytes, Unix time of the last write or ``renew``."""

    def renew(self, name: str) -> None:
        """Make a file as young as one that is written now."""

    def remove(self, name: str, before: float) -> bool:
        """Remove a file, unless it is younger than this Unix time, or gone: False then."""

    def path(self, name: str) -> Path:
        """Return the local path of a file."""

    def sweep(self, folder: str, before: float) -> int:
        """Remove a folder's files last written before this Unix time; return how many."""

    def tidy(self) -> None:
        """Leave nothing behind but what was stored."""


def broken(path: str, error: OSError) -> NoReturn:
    """Raise the FlowError for a path that cannot be read or written."""
    msg = f"{path}: {error.strerror or error}; the store needs room and the right to write there"
    raise FlowError(msg, code="store", field="store") from error


def a_day_ago() -> float:
    """Return the Unix time before which nobody can still be writing a file."""
    return time.time() - 24 * 3600
