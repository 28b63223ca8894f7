"""The protocol of a store's files; they are in a folder of this host (``folder.py``) or a bucket (``bucket.py``).

Nothing is forced to disk (fsync): it would cost more than the fetch, and what a power cut destroys can be fetched
again. A file cut short is recognised by its size when the same bytes are collected again (``Store.new_resource``).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, NoReturn, Protocol

from datafab.errors import FlowError


class Files(Protocol):
    """Named files below a root. An error is a FlowError that names the path, or a Wait where it is transient.

    Attributes:
        concurrency: number of files that are best read at once.
        touches: whether ``touch`` has an effect.
    """

    concurrency: int
    touches: bool

    def ping(self) -> None:
        """Raise FlowError unless a file can be written; mark the root for ``require_marked``."""

    def require_marked(self) -> None:
        """Raise FlowError unless a host has pinged it: hosts may have different folders at this path."""

    def size(self, name: str) -> int | None:
        """Return the size of a file in bytes; None when there is none."""

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading; FileNotFoundError when there is none."""

    def write(self, name: str, data: bytes) -> None:
        """Write or replace a whole file; readers see the old or the new one, never a part."""

    def create_temporary(self) -> BinaryIO:
        """Open a new file of this host that no reader takes for a finished one; its ``name`` is its path."""

    def finish(self, path: str, name: str) -> None:
        """Move the file at ``path``, one of ``create_temporary``, to ``name``."""

    def local(self, name: str) -> AbstractContextManager[Path]:
        """Provide a file at a path of this host until the end of ``with``; it must not be changed.

        Raises:
            FileNotFoundError: there is no such file.
        """

    def names(self, folder: str) -> Iterator[str]:
        """Yield the names of all files below a folder, in any order."""

    def files_with_age(self, folder: str) -> Iterator[tuple[str, int, float]]:
        """Yield the files below a folder: name, bytes, Unix time of the last write or touch."""

    def touch(self, name: str) -> None:
        """Let the age of a file count from now."""

    def remove(self, name: str, before: float) -> bool:
        """Remove a file; return False when it is younger than this Unix time, or gone."""

    def path(self, name: str) -> Path:
        """Return the local path of a file."""

    def sweep(self, folder: str, before: float) -> int:
        """Remove a folder's files last written before this Unix time; return their number."""

    def tidy(self) -> None:
        """Remove the empty folder of temporary files, where there is one."""


def raise_store_error(path: str, error: OSError) -> NoReturn:
    """Raise the FlowError for a path that cannot be read or written."""
    msg = f"{path}: {error.strerror or error}; the store needs room and the right to write there"
    raise FlowError(msg, code="store", field="store") from error


def one_day_ago() -> float:
    """Return the Unix time before which no process can still be writing a file."""
    return time.time() - 24 * 3600
